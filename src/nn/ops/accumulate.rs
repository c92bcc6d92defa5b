//! Adding a gradient to a running sum, in place: how micro-batches become one step.

use candle_core::{DType, Result, Tensor, bail};

use super::in_place::edit;

/// Adds `gradient` (any float dtype) to `into` (f32, contiguous), in place.
///
/// Errors if the shapes differ or `into` is not f32. Whoever else holds `into`'s storage sees the new values.
pub fn accumulate(into: &Tensor, gradient: &Tensor) -> Result<()> {
    if into.dims() != gradient.dims() {
        bail!("accumulate: the sum {:?} and the gradient {:?} have different shapes", into.shape(), gradient.shape());
    }
    if into.dtype() != DType::F32 {
        bail!("accumulate: the sum has to be f32, got {:?}", into.dtype());
    }
    if !edit(&Accumulate, [into], [gradient])? {
        let sum = (into.detach() + gradient.detach().to_dtype(DType::F32)?)?;
        into.detach().flatten_all()?.slice_set(&sum.flatten_all()?, 0, 0)?;
    }
    Ok(())
}

pub(super) struct Accumulate;

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;
    use candle_core::Device;

    #[test]
    fn sums_stay_f32_while_gradients_are_bf16() -> Result<()> {
        let count = 70_001;
        let gradient = Tensor::from_vec(values(count, 1), count, &Device::Cpu)?;
        let sum = Tensor::zeros(count, DType::F32, &Device::Cpu)?;
        for _ in 0..3 {
            accumulate(&sum, &gradient.to_dtype(DType::BF16)?)?;
        }
        let expected = (gradient.to_dtype(DType::F32)? * 3.0)?;
        assert_eq!(sum.to_vec1::<f32>()?, expected.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn wrong_shapes_and_dtypes_are_named() -> Result<()> {
        let sum = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = accumulate(&sum, &sum.t()?).unwrap_err().to_string();
        assert!(message.contains("the sum [2, 3] and the gradient [3, 2]"), "{message}");
        let message = accumulate(&sum.to_dtype(DType::BF16)?, &sum).unwrap_err().to_string();
        assert!(message.contains("the sum has to be f32, got BF16"), "{message}");
        Ok(())
    }
}

//! Softmax over the last dimension.

use candle_core::{D, Result, Tensor};

use super::common::{in_f32, width};
use super::dispatch::{Op, apply};

/// `e^x / sum(e^x)` over the last dimension; a row of minus infinities gives NaN, as in torch.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let width = width("softmax", x)?;
    apply(Softmax { width }, [x], || softmax_reference(x))
}

/// [`softmax`] composed of candle's primitives (candle-nn's differentiable form, not `softmax_last_dim`).
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| candle_nn::ops::softmax(x, D::Minus1))
}

/// With p the result and g its gradient: dx = p (g - sum(p g)).
pub(super) struct Softmax {
    pub width: usize,
}

impl Op<1> for Softmax {
    const NAME: &'static str = "softmax";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn softmax_agrees_with_its_reference() {
        for shape in [[3, 7], [150, 301]] {
            Check::new("softmax", &[&shape]).scaled(8.0).run(|t| softmax(&t[0]), |t| softmax_reference(&t[0]));
        }
    }

    #[test]
    fn masked_entries_are_exactly_zero_and_a_scalar_is_refused() -> Result<()> {
        let x = Tensor::new(&[0f32, f32::NEG_INFINITY, 0.0], &Device::Cpu)?;
        assert_eq!(softmax(&x)?.to_vec1::<f32>()?, [0.5, 0.0, 0.5]);
        let message = softmax(&Tensor::zeros((), DType::F32, &Device::Cpu)?).unwrap_err().to_string();
        assert!(message.contains("softmax: expected a last dimension of at least 1, got shape []"), "{message}");
        Ok(())
    }
}

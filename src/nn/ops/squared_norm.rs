//! The sum of squares behind gradient clipping.

use candle_core::{DType, Result, Tensor};

use super::in_place::measure;

/// The sum of the squares of all elements, in f64; on the CPU the order of addition depends on the element count only.
pub fn squared_norm(x: &Tensor) -> Result<f64> {
    let measured = if x.dtype() == DType::F64 { None } else { measure(&SquaredNorm, x)? };
    match measured {
        Some(sum) => Ok(sum),
        None => x.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar(),
    }
}

pub(super) struct SquaredNorm;

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_f64_in_every_dtype() -> Result<()> {
        for count in [0, 1, 37, 100_003] {
            let values = values(count, 4);
            let expected: f64 = values.iter().map(|v| v * v).sum();
            let exact = Tensor::from_vec(values, count, &Device::Cpu)?;
            for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
                let x = exact.to_dtype(dtype)?;
                let (first, second) = (squared_norm(&x)?, squared_norm(&x)?);
                assert_eq!(first.to_bits(), second.to_bits());
                assert!(
                    (first - expected).abs() <= 1e-3 * f64::from(dtype == DType::F16) * expected + 1e-12 * expected,
                    "{dtype:?}"
                );
            }
        }
        Ok(())
    }
}

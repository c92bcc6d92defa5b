//! The sum of squares behind gradient clipping.

use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

use super::cpu::kernel::kernel;
use super::cpu::memory::with_floats;

/// Elements summed by one task.
const BLOCK: usize = 16 * 1024;

/// The sum of the squares of all elements, in f64; the order of addition depends on the element count only.
pub fn squared_norm(x: &Tensor) -> Result<f64> {
    let x = x.detach();
    if !x.device().is_cpu() || x.dtype() == DType::F64 {
        return x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar();
    }
    with_floats(&x, |values| {
        let blocks: Vec<f64> = if values.len() <= 2 * BLOCK {
            values.chunks(BLOCK).map(squares).collect()
        } else {
            values.par_chunks(BLOCK).map(squares).collect()
        };
        Ok(blocks.iter().sum())
    })
}

kernel! {
    fn squares<const FMA: bool>(values: &[f32]) -> f64 {
        // The square of an f32 is exact in f64, so FMA would change nothing.
        let mut lanes = [0f64; 16];
        let chunks = values.chunks_exact(16);
        let rest: f64 = chunks.remainder().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        for chunk in chunks {
            for (lane, &value) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(value) * f64::from(value);
            }
        }
        lanes.iter().sum::<f64>() + rest
    }
}

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

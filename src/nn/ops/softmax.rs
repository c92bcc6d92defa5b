//! Softmax over the last dimension.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};

use super::cpu::kernel::kernel;
use super::cpu::math::{exponentials, fma, maximum, sum_of};
use super::cpu::memory::{floats, fused, in_f32, storage, tensor, width, with_floats};
use super::cpu::rows::map_rows;

/// `e^x / sum(e^x)` over the last dimension; a row of minus infinities gives NaN, as in torch.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let width = width("softmax", x)?;
    if !fused("softmax", &[x])? {
        return softmax_reference(x);
    }
    x.contiguous()?.apply_op1(Softmax { width })
}

/// [`softmax`] composed of candle's primitives (candle-nn's differentiable form, not `softmax_last_dim`).
pub fn softmax_reference(x: &Tensor) -> Result<Tensor> {
    in_f32(x, |x| candle_nn::ops::softmax(x, D::Minus1))
}

struct Softmax {
    width: usize,
}

kernel! {
    fn normalize<const FMA: bool>(out: &mut [f32], x: &[f32], width: usize) {
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            out.copy_from_slice(x);
            let shift = maximum(out);
            let inverse = 1.0 / exponentials::<FMA>(out, shift);
            out.iter_mut().for_each(|value| *value *= inverse);
        }
    }
}

kernel! {
    /// dx = p (g - sum(p g)).
    fn differentiate<const FMA: bool>(out: &mut [f32], result: &[f32], gradient: &[f32], width: usize) {
        let rows = result.chunks_exact(width).zip(gradient.chunks_exact(width));
        for (out, (result, gradient)) in out.chunks_exact_mut(width).zip(rows) {
            let mean = sum_of(width, |i| result[i] * gradient[i]);
            for ((out, result), gradient) in out.iter_mut().zip(result).zip(gradient) {
                *out = fma::<FMA>(*result, *gradient, -(result * mean));
            }
        }
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (dtype, width) = (x.dtype(), self.width);
        let x = floats(x, layout)?;
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], width);
        });
        Ok((storage(values, dtype)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, result: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = self.width;
        let values = with_floats(result, |results| {
            with_floats(gradient, |gradients| {
                Ok(map_rows(results.len() / width, width, width, |block, out| {
                    let block = block.start * width..block.end * width;
                    differentiate(out, &results[block.clone()], &gradients[block], width);
                }))
            })
        })?;
        Ok(Some(tensor(values, x.shape(), x.dtype())?))
    }
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

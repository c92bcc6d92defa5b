//! Root-mean-square normalization, `x / rms(x) * (norm.offset + weight)`; an offset of 1 is Gemma's form.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, D, Layout, Result, Shape, Tensor, bail};

use super::cpu::kernel::kernel;
use super::cpu::math::{dot, fma, sum_of};
use super::cpu::memory::{floats, fused, in_f32, storage, tensor, width, with_floats};
use super::cpu::rows::{Rows, map_rows, reduce_rows};

/// Normalizes the last dimension: x `(.., d)`, weight `(d)`, result `(.., d)`.
///
/// `x / sqrt(mean(x^2) + eps) * (norm.offset + weight)`; errors if the shapes or dtypes do not agree.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, offset: f64) -> Result<Tensor> {
    let width = width("rms_norm", x)?;
    if weight.dims() != [width] {
        bail!("rms_norm: x {:?} does not fit weight {:?}", x.shape(), weight.shape());
    }
    if !fused("rms_norm", &[x, weight])? {
        return rms_norm_reference(x, weight, eps, offset);
    }
    let op = RmsNorm { eps: eps as f32, offset: offset as f32 };
    x.contiguous()?.apply_op2(&weight.contiguous()?, op)
}

/// [`rms_norm`] composed of candle's primitives.
pub fn rms_norm_reference(x: &Tensor, weight: &Tensor, eps: f64, offset: f64) -> Result<Tensor> {
    in_f32(x, |x| {
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        x.broadcast_div(&scale)?.broadcast_mul(&(weight.to_dtype(x.dtype())? + offset)?)
    })
}

#[derive(Clone, Copy)]
struct RmsNorm {
    eps: f32,
    offset: f32,
}

kernel! {
    fn normalize<const FMA: bool>(out: &mut [f32], x: &[f32], weight: &[f32], norm: RmsNorm) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let inverse = 1.0 / (dot::<FMA>(x, x) / width as f32 + norm.eps).sqrt();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * inverse * (norm.offset + weight);
            }
        }
    }
}

kernel! {
    /// With r = 1 / rms and t = g (offset + w): dx = r (t - x r^2 mean(t x)), dw = sum of g x r.
    /// An empty `x_gradient` or `weight_gradient` is not wanted.
    fn differentiate<const FMA: bool>(
        x_gradient: &mut [f32],
        weight_gradient: &mut [f32],
        x: &[f32],
        weight: &[f32],
        gradient: &[f32],
        norm: RmsNorm,
    ) {
        let width = weight.len();
        for (row, (x, gradient)) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).enumerate() {
            let inverse = 1.0 / (dot::<FMA>(x, x) / width as f32 + norm.eps).sqrt();
            for ((sum, x), gradient) in weight_gradient.iter_mut().zip(x).zip(gradient) {
                *sum = fma::<FMA>(gradient * x, inverse, *sum);
            }
            if x_gradient.is_empty() {
                continue;
            }
            let projection = sum_of(width, |i| gradient[i] * (norm.offset + weight[i]) * x[i]);
            let pull = projection * inverse * inverse / width as f32;
            let out = &mut x_gradient[row * width..][..width];
            for (((out, x), gradient), weight) in out.iter_mut().zip(x).zip(gradient).zip(weight) {
                *out = inverse * fma::<FMA>(-x, pull, gradient * (norm.offset + weight));
            }
        }
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = x.dtype();
        let (x, weight) = (floats(x, x_layout)?, floats(weight, weight_layout)?);
        let width = weight.len();
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], &weight, *self)
        });
        Ok((storage(values, dtype)?, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (for_x, for_weight) = (x.track_op(), weight.track_op());
        let width = weight.elem_count();
        let rows = x.elem_count() / width;
        let wanted = |yes: bool| if yes { width } else { 0 };
        let shape = Rows { rows, cost: 2 * width, width: wanted(for_x), sums: wanted(for_weight) };
        let (x_values, weight_values) = with_floats(x, |xs| {
            with_floats(weight, |weights| {
                with_floats(gradient, |gradients| {
                    Ok(reduce_rows(shape, |block, out, sums| {
                        let block = block.start * width..block.end * width;
                        let (x, gradient) = (&xs[block.clone()], &gradients[block]);
                        differentiate(out, sums, x, weights, gradient, *self);
                    }))
                })
            })
        })?;
        let x_gradient = for_x.then(|| tensor(x_values, x.shape(), x.dtype())).transpose()?;
        let weight_gradient = for_weight.then(|| tensor(weight_values, weight.shape(), x.dtype())).transpose()?;
        Ok((x_gradient, weight_gradient))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn rms_norm_agrees_with_its_reference() {
        for (shape, eps, offset) in [([5, 7], 1e-5, 0.0), ([70, 300], 1e-6, 1.0), ([200, 256], 1e-6, 0.0)] {
            Check::new("rms_norm", &[&shape, &shape[1..]])
                .run(|t| rms_norm(&t[0], &t[1], eps, offset), |t| rms_norm_reference(&t[0], &t[1], eps, offset));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = rms_norm(&x, &Tensor::zeros(4, DType::F32, &Device::Cpu)?, 1e-6, 0.0).unwrap_err().to_string();
        assert!(message.contains("rms_norm: x [2, 3] does not fit weight [4]"), "{message}");
        Ok(())
    }
}

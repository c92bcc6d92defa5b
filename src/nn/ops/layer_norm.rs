//! Layer normalization, `(x - mean) / sqrt(variance + eps) * weight + bias`, with the population variance.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};

use super::cpu::kernel::kernel;
use super::cpu::math::{fma, sum_of};
use super::cpu::memory::{floats, fused, in_f32, storage, tensor, width, with_floats};
use super::cpu::rows::{Rows, map_rows, reduce_rows};

/// Normalizes the last dimension: x `(.., d)`, weight and bias `(d)`, result `(.., d)`.
///
/// Errors if the shapes or dtypes do not agree.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = width("layer_norm", x)?;
    for (name, parameter) in [("weight", weight), ("bias", bias)] {
        if parameter.dims() != [width] {
            bail!("layer_norm: x {:?} does not fit {name} {:?}", x.shape(), parameter.shape());
        }
    }
    if !fused("layer_norm", &[x, weight, bias])? {
        return layer_norm_reference(x, weight, bias, eps);
    }
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LayerNorm { eps: eps as f32 })
}

/// [`layer_norm`] composed of candle's primitives.
pub fn layer_norm_reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    in_f32(x, |x| {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
        centered.broadcast_div(&scale)?.broadcast_mul(&weight)?.broadcast_add(&bias)
    })
}

struct LayerNorm {
    eps: f32,
}

/// The mean of a row and 1 / sqrt(variance + eps).
#[inline(always)]
fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum_of(x.len(), |i| x[i]) / width;
    let variance = sum_of(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / width;
    (mean, 1.0 / (variance + eps).sqrt())
}

kernel! {
    fn normalize<const FMA: bool>(out: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], eps: f32) {
        let width = weight.len();
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, inverse) = moments(x, eps);
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = fma::<FMA>((x - mean) * inverse, *weight, *bias);
            }
        }
    }
}

kernel! {
    /// With n the normalized row and t = g w: dx = (t - mean(t) - n mean(t n)) / sqrt(variance + eps),
    /// dw = sum of g n, db = sum of g. An empty `x_gradient`, or empty `sums` (dw, then db), is not wanted.
    fn differentiate<const FMA: bool>(
        x_gradient: &mut [f32],
        sums: &mut [f32],
        x: &[f32],
        weight: &[f32],
        gradient: &[f32],
        eps: f32,
    ) {
        let width = weight.len();
        for (row, (x, gradient)) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).enumerate() {
            let (mean, inverse) = moments(x, eps);
            let (weight_sums, bias_sums) = sums.split_at_mut(width.min(sums.len()));
            for (((weight_sum, bias_sum), x), gradient) in weight_sums.iter_mut().zip(bias_sums).zip(x).zip(gradient) {
                *weight_sum = fma::<FMA>(gradient * (x - mean), inverse, *weight_sum);
                *bias_sum += gradient;
            }
            if x_gradient.is_empty() {
                continue;
            }
            let shift = sum_of(width, |i| gradient[i] * weight[i]) / width as f32;
            let pull = sum_of(width, |i| gradient[i] * weight[i] * (x[i] - mean)) * inverse * inverse / width as f32;
            let out = &mut x_gradient[row * width..][..width];
            for (((out, x), gradient), weight) in out.iter_mut().zip(x).zip(gradient).zip(weight) {
                *out = inverse * (fma::<FMA>(*gradient, *weight, -shift) - (x - mean) * pull);
            }
        }
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = x.dtype();
        let (x, weight, bias) = (floats(x, x_layout)?, floats(weight, weight_layout)?, floats(bias, bias_layout)?);
        let width = weight.len();
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], &weight, &bias, self.eps)
        });
        Ok((storage(values, dtype)?, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = weight.elem_count();
        let rows = x.elem_count() / width;
        let for_parameters = weight.track_op() || bias.track_op();
        let shape = Rows {
            rows,
            cost: 2 * width,
            width: if x.track_op() { width } else { 0 },
            sums: if for_parameters { 2 * width } else { 0 },
        };
        let (x_values, mut sums) = with_floats(x, |xs| {
            with_floats(weight, |weights| {
                with_floats(gradient, |gradients| {
                    Ok(reduce_rows(shape, |block, out, sums| {
                        let block = block.start * width..block.end * width;
                        differentiate(out, sums, &xs[block.clone()], weights, &gradients[block], self.eps);
                    }))
                })
            })
        })?;
        let bias_sums = sums.split_off(width.min(sums.len()));
        let dtype = x.dtype();
        Ok((
            x.track_op().then(|| tensor(x_values, x.shape(), dtype)).transpose()?,
            weight.track_op().then(|| tensor(sums, weight.shape(), dtype)).transpose()?,
            bias.track_op().then(|| tensor(bias_sums, bias.shape(), dtype)).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn layer_norm_agrees_with_its_reference() {
        for shape in [[5, 7], [70, 300], [200, 256]] {
            Check::new("layer_norm", &[&shape, &shape[1..], &shape[1..]])
                .run(|t| layer_norm(&t[0], &t[1], &t[2], 1e-5), |t| layer_norm_reference(&t[0], &t[1], &t[2], 1e-5));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let (weight, bias) = (x.get(0)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
        let message = layer_norm(&x, &weight, &bias, 1e-6).unwrap_err().to_string();
        assert!(message.contains("layer_norm: x [2, 3] does not fit bias [4]"), "{message}");
        Ok(())
    }
}

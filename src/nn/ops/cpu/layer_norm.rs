//! Layer normalization on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::layer_norm::LayerNorm;
use super::kernel::kernel;
use super::math::{fma, sum_of};
use super::memory::{Cpu, floats, storage};
use super::rows::{RowBlocks, map_rows, reduce_rows};

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
    /// An empty `x_gradient`, or empty `sums` (dw, then db), is not wanted.
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

impl Kernels<CpuStorage, 3> for LayerNorm {
    fn forward(&self, [x, weight, bias]: [Cpu; 3]) -> Result<CpuStorage> {
        let dtype = x.dtype();
        let (x, weight, bias) = (floats(x)?, floats(weight)?, floats(bias)?);
        let width = weight.len();
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], &weight, &bias, self.eps)
        });
        storage(values, dtype)
    }

    fn backward(
        &self,
        [x, weight, _]: [Cpu; 3],
        outcome: Outcome<CpuStorage>,
        [for_x, for_weight, for_bias]: [bool; 3],
    ) -> Result<[Option<CpuStorage>; 3]> {
        let width = weight.count();
        let shape = RowBlocks {
            rows: x.count() / width,
            cost: 2 * width,
            width: if for_x { width } else { 0 },
            sums: if for_weight || for_bias { 2 * width } else { 0 },
        };
        let (xs, weights, gradients) = (floats(x)?, floats(weight)?, floats(outcome.gradient)?);
        let (x_values, mut sums) = reduce_rows(shape, |block, out, sums| {
            let block = block.start * width..block.end * width;
            differentiate(out, sums, &xs[block.clone()], &weights, &gradients[block], self.eps);
        });
        let bias_sums = sums.split_off(width.min(sums.len()));
        let dtype = x.dtype();
        Ok([
            for_x.then(|| storage(x_values, dtype)).transpose()?,
            for_weight.then(|| storage(sums, dtype)).transpose()?,
            for_bias.then(|| storage(bias_sums, dtype)).transpose()?,
        ])
    }
}

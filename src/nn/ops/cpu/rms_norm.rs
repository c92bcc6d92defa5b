//! Root-mean-square normalization on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::rms_norm::RmsNorm;
use super::kernel::kernel;
use super::math::{dot, fma, sum_of};
use super::memory::{Cpu, floats, storage};
use super::rows::{RowBlocks, map_rows, reduce_rows};

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

impl Kernels<CpuStorage, 2> for RmsNorm {
    fn forward(&self, [x, weight]: [Cpu; 2]) -> Result<CpuStorage> {
        let dtype = x.dtype();
        let (x, weight) = (floats(x)?, floats(weight)?);
        let width = weight.len();
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], &weight, *self)
        });
        storage(values, dtype)
    }

    fn backward(
        &self,
        [x, weight]: [Cpu; 2],
        outcome: Outcome<CpuStorage>,
        [for_x, for_weight]: [bool; 2],
    ) -> Result<[Option<CpuStorage>; 2]> {
        let width = weight.count();
        let wanted = |yes: bool| if yes { width } else { 0 };
        let rows = x.count() / width;
        let shape = RowBlocks { rows, cost: 2 * width, width: wanted(for_x), sums: wanted(for_weight) };
        let (xs, weights, gradients) = (floats(x)?, floats(weight)?, floats(outcome.gradient)?);
        let (x_values, weight_values) = reduce_rows(shape, |block, out, sums| {
            let block = block.start * width..block.end * width;
            differentiate(out, sums, &xs[block.clone()], &weights, &gradients[block], *self);
        });
        let dtype = x.dtype();
        Ok([
            for_x.then(|| storage(x_values, dtype)).transpose()?,
            for_weight.then(|| storage(weight_values, dtype)).transpose()?,
        ])
    }
}

//! Softmax over rows on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::softmax::Softmax;
use super::kernel::kernel;
use super::math::{exponentials, fma, maximum, sum_of};
use super::memory::{Cpu, floats, storage};
use super::rows::map_rows;

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

impl Kernels<CpuStorage, 1> for Softmax {
    fn forward(&self, [x]: [Cpu; 1]) -> Result<CpuStorage> {
        let (dtype, width) = (x.dtype(), self.width);
        let x = floats(x)?;
        let values = map_rows(x.len() / width, width, width, |block, out| {
            normalize(out, &x[block.start * width..block.end * width], width);
        });
        storage(values, dtype)
    }

    fn backward(&self, [x]: [Cpu; 1], outcome: Outcome<CpuStorage>, _: [bool; 1]) -> Result<[Option<CpuStorage>; 1]> {
        let width = self.width;
        let (results, gradients) = (floats(outcome.result)?, floats(outcome.gradient)?);
        let values = map_rows(results.len() / width, width, width, |block, out| {
            let block = block.start * width..block.end * width;
            differentiate(out, &results[block.clone()], &gradients[block], width);
        });
        Ok([Some(storage(values, x.dtype())?)])
    }
}

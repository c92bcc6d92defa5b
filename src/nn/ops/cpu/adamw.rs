//! AdamW on the CPU, on f32 and bf16 parameters.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Result, bail};
use rayon::prelude::*;

use super::super::adamw::{AdamW, Factors};
use super::super::in_place::{Edited, Edits};
use super::kernel::kernel;
use super::math::fma;
use super::memory::{Cpu, edited_f32, floats, round_bf16, widen_bf16};
use super::rows::BLOCK;

impl Edits<CpuStorage, 3, 1> for AdamW {
    fn edit(&self, [parameter, first, second]: [Edited<CpuStorage>; 3], [gradient]: [Cpu; 1]) -> Result<()> {
        let gradient = floats(gradient)?;
        let (first, second) = (edited_f32(first)?, edited_f32(second)?);
        let (start, end) = parameter.range;
        match parameter.storage {
            CpuStorage::F32(values) => step(&mut values[start..end], &gradient, first, second, Factors::new(self)),
            CpuStorage::BF16(values) => {
                let values = &mut values[start..end];
                let mut wide = vec![0f32; values.len()];
                widen_bf16(values, &mut wide);
                step(&mut wide, &gradient, first, second, Factors::new(self));
                values.iter_mut().zip(wide).for_each(|(value, wide)| *value = round_bf16(wide));
            }
            other => bail!("adamw: unsupported parameter dtype {:?}", other.dtype()),
        }
        Ok(())
    }
}

fn step(parameter: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], factors: Factors) {
    if parameter.len() <= 2 * BLOCK {
        return update(parameter, first, second, gradient, factors);
    }
    let moments = first.par_chunks_mut(BLOCK).zip(second.par_chunks_mut(BLOCK));
    let blocks = parameter.par_chunks_mut(BLOCK).zip(moments).zip(gradient.par_chunks(BLOCK));
    blocks.for_each(|((parameter, (first, second)), gradient)| update(parameter, first, second, gradient, factors));
}

kernel! {
    pub(super) fn update<const FMA: bool>(parameter: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], factors: Factors) {
        let moments = first.iter_mut().zip(second);
        for ((parameter, (first, second)), gradient) in parameter.iter_mut().zip(moments).zip(gradient) {
            let gradient = gradient * factors.gradient_scale;
            *first = fma::<FMA>(gradient - *first, factors.first_rate, *first);
            *second = fma::<FMA>(gradient * gradient, factors.second_rate, *second * factors.beta2);
            let denominator = second.sqrt() / factors.root_bias2 + factors.eps;
            *parameter = *parameter * factors.keep - factors.step_size * (*first / denominator);
        }
    }
}

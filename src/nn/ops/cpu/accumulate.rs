//! Adding a gradient to a running sum on the CPU.

use candle_core::{CpuStorage, Result};
use rayon::prelude::*;

use super::super::accumulate::Accumulate;
use super::super::in_place::{Edited, Edits};
use super::memory::{Cpu, edited_f32, floats};
use super::rows::SERIAL;

impl Edits<CpuStorage, 1, 1> for Accumulate {
    fn edit(&self, [sum]: [Edited<CpuStorage>; 1], [gradient]: [Cpu; 1]) -> Result<()> {
        let gradient = floats(gradient)?;
        let add = |(sum, value): (&mut f32, &f32)| *sum += value;
        edited_f32(sum)?.par_iter_mut().with_min_len(SERIAL).zip(&*gradient).for_each(add);
        Ok(())
    }
}

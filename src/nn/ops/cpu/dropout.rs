//! Dropout on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::dropout::{Dropout, drop_into};
use super::memory::{Cpu, floats, storage};
use super::rows::map_rows;
use crate::rng::Rng;

/// What is left of x.
pub(super) fn dropped(x: &[f32], rate: f64, rng: Rng) -> Vec<f32> {
    map_rows(x.len(), 1, 1, |block, out| drop_into(out, &x[block.clone()], block.start, rate, rng))
}

impl Kernels<CpuStorage, 1> for Dropout {
    fn forward(&self, [x]: [Cpu; 1]) -> Result<CpuStorage> {
        storage(dropped(&floats(x)?, self.rate, self.rng), x.dtype())
    }

    fn backward(&self, [x]: [Cpu; 1], outcome: Outcome<CpuStorage>, _: [bool; 1]) -> Result<[Option<CpuStorage>; 1]> {
        Ok([Some(storage(dropped(&floats(outcome.gradient)?, self.rate, self.rng), x.dtype())?)])
    }
}

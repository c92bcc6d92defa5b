//! The sum of squares on the CPU: blocks of a fixed size, added in order.

use candle_core::CpuStorage;
use candle_core::Result;
use rayon::prelude::*;

use super::super::in_place::Measures;
use super::super::squared_norm::SquaredNorm;
use super::kernel::kernel;
use super::memory::{Cpu, floats};
use super::rows::BLOCK;

impl Measures<CpuStorage> for SquaredNorm {
    fn measure(&self, x: Cpu) -> Result<f64> {
        let values = floats(x)?;
        let blocks: Vec<f64> = if values.len() <= 2 * BLOCK {
            values.chunks(BLOCK).map(squares).collect()
        } else {
            values.par_chunks(BLOCK).map(squares).collect()
        };
        Ok(blocks.iter().sum())
    }
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

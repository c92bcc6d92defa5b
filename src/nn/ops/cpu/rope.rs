//! Rotary position embedding on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::rope::Rope;
use super::kernel::kernel;
use super::math::fma;
use super::memory::{Cpu, floats, storage};
use super::rows::map_rows;

kernel! {
    /// Rotates all heads of one token; `direction` is 1, or -1 for the inverse (the gradient).
    fn rotate<const FMA: bool>(out: &mut [f32], x: &[f32], cos: &[f32], sin: &[f32], head_dim: usize, direction: f32) {
        let half = cos.len();
        for (out, x) in out.chunks_exact_mut(head_dim).zip(x.chunks_exact(head_dim)) {
            let (x_first, x_second) = (&x[..half], &x[half..2 * half]);
            let (out_rotated, out_rest) = out.split_at_mut(2 * half);
            let (out_first, out_second) = out_rotated.split_at_mut(half);
            for i in 0..half {
                let sin = direction * sin[i];
                out_first[i] = fma::<FMA>(x_first[i], cos[i], -(x_second[i] * sin));
                out_second[i] = fma::<FMA>(x_second[i], cos[i], x_first[i] * sin);
            }
            out_rest.copy_from_slice(&x[2 * half..]);
        }
    }
}

/// x `(tokens, width)` rotated.
fn run(op: &Rope, x: &[f32], direction: f32) -> Vec<f32> {
    let width = op.width;
    map_rows(op.positions.len(), width, width, |block, out| {
        let tokens = out.chunks_exact_mut(width).zip(x[block.start * width..].chunks_exact(width));
        for ((out, x), &position) in tokens.zip(&op.positions[block]) {
            let (cos, sin) = op.table.row(position);
            rotate(out, x, cos, sin, op.head_dim, direction);
        }
    })
}
impl Kernels<CpuStorage, 1> for Rope {
    fn forward(&self, [x]: [Cpu; 1]) -> Result<CpuStorage> {
        storage(run(self, &floats(x)?, 1.0), x.dtype())
    }

    fn backward(&self, [x]: [Cpu; 1], outcome: Outcome<CpuStorage>, _: [bool; 1]) -> Result<[Option<CpuStorage>; 1]> {
        Ok([Some(storage(run(self, &floats(outcome.gradient)?, -1.0), x.dtype())?)])
    }
}

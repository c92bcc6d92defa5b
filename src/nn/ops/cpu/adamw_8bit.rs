//! AdamW with 8-bit moments on the CPU: the moments of one block at a time are widened.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Result, bail};
use rayon::prelude::*;

use super::super::adamw::Factors;
use super::super::adamw_8bit::AdamW8;
use super::super::eight_bit::{BLOCK_8BIT, narrow, widen};
use super::super::in_place::{Edited, Edits};
use super::adamw::update;
use super::memory::{Cpu, edited_f32, floats};

/// Blocks of a piece of work.
const PIECE: usize = 64;

impl Edits<CpuStorage, 5, 1> for AdamW8 {
    fn edit(
        &self,
        [parameter, first, first_scales, second, second_scales]: [Edited<CpuStorage>; 5],
        [gradient]: [Cpu; 1],
    ) -> Result<()> {
        let (factors, signs) = (Factors::new(&self.hyper), self.signs);
        let gradient = floats(gradient)?;
        let piece = PIECE * BLOCK_8BIT;
        let first = codes(first)?.par_chunks_mut(piece).zip(edited_f32(first_scales)?.par_chunks_mut(PIECE));
        let second = codes(second)?.par_chunks_mut(piece).zip(edited_f32(second_scales)?.par_chunks_mut(PIECE));
        let values = edited_f32(parameter)?.par_chunks_mut(piece).zip(gradient.par_chunks(piece));
        values.zip(first).zip(second).for_each(|(((parameter, gradient), first), second)| {
            let values = parameter.chunks_mut(BLOCK_8BIT).zip(gradient.chunks(BLOCK_8BIT));
            let first = first.0.chunks_mut(BLOCK_8BIT).zip(first.1);
            let second = second.0.chunks_mut(BLOCK_8BIT).zip(second.1);
            let mut wide = [[0f32; BLOCK_8BIT]; 2];
            for (((parameter, gradient), first), second) in values.zip(first).zip(second) {
                let [m, v] = &mut wide;
                let (m, v) = (&mut m[..parameter.len()], &mut v[..parameter.len()]);
                widen(first.0, *first.1, m, signs[0]);
                widen(second.0, *second.1, v, signs[1]);
                update(parameter, m, v, gradient, factors);
                *first.1 = narrow(m, first.0, signs[0]);
                *second.1 = narrow(v, second.0, signs[1]);
            }
        });
        Ok(())
    }
}

fn codes<'a>(edited: Edited<'a, CpuStorage>) -> Result<&'a mut [u8]> {
    match edited.storage {
        CpuStorage::U8(codes) => Ok(&mut codes[edited.range.0..edited.range.1]),
        other => bail!("adamw_8bit: the codes of moments are u8, got {:?}", other.dtype()),
    }
}

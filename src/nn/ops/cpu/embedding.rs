//! Rows of a table on the CPU, gathered in the table's own dtype.

use candle_core::{CpuStorage, Result, bail};

use super::super::dispatch::{Kernels, Outcome};
use super::super::embedding::Embedding;
use super::memory::{Cpu, FloatSource, floats, storage};

impl Kernels<CpuStorage, 1> for Embedding {
    fn forward(&self, [weight]: [Cpu; 1]) -> Result<CpuStorage> {
        let width = weight.dims2()?.1;
        Ok(match FloatSource::new(weight)? {
            FloatSource::F32(table) => CpuStorage::F32(gather(table, &self.ids, width)),
            FloatSource::BF16(table) => CpuStorage::BF16(gather(table, &self.ids, width)),
            FloatSource::F16(table) => CpuStorage::F16(gather(table, &self.ids, width)),
            FloatSource::Blocks(_) => bail!("embedding: a table in blocks is read by quantized_embedding"),
        })
    }

    fn backward(
        &self,
        [weight]: [Cpu; 1],
        outcome: Outcome<CpuStorage>,
        _: [bool; 1],
    ) -> Result<[Option<CpuStorage>; 1]> {
        let width = weight.dims2()?.1;
        let gradients = floats(outcome.gradient)?;
        let mut values = vec![0f32; weight.count()];
        for (&id, gradient) in self.ids.iter().zip(gradients.chunks_exact(width.max(1))) {
            for (sum, value) in values[id as usize * width..][..width].iter_mut().zip(gradient) {
                *sum += value;
            }
        }
        Ok([Some(storage(values, weight.dtype())?)])
    }
}

/// Row after row; the ids were checked when the op was made.
fn gather<T: Copy>(table: &[T], ids: &[u32], width: usize) -> Vec<T> {
    let mut rows = Vec::with_capacity(ids.len() * width);
    for &id in ids {
        rows.extend_from_slice(&table[id as usize * width..][..width]);
    }
    rows
}

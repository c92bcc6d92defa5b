//! The key/value cache: one pair of buffers per layer, rows handed out in slots. A slot may start from another
//! slot's rows (the prefix), so that an image is prefilled once for all its questions.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::ops::Segment;
use super::packing::Packing;

/// Key and value rows of every layer.
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>, // keys and values: (capacity, kv_heads * head_dim)
    used: usize,
}

/// The rows of one sequence in the cache.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Shared rows that come first, of another slot.
    prefix: Range<usize>,
    /// Own rows that may be written.
    own: Range<usize>,
    /// Own rows that are written.
    filled: usize,
    /// Positions the sequence will have in the end.
    planned: usize,
}

impl Slot {
    /// Says how long the sequences that begin with this slot will become, to be told before anything is written:
    /// rotations may depend on it (`rope.rs`), and the slots that have this one as prefix share its rows.
    pub fn planned(mut self, positions: usize) -> Self {
        self.planned = self.planned.max(positions);
        self
    }

    /// Number of positions behind this slot, prefix included: the rotary position of the next token.
    pub fn len(&self) -> usize {
        self.prefix.len() + self.filled
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Cache {
    /// Room for `capacity` rows in each of `layers` layers.
    pub fn new(layers: usize, capacity: usize, width: usize, dtype: DType, device: &Device) -> Result<Self> {
        let buffer = || Tensor::zeros((capacity, width), dtype, device);
        let layers = (0..layers).map(|_| Ok((buffer()?, buffer()?))).collect::<Result<_>>()?;
        Ok(Cache { layers, used: 0 })
    }

    /// A slot of `rows` rows, optionally after all rows of another slot. The prefix must not have a prefix itself.
    pub fn slot(&mut self, rows: usize, prefix: Option<&Slot>) -> Result<Slot> {
        let capacity = self.layers.first().map_or(0, |(keys, _)| keys.dims()[0]);
        if self.used + rows > capacity {
            candle_core::bail!("cache of {capacity} rows is full: {} used, {rows} wanted", self.used);
        }
        let start = self.used;
        self.used += rows;
        // Rows of a prefix are rotated as that was planned, so what follows them goes by the same plan.
        let planned = prefix.filter(|slot| !slot.is_empty()).map_or(rows, |slot| slot.planned);
        let prefix = prefix.map_or(0..0, |slot| slot.own.start..slot.own.start + slot.filled);
        Ok(Slot { prefix, own: start..start + rows, filled: 0, planned })
    }

    /// Writes this pass's keys and values of a layer and returns the whole buffers.
    pub(super) fn write(&self, layer: usize, k: &Tensor, v: &Tensor, packing: &Packing) -> Result<(Tensor, Tensor)> {
        let (keys, values) = &self.layers[layer];
        for (rows, to) in &packing.writes {
            keys.slice_set(&k.narrow(0, rows.start, rows.len())?.contiguous()?, 0, *to)?;
            values.slice_set(&v.narrow(0, rows.start, rows.len())?.contiguous()?, 0, *to)?;
        }
        Ok((keys.clone(), values.clone()))
    }
}

/// The packing that appends `lengths[i]` tokens to `slots[i]`; only the last row of each sequence is wanted.
pub fn append(slots: &mut [&mut Slot], lengths: &[usize]) -> Result<Packing> {
    let mut positions = Vec::new();
    let mut segments = Vec::new();
    let mut rows = Vec::new();
    let mut writes = Vec::new();
    let planned = slots.iter().map(|slot| slot.planned).collect();
    for (slot, &length) in slots.iter_mut().zip(lengths) {
        if slot.filled + length > slot.own.len() {
            candle_core::bail!("slot of {} rows is full: {} used, {length} wanted", slot.own.len(), slot.filled);
        }
        let start = positions.len();
        let to = slot.own.start + slot.filled;
        positions.extend((slot.len() as u32)..(slot.len() + length) as u32);
        slot.filled += length;
        segments.push(Segment {
            q: start..start + length,
            prefix: slot.prefix.clone(),
            k: slot.own.start..slot.own.start + slot.filled,
        });
        writes.push((start..start + length, to));
        rows.push((start + length - 1) as u32);
    }
    let rows: Arc<[u32]> = rows.into();
    Ok(Packing { positions: positions.into(), segments: segments.into(), planned, rows: Some(rows), writes })
}

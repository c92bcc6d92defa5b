//! The key/value cache: one pair of buffers per layer, rows handed out in slots. A slot may start from another
//! slot's rows (the prefix), so that an image is prefilled once for all its questions. Buffers grow when rows run
//! out, and the rows of a freed slot are handed out again.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::ops::Segment;
use super::packing::Packing;

/// Rows a full slot grows by at least, and the unit of the buffers' size.
const BLOCK: usize = 32;

/// Key and value rows of every layer.
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>, // keys and values: (capacity, kv_heads * head_dim)
    /// Free rows, ascending; neighbors are one range.
    free: Vec<Range<usize>>,
    capacity: usize,
}

/// The rows of one sequence in the cache.
#[derive(Debug)]
pub struct Slot {
    /// Shared rows that come first, of another slot.
    prefix: Range<usize>,
    /// Own rows that may be written.
    own: Range<usize>,
    /// Own rows that are written.
    filled: usize,
    /// The longest sequence for which the rotations of its rows are right.
    planned: usize,
}

impl Slot {
    /// Sets how long the sequences that begin with this slot may become, before anything is written: rotations may depend
    /// on it (`DecoderSpec::horizon`), and slots that have this one as prefix share its rows.
    pub fn planned(mut self, positions: usize) -> Self {
        self.planned = positions;
        self
    }

    /// The longest sequence for which the rotations of its rows are right.
    pub fn plan(&self) -> usize {
        self.planned
    }

    /// Number of positions behind this slot, prefix included: the rotary position of the next token.
    pub fn len(&self) -> usize {
        self.prefix.len() + self.filled
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the positions from `len` on. Those of the prefix stay.
    pub fn truncate(&mut self, len: usize) {
        self.filled = self.filled.min(len.saturating_sub(self.prefix.len()));
    }
}

impl Cache {
    /// Room for `capacity` rows in each of `layers` layers, to begin with.
    pub fn new(layers: usize, capacity: usize, width: usize, dtype: DType, device: &Device) -> Result<Self> {
        let buffer = || Tensor::zeros((capacity, width), dtype, device);
        let layers = (0..layers).map(|_| Ok((buffer()?, buffer()?))).collect::<Result<_>>()?;
        let free = Some(0..capacity).filter(|rows| !rows.is_empty()).into_iter().collect();
        Ok(Cache { layers, free, capacity })
    }

    /// Rows of the buffers, handed out or not.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Rows that slots have.
    pub fn used(&self) -> usize {
        self.capacity - self.free.iter().map(Range::len).sum::<usize>()
    }

    /// A slot of `rows` rows, optionally after all rows of another slot. The prefix must not have a prefix itself,
    /// and must outlive the slot.
    pub fn slot(&mut self, rows: usize, prefix: Option<&Slot>) -> Result<Slot> {
        // The rows of the prefix are rotated for sequences of its planned length, so the rows after them have to be, too.
        let planned = prefix.filter(|slot| !slot.is_empty()).map_or(rows, |slot| slot.planned);
        let prefix = match prefix {
            Some(slot) if !slot.prefix.is_empty() => candle_core::bail!("a prefix of a prefix: {slot:?}"),
            Some(slot) => slot.own.start..slot.own.start + slot.filled,
            None => 0..0,
        };
        Ok(Slot { prefix, own: self.take(rows)?, filled: 0, planned })
    }

    /// Makes room for `rows` more rows in a slot: in place where the rows after it are free, else at a new place.
    pub fn reserve(&mut self, slot: &mut Slot, rows: usize) -> Result<()> {
        let wanted = slot.filled + rows;
        if wanted <= slot.own.len() {
            return Ok(());
        }
        // Enough at once that moving is rare, not so much that a short answer holds rows it never writes.
        let grown = wanted.max(slot.own.len() + slot.own.len().clamp(BLOCK, 8 * BLOCK));
        let end = slot.own.start + grown;
        if let Some(after) = self.free.iter_mut().find(|free| free.start == slot.own.end && free.end >= end) {
            after.start = end;
            slot.own.end = end;
            self.free.retain(|free| !free.is_empty());
            return Ok(());
        }
        let own = self.take(grown)?;
        for (keys, values) in &self.layers {
            for buffer in [keys, values] {
                // A copy, as a view shares the storage that is written.
                buffer.slice_set(&buffer.narrow(0, slot.own.start, slot.filled)?.force_contiguous()?, 0, own.start)?;
            }
        }
        let old = std::mem::replace(&mut slot.own, own);
        self.give(old);
        Ok(())
    }

    /// Takes a slot's rows back. No slot that has it as its prefix may be used after that.
    pub fn free(&mut self, slot: Slot) {
        self.give(slot.own);
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

    /// The first free range of `rows` rows; the buffers grow where there is none.
    fn take(&mut self, rows: usize) -> Result<Range<usize>> {
        if rows == 0 {
            return Ok(0..0);
        }
        if !self.free.iter().any(|free| free.len() >= rows) {
            let last = self.free.last().filter(|free| free.end == self.capacity).map_or(0, Range::len);
            self.grow((rows - last).max(self.capacity / 4).next_multiple_of(BLOCK))?;
        }
        let Some(place) = self.free.iter_mut().find(|free| free.len() >= rows) else {
            candle_core::bail!("cache of {} rows has no room for {rows}", self.capacity);
        };
        let taken = place.start..place.start + rows;
        place.start = taken.end;
        self.free.retain(|free| !free.is_empty());
        Ok(taken)
    }

    fn give(&mut self, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        let at = self.free.partition_point(|free| free.start < rows.start);
        self.free.insert(at, rows);
        let mut merged: Vec<Range<usize>> = Vec::with_capacity(self.free.len());
        for range in self.free.drain(..) {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        self.free = merged;
    }

    fn grow(&mut self, rows: usize) -> Result<()> {
        let capacity = self.capacity + rows;
        for (keys, values) in &mut self.layers {
            for buffer in [keys, values] {
                let grown = Tensor::zeros((capacity, buffer.dim(1)?), buffer.dtype(), buffer.device())?;
                if self.capacity > 0 {
                    grown.slice_set(buffer, 0, 0)?;
                }
                *buffer = grown;
            }
        }
        self.give(self.capacity..capacity);
        self.capacity = capacity;
        Ok(())
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
    Ok(Packing {
        positions: positions.into(),
        segments: segments.into(),
        keys: None,
        planned,
        rows: Some(rows),
        writes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(capacity: usize) -> Cache {
        Cache::new(1, capacity, 2, DType::F32, &Device::Cpu).unwrap()
    }

    fn fill(cache: &Cache, slot: &mut Slot, value: f32, rows: usize) {
        let x = Tensor::full(value, (rows, 2), &Device::Cpu).unwrap();
        let packing = append(&mut [slot], &[rows]).unwrap();
        cache.write(0, &x, &x, &packing).unwrap();
    }

    fn rows(cache: &Cache, slot: &Slot) -> Vec<f32> {
        let own = cache.layers[0].1.narrow(0, slot.own.start, slot.filled).unwrap();
        own.narrow(1, 1, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn freed_rows_are_handed_out_again() {
        let mut cache = cache(0);
        let slots: Vec<Slot> = (0..4).map(|_| cache.slot(16, None).unwrap()).collect();
        assert_eq!((cache.capacity(), cache.used()), (64, 64));
        let [a, b, c, d] = slots.try_into().unwrap();
        cache.free(b);
        cache.free(c);
        let e = cache.slot(32, None).unwrap();
        assert_eq!((e.own.clone(), cache.capacity()), (16..48, 64));
        for slot in [a, d, e] {
            cache.free(slot);
        }
        assert_eq!((cache.used(), cache.free.len()), (0, 1));
    }

    #[test]
    fn a_slot_that_moves_keeps_its_rows() {
        let mut cache = cache(8);
        let (mut a, mut b) = (cache.slot(4, None).unwrap(), cache.slot(4, None).unwrap());
        fill(&cache, &mut a, 1.0, 4);
        fill(&cache, &mut b, 2.0, 4);
        for value in 3..40 {
            cache.reserve(&mut a, 1).unwrap();
            fill(&cache, &mut a, value as f32, 1);
        }
        let expected: Vec<f32> = [1.0; 4].into_iter().chain((3..40).map(|value| value as f32)).collect();
        assert_eq!(rows(&cache, &a), expected);
        assert_eq!(rows(&cache, &b), [2.0; 4]);
        assert!(cache.capacity() <= 4 * a.len(), "{} rows for {}", cache.capacity(), a.len());
    }

    #[test]
    fn a_prefix_comes_first_and_has_none_itself() {
        let mut cache = cache(8);
        let mut prefix = cache.slot(3, None).unwrap();
        fill(&cache, &mut prefix, 1.0, 3);
        let mut slot = cache.slot(2, Some(&prefix)).unwrap();
        let packing = append(&mut [&mut slot], &[2]).unwrap();
        assert_eq!(*packing.positions, [3, 4]);
        assert_eq!(packing.segments[0], Segment { q: 0..2, prefix: 0..3, k: 3..5 });
        assert!(cache.slot(1, Some(&slot)).is_err());
        slot.truncate(4);
        assert_eq!(slot.len(), 4);
        assert!(append(&mut [&mut slot], &[2]).is_err(), "it has one row left");
    }
}

//! Packing: samples of different lengths stand one after another in one row dimension, so there is no padding
//! anywhere. A packing says where each begins, where its keys are, and which rows are wanted in the end.

use std::ops::Range;
use std::sync::Arc;

use super::ops::Segment;

/// The layout of one forward pass over `tokens` rows.
#[derive(Clone)]
pub struct Packing {
    /// Rotary position of every row.
    pub positions: Arc<[u32]>,
    /// Who attends to whom.
    pub segments: Arc<[Segment]>,
    /// How long each segment's sequence will be in the end, its prefix and what is decoded later included.
    pub planned: Arc<[usize]>,
    /// Rows whose final hidden state is wanted, ascending; `None` is all of them.
    pub rows: Option<Arc<[u32]>>,
    /// With a cache: runs of rows and the cache row each run is written to.
    pub writes: Vec<(Range<usize>, usize)>,
}

impl Packing {
    /// Whole sequences of these lengths, without a cache.
    pub fn whole(lengths: &[usize]) -> Self {
        let mut positions = Vec::new();
        let mut segments = Vec::new();
        for &length in lengths {
            let start = positions.len();
            positions.extend(0..length as u32);
            segments.push(Segment { q: start..start + length, prefix: 0..0, k: start..start + length });
        }
        let planned = lengths.into();
        Packing { positions: positions.into(), segments: segments.into(), planned, rows: None, writes: Vec::new() }
    }

    /// The same, when only these rows are wanted.
    pub fn with_rows(mut self, rows: Vec<u32>) -> Self {
        self.rows = Some(rows.into());
        self
    }

    /// Number of rows.
    pub fn tokens(&self) -> usize {
        self.positions.len()
    }
}

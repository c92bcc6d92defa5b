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
    /// The rows whose keys the segments speak of, in this order; `None` is every row once.
    pub keys: Option<Arc<[u32]>>,
    /// How long each segment's sequence is or may become, its prefix and what is decoded later included.
    pub planned: Arc<[usize]>,
    /// Rows whose final hidden state is wanted, ascending; `None` is all of them.
    pub rows: Option<Arc<[u32]>>,
    /// With a cache: runs of rows and the cache row each run is written to.
    pub writes: Vec<(Range<usize>, usize)>,
}

/// Rows of a beginning, and branches that follow it: each sees the beginning and itself. A sequence is one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub stem: usize,
    pub branches: Vec<usize>,
}

impl Tree {
    /// One sequence.
    pub fn sequence(length: usize) -> Self {
        Tree { stem: 0, branches: vec![length] }
    }

    /// Rows of all parts.
    pub fn rows(&self) -> usize {
        self.stem + self.branches.iter().sum::<usize>()
    }
}

impl Packing {
    /// Whole sequences of these lengths, without a cache.
    pub fn whole(lengths: &[usize]) -> Self {
        Packing::trees(&lengths.iter().map(|&length| Tree::sequence(length)).collect::<Vec<_>>())
    }

    /// Trees, without a cache. A stem's keys are gathered anew before those of each of its branches, so that every key
    /// belongs to one segment and its gradient is the sum over the branches.
    pub fn trees(trees: &[Tree]) -> Self {
        let (mut positions, mut segments, mut planned) = (Vec::new(), Vec::new(), Vec::new());
        let mut keys: Vec<u32> = Vec::new();
        for Tree { stem, branches } in trees {
            let root = positions.len() as u32;
            let longest = stem + branches.iter().max().copied().unwrap_or(0);
            // The stem itself is a branch that follows nothing.
            let parts = [(0, *stem)].into_iter().chain(branches.iter().map(|&rows| (*stem, rows)));
            for (before, length) in parts.filter(|(_, rows)| *rows > 0) {
                let (row, key) = (positions.len(), keys.len());
                keys.extend(root..root + before as u32);
                keys.extend(row as u32..(row + length) as u32);
                positions.extend(before as u32..(before + length) as u32);
                segments.push(Segment { q: row..row + length, prefix: 0..0, k: key..keys.len() });
                planned.push(longest);
            }
        }
        let keys = if keys.len() == positions.len() { None } else { Some(keys.into()) };
        let (positions, segments, planned) = (positions.into(), segments.into(), planned.into());
        Packing { positions, segments, keys, planned, rows: None, writes: Vec::new() }
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

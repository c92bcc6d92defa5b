//! What gives samples by position.

use std::path::PathBuf;

use super::brief::Brief;
use super::sample::Sample;
use crate::error::Result;

/// Samples by position.
pub trait Items: Send + Sync {
    /// How many.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The sample at a position below `len`.
    fn get(&self, index: usize) -> Result<Sample>;
    /// What is known of that sample; cheaper than reading it where there is an index.
    fn brief(&self, index: usize) -> Result<Brief> {
        self.get(index).map(|sample| Brief::of(&sample))
    }
    /// Keys of that sample that nothing reads.
    fn unread(&self, _index: usize) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// A hash over what the samples are made from, for run.lock.
    fn sha256(&self) -> String;
    /// The files that hold the samples, their pictures aside.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

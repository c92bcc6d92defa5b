//! Samples that a function has changed. The function has run; only what it changed is held.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::brief::Brief;
use super::dataset::Dataset;
use super::items::Items;
use super::sample::Sample;
use crate::bail;
use crate::error::Result;
use crate::text::Turn;

/// What a function made of a sample; what it left alone is not held.
pub enum Change {
    /// The sample is as it was.
    Nothing,
    /// It has another id and other turns, and the pictures it had.
    Text(String, Vec<Turn>),
    /// Nothing is as it was.
    All(Sample),
}

/// The samples of a data set with a change for each. What was changed is held in memory.
struct Mapped {
    base: Dataset,
    changes: Vec<Change>,
}

impl Dataset {
    /// The samples with a change for each, in order.
    pub fn changed(&self, changes: Vec<Change>) -> Self {
        Dataset::new(&format!("{} (mapped)", self.name()), vec![Arc::new(Mapped { base: self.clone(), changes })])
    }
}

impl Items for Mapped {
    fn len(&self) -> usize {
        self.changes.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        match self.changes.get(index) {
            None => bail!(Data, "no sample {index}"),
            Some(Change::Nothing) => self.base.get(index),
            Some(Change::Text(id, turns)) => {
                Ok(Sample { id: id.clone(), images: self.base.get(index)?.images, turns: turns.clone() })
            }
            Some(Change::All(sample)) => Ok(sample.clone()),
        }
    }

    fn brief(&self, index: usize) -> Result<Brief> {
        match self.changes.get(index) {
            Some(Change::Nothing) => self.base.brief(index),
            _ => self.get(index).map(|sample| Brief::of(&sample)),
        }
    }

    fn unread(&self, index: usize) -> Result<Vec<String>> {
        match self.changes.get(index) {
            Some(Change::Nothing) => self.base.unread(index),
            _ => Ok(Vec::new()),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        self.base.files()
    }

    fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.base.sha256());
        for change in &self.changes {
            let (id, turns, images) = match change {
                Change::Nothing => {
                    hasher.update([0]);
                    continue;
                }
                Change::Text(id, turns) => (id, turns, &[][..]),
                Change::All(sample) => (&sample.id, &sample.turns, sample.images.as_slice()),
            };
            hasher.update([1]);
            hasher.update(id);
            for turn in turns {
                hasher.update(&turn.value);
                // What every turn is by default says nothing, so that hashes of older runs hold.
                if !turn.supervised {
                    hasher.update([0]);
                }
            }
            for image in images {
                if let Some(image) = image.pixels() {
                    hasher.update(image.pixels.as_slice());
                }
            }
        }
        format!("{:x}", hasher.finalize())
    }
}

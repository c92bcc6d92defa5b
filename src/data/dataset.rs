//! Data sets: a source that gives samples by position, and a list of positions. Taking, skipping, shuffling,
//! filtering and splitting only touch the list.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::brief::{Brief, id_hash};
use super::items::Items;
use super::print::Print;
use super::sample::Sample;
use crate::error::Result;
use crate::rng::Rng;
use crate::{bail, error};

/// A view of one or more sources.
#[derive(Clone)]
pub struct Dataset {
    name: String,
    sources: Arc<[Arc<dyn Items>]>,
    /// (source, position in it)
    order: Arc<[(u32, u32)]>,
    /// The fingerprints of its pictures, once somebody asked for them.
    prints: Arc<OnceLock<Arc<Vec<Print>>>>,
}

impl Dataset {
    /// All samples of some sources in order.
    pub fn new(name: &str, sources: Vec<Arc<dyn Items>>) -> Self {
        let positions = |(i, source): (usize, &Arc<dyn Items>)| (0..source.len()).map(move |p| (i as u32, p as u32));
        let order = sources.iter().enumerate().flat_map(positions).collect();
        Dataset { name: name.to_string(), sources: sources.into(), order, prints: Arc::default() }
    }

    /// The preset id or path it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The sample at a position.
    pub fn get(&self, index: usize) -> Result<Sample> {
        let Some(&(source, position)) = self.order.get(index) else {
            bail!(Data, "`{}` has {} samples, there is no number {index}", self.name, self.len());
        };
        self.sources[source as usize].get(position as usize)
    }

    /// What is known of the sample at a position without reading it again.
    pub fn brief(&self, index: usize) -> Result<Brief> {
        let Some(&(source, position)) = self.order.get(index) else {
            bail!(Data, "`{}` has {} samples, there is no number {index}", self.name, self.len());
        };
        self.sources[source as usize].brief(position as usize)
    }

    /// The same for all samples in order.
    pub fn briefs(&self) -> Result<Vec<Brief>> {
        (0..self.len()).into_par_iter().map(|index| self.brief(index)).collect()
    }

    /// Keys of the sample at a position that nothing reads.
    pub fn unread(&self, index: usize) -> Result<Vec<String>> {
        match self.order.get(index) {
            Some(&(source, position)) => self.sources[source as usize].unread(position as usize),
            None => Ok(Vec::new()),
        }
    }

    /// The position of a sample's id.
    pub fn find(&self, id: &str) -> Result<usize> {
        let hash = id_hash(id);
        for index in 0..self.len() {
            if self.brief(index)?.id == hash && self.get(index)?.id == id {
                return Ok(index);
            }
        }
        Err(error!(Missing, "no sample `{id}` in `{}`", self.name).help("`d[0].id` shows what ids look like"))
    }

    /// The samples that can be trained on, and the positions of those that cannot, with the reason: an answer of theirs has
    /// no text, or none is to be learned.
    pub fn trainable(&self) -> Result<(Self, Vec<(usize, &'static str)>)> {
        let briefs = self.briefs()?;
        let skipped = |index: usize| briefs[index].skipped().map(|why| (index, why));
        let left_out: Vec<_> = (0..briefs.len()).filter_map(skipped).collect();
        if left_out.is_empty() {
            return Ok((self.clone(), left_out));
        }
        let kept: Vec<usize> = (0..briefs.len()).filter(|&index| briefs[index].skipped().is_none()).collect();
        Ok((self.pick(&kept), left_out))
    }

    /// The first `n` samples.
    pub fn take(&self, n: usize) -> Self {
        self.reorder(self.order.iter().take(n).copied().collect())
    }

    /// All but the first `n` samples.
    pub fn skip(&self, n: usize) -> Self {
        self.reorder(self.order.iter().skip(n).copied().collect())
    }

    /// The same samples in an order drawn from `seed`.
    pub fn shuffle(&self, seed: u64) -> Self {
        let permutation = Rng::new(seed, "shuffle").permutation(self.len());
        self.reorder(permutation.into_iter().map(|i| self.order[i]).collect())
    }

    /// The samples at these positions.
    pub fn pick(&self, positions: &[usize]) -> Self {
        self.reorder(positions.iter().filter_map(|&i| self.order.get(i).copied()).collect())
    }

    /// Two disjoint parts, the first with `fraction` of the samples, drawn from `seed`.
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..=1.0).contains(&fraction) {
            bail!(Option, "a fraction of {fraction} is not between 0 and 1");
        }
        let shuffled = self.shuffle(seed);
        let first = (fraction * self.len() as f64).round() as usize;
        Ok((shuffled.take(first), shuffled.skip(first)))
    }

    /// All of this set and `weight` times as many of `other`'s samples as it has, drawn in its order.
    pub fn mix(&self, other: &Dataset, weight: f64) -> Result<Self> {
        if !weight.is_finite() || weight < 0.0 {
            bail!(Option, "a weight of {weight} is not a positive number");
        }
        let offset = self.sources.len() as u32;
        let sources: Vec<Arc<dyn Items>> = self.sources.iter().chain(other.sources.iter()).cloned().collect();
        let wanted = (weight * other.len() as f64).round() as usize;
        let theirs = other.order.iter().cycle().take(if other.is_empty() { 0 } else { wanted });
        let order = self.order.iter().copied().chain(theirs.map(|&(s, p)| (s + offset, p))).collect();
        Ok(Dataset {
            name: format!("{} + {weight} x {}", self.name, other.name),
            sources: sources.into(),
            order,
            prints: Arc::default(),
        })
    }

    /// A hash over sources and order, for run.lock.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for source in self.sources.iter() {
            hasher.update(source.sha256());
        }
        for (source, position) in self.order.iter() {
            hasher.update(source.to_le_bytes());
            hasher.update(position.to_le_bytes());
        }
        format!("{:x}", hasher.finalize())
    }

    /// The files that hold the samples, their pictures aside.
    pub fn files(&self) -> Vec<PathBuf> {
        let all: BTreeSet<PathBuf> = self.sources.iter().flat_map(|source| source.files()).collect();
        all.into_iter().collect()
    }

    /// The fingerprints of its pictures, where they are known.
    pub fn known_prints(&self) -> Option<Arc<Vec<Print>>> {
        self.prints.get().cloned()
    }

    pub(super) fn keep_prints(&self, prints: Vec<Print>) -> Arc<Vec<Print>> {
        self.prints.get_or_init(|| Arc::new(prints)).clone()
    }

    fn reorder(&self, order: Vec<(u32, u32)>) -> Self {
        Dataset { name: self.name.clone(), sources: self.sources.clone(), order: order.into(), prints: Arc::default() }
    }
}

//! Data sets: a source that gives samples by position, and a list of positions. Taking, skipping, shuffling,
//! filtering and splitting only touch the list.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::llava_json::LlavaJson;
use super::pack::{Pack, PackItems};
use super::sample::Sample;
use crate::error::Result;
use crate::preset::{PresetKind, Presets};
use crate::rng::Rng;
use crate::{bail, error};

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
    /// A hash over what the samples are made from, for run.lock.
    fn sha256(&self) -> String;
}

/// A view of one or more sources.
#[derive(Clone)]
pub struct Dataset {
    name: String,
    sources: Arc<[Arc<dyn Items>]>,
    /// (source, position in it)
    order: Arc<[(u32, u32)]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DatasetPreset {
    #[serde(rename = "about")]
    _about: String,
    /// Embedded packs, one after another.
    packs: Vec<PackPreset>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PackPreset {
    source: String,
    items: PackItems,
    /// How often every picture comes, each time with its questions begun at another place.
    #[serde(default = "once")]
    orders: usize,
}

fn once() -> usize {
    1
}

impl Dataset {
    /// A preset of embedded packs.
    pub fn preset(presets: &Presets, id: &str) -> Result<Self> {
        let preset: DatasetPreset = presets.get(PresetKind::Datasets, id)?;
        let sources = preset
            .packs
            .iter()
            .map(|pack| Pack::open(&pack.source).map(|opened| pack.items.of(opened, pack.orders)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Dataset::new(id, sources))
    }

    /// A LLaVA JSON file; pictures are paths below `images` (default: the file's folder).
    pub fn llava_json(path: &Path, images: Option<&Path>) -> Result<Self> {
        let name = path.display().to_string();
        Ok(Dataset::new(&name, vec![Arc::new(LlavaJson::open(path, images)?)]))
    }

    /// All samples of some sources in order.
    pub fn new(name: &str, sources: Vec<Arc<dyn Items>>) -> Self {
        let positions = |(i, source): (usize, &Arc<dyn Items>)| (0..source.len()).map(move |p| (i as u32, p as u32));
        let order = sources.iter().enumerate().flat_map(positions).collect();
        Dataset { name: name.to_string(), sources: sources.into(), order }
    }

    /// Samples that exist in memory (after `map`).
    pub fn of_samples(name: &str, samples: Vec<Sample>) -> Self {
        Dataset::new(name, vec![Arc::new(Samples(samples))])
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

    /// The position of a sample's id.
    pub fn find(&self, id: &str) -> Result<usize> {
        for index in 0..self.len() {
            if self.get(index)?.id == id {
                return Ok(index);
            }
        }
        Err(error!(Missing, "no sample `{id}` in `{}`", self.name).help("`d[0].id` shows what ids look like"))
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
        Ok(Dataset { name: format!("{} + {weight} x {}", self.name, other.name), sources: sources.into(), order })
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

    fn reorder(&self, order: Vec<(u32, u32)>) -> Self {
        Dataset { name: self.name.clone(), sources: self.sources.clone(), order: order.into() }
    }
}

struct Samples(Vec<Sample>);

impl Items for Samples {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.0.get(index).cloned().ok_or_else(|| error!(Data, "no sample {index}"))
    }

    fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for sample in &self.0 {
            hasher.update(&sample.id);
            for turn in &sample.turns {
                hasher.update(&turn.value);
            }
        }
        format!("{:x}", hasher.finalize())
    }
}

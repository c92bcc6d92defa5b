//! Data sets: a source that gives samples by position, and a list of positions. Taking, skipping, shuffling,
//! filtering and splitting only touch the list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::brief::{Brief, id_hash};
use super::llava_json::LlavaJson;
use super::mapped::{Change, Mapped};
use super::pack::{Pack, PackItems};
use super::pictures::Pictures;
use super::prints::Print;
use super::rows::RowItems;
use super::sample::{ImageSource, Sample};
use crate::error::Result;
use crate::preset::{PresetKind, Presets};
use crate::rng::Rng;
use crate::{bail, error};

/// Of how many samples, over the whole, pictures are looked for when a file is opened, until one is found.
const LOOKED_FOR: usize = 1000;

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

/// The formats of files of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON list, as LLaVA publishes it.
    Llava,
    /// One JSON object a line, with the same fields. Which of the two a file is, is told by how it begins.
    Jsonl,
    /// A parquet file or a folder of them with these fields as columns; pictures may lie in the rows.
    Parquet,
}

impl Format {
    /// The names scripts use.
    pub const NAMES: [(&'static str, Format); 3] =
        [("llava", Format::Llava), ("jsonl", Format::Jsonl), ("parquet", Format::Parquet)];

    /// The format that a file's name suggests.
    pub fn of(path: &Path) -> Self {
        match path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).as_deref() {
            Some("jsonl" | "ndjson") => Format::Jsonl,
            Some("parquet") => Format::Parquet,
            _ if path.is_dir() => Format::Parquet,
            _ => Format::Llava,
        }
    }
}

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
        let pictures = images.map(Pictures::at).transpose()?;
        Dataset::open(path, Format::Llava, pictures)
    }

    /// A file of samples; pictures are below its folder unless told otherwise.
    ///
    /// # Errors
    /// `Missing` or `File` when it cannot be read, or when none of the pictures looked for is there; `Decode` when it is not
    /// of that format or cut off.
    pub fn open(path: &Path, format: Format, pictures: Option<Pictures>) -> Result<Self> {
        let given = pictures.clone();
        let pictures = match pictures {
            Some(pictures) => pictures,
            None => Pictures::at(path.parent().unwrap_or(Path::new(".")))?,
        };
        let items: Arc<dyn Items> = match format {
            Format::Llava | Format::Jsonl => Arc::new(LlavaJson::open(path, pictures)?),
            Format::Parquet => Arc::new(RowItems::open(path, given)?),
        };
        let dataset = Dataset::new(&path.display().to_string(), vec![items]);
        dataset.look_for_pictures()?;
        Ok(dataset)
    }

    /// Several files of one format as one set, called `name`; pictures are below each one's folder unless told otherwise.
    ///
    /// # Errors
    /// As for [`Dataset::open`].
    pub fn open_files(name: &str, files: &[PathBuf], format: Format, pictures: Option<Pictures>) -> Result<Self> {
        let sources: Vec<Arc<dyn Items>> = match format {
            Format::Parquet => vec![Arc::new(RowItems::open_files(files, pictures)?)],
            Format::Llava | Format::Jsonl => {
                let open = |file: &PathBuf| -> Result<Arc<dyn Items>> {
                    let pictures = match &pictures {
                        Some(pictures) => pictures.clone(),
                        None => Pictures::at(file.parent().unwrap_or(Path::new(".")))?,
                    };
                    Ok(Arc::new(LlavaJson::open(file, pictures)?))
                };
                files.iter().map(open).collect::<Result<_>>()?
            }
        };
        let dataset = Dataset::new(name, sources);
        dataset.look_for_pictures()?;
        Ok(dataset)
    }

    /// Looks for pictures, the first one and others over the whole: where none is there, their folder is a wrong one.
    /// Single ones that are missing are for `verify`.
    fn look_for_pictures(&self) -> Result<()> {
        let has_image = |index: &usize| self.brief(*index).is_ok_and(|brief| brief.has_image());
        let pictured: Vec<usize> = (0..self.len()).filter(has_image).collect();
        let mut first: Option<(String, ImageSource)> = None;
        let mut looked = 0;
        for &index in pictured.iter().step_by(pictured.len().div_ceil(LOOKED_FOR).max(1)) {
            // What cannot be read is told when it is.
            let Ok(sample) = self.get(index) else { continue };
            for image in sample.images {
                if image.is_there()? {
                    return Ok(());
                }
                looked += 1;
                first.get_or_insert((sample.id.clone(), image));
            }
        }
        let Some((id, image)) = first else { return Ok(()) };
        let (name, place) = (&self.name, image.place());
        Err(error!(
            Missing,
            "`{name}`: none of its pictures is there ({looked} looked for); that of sample `{id}` would be `{place}`"
        )
        .help("`images:` names the folder, `.zip` or `.tar` from which the names of pictures lead on"))
    }

    /// All samples of some sources in order.
    pub fn new(name: &str, sources: Vec<Arc<dyn Items>>) -> Self {
        let positions = |(i, source): (usize, &Arc<dyn Items>)| (0..source.len()).map(move |p| (i as u32, p as u32));
        let order = sources.iter().enumerate().flat_map(positions).collect();
        Dataset { name: name.to_string(), sources: sources.into(), order, prints: Arc::default() }
    }

    /// The samples with a change for each, in order.
    pub fn changed(&self, changes: Vec<Change>) -> Self {
        Dataset::new(&format!("{} (mapped)", self.name), vec![Arc::new(Mapped { base: self.clone(), changes })])
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

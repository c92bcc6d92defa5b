//! `summary.json` of a run: what was trained, from what, by which build, and hashes of the files that came of it. Written
//! whenever a `fit` ends; `verify` looks whether all of it still lies there as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::run::{Lock, Run, SUMMARY, checkpoints};
use super::trainer::Trainer;
use crate::data::{hex, print_now};
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::files::{self, EVENTS, RUN_LOCK};
use crate::vlm::{Part, Vlm};
use crate::weights::{HASHES, listed, sha256_of};
use crate::writer::Writer;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub llmore: String,
    pub build: String,
    pub status: String,
    /// The signal that ended a paused run, or what else asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    pub steps: u64,
    pub of: u64,
    pub last_loss: Option<f64>,
    pub model: String,
    pub trained: Asked,
    /// How the model is asked and saved from now on.
    pub asked: Asked,
    pub data: Data,
    /// Files that the model was opened from, by part; of what lies in the program itself there are none.
    pub parts: BTreeMap<String, BTreeMap<String, String>>,
    /// Files of the run folder: a SHA-256, or bytes in a summary of an older version.
    pub files: BTreeMap<String, Hash>,
}

/// Template and handling of pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub template: String,
    pub image: String,
}

/// What was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    pub name: String,
    pub samples: usize,
    pub sha256: String,
    /// The files that the samples are in, with their fingerprints.
    pub files: BTreeMap<String, String>,
    pub pictures: usize,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pictures_sha256: String,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Hash {
    Sha256(String),
    Bytes(u64),
}

/// Something that is not what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// A file of the run, of the data, a picture, or a file of a part.
    pub what: String,
    pub then: String,
    pub now: String,
}

/// What `verify` looked at and found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verified {
    pub looked_at: usize,
    pub moved: Vec<Moved>,
    /// The build that made the run, where it is not this one.
    pub other_build: Option<String>,
}

/// Writes what a trainer's run came to. Of checkpoints it repeats the hashes that they were written with.
pub(super) fn write_summary(trainer: &Trainer, run: &Run, status: &str, interrupted: Option<&str>) -> Result<()> {
    let (lock, prints, data) = (run.lock()?, trainer.prints()?, trainer.dataset());
    let text = |key: &str| lock.options.get(key).and_then(toml::Value::as_str).unwrap_or_default().to_string();
    let summary = Summary {
        status: status.to_string(),
        interrupted: interrupted.map(str::to_string),
        steps: trainer.done(),
        of: trainer.steps(),
        last_loss: trainer.history().last().map(|step| step.loss),
        trained: Asked { template: text("template"), image: text("image") },
        asked: asked(trainer.vlm()),
        data: Data {
            name: lock.dataset.clone(),
            samples: data.len(),
            sha256: lock.dataset_sha256.clone(),
            files: data.files().into_iter().map(|path| fingerprint(&path)).collect(),
            pictures: prints.len(),
            pictures_sha256: lock.identity.get("data.pictures").cloned().unwrap_or_default(),
        },
        parts: parts(trainer.vlm()),
        files: files(run)?,
        llmore: lock.llmore,
        build: lock.build,
        model: lock.model,
    };
    summary.write(run.dir())
}

/// How a model is asked.
fn asked(vlm: &Vlm) -> Asked {
    Asked { template: vlm.template().name().to_string(), image: vlm.aspect().name().to_string() }
}

fn fingerprint(path: &Path) -> (String, String) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string();
    let print = hex(&print_now(&path));
    (path, print)
}

/// The files that the parts of a model were opened from, where they lie on disk.
fn parts(vlm: &Vlm) -> BTreeMap<String, BTreeMap<String, String>> {
    let places = [(Part::Encoder, vlm.encoder.origin.place()), (Part::Llm, vlm.llm.origin.place())];
    let of = |place: &str| -> BTreeMap<String, String> {
        let path = Path::new(place);
        let entries = || crate::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let files: Vec<PathBuf> = match path.is_dir() {
            true => entries().filter(|path| is_of_a_model(path)).collect(),
            false => path.is_file().then(|| path.to_path_buf()).into_iter().collect(),
        };
        files.iter().map(|path| fingerprint(path)).collect()
    };
    places
        .into_iter()
        .filter_map(|(part, place)| Some((part.name().to_string(), of(place?))))
        .filter(|(_, files)| !files.is_empty())
        .collect()
}

fn is_of_a_model(path: &Path) -> bool {
    let ends = ["json", "safetensors", "bin", "gguf", "model", "jinja"];
    let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    let end = path.extension().map(|end| end.to_string_lossy().into_owned()).unwrap_or_default();
    path.is_file() && !hidden && ends.contains(&end.as_str()) && !path.ends_with("trainer.json")
}

/// The files of a run by their names below it: of checkpoints the newest, whose files have hashes already.
fn files(run: &Run) -> Result<BTreeMap<String, Hash>> {
    let mut names: Vec<PathBuf> = [RUN_LOCK, EVENTS, "pictures.tsv.gz"].map(PathBuf::from).to_vec();
    if let Some((_, newest)) = checkpoints(run.dir())?.pop() {
        names.extend(
            below(&newest)?.into_iter().filter_map(|path| Some(path.strip_prefix(run.dir()).ok()?.to_path_buf())),
        );
    }
    names.retain(|name| run.dir().join(name).is_file());
    let known = hashes_of_checkpoints(run)?;
    names
        .into_par_iter()
        .map(|name| {
            let (path, name) = (run.dir().join(&name), name.display().to_string());
            let hash = match known.get(&name) {
                Some(hash) => Hash::Sha256(hash.clone()),
                None => Hash::of(&path).map_err(|error| Error::file(&path, error))?,
            };
            Ok((name, hash))
        })
        .collect()
}

/// What the files of all checkpoints of a run were when they were written, where their folders say; names as seen from the run.
fn hashes_of_checkpoints(run: &Run) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    for (step, path) in checkpoints(run.dir())? {
        // A list that is damaged says nothing; whoever opens the checkpoint is told.
        let listed = listed(&path).unwrap_or_default().unwrap_or_default();
        hashes.extend(listed.into_iter().map(|(name, hash)| (format!("checkpoint-{step}/{name}"), hash)));
    }
    Ok(hashes)
}

fn below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in crate::fs::read_dir(folder).map_err(|error| Error::file(folder, error))?.flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

impl Hash {
    fn of(path: &Path) -> std::io::Result<Self> {
        sha256_of(path).map(Hash::Sha256)
    }

    fn size(path: &Path) -> std::io::Result<Self> {
        Ok(Hash::Bytes(std::fs::metadata(path)?.len()))
    }

    /// The same of a file as it is now.
    fn again(&self, path: &Path) -> std::io::Result<Self> {
        match self {
            Hash::Sha256(_) => Hash::of(path),
            Hash::Bytes(_) => Hash::size(path),
        }
    }

    fn text(&self) -> String {
        match self {
            Hash::Sha256(hash) => hash.clone(),
            Hash::Bytes(bytes) => format!("{bytes} bytes"),
        }
    }
}

impl Run {
    /// What it came to when it last ended.
    ///
    /// # Errors
    /// `Missing` for a run that has not ended or is of an older version, `Decode` for another file of that name.
    pub fn summary(&self) -> Result<Summary> {
        let path = self.dir().join(SUMMARY);
        if !path.is_file() {
            if let Some(holder) = Writer::holder(self.dir()) {
                return Err(error!(Busy, "`{}` is being trained by {holder}", self.dir().display())
                    .help(format!("its {SUMMARY} is written when that ends")));
            }
            return Err(error!(
                Missing,
                "`{}` has no {SUMMARY}: it has not ended, or an older version made it",
                self.dir().display()
            )
            .help("going on with it to its end writes one"));
        }
        let text = crate::fs::read(&path).map_err(|error| Error::file(&path, error))?;
        serde_json::from_slice(&text).map_err(|error| error!(Decode, "`{}`: {error}", path.display()))
    }

    /// Looks at everything that its summary has a hash of.
    ///
    /// # Errors
    /// As [`summary`](Self::summary), and what reading the list of its pictures gives.
    pub fn verify(&self) -> Result<Verified> {
        let hashes = hashes_of_checkpoints(self)?;
        let (summary, lock) = match self.summary() {
            // It was killed before it could write one: what its checkpoints say of themselves can be looked at.
            Err(error) if error.kind() == Kind::Missing && !hashes.is_empty() => {
                let mut found = Verified::of(&self.lock().context(|| "run.lock")?.build);
                self.verify_files(hashes.into_iter().map(|(name, hash)| (name, Hash::Sha256(hash))), &mut found);
                return Ok(found);
            }
            summary => (summary?, self.lock().context(|| "run.lock")?),
        };
        let mut found = Verified::of(&summary.build);
        let older = hashes.into_iter().filter(|(name, _)| !summary.files.contains_key(name));
        let older: Vec<(String, Hash)> = older.map(|(name, hash)| (name, Hash::Sha256(hash))).collect();
        self.verify_files(summary.files.clone().into_iter().chain(older), &mut found);
        let named = summary.parts.values().flatten().chain(&summary.data.files);
        let outside: Vec<(String, String)> = named
            .map(|(path, print)| (path.clone(), print.clone()))
            .chain(self.pictures()?.into_iter().map(|print| (print.place, hex(&print.hash))))
            .collect();
        let outside = outside.into_par_iter().map(|(path, then)| {
            let now = hex(&print_now(&path));
            let now = if now == hex(&[0; 8]) { GONE.to_string() } else { now };
            (path, then, now)
        });
        let outside: Vec<(String, String, String)> = outside.collect();
        outside.into_iter().chain([script(&lock)]).for_each(|(what, then, now)| found.add(what, then, now));
        Ok(found)
    }

    /// Looks at files of the run by their names below it.
    fn verify_files(&self, files: impl Iterator<Item = (String, Hash)>, found: &mut Verified) {
        let files: Vec<(String, Hash)> = files.collect();
        let now = |(name, then): &(String, Hash)| {
            then.again(&self.dir().join(name)).map_or_else(|_| GONE.to_string(), |now| now.text())
        };
        let now: Vec<String> = files.par_iter().map(now).collect();
        files.into_iter().zip(now).for_each(|((name, then), now)| found.add(name, then.text(), now));
    }

    /// Takes files out of the summary that are there no more on purpose.
    pub(super) fn forget_removed(&self) -> Result<()> {
        let Ok(mut summary) = self.summary() else { return Ok(()) };
        summary.files.retain(|name, _| self.dir().join(name).is_file());
        for (name, hash) in summary.files.iter_mut().filter(|(name, _)| Path::new(name).ends_with(HASHES)) {
            let path = self.dir().join(name);
            *hash = Hash::of(&path).map_err(|error| Error::file(&path, error))?;
        }
        summary.write(self.dir())
    }
}

impl Summary {
    fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| error!(File, "{SUMMARY}: {error}"))?;
        files::write(&dir.join(SUMMARY), &text)
    }
}

impl Verified {
    /// Nothing was looked at yet of what this build made.
    pub fn of(build: &str) -> Self {
        let other_build = Some(build.to_string()).filter(|build| build != crate::build::SOURCES);
        Verified { other_build, ..Verified::default() }
    }

    /// Notes a look at something.
    pub fn add(&mut self, what: String, then: String, now: String) {
        self.looked_at += 1;
        if then != now {
            self.moved.push(Moved { what, then, now });
        }
    }

    /// Takes over what was found in a folder below.
    pub fn take(&mut self, folder: &str, found: Verified) {
        self.looked_at += found.looked_at;
        let named = |what: String| if Path::new(&what).is_absolute() { what } else { format!("{folder}/{what}") };
        self.moved.extend(found.moved.into_iter().map(|moved| Moved { what: named(moved.what), ..moved }));
        self.other_build = self.other_build.take().or(found.other_build);
    }
}

const GONE: &str = "not there";

/// The script that run.lock holds, against the hash that stands beside it.
fn script(lock: &Lock) -> (String, String, String) {
    let now = format!("{:x}", Sha256::digest(&lock.script));
    ("the script in run.lock".to_string(), lock.script_sha256.clone(), now)
}

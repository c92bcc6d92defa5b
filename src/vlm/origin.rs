//! Where a part comes from: a preset by its id or by the hub id it stands for, a folder in Hugging Face layout, a
//! GGUF file, or a model on the hub. A preset of a hub model carries its config.json, so that facts need no network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Table;

use super::paths;
use super::stamp::Stamp;
use crate::assets::Folder;
use crate::error::{Error, Result};
use crate::hub;
use crate::models::config::Config;
use crate::notes::Notes;
use crate::preset::{PresetKind, Presets};
use crate::weights::{Gguf, Source, TensorFiles};
use crate::{bail, error};

/// The folder, git-ignored, that `scripts/dev/fetch_small_models.sh` fills.
const FETCHED: &str = "models/";
/// What an LLM's folder may hold beside config and tokenizer.
const BESIDE: [&str; 2] = ["tokenizer_config.json", "generation_config.json"];

/// Where a part's files are, and what its configuration says.
#[derive(Clone)]
pub struct Origin {
    pub folder: Folder,
    pub config: Config,
    /// Weights that are not in the folder but where it was made from.
    files: Option<Arc<TensorFiles>>,
    /// What opens the same part from anywhere: a preset, a hub id with its commit, an absolute path.
    place: Option<String>,
    /// The files on disk that it was opened from.
    stamp: Option<Arc<Stamp>>,
    /// What lies beside an LLM and is written again with it, as it was then.
    beside: Arc<BTreeMap<&'static str, Vec<u8>>>,
}

impl Origin {
    /// A folder whose weights lie in it, with a configuration.
    pub fn new(folder: Folder, config: Config) -> Self {
        let (place, stamp) = (folder.path().map(lasting), folder.path().map(|path| Arc::new(Stamp::of(path))));
        let read = |name: &'static str| Some((name, folder.read(name).ok()?.into_owned()));
        let beside = Arc::new(BESIDE.into_iter().filter_map(read).collect());
        Origin { folder, config, files: None, place, stamp, beside }
    }

    /// Reads a folder's config.json, or what stands for it in a GGUF file: the path of one, or a folder that holds
    /// one and no config.json.
    pub fn open(folder: Folder) -> Result<Self> {
        if let Some(path) = folder.path() {
            if let Some(file) = gguf_file(path)? {
                return Origin::open_gguf(&file);
            }
            if !path.is_dir() {
                bail!(Missing, "no folder `{}`", folder.locate("").trim_end_matches('/'));
            }
        }
        let config = Config::new(folder.json("config.json")?, format!("`{}`", folder.locate("config.json")));
        Ok(Origin::new(folder, config))
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let file = Arc::new(Gguf::open(path)?);
        let (mut config, names) = crate::models::gguf::describe(&file)?;
        if let Some(template) = crate::text::gguf::template(&file)? {
            config["model_architecture"] = template.into();
        }
        let notes = Notes::default();
        crate::models::gguf_keys::check(&file, &notes)?;
        let tokenizer = crate::text::gguf::tokenizer_json(&file, &notes)?;
        let name = format!("`{}`", path.display());
        let files = BTreeMap::from([
            ("config.json".to_string(), config.to_string().into_bytes()),
            ("tokenizer.json".to_string(), tokenizer),
        ]);
        let folder = Folder::Memory(name.clone(), Arc::new(files));
        let config = Config::new(config, name);
        config.notes().extend(&notes);
        let files = Some(Arc::new(TensorFiles::gguf(file, names)));
        Ok(Origin {
            folder,
            config,
            files,
            place: Some(lasting(path)),
            stamp: Some(Arc::new(Stamp::of(path))),
            beside: Arc::default(),
        })
    }

    /// What opens the same part from anywhere: a preset, a hub id with its commit, an absolute path; `None` for a part
    /// whose weights are another part's to keep.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The files beside an LLM that are written again with it.
    pub(super) fn beside(&self) -> &BTreeMap<&'static str, Vec<u8>> {
        &self.beside
    }

    /// Whether its place holds other files than those it was opened from.
    pub(super) fn is_rewritten(&self) -> bool {
        self.stamp.as_ref().is_some_and(|stamp| !stamp.holds())
    }

    /// The same, of weights that are not where it is.
    pub(super) fn without_place(self) -> Self {
        Origin { place: None, ..self }
    }

    /// The source of the part's weights.
    pub(super) fn source(&self, weights: Weights, seed: u64) -> Result<Source> {
        match weights {
            Weights::Random => Ok(Source::Random { seed }),
            Weights::None => Ok(Source::Shapes),
            Weights::Stored => {
                let files = match &self.files {
                    Some(files) => files.clone(),
                    None => Arc::new(TensorFiles::open_folder(&self.folder)?),
                };
                self.config.notes().extend(files.notes());
                Ok(Source::Files { files, prefix: String::new() })
            }
        }
    }
}

/// A snapshot of the hub's cache as the hub's id with its commit, another path as an absolute one.
fn lasting(path: &Path) -> String {
    hub::id_of(path).unwrap_or_else(|| paths::settled(path).display().to_string())
}

/// Which weights a part gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those stored where the part is.
    Stored,
    /// Random numbers drawn from a seed.
    Random,
    /// None: sizes, counts and preprocessing are there, features and logits are not.
    None,
}

impl Weights {
    /// What a preset that starts from random weights makes of stored ones.
    pub(super) fn or_random(self, random: bool) -> Self {
        if random && self == Weights::Stored { Weights::Random } else { self }
    }

    /// Refuses to compute where there are no weights; `what` is a part with its id.
    pub(super) fn ready(self, what: impl FnOnce() -> String) -> Result<()> {
        match self {
            Weights::None => Err(error!(Weights, "{} was opened without weights", what())
                .help("leave out `weights: \"none\"` to compute with it")),
            _ => Ok(()),
        }
    }
}

/// Where a preset's files are.
pub(super) struct Files<'a> {
    /// `embedded:models/x`, a folder, or a hub id.
    pub source: &'a str,
    /// config.json of a hub id.
    pub config: Option<&'a Table>,
    /// preprocessor_config.json of a hub id.
    pub processor: Option<&'a Table>,
}

impl Files<'_> {
    fn open(&self, presets: &Presets, id: &str, beside: &str, weights: Weights) -> Result<Origin> {
        // A tower is prepared from the preset alone; an LLM with random weights still needs its tokenizer.
        let fetch = match weights {
            Weights::Stored => true,
            Weights::Random => beside == TOKENIZER,
            Weights::None => false,
        };
        match self.config {
            Some(_) if self.source.starts_with(FETCHED) && weights == Weights::Stored => {
                if Path::new(self.source).exists() {
                    return Origin::open(Folder::parse(self.source));
                }
                Err(error!(Missing, "preset `{id}`: no `{}` in this folder", self.source)
                    .help("`scripts/dev/fetch_small_models.sh` fetches it into `models/`"))
            }
            None => Origin::open(Folder::parse(self.source)),
            Some(_) if fetch => {
                let files = ["config.json", beside];
                let path = presets.hub().folder(self.source, &files, weights == Weights::Stored)?;
                Origin::open(Folder::Disk(path))
            }
            Some(config) => {
                let tables = [("config.json", Some(config)), ("preprocessor_config.json", self.processor)];
                let mut files = BTreeMap::new();
                for (name, table) in tables.into_iter().filter_map(|(name, table)| Some((name, table?))) {
                    let text =
                        serde_json::to_string(table).map_err(|error| error!(Decode, "preset `{id}`: {error}"))?;
                    files.insert(name.to_string(), text.into_bytes());
                }
                Origin::open(Folder::Memory(format!("preset `{id}`"), Arc::new(files)))
            }
        }
    }
}

/// A preset that says where a part is.
pub(super) trait PartPreset: DeserializeOwned {
    /// The file beside config.json without which the part is of no use.
    const BESIDE: &'static str;

    fn files(&self) -> Files<'_>;
}

/// What an LLM needs beside its config.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// What a vision tower needs beside its config: one of the two files that can say it.
pub(super) const PROCESSOR: &str = "preprocessor_config.json or processor_config.json";

/// Finds the part `id`: a preset, a hub id that a preset stands for, a folder, or a GGUF file.
pub(super) fn find<P: PartPreset>(
    presets: &Presets,
    kind: PresetKind,
    id: &str,
    weights: Weights,
) -> Result<(Option<P>, Origin)> {
    let stands = presets.standing_for(kind, id);
    let path = Path::new(id).is_dir() || is_gguf(Path::new(id)) || id.contains(['/', '\\']);
    if path && !presets.contains(kind, id) && stands.is_none() {
        return Ok((None, Origin::open(Folder::Disk(locate(presets, id, P::BESIDE, weights)?))?));
    }
    let preset_id = stands.filter(|_| !presets.contains(kind, id)).unwrap_or_else(|| id.to_string());
    let preset: P = presets.get(kind, &preset_id)?;
    let mut origin = preset.files().open(presets, &preset_id, P::BESIDE, weights)?;
    origin.place = Some(preset_id);
    Ok((Some(preset), origin))
}

/// The folder that an id without a preset means: one on disk, or a model on the hub.
pub(super) fn locate(presets: &Presets, id: &str, beside: &str, weights: Weights) -> Result<PathBuf> {
    match hub::is_id(id) && !Path::new(id).exists() && !is_gguf(Path::new(id)) {
        true => presets.hub().folder(id, &["config.json", beside], weights == Weights::Stored),
        false => Ok(PathBuf::from(id)),
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// The GGUF file that a path is or that a folder without config.json holds.
pub(super) fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    if is_gguf(path) && !path.is_dir() {
        return Ok(Some(path.to_path_buf()));
    }
    if !path.is_dir() || path.join("config.json").is_file() {
        return Ok(None);
    }
    let entries = std::fs::read_dir(path).map_err(|error| Error::file(path, error))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_gguf(path)).collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        // Parts of one model: the first leads to all.
        _ if Gguf::are_parts(&found) => Ok(found.into_iter().min()),
        count => Err(error!(Missing, "`{}` holds {count} GGUF files and no config.json", path.display())
            .help("name one of the files")),
    }
}

//! The source of a part: a preset by its id or by the hub id it stands for, a folder in Hugging Face layout, a
//! GGUF file, or a model on the hub. A preset of a hub model contains its config.json, so that its sizes need no network.

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
use crate::weights::{Gguf, Source, TensorFiles, edited};
use crate::{bail, error};

/// The git-ignored folder that `scripts/dev/fetch_small_models.sh` fills.
const FETCHED: &str = "models/";
/// Files of an LLM's folder that are copied besides config and tokenizer.
const BESIDE: [&str; 2] = ["tokenizer_config.json", "generation_config.json"];

/// The files of a part, and its configuration.
#[derive(Clone)]
pub struct Origin {
    pub folder: Folder,
    pub config: Config,
    /// The weights, where they are not in the folder itself (GGUF).
    files: Option<Arc<TensorFiles>>,
    /// An absolute reference to the same part: a preset, a hub id with its commit, an absolute path.
    place: Option<String>,
    /// Sizes and times of the files that it was opened from.
    stamp: Option<Arc<Stamp>>,
    /// The content of further files of an LLM, as read when it was opened; they are written again with it.
    beside: Arc<BTreeMap<&'static str, Vec<u8>>>,
    pub(super) known: Box<Known>,
}

/// What a part is known by beside its place; saving says it again.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// What it was called before it was written into the folder of a model.
    pub called: Option<String>,
    /// The id on the hub of what it is, without a commit.
    pub hub: Option<String>,
    /// Whether its weights are others than those of the hub's id.
    pub is_changed: bool,
}

impl Origin {
    /// A folder that holds its weights, with a configuration.
    pub fn new(folder: Folder, config: Config) -> Self {
        let (place, stamp) = (folder.path().map(lasting), folder.path().map(|path| Arc::new(Stamp::of(path))));
        let read = |name: &'static str| Some((name, folder.read(name).ok()?.into_owned()));
        let beside = Arc::new(BESIDE.into_iter().filter_map(read).collect());
        let hub = folder.path().and_then(hub::id_of).map(|id| hub::without_revision(&id).to_string());
        let known = Box::new(Known { hub, ..Known::default() });
        Origin { folder, config, files: None, place, stamp, beside, known }
    }

    /// Reads a folder's config.json, or the metadata of a GGUF file: the path of one, or a folder that holds one and no
    /// config.json.
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
        if let Some(path) = folder.path() {
            edited_since(path)?.into_iter().for_each(|note| config.notes().add(note));
        }
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
            known: Box::default(),
        })
    }

    /// An absolute reference to the same part: a preset, a hub id with its commit, an absolute path; `None` for a part
    /// whose weights are stored with another part.
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// The files beside an LLM that are written again with it.
    pub(super) fn beside(&self) -> &BTreeMap<&'static str, Vec<u8>> {
        &self.beside
    }

    /// Whether the files it was opened from have been changed since.
    pub(super) fn is_rewritten(&self) -> bool {
        self.stamp.as_ref().is_some_and(|stamp| !stamp.holds())
    }

    /// The same source with weights from elsewhere.
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

/// A sentence for every file of a folder that is no tensors and not as llmore wrote it: it may have been edited.
///
/// # Errors
/// `Decode` when the folder's list of hashes is damaged.
pub(super) fn edited_since(folder: &Path) -> Result<Vec<String>> {
    let sentence = |path: PathBuf| format!("`{}` is not as it was written; it is taken as it is", path.display());
    Ok(edited(folder)?.into_iter().map(sentence).collect())
}

/// A snapshot in the hub's cache as hub id with commit, any other path as an absolute one.
fn lasting(path: &Path) -> String {
    hub::id_of(path).unwrap_or_else(|| paths::settled(path).display().to_string())
}

/// Which weights a part gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Those stored with the part.
    Stored,
    /// Random numbers drawn from a seed.
    Random,
    /// None: sizes, counts and preprocessing are available, features and logits are not.
    None,
}

impl Weights {
    /// The choice for a preset that starts from random weights, where stored ones are asked for.
    pub(super) fn or_random(self, random: bool) -> Self {
        if random && self == Weights::Stored { Weights::Random } else { self }
    }

    /// An error where there are no weights to compute with; `what` is a part with its id.
    pub(super) fn ready(self, what: impl FnOnce() -> String) -> Result<()> {
        match self {
            Weights::None => Err(error!(Weights, "{} was opened without weights", what())
                .help("leave out `weights: \"none\"` to compute with it")),
            _ => Ok(()),
        }
    }
}

/// The source of a preset's files.
pub(super) struct Files<'a> {
    /// `embedded:models/x`, a folder, or a hub id.
    pub source: &'a str,
    /// config.json of a hub id.
    pub config: Option<&'a Table>,
    /// preprocessor_config.json of a hub id.
    pub processor: Option<&'a Table>,
}

impl Files<'_> {
    /// The hub's id that the source is, if it is one.
    fn hub(&self) -> Option<&str> {
        Some(self.source).filter(|source| self.config.is_some() && !source.starts_with(FETCHED) && hub::is_id(source))
    }

    fn open(&self, presets: &Presets, id: &str, beside: &str, weights: Weights) -> Result<Origin> {
        // A tower is described by the preset alone; an LLM with random weights still needs its tokenizer.
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

/// A preset that names the source of a part.
pub(super) trait PartPreset: DeserializeOwned {
    /// The file besides config.json that a part needs.
    const BESIDE: &'static str;

    fn files(&self) -> Files<'_>;
}

/// The file that an LLM needs besides config.json.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// The file that a vision tower needs besides config.json: either of the two.
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
    if let Some(id) = preset.files().hub() {
        origin.known.hub = Some(hub::without_revision(id).to_string());
    }
    Ok((Some(preset), origin))
}

/// The folder for an id that is not a preset: one on disk, or a model on the hub.
pub(super) fn locate(presets: &Presets, id: &str, beside: &str, weights: Weights) -> Result<PathBuf> {
    match hub::is_id(id) && !Path::new(id).exists() && !is_gguf(Path::new(id)) {
        true => presets.hub().folder(id, &["config.json", beside], weights == Weights::Stored),
        false => Ok(PathBuf::from(id)),
    }
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// The GGUF file: the path itself, or the one in a folder without config.json.
pub(super) fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    if is_gguf(path) && !path.is_dir() {
        return Ok(Some(path.to_path_buf()));
    }
    if !path.is_dir() || path.join("config.json").is_file() {
        return Ok(None);
    }
    let entries = crate::fs::read_dir(path).map_err(|error| Error::file(path, error))?;
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_gguf(path)).collect();
    match found.len() {
        0 | 1 => Ok(found.pop()),
        // Parts of one model: the first one stands for all.
        _ if Gguf::are_parts(&found) => Ok(found.into_iter().min()),
        count => Err(error!(Missing, "`{}` holds {count} GGUF files and no config.json", path.display())
            .help("name one of the files")),
    }
}

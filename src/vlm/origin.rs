//! Where a part comes from: a preset by its id or by the hub id it stands for, a folder in Hugging Face layout, or
//! a GGUF file. A preset of a hub model carries its config.json, so that facts need no network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Table;

use crate::assets::Folder;
use crate::error::{Error, Result};
use crate::models::config::Config;
use crate::preset::{PresetKind, Presets};
use crate::weights::{Gguf, Source, TensorFiles};
use crate::{bail, error};

/// The folder, git-ignored, that `scripts/dev/fetch_small_models.sh` fills.
const FETCHED: &str = "models/";

/// Where a part's files are, and what its configuration says.
#[derive(Clone)]
pub struct Origin {
    pub folder: Folder,
    pub config: Config,
    /// Weights that are not in the folder but where it was made from.
    files: Option<Arc<TensorFiles>>,
}

impl Origin {
    /// A folder with a config of its own.
    pub fn new(folder: Folder, config: Config) -> Self {
        Origin { folder, config, files: None }
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
        let tokenizer = crate::text::gguf::tokenizer_json(&file)?;
        let name = format!("`{}`", path.display());
        let files = BTreeMap::from([
            ("config.json".to_string(), config.to_string().into_bytes()),
            ("tokenizer.json".to_string(), tokenizer),
        ]);
        let folder = Folder::Memory(name.clone(), Arc::new(files));
        Ok(Origin { folder, config: Config::new(config, name), files: Some(Arc::new(TensorFiles::gguf(file, names))) })
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
                Ok(Source::Files { files, prefix: String::new() })
            }
        }
    }
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
    fn open(&self, id: &str, weights: Weights) -> Result<Origin> {
        match self.config {
            Some(_) if self.source.starts_with(FETCHED) && weights == Weights::Stored => {
                if Path::new(self.source).exists() {
                    return Origin::open(Folder::parse(self.source));
                }
                Err(error!(Missing, "preset `{id}`: no `{}` in this folder", self.source)
                    .help("`scripts/dev/fetch_small_models.sh` fetches it into `models/`"))
            }
            None => Origin::open(Folder::parse(self.source)),
            Some(_) if weights == Weights::Stored => {
                bail!(Missing, "`{}` is on the hub, and nothing is downloaded yet", self.source)
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
    fn files(&self) -> Files<'_>;
}

/// Finds the part `id`: a preset, a hub id that a preset stands for, a folder, or a GGUF file.
pub(super) fn find<P: PartPreset>(
    presets: &Presets,
    kind: PresetKind,
    id: &str,
    weights: Weights,
) -> Result<(Option<P>, Origin)> {
    if is_folder(presets, kind, id) {
        return Ok((None, Origin::open(Folder::parse(id))?));
    }
    let preset_id = presets.standing_for(kind, id).unwrap_or_else(|| id.to_string());
    let preset: P = presets.get(kind, &preset_id)?;
    let origin = preset.files().open(&preset_id, weights)?;
    Ok((Some(preset), origin))
}

/// Whether `id` is a folder or a GGUF file: no preset bears or stands for it, and it is one or looks like a path.
fn is_folder(presets: &Presets, kind: PresetKind, id: &str) -> bool {
    let known = presets.contains(kind, id) || presets.standing_for(kind, id).is_some();
    let path = id.contains(['/', '\\']) || is_gguf(Path::new(id));
    Path::new(id).is_dir() && !presets.contains(kind, id) || !known && path
}

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gguf")
}

/// The GGUF file that a path is or that a folder without config.json holds.
fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
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
        count => Err(error!(Missing, "`{}` holds {count} GGUF files and no config.json", path.display())
            .help("name one of the files")),
    }
}

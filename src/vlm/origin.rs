//! Where a part comes from: a preset by its id or by the hub id it stands for, or a folder in Hugging Face
//! layout. A preset of a hub model carries its config.json, so that facts need no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use toml::Table;

use crate::assets::Folder;
use crate::error::Result;
use crate::models::config::Config;
use crate::preset::{PresetKind, Presets};
use crate::weights::{Source, TensorFiles};
use crate::{bail, error};

/// Where a part's files are, and what its configuration says.
#[derive(Clone)]
pub struct Origin {
    pub folder: Folder,
    pub config: Config,
}

impl Origin {
    /// Reads a folder's config.json.
    pub fn open(folder: Folder) -> Result<Self> {
        if folder.path().is_some_and(|path| !path.is_dir()) {
            bail!(Missing, "no folder `{}`", folder.locate("").trim_end_matches('/'));
        }
        let config = Config::new(folder.json("config.json")?, format!("`{}`", folder.locate("config.json")));
        Ok(Origin { folder, config })
    }

    /// The source of the part's weights.
    pub(super) fn source(&self, weights: Weights, seed: u64) -> Result<Source> {
        match weights {
            Weights::Random => Ok(Source::Random { seed }),
            Weights::None => Ok(Source::Shapes),
            Weights::Stored => {
                let files = TensorFiles::open_folder(&self.folder)?;
                Ok(Source::Files { files: Arc::new(files), prefix: String::new() })
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
                    files.insert(name.to_string(), text);
                }
                Origin::open(Folder::Preset(id.to_string(), Arc::new(files)))
            }
        }
    }
}

/// A preset that says where a part is.
pub(super) trait PartPreset: DeserializeOwned {
    fn files(&self) -> Files<'_>;
}

/// Finds the part `id`: a preset, a hub id that a preset stands for, or a folder.
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

/// Whether `id` is a folder: no preset bears or stands for it, and it is one or looks like a path.
fn is_folder(presets: &Presets, kind: PresetKind, id: &str) -> bool {
    let known = presets.contains(kind, id) || presets.standing_for(kind, id).is_some();
    std::path::Path::new(id).is_dir() && !presets.contains(kind, id) || !known && id.contains(['/', '\\'])
}

//! An LLM with what belongs to it: tokenizer, template, the ids that end a text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use candle_core::Tensor;
use serde::Deserialize;
use toml::Table;

use super::lora::{self, Lora};
use super::origin::{self, Files, Origin, PartPreset, Weights, find};
use crate::assets::Folder;
use crate::error;
use crate::error::{Context, Result};
use crate::models::LanguageModel;
use crate::models::registry::{self, Built, Target};
use crate::preset::{PresetKind, Presets};
use crate::text::Tokenizer;
use crate::weights::{ParamSet, Source};

/// How to open an LLM.
#[derive(Clone)]
pub struct LlmOptions {
    pub weights: Weights,
    pub seed: u64,
    pub target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LlmPreset {
    #[serde(rename = "about")]
    _about: String,
    source: String,
    config: Option<Table>,
    #[serde(default)]
    random: bool,
    template: String,
}

impl PartPreset for LlmPreset {
    const BESIDE: &'static str = origin::TOKENIZER;

    fn files(&self) -> Files<'_> {
        Files { source: &self.source, config: self.config.as_ref(), processor: None }
    }
}

/// An LLM with its tokenizer and the template it was made for.
pub struct Llm {
    pub id: String,
    pub origin: Origin,
    pub model: Box<dyn LanguageModel>,
    pub params: ParamSet,
    pub unused: Vec<(String, Tensor)>,
    /// Absent only where an LLM was opened without weights and its tokenizer is not at hand.
    tokenizer: Option<Tokenizer>,
    /// The template's name, where preset or config says one.
    pub template: Option<String>,
    /// Ids that end a text (generation_config.json, else config.json).
    pub end_ids: Vec<u32>,
    pub(super) lora: RwLock<Option<Arc<Lora>>>,
    weights: Weights,
    /// Whether `load` gets the same weights where it opens the LLM by its place.
    pub(super) is_as_stored: bool,
    target: Target,
}

impl Llm {
    /// Opens a preset, a folder in Hugging Face layout, a GGUF file, or a model on the hub.
    /// A folder that holds an adapter alone, as PEFT writes it, opens with its base.
    pub fn open(presets: &Presets, id: &str, mut options: LlmOptions) -> Result<Self> {
        let path = Path::new(id);
        if lora::is_adapter_alone(&Folder::Disk(path.to_path_buf())) {
            let weights = options.weights;
            return Llm::with_adapter(path, weights, |base| match lora::is_adapter_alone(&Folder::parse(base)) {
                true => Err(error!(Weights, "`{base}` holds an adapter as well, which is no base")),
                false => Llm::open(presets, base, options),
            });
        }
        let (preset, origin) = find::<LlmPreset>(presets, PresetKind::Llms, id, options.weights)?;
        let template = match &preset {
            Some(preset) => preset.template.clone(),
            None => origin.config.string("model_architecture", "")?,
        };
        let asked = options.weights;
        options.weights = asked.or_random(preset.is_some_and(|preset| preset.random));
        let source = origin.source(options.weights, options.seed)?;
        let mut llm = Llm::build(id, origin, source, Some(template).filter(|name| !name.is_empty()), &options)?;
        // A preset that starts from random weights is opened with seed 0 by `load`.
        llm.is_as_stored = asked == Weights::Stored && (options.weights == Weights::Stored || options.seed == 0);
        Ok(llm)
    }

    /// The tokenizer of a preset, without its weights.
    pub fn tokenizer_of(presets: &Presets, id: &str) -> Result<Tokenizer> {
        let (_, origin) = find::<LlmPreset>(presets, PresetKind::Llms, id, Weights::Random)?;
        open_tokenizer(&origin.folder, id)
    }

    /// Builds an LLM from an opened folder and a source of weights.
    pub fn build(
        id: &str,
        origin: Origin,
        source: Source,
        template: Option<String>,
        options: &LlmOptions,
    ) -> Result<Self> {
        let has = ["tokenizer.json", "tokenizer.model"].iter().any(|file| origin.folder.has(file));
        let absent = options.weights == Weights::None && !has;
        let tokenizer = if absent { None } else { Some(open_tokenizer(&origin.folder, id)?) };
        let built = registry::llm(&origin.config, source, &options.target).context(|| format!("LLM `{id}`"))?;
        let Built { model, params, unused } = built;
        if let Some(tokenizer) = &tokenizer {
            origin.config.notes().extend(tokenizer.notes());
        }
        let tokenizer = tokenizer.map(|tokenizer| tokenizer.with_rows(model.spec().vocab));
        let end_ids = end_ids(&origin)?;
        let (weights, target) = (options.weights, options.target.clone());
        let (id, lora) = (id.to_string(), RwLock::default());
        let is_as_stored = weights == Weights::Stored;
        Ok(Llm { id, origin, model, params, unused, tokenizer, template, end_ids, lora, weights, is_as_stored, target })
    }

    /// This LLM, opened without weights, with those of a source.
    pub(super) fn filled(mut self, source: Source) -> Result<Self> {
        let built =
            registry::llm(&self.origin.config, source, &self.target).context(|| format!("LLM `{}`", self.id))?;
        (self.model, self.params, self.unused) = (built.model, built.params, built.unused);
        (self.weights, self.is_as_stored) = (Weights::Stored, true);
        self.tokenizer()?;
        Ok(self)
    }

    /// The tokenizer; an LLM that was opened without weights may lack it.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().ok_or_else(|| {
            error!(Missing, "LLM `{}` was opened without weights, and its tokenizer is not on this machine", self.id)
        })
    }

    /// Refuses ids that have no row in the embedding, as tokenizers may have more tokens than that.
    pub fn check_ids(&self, ids: &[u32]) -> Result<()> {
        let rows = self.model.spec().vocab;
        let Some(id) = ids.iter().find(|id| **id as usize >= rows) else { return Ok(()) };
        let token = self.tokenizer.as_ref().and_then(|tokenizer| tokenizer.token(*id));
        let named = token.map(|token| format!(" (`{token}`)")).unwrap_or_default();
        Err(error!(Data, "token id {id}{named} is outside the vocabulary of {rows}: the embedding has no such row"))
    }

    /// Refuses to compute without weights.
    pub fn ready(&self) -> Result<()> {
        self.weights.ready(|| format!("LLM `{}`", self.id))
    }

    /// Which weights it has.
    pub fn weights(&self) -> Weights {
        self.weights
    }

    /// Hidden size.
    pub fn width(&self) -> usize {
        self.model.spec().width
    }

    /// Longest sequence.
    pub fn context(&self) -> usize {
        self.model.spec().context
    }

    /// Bytes of its weights by the type they are stored in.
    pub fn storage(&self) -> BTreeMap<&'static str, usize> {
        self.params.storage()
    }

    /// dtype and device.
    pub fn target(&self) -> Target {
        self.target.clone()
    }
}

fn open_tokenizer(folder: &Folder, id: &str) -> Result<Tokenizer> {
    match folder.path() {
        Some(path) => Tokenizer::open(path),
        None => Tokenizer::from_bytes(&folder.read("tokenizer.json")?, id),
    }
}

/// `eos_token_id`: a number or a list, in generation_config.json before config.json.
fn end_ids(origin: &Origin) -> Result<Vec<u32>> {
    let mut configs = Vec::new();
    if origin.folder.has("generation_config.json") {
        configs.push(origin.folder.json("generation_config.json")?);
    }
    configs.push(origin.config.value().clone());
    let found = configs.iter().find_map(|config| config.get("eos_token_id").filter(|ids| !ids.is_null()));
    let ids = match found {
        None => Vec::new(),
        Some(serde_json::Value::Array(ids)) => ids.iter().filter_map(|id| id.as_u64()).collect(),
        Some(id) => id.as_u64().into_iter().collect(),
    };
    Ok(ids.into_iter().map(|id| id as u32).collect())
}

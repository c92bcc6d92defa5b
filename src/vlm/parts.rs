//! The three parts with what belongs to each: an encoder with its image processor and token selection, an LLM
//! with its tokenizer, a projector with its widths.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::assets::Folder;
use crate::error::{Context, Result};
use crate::image::{Aspect, Image, ImageProcessor};
use crate::models::config::Config;
use crate::models::projectors::mlp;
use crate::models::projectors::pool::{Pool, PoolKind};
use crate::models::registry::{self, Built, Target};
use crate::models::{LanguageModel, Projector, VisionEncoder};
use crate::preset::{PresetKind, Presets};
use crate::text::Tokenizer;
use crate::weights::{ParamSet, Source, TensorFiles};
use crate::{bail, error};

/// Which tokens of a hidden state become visual tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// Patches only.
    Patch,
    /// Class token and patches.
    ClsPatch,
}

impl Select {
    /// The name in `mm_vision_select_feature`.
    pub fn name(self) -> &'static str {
        match self {
            Select::Patch => "patch",
            Select::ClsPatch => "cls_patch",
        }
    }

    /// The value of a name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "patch" => Ok(Select::Patch),
            "cls_patch" => Ok(Select::ClsPatch),
            _ => Err(crate::error::Error::unknown("token selection", name, &["patch", "cls_patch"], "")),
        }
    }
}

/// How to open an encoder; `None` is what the preset or folder says.
#[derive(Clone)]
pub struct EncoderOptions {
    pub select_layer: Option<i64>,
    pub select: Option<Select>,
    /// Start from random weights instead of stored ones.
    pub random: bool,
    pub seed: u64,
    pub target: Target,
}

/// How to open an LLM.
#[derive(Clone)]
pub struct LlmOptions {
    pub random: bool,
    pub seed: u64,
    pub target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncoderPreset {
    #[serde(rename = "about")]
    _about: String,
    source: String,
    #[serde(default)]
    random: bool,
    select_layer: Option<i64>,
    select: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LlmPreset {
    #[serde(rename = "about")]
    _about: String,
    source: String,
    #[serde(default)]
    random: bool,
    template: String,
}

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

    fn source(&self, random: bool, seed: u64) -> Result<Source> {
        if random {
            return Ok(Source::Random { seed });
        }
        let files = TensorFiles::open_folder(&self.folder)?;
        Ok(Source::Files { files: Arc::new(files), prefix: String::new() })
    }
}

/// A vision tower, its image processor and its token selection.
pub struct Encoder {
    pub id: String,
    pub origin: Origin,
    pub tower: Box<dyn VisionEncoder>,
    pub params: ParamSet,
    /// Tensors of the checkpoint that no layer uses (post-norm, pooling head).
    pub unused: Vec<(String, Tensor)>,
    pub processor: ImageProcessor,
    pub select_layer: i64,
    pub select: Select,
    target: Target,
}

impl Encoder {
    /// Opens a preset, or a folder in Hugging Face layout.
    pub fn open(presets: &Presets, id: &str, options: EncoderOptions) -> Result<Self> {
        if is_folder(presets, PresetKind::Encoders, id) {
            let origin = Origin::open(Folder::parse(id))?;
            let source = origin.source(options.random, options.seed)?;
            return Encoder::build(id, origin, source, options);
        }
        let preset: EncoderPreset = presets.get(PresetKind::Encoders, id)?;
        let origin = Origin::open(Folder::parse(&preset.source))?;
        let source = origin.source(preset.random || options.random, options.seed)?;
        let mut options = options;
        options.select_layer = options.select_layer.or(preset.select_layer);
        options.select = match (options.select, &preset.select) {
            (None, Some(name)) => Some(Select::parse(name)?),
            (select, _) => select,
        };
        Encoder::build(id, origin, source, options)
    }

    /// Builds a tower from an opened folder and a source of weights.
    pub fn build(id: &str, origin: Origin, source: Source, options: EncoderOptions) -> Result<Self> {
        let name = origin.folder.locate("preprocessor_config.json");
        let text = origin.folder.read("preprocessor_config.json")?;
        let processor = ImageProcessor::from_json(&String::from_utf8_lossy(&text), &name)?;
        let built = registry::encoder(&origin.config, source, &options.target).context(|| format!("encoder `{id}`"))?;
        let Built { model: tower, params, unused } = built;
        let spec = tower.spec();
        let (height, width) = processor.output_size(spec.image_size, spec.image_size);
        if (height, width) != (spec.image_size, spec.image_size) {
            bail!(
                Shape,
                "encoder `{id}`: the processor gives {width} x {height} pixels, the tower takes {0} x {0}",
                spec.image_size
            );
        }
        let select_layer = options.select_layer.unwrap_or(-2);
        let states = spec.layers as i64 + 1;
        if !(-states..states).contains(&select_layer) {
            bail!(Option, "encoder `{id}`: select_layer {select_layer} is not one of its {states} hidden states");
        }
        let select = options.select.unwrap_or(Select::Patch);
        let target = options.target;
        Ok(Encoder { id: id.to_string(), origin, tower, params, unused, processor, select_layer, select, target })
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        self.tower.spec().width
    }

    /// Visual tokens per image.
    pub fn tokens(&self) -> usize {
        let spec = self.tower.spec();
        match self.select {
            Select::Patch => spec.grid() * spec.grid(),
            Select::ClsPatch => spec.sequence(),
        }
    }

    /// dtype and device.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Pixels (3, height, width) as the reference image processor gives them.
    pub fn preprocess(&self, image: &Image, aspect: Aspect) -> Result<Tensor> {
        let pixels = self.processor.preprocess(image, aspect)?;
        let (height, width) = match aspect {
            Aspect::Square => self.processor.output_size(image.width, image.height),
            Aspect::Pad => {
                let side = image.width.max(image.height);
                self.processor.output_size(side, side)
            }
        };
        Ok(Tensor::from_vec(pixels, (3, height, width), &Device::Cpu)?)
    }

    /// All hidden states of pixels (batch, 3, height, width), each (batch, sequence, width).
    pub fn hidden_states(&self, pixels: &Tensor) -> Result<Vec<Tensor>> {
        Ok(self.tower.hidden_states(&self.place(pixels)?, self.tower.spec().layers)?)
    }

    /// The hidden state that is read, counted from 0.
    fn state(&self) -> usize {
        let states = self.tower.spec().layers as i64 + 1;
        if self.select_layer < 0 { (self.select_layer + states) as usize } else { self.select_layer as usize }
    }

    /// Whether the selected features depend on a parameter of this name.
    pub fn is_used(&self, name: &str) -> bool {
        let block = name.strip_prefix(self.tower.spec().names.blocks).and_then(|rest| rest.strip_prefix('.'));
        let index = block.and_then(|rest| rest.split('.').next()).and_then(|index| index.parse::<usize>().ok());
        index.is_none_or(|index| index < self.state())
    }

    /// Selected features of pixels (batch, 3, height, width): (batch, tokens, width). Blocks after the selected
    /// layer are not run. A frozen tower takes each image on its own, so that its features are the same to the last
    /// bit whatever stands beside it in a batch (matmuls of another height may round differently).
    pub fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        use rayon::prelude::*;
        let batch = pixels.dims4()?.0;
        if batch == 1 || self.params.iter().any(|param| param.is_trainable()) {
            return self.encode_together(pixels);
        }
        let each = |image: usize| self.encode_together(&pixels.narrow(0, image, 1)?);
        let features = (0..batch).into_par_iter().map(each).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&features, 0)?)
    }

    fn encode_together(&self, pixels: &Tensor) -> Result<Tensor> {
        let spec = self.tower.spec();
        let mut states = self.tower.hidden_states(&self.place(pixels)?, self.state())?;
        let Some(state) = states.pop() else { bail!(Tensor, "encoder `{}` gave no hidden state", self.id) };
        match self.select {
            Select::ClsPatch => Ok(state),
            Select::Patch => Ok(state.narrow(1, spec.extra_tokens(), spec.sequence() - spec.extra_tokens())?),
        }
    }

    fn place(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(pixels.to_device(&self.target.device)?.to_dtype(self.target.dtype)?)
    }
}

/// An LLM with its tokenizer and the template it was made for.
pub struct Llm {
    pub id: String,
    pub origin: Origin,
    pub model: Box<dyn LanguageModel>,
    pub params: ParamSet,
    pub unused: Vec<(String, Tensor)>,
    pub tokenizer: Tokenizer,
    /// The template's name, where preset or config says one.
    pub template: Option<String>,
    /// Ids that end a text (generation_config.json, else config.json).
    pub end_ids: Vec<u32>,
    target: Target,
}

impl Llm {
    /// Opens a preset, or a folder in Hugging Face layout.
    pub fn open(presets: &Presets, id: &str, options: LlmOptions) -> Result<Self> {
        if is_folder(presets, PresetKind::Llms, id) {
            let origin = Origin::open(Folder::parse(id))?;
            let source = origin.source(options.random, options.seed)?;
            let template = origin.config.string("model_architecture", "")?;
            return Llm::build(id, origin, source, Some(template).filter(|name| !name.is_empty()), options.target);
        }
        let preset: LlmPreset = presets.get(PresetKind::Llms, id)?;
        let origin = Origin::open(Folder::parse(&preset.source))?;
        let source = origin.source(preset.random || options.random, options.seed)?;
        Llm::build(id, origin, source, Some(preset.template), options.target)
    }

    /// The tokenizer of a preset, without its weights.
    pub fn tokenizer_of(presets: &Presets, id: &str) -> Result<Tokenizer> {
        let preset: LlmPreset = presets.get(PresetKind::Llms, id)?;
        open_tokenizer(&Folder::parse(&preset.source), id)
    }

    /// Builds an LLM from an opened folder and a source of weights.
    pub fn build(id: &str, origin: Origin, source: Source, template: Option<String>, target: Target) -> Result<Self> {
        let tokenizer = open_tokenizer(&origin.folder, id)?;
        let built = registry::llm(&origin.config, source, &target).context(|| format!("LLM `{id}`"))?;
        let Built { model, params, unused } = built;
        let vocab = model.spec().vocab;
        if tokenizer.vocab() > vocab {
            return Err(error!(
                Shape,
                "LLM `{id}`: the tokenizer has {} tokens, the embedding has {vocab} rows",
                tokenizer.vocab()
            ));
        }
        let end_ids = end_ids(&origin)?;
        Ok(Llm { id: id.to_string(), origin, model, params, unused, tokenizer, template, end_ids, target })
    }

    /// Hidden size.
    pub fn width(&self) -> usize {
        self.model.spec().width
    }

    /// Longest sequence.
    pub fn context(&self) -> usize {
        self.model.spec().context
    }

    /// dtype and device.
    pub fn target(&self) -> Target {
        self.target.clone()
    }
}

/// What a projector is before its widths are known.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorChoice {
    /// `mlp2x_gelu`, `linear`, ...
    pub name: String,
    /// How the encoder's tokens are reduced first, and to how many.
    pub pool: Option<(PoolKind, usize)>,
}

/// A projector between an encoder and an LLM.
pub struct ProjectorPart {
    pub name: String,
    pub pool: Option<Pool>,
    /// Visual tokens per image after it.
    pub tokens: usize,
    /// Width of the encoder's features.
    pub input: usize,
    pub output: usize,
    pub model: Box<dyn Projector>,
    pub params: ParamSet,
}

impl ProjectorPart {
    /// Builds the projector from an encoder's features to an LLM of width `output`.
    pub fn build(
        choice: &ProjectorChoice,
        encoder: &Encoder,
        output: usize,
        source: Source,
        target: &Target,
    ) -> Result<Self> {
        let (tokens, input) = (encoder.tokens(), encoder.width());
        let pool = choice.pool.map(|(kind, to)| Pool::new(kind, tokens, to)).transpose()?;
        let width = pool.map_or(input, |pool| pool.width(input));
        let Built { model, params, .. } = mlp::projector(&choice.name, width, output, source, target)?;
        let tokens = pool.map_or(tokens, |pool| pool.tokens);
        Ok(ProjectorPart { name: choice.name.clone(), pool, tokens, input, output, model, params })
    }

    /// (images, encoder tokens, encoder width) -> (images * tokens, LLM width)
    pub fn project(&self, features: &Tensor) -> Result<Tensor> {
        let pooled = match &self.pool {
            Some(pool) => pool.forward(features)?,
            None => features.clone(),
        };
        Ok(self.model.project(&pooled.flatten_to(1)?)?)
    }

    /// What it is called in tables: `mlp2x_gelu`, `mlp2x_gelu (average to 16)`.
    pub fn label(&self) -> String {
        match &self.pool {
            Some(pool) => format!("{} ({} to {})", self.name, pool.kind.name(), pool.tokens),
            None => self.name.clone(),
        }
    }
}

impl Target {
    /// f32 on the CPU.
    pub fn cpu() -> Self {
        Target { dtype: DType::F32, device: Device::Cpu }
    }
}

fn open_tokenizer(folder: &Folder, id: &str) -> Result<Tokenizer> {
    match folder.path() {
        Some(path) => Tokenizer::open(path),
        None => Tokenizer::from_bytes(&folder.read("tokenizer.json")?, id),
    }
}

/// A preset's id wins; anything else that looks like a path, or is one, is a folder.
fn is_folder(presets: &Presets, kind: PresetKind, id: &str) -> bool {
    !presets.contains(kind, id) && (id.contains(['/', '\\']) || std::path::Path::new(id).is_dir())
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

//! The three parts with what belongs to each: an encoder with its image processor and token selection, an LLM
//! with its tokenizer, a projector with its widths.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::assets::Folder;
use crate::error::{Context, Result};
use crate::image::{Aspect, Image, ImageProcessor};
use crate::models::config::Config;
use crate::models::encoders::s2::Scales;
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
    /// Sides in pixels of the scales the picture is seen at, in any order; one scale without.
    pub s2: Option<Vec<usize>>,
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
    s2: Option<Vec<usize>>,
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
    /// The scales of S2, where it has several.
    pub scales: Option<Scales>,
    /// (height, width) of the pixels that the processor makes of a square picture.
    input: (usize, usize),
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
        options.s2 = options.s2.or(preset.s2);
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
        let mut processor = ImageProcessor::from_json(&String::from_utf8_lossy(&text), &name)?;
        let built = registry::encoder(&origin.config, source, &options.target).context(|| format!("encoder `{id}`"))?;
        let Built { model: tower, params, unused } = built;
        let spec = tower.spec();
        let scales = options.s2.map(|sides| Scales::new(sides, spec)).transpose();
        let scales = scales.context(|| format!("encoder `{id}`"))?;
        if let Some(scales) = &scales {
            processor = processor.with_side(scales.largest());
        }
        let side = scales.as_ref().map_or(spec.image_size, Scales::largest);
        let input = processor.output_size(side, side);
        match scales {
            Some(_) if input == (side, side) => {}
            Some(_) => bail!(Shape, "encoder `{id}`: its processor does not give squares, as s2 needs"),
            None => {
                spec.patches(input.0, input.1).context(|| format!("encoder `{id}` with what its processor gives"))?;
            }
        }
        let select_layer = options.select_layer.unwrap_or(-2);
        let states = spec.layers as i64 + 1;
        if !(-states..states).contains(&select_layer) {
            bail!(Option, "encoder `{id}`: select_layer {select_layer} is not one of its {states} hidden states");
        }
        let select = options.select.unwrap_or(Select::Patch);
        if scales.is_some() && select != Select::Patch {
            bail!(Option, "encoder `{id}`: s2 joins maps of patches, so `select` cannot be {}", select.name());
        }
        let (id, target) = (id.to_string(), options.target);
        Ok(Encoder { id, origin, tower, params, unused, processor, select_layer, select, scales, input, target })
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        self.tower.spec().width * self.scales.as_ref().map_or(1, |scales| scales.sides().len())
    }

    /// Visual tokens per image.
    pub fn tokens(&self) -> usize {
        let spec = self.tower.spec();
        let (height, width) = self.scales.as_ref().map_or(self.input, |scales| (scales.smallest(), scales.smallest()));
        let patches = height / spec.patch_size * (width / spec.patch_size);
        match self.select {
            Select::Patch => patches,
            Select::ClsPatch => patches + spec.extra_tokens(),
        }
    }

    /// Side of the pixels it takes from its processor, the longer one if they differ.
    pub fn image_size(&self) -> usize {
        self.input.0.max(self.input.1)
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

    /// [`Encoder::preprocess`] for features, which have to be equally many for every picture.
    ///
    /// # Errors
    /// `Shape` when the processor gives this picture another size than a square one.
    pub fn pixels(&self, image: &Image, aspect: Aspect) -> Result<Tensor> {
        let pixels = self.preprocess(image, aspect)?;
        let (_, height, width) = pixels.dims3()?;
        if (height, width) != self.input {
            return Err(error!(
                Shape,
                "encoder `{}`: a picture of {} x {} becomes {width} x {height} pixels, others {} x {}",
                self.id,
                image.width,
                image.height,
                self.input.1,
                self.input.0
            )
            .help("its processor does not crop: use `image: \"pad\"`"));
        }
        Ok(pixels)
    }

    /// All hidden states of the tower, for pixels (batch, 3, height, width) of a size it takes: each
    /// (batch, sequence, width).
    pub fn hidden_states(&self, pixels: &Tensor) -> Result<Vec<Tensor>> {
        self.states(&self.place(pixels)?, self.tower.spec().layers)
    }

    fn states(&self, pixels: &Tensor, blocks: usize) -> Result<Vec<Tensor>> {
        let (.., height, width) = pixels.dims4()?;
        self.tower.spec().patches(height, width).context(|| format!("encoder `{}`", self.id))?;
        Ok(self.tower.hidden_states(pixels, blocks)?)
    }

    /// The hidden state that is read, counted from 0.
    fn state(&self) -> usize {
        let states = self.tower.spec().layers as i64 + 1;
        if self.select_layer < 0 { (self.select_layer + states) as usize } else { self.select_layer as usize }
    }

    /// Whether the selected features depend on a parameter of this name.
    pub fn is_used(&self, name: &str) -> bool {
        self.tower.spec().block_of(name).is_none_or(|block| block < self.state())
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
        let pixels = self.place(pixels)?;
        match &self.scales {
            Some(scales) => scales.features(&pixels, |tiles| self.selected(tiles)),
            None => self.selected(&pixels),
        }
    }

    /// The selected tokens of the selected layer, for pixels the tower takes.
    fn selected(&self, pixels: &Tensor) -> Result<Tensor> {
        let mut states = self.states(pixels, self.state())?;
        let Some(state) = states.pop() else { bail!(Tensor, "encoder `{}` gave no hidden state", self.id) };
        let extra = self.tower.spec().extra_tokens();
        match self.select {
            Select::ClsPatch => Ok(state),
            Select::Patch => Ok(state.narrow(1, extra, state.dim(1)? - extra)?),
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

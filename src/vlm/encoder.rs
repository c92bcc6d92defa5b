//! A vision tower with what belongs to it: image processor, token selection, the layer that is read.

use candle_core::{Device, Tensor};
use serde::Deserialize;
use toml::Table;

use super::origin::{self, Files, Origin, PartPreset, Weights, find};
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::image::{Aspect, Image, ImageProcessor};
use crate::models::VisionEncoder;
use crate::models::registry::{self, Built, Target};
use crate::preset::{PresetKind, Presets};
use crate::weights::{ParamSet, Source};

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
            _ => Err(Error::unknown("token selection", name, &["patch", "cls_patch"], "")),
        }
    }
}

/// How to open an encoder; `None` is what the preset or folder says.
#[derive(Clone)]
pub struct EncoderOptions {
    pub select_layer: Option<i64>,
    pub select: Option<Select>,
    pub weights: Weights,
    pub seed: u64,
    pub target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncoderPreset {
    #[serde(rename = "about")]
    _about: String,
    source: String,
    config: Option<Table>,
    processor: Option<Table>,
    /// Starts from random weights.
    #[serde(default)]
    random: bool,
    select_layer: Option<i64>,
    select: Option<String>,
}

impl PartPreset for EncoderPreset {
    const BESIDE: &'static str = origin::PROCESSOR;

    fn files(&self) -> Files<'_> {
        Files { source: &self.source, config: self.config.as_ref(), processor: self.processor.as_ref() }
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
    weights: Weights,
    target: Target,
}

impl Encoder {
    /// Opens a preset, a folder in Hugging Face layout, or a model on the hub.
    pub fn open(presets: &Presets, id: &str, mut options: EncoderOptions) -> Result<Self> {
        let (preset, origin) = find::<EncoderPreset>(presets, PresetKind::Encoders, id, options.weights)?;
        if let Some(preset) = preset {
            options.weights = options.weights.or_random(preset.random);
            options.select_layer = options.select_layer.or(preset.select_layer);
            if let (None, Some(name)) = (options.select, &preset.select) {
                options.select = Some(Select::parse(name)?);
            }
        }
        let source = origin.source(options.weights, options.seed)?;
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
        let EncoderOptions { weights, target, .. } = options;
        let id = id.to_string();
        Ok(Encoder { id, origin, tower, params, unused, processor, select_layer, select, weights, target })
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
        self.ready()?;
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
        self.ready()?;
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

    /// Refuses to compute without weights.
    fn ready(&self) -> Result<()> {
        self.weights.ready(|| format!("encoder `{}`", self.id))
    }

    /// Whether it has weights to compute with.
    pub fn weights(&self) -> Weights {
        self.weights
    }

    fn place(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(pixels.to_device(&self.target.device)?.to_dtype(self.target.dtype)?)
    }
}

//! A vision tower with what belongs to it: image processor, token selection, the layer that is read.

use candle_core::{Device, Tensor};
use serde::Deserialize;
use toml::Table;

use super::origin::{self, Files, Origin, PartPreset, Weights, find};
use crate::error::{Context, Error, Result};
use crate::image::{Aspect, Image, ImageProcessor, Preprocessing};
use crate::models::VisionEncoder;
use crate::models::config::Config;
use crate::models::encoders::s2::Scales;
use crate::models::projectors::VisualTokens;
use crate::models::registry::{self, Built, Target};
use crate::preset::{PresetKind, Presets};
use crate::weights::{ParamSet, Source};
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
    /// Sides in pixels of the scales the picture is seen at, in any order; one scale without.
    pub s2: Option<Vec<usize>>,
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
    s2: Option<Vec<usize>>,
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
    /// The processor of the tower's own size; with S2, [`Encoder::preprocess`] has it make the largest scale.
    pub processor: ImageProcessor,
    /// What its processor does with pictures that are no squares, where that says so.
    pub aspect: Option<Aspect>,
    pub select_layer: i64,
    pub select: Select,
    /// The scales of S2, where it has several.
    pub scales: Option<Scales>,
    /// (height, width) of the pixels that features are made of, for a square picture.
    input: (usize, usize),
    weights: Weights,
    target: Target,
}

impl Encoder {
    /// Opens a preset, a folder in Hugging Face layout, or a model on the hub.
    pub fn open(presets: &Presets, id: &str, options: EncoderOptions) -> Result<Self> {
        Encoder::open_with(presets, id, options, None)
    }

    /// The same; `stored` are weights from elsewhere, so that only config and processor are looked for under `id`.
    pub(super) fn open_with(
        presets: &Presets,
        id: &str,
        mut options: EncoderOptions,
        stored: Option<Source>,
    ) -> Result<Self> {
        let sought = if stored.is_some() { Weights::None } else { options.weights };
        let (preset, origin) = find::<EncoderPreset>(presets, PresetKind::Encoders, id, sought)?;
        if let Some(preset) = preset {
            if stored.is_none() {
                options.weights = options.weights.or_random(preset.random);
            }
            options.select_layer = options.select_layer.or(preset.select_layer);
            options.s2 = options.s2.or(preset.s2);
            if let (None, Some(name)) = (options.select, &preset.select) {
                options.select = Some(Select::parse(name)?);
            }
        }
        match stored {
            Some(stored) => Encoder::build(id, origin.without_place(), stored, options),
            None => Encoder::build(id, origin.clone(), origin.source(options.weights, options.seed)?, options),
        }
    }

    /// Builds a tower from an opened folder and a source of weights.
    pub fn build(id: &str, origin: Origin, source: Source, options: EncoderOptions) -> Result<Self> {
        let class = processor_class(&origin.config)?;
        let prepared = Preprocessing::open(&origin.folder, class.as_deref(), origin.config.notes())?;
        let Preprocessing { processor, aspect } = prepared;
        let built = registry::encoder(&origin.config, source, &options.target).context(|| format!("encoder `{id}`"))?;
        let Built { model: tower, params, unused } = built;
        let spec = tower.spec();
        let scales = options.s2.clone().map(|sides| Scales::new(sides, spec)).transpose();
        let scales = scales.context(|| format!("encoder `{id}`"))?;
        let input = match &scales {
            None => {
                let (height, width) = processor.output_size(spec.image_size, spec.image_size);
                spec.patches(height, width).context(|| format!("encoder `{id}` with what its processor gives"))?;
                (height, width)
            }
            Some(scales) => {
                let side = scales.largest();
                if processor.clone().with_side(side).output_size(side, side) != (side, side) {
                    bail!(Shape, "encoder `{id}`: its processor does not give squares, as s2 needs");
                }
                (side, side)
            }
        };
        let select_layer = options.select_layer.unwrap_or(-2);
        let states = spec.layers as i64 + 1;
        if !(-states..states).contains(&select_layer) {
            bail!(Option, "encoder `{id}`: select_layer {select_layer} is not one of its {states} hidden states");
        }
        let select = options.select.unwrap_or(Select::Patch);
        if scales.is_some() && select != Select::Patch {
            bail!(Option, "encoder `{id}`: s2 joins maps of patches, so `select` cannot be {}", select.name());
        }
        let EncoderOptions { weights, target, .. } = options;
        let id = id.to_string();
        Ok(Encoder {
            id,
            origin,
            tower,
            params,
            unused,
            processor,
            aspect,
            select_layer,
            select,
            scales,
            input,
            weights,
            target,
        })
    }

    /// Number of weights: those of the features, and what published towers of this architecture hold beside them.
    pub fn count(&self) -> usize {
        let (prefixes, unread) = (self.tower.spec().names.prefixes, self.tower.spec().unread());
        let is = |unused: &str, name: &str| {
            prefixes.iter().any(|prefix| unused.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(name)))
        };
        let held = |name: &str| self.weights == Weights::None || self.unused.iter().any(|(unused, _)| is(unused, name));
        self.params.count() + unread.iter().filter(|(name, _)| held(name)).map(|(_, count)| count).sum::<usize>()
    }

    /// Width of the features.
    pub fn width(&self) -> usize {
        self.tower.spec().width * self.scales.as_ref().map_or(1, |scales| scales.sides().len())
    }

    /// Visual tokens per image.
    pub fn tokens(&self) -> usize {
        self.visual_tokens().count()
    }

    /// The visual tokens of one picture: those of the patches, after the class token where that is selected.
    pub fn visual_tokens(&self) -> VisualTokens {
        let (rows, columns) = self.grid();
        VisualTokens::Grid { extra: self.extra_tokens(), rows, columns }
    }

    /// Rows and columns of the patches that the visual tokens stand for.
    pub fn grid(&self) -> (usize, usize) {
        let side = self.tower.spec().patch_size;
        let (height, width) = self.scales.as_ref().map_or(self.input, |scales| (scales.smallest(), scales.smallest()));
        (height / side, width / side)
    }

    /// Visual tokens that come before those of the patches.
    pub fn extra_tokens(&self) -> usize {
        match self.select {
            Select::Patch => 0,
            Select::ClsPatch => self.tower.spec().extra_tokens(),
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

    /// What [`Encoder::preprocess`] does with a picture that is no square, unless something else is wanted.
    pub fn own_aspect(&self) -> Aspect {
        self.aspect.unwrap_or(Aspect::Square)
    }

    /// Pixels (3, height, width) as the reference image processor gives them; with S2, of the largest scale.
    pub fn preprocess(&self, image: &Image, aspect: Aspect) -> Result<Tensor> {
        match &self.scales {
            Some(scales) => processed(&self.processor.clone().with_side(scales.largest()), image, aspect),
            None => self.tower_pixels(image, aspect),
        }
    }

    /// Pixels of the tower's own size, for [`Encoder::hidden_states`]; without S2 the same.
    pub fn tower_pixels(&self, image: &Image, aspect: Aspect) -> Result<Tensor> {
        processed(&self.processor, image, aspect)
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
        self.ready()?;
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

    /// What features of a picture depend on, beside the picture: weights, sizes, processor, selection, dtype, device
    /// and the sources of this program.
    ///
    /// # Errors
    /// What reading weights from their device gives.
    pub fn features_sha256(&self, aspect: Aspect) -> Result<String> {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        let scales = self.scales.as_ref().map(Scales::sides);
        hasher.update(format!(
            "{} {:?} {:?} {aspect:?} {} {:?} {scales:?} {:?} {:?} {}",
            crate::build::SOURCES,
            self.tower.spec(),
            self.processor,
            self.select_layer,
            self.select,
            self.input,
            self.target.dtype,
            crate::device::device_name(&self.target.device),
        ));
        for (name, hash) in self.params.hashes()? {
            hasher.update(name);
            hasher.update(hash);
        }
        Ok(format!("{:x}", hasher.finalize()))
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

/// The image processor that belongs to a model in transformers (5.24.0, `image_processing_auto.py`).
fn processor_class(config: &Config) -> Result<Option<String>> {
    let named = config.string("image_processor_type", "")?;
    let known = match config.string("model_type", "")?.as_str() {
        _ if !named.is_empty() => named.as_str(),
        "clip" => "CLIPImageProcessor",
        "siglip" => "SiglipImageProcessor",
        "dinov2" => "BitImageProcessor",
        "vit" | "ijepa" => "ViTImageProcessor",
        _ => return Ok(None),
    };
    Ok(Some(known.to_string()))
}

fn processed(processor: &ImageProcessor, image: &Image, aspect: Aspect) -> Result<Tensor> {
    let pixels = processor.preprocess(image, aspect)?;
    let side = image.width.max(image.height);
    let (height, width) = match aspect {
        Aspect::Square => processor.output_size(image.width, image.height),
        Aspect::Pad => processor.output_size(side, side),
    };
    Ok(Tensor::from_vec(pixels, (3, height, width), &Device::Cpu)?)
}

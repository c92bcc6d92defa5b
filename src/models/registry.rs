//! From config.json to a model: its `model_type` leads to the architecture (`llms::ALL`, `encoders::ALL`) that reads it.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::architecture::Architecture;
use super::config::Config;
use super::keys::{self, Key, Part};
use super::{LanguageModel, VisionEncoder, encoders, llms, unused};
use crate::error;
use crate::error::{Error, Result};
use crate::nn::decoder::{Decoder, DecoderSpec};
use crate::nn::vit::{Vit, VitSpec};
use crate::weights::{Builder, Finished, ParamSet, Quantize, Source};

/// A model, its parameters, and the tensors of its source that no layer uses.
pub struct Built<M: ?Sized> {
    pub model: Box<M>,
    pub params: ParamSet,
    pub unused: Vec<(String, Tensor)>,
}

/// Number type, device and quantization of the model to build.
#[derive(Clone)]
pub struct Target {
    pub dtype: DType,
    pub device: Device,
    /// How the weights of an LLM's linear layers are stored.
    pub quantize: Option<Quantize>,
}

impl Target {
    /// f32 on the CPU.
    pub fn cpu() -> Self {
        Target { dtype: DType::F32, device: Device::Cpu, quantize: None }
    }
}

/// The spec of a vision tower's config.json.
pub fn encoder_spec(config: &Config) -> Result<VitSpec> {
    config.nested("vision_config").check_sizes()?;
    let model_type = config.string("model_type", "")?;
    if model_type.starts_with("siglip2") {
        return Err(encoders::siglip::naflex(config, &model_type));
    }
    let architecture = lookup(encoders::ALL, &model_type, "vision tower")?;
    let tower = match ["clip", "siglip"].contains(&model_type.as_str()) && config.value().get("vision_config").is_some()
    {
        true => {
            keys::check(config, Part::TwoTowers, &[], &[])?;
            config.nested("vision_config")
        }
        false => config.clone(),
    };
    keys::check(&tower, Part::Tower, architecture.keys, &[])?;
    let spec = (architecture.spec)(config)?;
    spec.check()?;
    Ok(spec)
}

/// The spec of an LLM's config.json.
pub fn llm_spec(config: &Config) -> Result<DecoderSpec> {
    config.check_sizes()?;
    let model_type = config.string("model_type", "")?;
    let family = llm_of_llava(&model_type).unwrap_or(&model_type);
    let architecture = lookup(llms::ALL, family, "LLM")?;
    keys::check(config, Part::Llm, architecture.keys, &[])?;
    (architecture.spec)(config)
}

/// The family of the LLM in LLaVA-MORE's models of this `model_type`.
pub fn llm_of_llava(model_type: &str) -> Option<&'static str> {
    llms::ALL.iter().find(|llm| llm.llava == Some(model_type)).map(Architecture::family)
}

/// LLaVA-MORE's `model_type` for models with an LLM of this family.
pub fn llava_of_llm(family: &str) -> Option<&'static str> {
    llms::ALL.iter().find(|llm| llm.family() == family)?.llava
}

/// The keys that only some families of LLMs have.
pub fn llm_keys() -> Vec<&'static [Key]> {
    llms::ALL.iter().map(|llm| llm.keys).collect()
}

/// The architecture of a `model_type`.
pub fn architecture<S>(all: &'static [Architecture<S>], model_type: &str) -> Option<&'static Architecture<S>> {
    all.iter().find(|architecture| architecture.model_types.contains(&model_type))
}

/// The `model_type`s of a table.
pub fn model_types<S>(all: &'static [Architecture<S>]) -> Vec<&'static str> {
    all.iter().flat_map(|architecture| architecture.model_types).copied().collect()
}

/// Builds a vision tower.
pub fn encoder(config: &Config, source: Source, target: &Target) -> Result<Built<dyn VisionEncoder>> {
    let spec = encoder_spec(config)?;
    let files = name_of(&source);
    let builder = Builder::new(source, target.dtype, &target.device);
    let model: Box<dyn VisionEncoder> = Box::new(Vit::new(&builder, spec)?);
    let Finished { params, unused, notes } = builder.finish()?;
    let spec = model.spec();
    let named = unused.iter().map(|(name, _)| name.as_str()).filter(|name| !unused::harmless_to_tower(spec, name));
    unused::told(&files, named, spec.layers, |name| spec.block_of(name)).into_iter().for_each(|note| notes.add(note));
    config.notes().extend(&notes);
    Ok(Built { model, params, unused })
}

/// Builds an LLM.
pub fn llm(config: &Config, source: Source, target: &Target) -> Result<Built<dyn LanguageModel>> {
    let spec = llm_spec(config)?;
    if target.quantize.is_some() && !target.device.is_cpu() {
        return Err(error!(Device, "quantized weights are for the CPU, not for {:?}", target.device.location())
            .help("leave out `quantize` or `device`"));
    }
    let source = if spec.tied { tied_by_head(source)? } else { source };
    let files = name_of(&source);
    let builder = Builder::new(source, target.dtype, &target.device).quantized(target.quantize);
    let model: Box<dyn LanguageModel> = Box::new(Decoder::new(&builder, spec)?);
    let Finished { params, mut unused, notes } = builder.finish()?;
    if model.spec().tied {
        drop_tied_head(&params, &mut unused)?;
    }
    let named = unused.iter().map(|(name, _)| name.as_str()).filter(|name| !unused::harmless_to_llm(name));
    let layer = |name: &str| name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok();
    unused::told(&files, named, model.spec().layers, layer).into_iter().for_each(|note| notes.add(note));
    config.notes().extend(&notes);
    Ok(Built { model, params, unused })
}

fn name_of(source: &Source) -> String {
    match source {
        Source::Files { files, .. } => files.name().to_string(),
        Source::Random { .. } | Source::Shapes => String::new(),
    }
}

/// The weight files of a tied model that hold the head and no embedding: the head is used for both, as transformers 5 ties
/// them in both directions (5.24.0, `modeling_utils.py`).
fn tied_by_head(source: Source) -> Result<Source> {
    let Source::Files { files, prefix } = source else { return Ok(source) };
    let (head, embedding) = (format!("{prefix}{HEAD}"), format!("{prefix}{EMBEDDING}"));
    if files.has(&embedding) || !files.has(&head) {
        return Ok(Source::Files { files, prefix });
    }
    let renamed = files.renamed(|name| if name == head { embedding.clone() } else { name.to_string() })?;
    Ok(Source::Files { files: Arc::new(renamed), prefix })
}

const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "model.embed_tokens.weight";

/// Refuses a tied model whose checkpoint holds a second, different head. Kept as an unused tensor it would be saved again
/// unchanged after training has changed the embedding.
fn drop_tied_head(params: &ParamSet, unused: &mut Vec<(String, Tensor)>) -> Result<()> {
    let head = unused.iter().position(|(name, _)| name == HEAD).map(|index| unused.remove(index).1);
    let embedding = params.iter().find(|param| param.name() == EMBEDDING);
    let (Some(head), Some(embedding)) = (head, embedding) else { return Ok(()) };
    let embedding = embedding.tensor()?;
    let head = head.to_device(embedding.device())?.to_dtype(embedding.dtype())?;
    if head.dims() == embedding.dims() && head.ne(&embedding)?.max_all()?.to_scalar::<u8>()? == 0 {
        return Ok(());
    }
    Err(error!(Weights, "`tie_word_embeddings` is true, but `{HEAD}` and `{EMBEDDING}` differ")
        .help("set it to false in config.json to use the head, or take the head out of the file"))
}

fn lookup<S>(all: &'static [Architecture<S>], model_type: &str, what: &str) -> Result<&'static Architecture<S>> {
    let unknown = || Error::unknown(&format!("{what} architecture"), model_type, &model_types(all), "");
    architecture(all, model_type).ok_or_else(unknown)
}

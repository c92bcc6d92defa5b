//! The architectures, one line each: `model_type` of config.json, and the function that reads the rest.

use candle_core::{DType, Device};

use super::config::Config;
use super::{LanguageModel, VisionEncoder, encoders, llms};
use crate::error;
use crate::error::{Error, Result};
use crate::nn::decoder::{Decoder, DecoderSpec};
use crate::nn::vit::{Vit, VitSpec};
use crate::weights::{Builder, Finished, ParamSet, Quantize, Source};

/// Vision towers.
pub const ENCODERS: &Table<VitSpec> = &[("clip", encoders::clip::spec), ("clip_vision_model", encoders::clip::spec)];

/// LLMs. `llava_llama` is LLaVA-MORE's name for a Llama with a tower attached.
pub const LLMS: &Table<DecoderSpec> = &[("llama", llms::llama::spec), ("llava_llama", llms::llama::spec)];

/// A model, its parameters, and what its source held beside them.
pub struct Built<M: ?Sized> {
    pub model: Box<M>,
    pub params: ParamSet,
    pub unused: Vec<(String, candle_core::Tensor)>,
}

/// Where and how to build.
#[derive(Clone)]
pub struct Target {
    pub dtype: DType,
    pub device: Device,
    /// What happens to the weights of an LLM's linear layers.
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
    lookup(ENCODERS, config, "vision tower")?(config)
}

/// The spec of an LLM's config.json.
pub fn llm_spec(config: &Config) -> Result<DecoderSpec> {
    lookup(LLMS, config, "LLM")?(config)
}

/// Builds a vision tower.
pub fn encoder(config: &Config, source: Source, target: &Target) -> Result<Built<dyn VisionEncoder>> {
    let spec = encoder_spec(config)?;
    let builder = Builder::new(source, target.dtype, &target.device);
    let model: Box<dyn VisionEncoder> = Box::new(Vit::new(&builder, spec)?);
    let Finished { params, unused } = builder.finish()?;
    Ok(Built { model, params, unused })
}

/// Builds an LLM.
pub fn llm(config: &Config, source: Source, target: &Target) -> Result<Built<dyn LanguageModel>> {
    let spec = llm_spec(config)?;
    if target.quantize.is_some() && !target.device.is_cpu() {
        return Err(error!(Device, "quantized weights are for the CPU, not for {:?}", target.device.location())
            .help("leave out `quantize` or `device`"));
    }
    let builder = Builder::new(source, target.dtype, &target.device).quantized(target.quantize);
    let model: Box<dyn LanguageModel> = Box::new(Decoder::new(&builder, spec)?);
    let Finished { params, unused } = builder.finish()?;
    Ok(Built { model, params, unused })
}

type Table<S> = [(&'static str, fn(&Config) -> Result<S>)];

fn lookup<S>(table: &Table<S>, config: &Config, what: &str) -> Result<fn(&Config) -> Result<S>> {
    let model_type = config.string("model_type", "")?;
    match table.iter().find(|(name, _)| *name == model_type) {
        Some((_, spec)) => Ok(*spec),
        None => {
            let known: Vec<_> = table.iter().map(|(name, _)| *name).collect();
            Err(Error::unknown(&format!("{what} architecture"), &model_type, &known, ""))
        }
    }
}

//! Whole models as presets: an encoder, a projector and an LLM by their ids, and where trained weights of the
//! three together are. The rows of the LLaVA-MORE paper are presets of this kind.

use std::sync::Arc;

use serde::Deserialize;

use super::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights};
use crate::error;
use crate::error::{Context, Result};
use crate::image::Aspect;
use crate::models::registry::Target;
use crate::preset::{PresetKind, Presets};
use crate::text::Template;

/// `stdlib/presets/models/*.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPreset {
    #[serde(rename = "about")]
    _about: String,
    /// Hub id of the trained model, where one was released.
    pub source: Option<String>,
    /// Hub id of the stage-1 projector, where one was released.
    #[serde(rename = "projector_source")]
    _projector_source: Option<String>,
    pub encoder: String,
    /// Image sizes of an S2 encoder, in pixels.
    pub s2: Option<Vec<usize>>,
    pub projector: String,
    pub llm: String,
    /// `load` starts it with a new projector.
    #[serde(default)]
    pub untrained: bool,
}

impl ModelPreset {
    /// Reads a preset.
    pub fn open(presets: &Presets, id: &str) -> Result<Self> {
        presets.get(PresetKind::Models, id)
    }

    /// Composes the model of its parts, with a new projector drawn from `seed`.
    pub fn compose(&self, presets: &Presets, weights: Weights, seed: u64, target: &Target) -> Result<Vlm> {
        let options = EncoderOptions {
            select_layer: None,
            select: None,
            s2: self.s2.clone(),
            weights,
            seed,
            target: target.clone(),
        };
        let encoder = Encoder::open(presets, &self.encoder, options)?;
        let llm = Llm::open(presets, &self.llm, LlmOptions { weights, seed, target: target.clone() })?;
        let name = llm.template.clone().ok_or_else(|| error!(Option, "LLM `{}` names no template", llm.id))?;
        let projector = ProjectorChoice { name: self.projector.clone(), pool: None };
        let template = Template::load(presets, &name)?;
        Vlm::compose(Arc::new(encoder), &projector, Arc::new(llm), template, Aspect::Pad, seed)
    }

    /// The model as sizes and counts alone; reads no file and no network, and takes no memory.
    pub fn outline(presets: &Presets, id: &str) -> Result<Vlm> {
        let compose = |preset: ModelPreset| preset.compose(presets, Weights::None, 0, &Target::cpu());
        ModelPreset::open(presets, id).and_then(compose).context(|| format!("model `{id}`"))
    }
}

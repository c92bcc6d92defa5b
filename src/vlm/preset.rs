//! Whole models as presets: an encoder, a projector and an LLM by their ids, and where trained weights of the
//! three together are. The rows of the LLaVA-MORE paper are presets of this kind.

use std::sync::Arc;

use serde::Deserialize;

use super::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights, checkpoint};
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
    /// Hub id of the trained model, if it was released.
    pub source: Option<String>,
    /// Hub id of the stage-1 projector, if it was released.
    #[serde(rename = "projector_source")]
    _projector_source: Option<String>,
    pub encoder: String,
    /// Image sizes of an S2 encoder, in pixels.
    pub s2: Option<Vec<usize>>,
    pub projector: String,
    pub llm: String,
    /// Whether `load` creates a new projector.
    #[serde(default)]
    pub untrained: bool,
}

impl ModelPreset {
    /// Reads a preset.
    pub fn open(presets: &Presets, id: &str) -> Result<Self> {
        presets.get(PresetKind::Models, id)
    }

    /// Composes the model from its parts, with a new projector initialized by `seed`.
    pub fn compose(
        &self,
        presets: &Presets,
        template: Option<&str>,
        weights: Weights,
        seed: u64,
        target: &Target,
    ) -> Result<Vlm> {
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
        let by_hand = template.is_some();
        let name = template.map(str::to_string).or_else(|| llm.template.clone());
        let name = name.ok_or_else(|| error!(Option, "LLM `{}` names no template", llm.id))?;
        let projector = ProjectorChoice::new(&self.projector)?;
        let template = Template::load(presets, &name)?;
        let vlm = Vlm::compose(Arc::new(encoder), &projector, Arc::new(llm), template, Aspect::Pad, seed)?;
        if by_hand {
            vlm.choose_by_hand(None);
        }
        Ok(vlm)
    }

    /// Loads the trained model or, if no stored weights are wanted, composes one.
    ///
    /// # Errors
    /// `Missing` when the preset's weights were never released.
    pub fn load(
        presets: &Presets,
        id: &str,
        template: Option<&str>,
        weights: Weights,
        seed: u64,
        target: &Target,
    ) -> Result<Vlm> {
        let preset = ModelPreset::open(presets, id)?;
        match (&preset.source, weights) {
            (Some(source), Weights::Stored) => checkpoint::open(presets, source, template, target),
            (None, Weights::Stored) if !preset.untrained => {
                let ModelPreset { encoder, projector, llm, .. } = &preset;
                Err(error!(Missing, "trained weights of model `{id}` were not released").help(format!(
                    "compose its parts and train them: `vlm(encoder(\"{encoder}\"), projector(\"{projector}\"), \
                     llm(\"{llm}\"))`; `load(\"{id}\", #{{ weights: \"none\" }})` has its sizes"
                )))
            }
            _ => preset.compose(presets, template, weights, seed, target).context(|| format!("model `{id}`")),
        }
    }

    /// The model for its sizes and counts only; reads no file and no network, and takes no memory.
    pub fn outline(presets: &Presets, id: &str) -> Result<Vlm> {
        ModelPreset::load(presets, id, None, Weights::None, 0, &Target::cpu())
    }
}

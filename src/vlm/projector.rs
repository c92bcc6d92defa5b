//! The projector of a model: what was chosen, built between an encoder and an LLM.

use candle_core::Tensor;

use super::encoder::Encoder;
use crate::error::Result;
use crate::models::Projector;
use crate::models::projectors::{self, Features, ProjectorChoice, VisualTokens};
use crate::models::registry::{Built, Target};
use crate::weights::{ParamSet, Source};

/// A projector between an encoder and an LLM.
pub struct ProjectorPart {
    pub choice: ProjectorChoice,
    /// Width of the encoder's features.
    pub input: usize,
    pub output: usize,
    pub params: ParamSet,
    model: Box<dyn Projector>,
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
        let features = Features { tokens: encoder.visual_tokens(), width: encoder.width() };
        let Built { model, params, .. } = projectors::projector(choice, features, output, source, target)?;
        Ok(ProjectorPart { choice: choice.clone(), input: features.width, output, params, model })
    }

    /// (images, encoder tokens, encoder width) -> (images, tokens, LLM width), in the dtype of the projector.
    pub fn project(&self, features: &Tensor) -> Result<Tensor> {
        // The tower may compute in another dtype than the LLM.
        let features = match self.params.iter().next() {
            Some(param) => &features.to_dtype(param.dtype())?,
            None => features,
        };
        Ok(self.model.project(features)?)
    }

    /// The visual tokens of one picture.
    pub fn visual_tokens(&self) -> VisualTokens {
        self.model.tokens()
    }

    /// Their number.
    pub fn tokens(&self) -> usize {
        self.visual_tokens().count()
    }

    /// What it is called in tables: `mlp2x_gelu`, `mlp2x_gelu (average to 16)`.
    pub fn label(&self) -> String {
        self.choice.label()
    }
}

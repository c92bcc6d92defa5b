//! The projector between an encoder and an LLM: a choice until its widths are known, then a model.

use candle_core::Tensor;

use super::encoder::Encoder;
use crate::error::Result;
use crate::models::Projector;
use crate::models::projectors::mlp;
use crate::models::projectors::pool::{Pool, PoolKind};
use crate::models::registry::{Built, Target};
use crate::weights::{ParamSet, Source};

/// What a projector is before its widths are known.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectorChoice {
    /// `mlp2x_gelu`, `linear`, ...
    pub name: String,
    /// How the encoder's tokens are reduced first, and to how many.
    pub pool: Option<(PoolKind, usize)>,
}

impl ProjectorChoice {
    /// What it is called in tables, as [`ProjectorPart::label`] has it.
    pub fn label(&self) -> String {
        match &self.pool {
            Some((kind, tokens)) => label(&self.name, *kind, *tokens),
            None => self.name.clone(),
        }
    }
}

fn label(name: &str, kind: PoolKind, tokens: usize) -> String {
    format!("{name} ({} to {tokens})", kind.name())
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

    /// (images, encoder tokens, encoder width) -> (images * tokens, LLM width), in the dtype of the projector.
    pub fn project(&self, features: &Tensor) -> Result<Tensor> {
        // The tower may compute in another dtype than the LLM.
        let features = match self.params.iter().next() {
            Some(param) => &features.to_dtype(param.dtype())?,
            None => features,
        };
        let pooled = match &self.pool {
            Some(pool) => pool.forward(features)?,
            None => features.clone(),
        };
        Ok(self.model.project(&pooled.flatten_to(1)?)?)
    }

    /// What it is called in tables: `mlp2x_gelu`, `mlp2x_gelu (average to 16)`.
    pub fn label(&self) -> String {
        match &self.pool {
            Some(pool) => label(&self.name, pool.kind, pool.tokens),
            None => self.name.clone(),
        }
    }
}

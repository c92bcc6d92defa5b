//! The decoder-only transformer. What differs between model families is a value in [`DecoderSpec`]; there is
//! one forward. Rows are packed (`packing.rs`), shapes are `(tokens, width)`.

mod block;
mod forward;
mod spec;

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

pub use forward::Forward;
pub use spec::{Biases, BlockNorms, DecoderSpec, EmbeddingScale, Local, Projections, Window};

use super::cache::Cache;
use super::linear::project;
use super::norm::RmsNorm;
use super::ops;
use super::packing::Packing;
use super::rope::Rotary;
use crate::weights::{Builder, Init, Param, Weight};
use block::Block;

/// A decoder with its weights.
pub struct Decoder {
    spec: DecoderSpec,
    embedding: Arc<Param>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Arc<Param>,
    rotary: Rotary,
    local_rotary: Option<Rotary>,
}

impl Decoder {
    /// Builds a decoder from `model.*` and `lm_head.weight`. A source without a head shares the embedding, whatever
    /// its config says: configs of tied models in the wild say otherwise.
    pub fn new(builder: &Builder, mut spec: DecoderSpec) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let model = builder.pp("model");
        let embedding = model.pp("embed_tokens").table("weight", [spec.vocab, spec.width], init)?;
        let blocks = (0..spec.layers)
            .map(|layer| Block::new(&model.pp("layers").pp(layer), &spec, layer))
            .collect::<crate::error::Result<_>>()?;
        let norm = RmsNorm::new(&model.pp("norm"), spec.width, spec.norm_eps, spec.norm)?;
        spec.tied |= !builder.pp("lm_head").has("weight");
        let head = match spec.tied {
            true => embedding.clone(),
            false => builder.pp("lm_head").table("weight", [spec.vocab, spec.width], init)?,
        };
        let rotary = Rotary::new(spec.rope.clone(), spec.context);
        let local_rotary = spec.local_rope.clone().map(|rope| Rotary::new(rope, spec.context));
        Ok(Decoder { spec, embedding, blocks, norm, head, rotary, local_rotary })
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Token embeddings, (ids, width).
    pub fn embed(&self, ids: &Arc<[u32]>) -> Result<Tensor> {
        let embeds = match self.embedding.weight() {
            Weight::Plain(table) => ops::embedding(&table, ids)?,
            Weight::Quantized(table) => ops::quantized_embedding(&table, ids)?.to_dtype(self.embedding.dtype())?,
        };
        match self.spec.embedding_scale {
            EmbeddingScale::Tokens => self.scaled(&embeds),
            EmbeddingScale::None | EmbeddingScale::Inputs => Ok(embeds),
        }
    }

    /// Final hidden states of the wanted rows after the last norm, (rows, width).
    pub fn hidden(&self, embeds: &Tensor, packing: &Packing, cache: Option<&Cache>) -> Result<Tensor> {
        let forward = self.forward(packing, cache)?;
        let mut hidden = forward.enter(embeds)?; // (tokens, width)
        for layer in 0..forward.blocks() {
            hidden = forward.block(layer, &hidden)?;
        }
        forward.leave(&hidden)
    }

    /// Logits over the vocabulary, (rows, vocab).
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = project(hidden, &self.head, None)?;
        match self.spec.logit_softcap {
            Some(cap) => (logits / cap)?.tanh()? * cap,
            None => Ok(logits),
        }
    }

    /// Summed cross-entropy of `targets` given their hidden states (rows, width): an f32 scalar.
    pub fn loss_sum(&self, hidden: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor> {
        ops::cross_entropy(hidden, &self.head.tensor()?, targets, self.spec.logit_softcap)
    }

    /// A cache with room for `rows` rows.
    pub fn cache(&self, rows: usize) -> Result<Cache> {
        let width = self.spec.kv_heads * self.spec.head_dim;
        Cache::new(self.spec.layers, rows, width, self.embedding.dtype(), &self.device())
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embedding.device()
    }

    /// Times sqrt(width); candle rounds the factor to the dtype as the reference does (59.75 for 3584 in bf16).
    fn scaled(&self, embeds: &Tensor) -> Result<Tensor> {
        embeds * (self.spec.width as f64).sqrt()
    }
}

//! Models as data: an architecture is one file that maps a Hugging Face `config.json` to a spec, and one line
//! in the `mod.rs` beside it. Feature selection, freezing, sampling are functions over these traits, never methods on
//! them.

pub mod architecture;
pub mod config;
pub mod encoders;
pub mod gguf;
pub mod gguf_keys;
pub mod keys;
pub mod llms;
pub mod projectors;
pub mod registry;
mod unused;

use std::sync::Arc;

use candle_core::{Result, Tensor};

pub use projectors::Projector;

use crate::nn::cache::Cache;
use crate::nn::decoder::{self, Decoder, DecoderSpec};
use crate::nn::packing::Packing;
use crate::nn::vit::{Vit, VitSpec};

/// A vision tower: pixels to hidden states.
pub trait VisionEncoder: Send + Sync {
    /// Sizes and variants.
    fn spec(&self) -> &VitSpec;
    /// Hidden states 0..=`blocks` of pixels (batch, 3, height, width), each (batch, sequence, width).
    fn hidden_states(&self, pixels: &Tensor, blocks: usize) -> Result<Vec<Tensor>>;
}

/// A decoder LLM. `hidden` and `logits` are apart so that training takes labelled rows only, generation the
/// last one, and parity all of them.
pub trait LanguageModel: Send + Sync {
    /// Sizes and variants.
    fn spec(&self) -> &DecoderSpec;
    /// Token embeddings, (ids, width).
    fn embed(&self, ids: &Arc<[u32]>) -> Result<Tensor>;
    /// Final hidden states of the rows the packing wants, (rows, width).
    fn hidden(&self, embeds: &Tensor, packing: &Packing, cache: Option<&Cache>) -> Result<Tensor>;
    /// The same pass in pieces.
    fn forward<'a>(&'a self, packing: &'a Packing, cache: Option<&'a Cache>) -> Result<Box<dyn Forward + 'a>>;
    /// (rows, width) -> (rows, vocab)
    fn logits(&self, hidden: &Tensor) -> Result<Tensor>;
    /// Summed cross-entropy of one target per row, without keeping logits: an f32 scalar.
    fn loss_sum(&self, hidden: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor>;
    /// A key/value cache with room for `rows` rows.
    fn cache(&self, rows: usize) -> Result<Cache>;
}

/// A forward pass of an LLM in pieces: `enter`, every block in order, `leave`. Training with checkpointing keeps what
/// enters each block and computes the rest again.
pub trait Forward {
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// Embeddings to what enters the first block, (tokens, width).
    fn enter(&self, embeds: &Tensor) -> Result<Tensor>;
    /// What enters block `layer` to what leaves it; after the last block only the rows the packing wants.
    fn block(&self, layer: usize, hidden: &Tensor) -> Result<Tensor>;
    /// What block `layer` looks at from a row of one whole sequence: probabilities over the positions up to it,
    /// (heads, row + 1). `hidden` is what enters the block; nothing is changed.
    fn attention(&self, layer: usize, hidden: &Tensor, row: usize) -> Result<Tensor>;
    /// What leaves the last block to final hidden states, (rows, width).
    fn leave(&self, hidden: &Tensor) -> Result<Tensor>;
}

impl VisionEncoder for Vit {
    fn spec(&self) -> &VitSpec {
        self.spec()
    }

    fn hidden_states(&self, pixels: &Tensor, blocks: usize) -> Result<Vec<Tensor>> {
        self.hidden_states(pixels, blocks)
    }
}

impl LanguageModel for Decoder {
    fn spec(&self) -> &DecoderSpec {
        self.spec()
    }

    fn embed(&self, ids: &Arc<[u32]>) -> Result<Tensor> {
        self.embed(ids)
    }

    fn hidden(&self, embeds: &Tensor, packing: &Packing, cache: Option<&Cache>) -> Result<Tensor> {
        self.hidden(embeds, packing, cache)
    }

    fn forward<'a>(&'a self, packing: &'a Packing, cache: Option<&'a Cache>) -> Result<Box<dyn Forward + 'a>> {
        Ok(Box::new(self.forward(packing, cache)?))
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.logits(hidden)
    }

    fn loss_sum(&self, hidden: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor> {
        self.loss_sum(hidden, targets)
    }

    fn cache(&self, rows: usize) -> Result<Cache> {
        self.cache(rows)
    }
}

impl Forward for decoder::Forward<'_> {
    fn blocks(&self) -> usize {
        self.blocks()
    }

    fn enter(&self, embeds: &Tensor) -> Result<Tensor> {
        self.enter(embeds)
    }

    fn block(&self, layer: usize, hidden: &Tensor) -> Result<Tensor> {
        self.block(layer, hidden)
    }

    fn attention(&self, layer: usize, hidden: &Tensor, row: usize) -> Result<Tensor> {
        self.attention(layer, hidden, row)
    }

    fn leave(&self, hidden: &Tensor) -> Result<Tensor> {
        self.leave(hidden)
    }
}

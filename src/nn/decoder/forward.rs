//! A forward pass of the decoder in pieces, for whoever keeps less of it than its whole graph.

use candle_core::{Result, Tensor};

use super::block::Pass;
use super::spec::EmbeddingScale;
use super::{Cache, Decoder, Packing};

/// One pass over packed rows: `enter`, every block in order, `leave`.
pub struct Forward<'a> {
    decoder: &'a Decoder,
    shared: Pass<'a>,
}

impl Decoder {
    /// Begins a pass; errors if a position is outside the context.
    pub fn forward<'a>(&'a self, packing: &'a Packing, cache: Option<&'a Cache>) -> Result<Forward<'a>> {
        let angles = self.rotary.angles(packing)?;
        let local_angles = self.local_rotary.as_ref().map(|rotary| rotary.angles(packing)).transpose()?;
        Ok(Forward { decoder: self, shared: Pass { packing, cache, angles, local_angles } })
    }
}

impl Forward<'_> {
    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.decoder.blocks.len()
    }

    /// Embeddings to what enters the first block, both (tokens, width).
    pub fn enter(&self, embeds: &Tensor) -> Result<Tensor> {
        match self.decoder.spec.embedding_scale {
            EmbeddingScale::Inputs => self.decoder.scaled(embeds),
            EmbeddingScale::None | EmbeddingScale::Tokens => Ok(embeds.clone()),
        }
    }

    /// What enters block `layer` to what leaves it: (tokens, width), after the last block (rows, width) with the rows
    /// that the packing wants.
    pub fn block(&self, layer: usize, hidden: &Tensor) -> Result<Tensor> {
        let rows = if layer + 1 == self.blocks() { self.shared.packing.rows.as_ref() } else { None };
        self.decoder.blocks[layer].forward(hidden, &self.shared, rows)
    }

    /// What block `layer` looks at from a row of one whole sequence: probabilities over the positions up to it,
    /// (heads, row + 1). `hidden` is what enters the block.
    pub fn attention(&self, layer: usize, hidden: &Tensor, row: usize) -> Result<Tensor> {
        self.decoder.blocks[layer].attention(hidden, &self.shared, row)
    }

    /// The last norm, (rows, width).
    pub fn leave(&self, hidden: &Tensor) -> Result<Tensor> {
        self.decoder.norm.forward(hidden)
    }
}

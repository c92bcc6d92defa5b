//! The decoder-only transformer. What differs between model families is a value in [`DecoderSpec`]; there is
//! one forward. Rows are packed (`packing.rs`), shapes are `(tokens, width)`. Tensor names are those of
//! transformers 4.49.0 (`modeling_llama.py`).

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::cache::Cache;
use super::linear::Linear;
use super::norm::{Norm, RmsNorm};
use super::ops::{self, Attention, Gate, RopeTable};
use super::packing::Packing;
use super::rope::Rope;
use crate::weights::{Builder, Init, Param};

/// Everything that defines a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderSpec {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub intermediate: usize,
    pub vocab: usize,
    /// Longest sequence, image tokens included.
    pub context: usize,
    pub norm: Norm,
    pub norm_eps: f64,
    pub gate: Gate,
    pub rope: Rope,
    /// Biases on query, key and value.
    pub attention_bias: bool,
    /// The head shares the embedding's weight.
    pub tied: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
}

/// A decoder with its weights.
pub struct Decoder {
    spec: DecoderSpec,
    embedding: Arc<Param>,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Arc<Param>,
    rope: Arc<RopeTable>,
}

struct Block {
    input_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    post_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Decoder {
    /// Builds a decoder from `model.*` and `lm_head.weight`.
    pub fn new(builder: &Builder, spec: DecoderSpec) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let model = builder.pp("model");
        let embedding = model.pp("embed_tokens").param("weight", &[spec.vocab, spec.width], init)?;
        let blocks = (0..spec.layers)
            .map(|layer| Block::new(&model.pp("layers").pp(layer), &spec, init))
            .collect::<crate::error::Result<_>>()?;
        let norm = RmsNorm::new(&model.pp("norm"), spec.width, spec.norm_eps, spec.norm)?;
        let head = match spec.tied {
            true => embedding.clone(),
            false => builder.pp("lm_head").param("weight", &[spec.vocab, spec.width], init)?,
        };
        let rope = spec.rope.table(spec.context);
        Ok(Decoder { spec, embedding, blocks, norm, head, rope })
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Token embeddings, (ids, width).
    pub fn embed(&self, ids: &Arc<[u32]>) -> Result<Tensor> {
        ops::embedding(&self.embedding.tensor(), ids)
    }

    /// Final hidden states of the wanted rows after the last norm, (rows, width).
    pub fn hidden(&self, embeds: &Tensor, packing: &Packing, cache: Option<&Cache>) -> Result<Tensor> {
        let mut hidden = embeds.clone(); // (tokens, width)
        for (layer, block) in self.blocks.iter().enumerate() {
            let rows = if layer + 1 == self.blocks.len() { packing.rows.as_ref() } else { None };
            hidden = self.block(block, &hidden, packing, cache.map(|cache| (cache, layer)), rows)?;
        }
        self.norm.forward(&hidden)
    }

    /// Logits over the vocabulary, (rows, vocab).
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        ops::linear(hidden, &self.head.tensor(), None)
    }

    /// Summed cross-entropy of `targets` given their hidden states (rows, width): an f32 scalar.
    pub fn loss_sum(&self, hidden: &Tensor, targets: &Arc<[u32]>) -> Result<Tensor> {
        ops::cross_entropy(hidden, &self.head.tensor(), targets, None)
    }

    /// A cache with room for `rows` rows.
    pub fn cache(&self, rows: usize) -> Result<Cache> {
        let embedding = self.embedding.tensor();
        Cache::new(self.spec.layers, rows, self.spec.kv_heads * self.spec.head_dim, embedding.dtype(), &self.device())
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embedding.tensor().device().clone()
    }

    /// One block; `cache` comes with its number. In the last block only the wanted `rows` go on after attention:
    /// nothing else reads the others.
    fn block(
        &self,
        block: &Block,
        hidden: &Tensor,
        packing: &Packing,
        cache: Option<(&Cache, usize)>,
        rows: Option<&Arc<[u32]>>,
    ) -> Result<Tensor> {
        let spec = &self.spec;
        let x = block.input_norm.forward(hidden)?;
        let q = ops::rope(&block.q.forward(&x)?, &self.rope, &packing.positions, spec.head_dim)?;
        let k = ops::rope(&block.k.forward(&x)?, &self.rope, &packing.positions, spec.head_dim)?;
        let v = block.v.forward(&x)?; // (tokens, kv_heads * head_dim)
        let (k, v) = match cache {
            Some((cache, layer)) => cache.write(layer, &k, &v, packing)?,
            None => (k, v),
        };
        let attention = Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: (spec.head_dim as f64).powf(-0.5),
            causal: true,
            softcap: None,
            window: None,
        };
        let mut mixed = ops::attention(&q, &k, &v, &attention, &packing.segments)?; // (tokens, heads * head_dim)
        let mut hidden = hidden.clone();
        if let Some(rows) = rows {
            mixed = ops::embedding(&mixed, rows)?;
            hidden = ops::embedding(&hidden, rows)?;
        }
        let hidden = (hidden + block.o.forward(&mixed)?)?;
        let x = block.post_norm.forward(&hidden)?;
        let x = ops::gated(&block.gate.forward(&x)?, &block.up.forward(&x)?, spec.gate)?; // (tokens, intermediate)
        hidden + block.down.forward(&x)?
    }
}

impl Block {
    fn new(builder: &Builder, spec: &DecoderSpec, init: Init) -> crate::error::Result<Self> {
        let attention = builder.pp("self_attn");
        let mlp = builder.pp("mlp");
        let (width, bias) = (spec.width, spec.attention_bias);
        let (query, key) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        Ok(Block {
            input_norm: RmsNorm::new(&builder.pp("input_layernorm"), width, spec.norm_eps, spec.norm)?,
            q: Linear::new(&attention.pp("q_proj"), width, query, bias, init)?,
            k: Linear::new(&attention.pp("k_proj"), width, key, bias, init)?,
            v: Linear::new(&attention.pp("v_proj"), width, key, bias, init)?,
            o: Linear::new(&attention.pp("o_proj"), query, width, false, init)?,
            post_norm: RmsNorm::new(&builder.pp("post_attention_layernorm"), width, spec.norm_eps, spec.norm)?,
            gate: Linear::new(&mlp.pp("gate_proj"), width, spec.intermediate, false, init)?,
            up: Linear::new(&mlp.pp("up_proj"), width, spec.intermediate, false, init)?,
            down: Linear::new(&mlp.pp("down_proj"), spec.intermediate, width, false, init)?,
        })
    }
}

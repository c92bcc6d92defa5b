//! One block of the decoder: attention and a gated feed-forward layer, each added to the residual stream.
//! Tensor names are those of transformers 4.49.0 (`modeling_llama.py`, `modeling_phi3.py`, `modeling_gemma2.py`)
//! and 5.23.0 (`modeling_gemma3.py`).

use candle_core::{D, Result, Tensor};

use super::spec::{BlockNorms, DecoderSpec, Projections};
use crate::nn::cache::Cache;
use crate::nn::linear::Linear;
use crate::nn::norm::RmsNorm;
use crate::nn::ops::{self, Attention, Gate};
use crate::nn::packing::Packing;
use crate::nn::rope::Angles;
use crate::weights::{Builder, Init};

/// What the blocks share during one forward pass.
pub(super) struct Pass<'a> {
    pub packing: &'a Packing,
    pub cache: Option<&'a Cache>,
    pub angles: Angles,
    /// Those of layers with a window, where they differ.
    pub local_angles: Option<Angles>,
}

pub(super) struct Block {
    input_norm: RmsNorm,
    attention: SelfAttention,
    attention_norm: Option<RmsNorm>,
    feed_norm: RmsNorm,
    feed_forward: FeedForward,
    output_norm: Option<RmsNorm>,
}

impl Block {
    pub fn new(builder: &Builder, spec: &DecoderSpec, layer: usize) -> crate::error::Result<Self> {
        let norm = |name: &str| RmsNorm::new(&builder.pp(name), spec.width, spec.norm_eps, spec.norm);
        // The second norm of the two-norm block is called by its place, before what follows attention.
        let (attention_norm, feed_norm, output_norm) = match spec.norms {
            BlockNorms::Before => (None, "post_attention_layernorm", None),
            BlockNorms::BeforeAndAfter => {
                (Some("post_attention_layernorm"), "pre_feedforward_layernorm", Some("post_feedforward_layernorm"))
            }
        };
        Ok(Block {
            input_norm: norm("input_layernorm")?,
            attention: SelfAttention::new(&builder.pp("self_attn"), spec, layer)?,
            attention_norm: attention_norm.map(norm).transpose()?,
            feed_norm: norm(feed_norm)?,
            feed_forward: FeedForward::new(&builder.pp("mlp"), spec)?,
            output_norm: output_norm.map(norm).transpose()?,
        })
    }

    /// (tokens, width) -> (tokens, width). With `rows` only these go on after attention: in the last block nothing
    /// else reads the others.
    pub fn forward(&self, hidden: &Tensor, pass: &Pass, rows: Option<&std::sync::Arc<[u32]>>) -> Result<Tensor> {
        let mut mixed = self.attention.forward(&self.input_norm.forward(hidden)?, pass)?; // (tokens, heads * head_dim)
        let mut hidden = hidden.clone();
        if let Some(rows) = rows {
            mixed = ops::embedding(&mixed, rows)?;
            hidden = ops::embedding(&hidden, rows)?;
        }
        let hidden = (hidden + normalize(&self.attention_norm, self.attention.output(&mixed)?)?)?;
        let x = self.feed_forward.forward(&self.feed_norm.forward(&hidden)?)?;
        hidden + normalize(&self.output_norm, x)?
    }
}

impl Block {
    /// What the block's attention looks at from `row`, a row of one whole sequence: probabilities over the positions up to
    /// it, (heads, row + 1). `hidden` is what enters the block.
    pub fn attention(&self, hidden: &Tensor, pass: &Pass, row: usize) -> Result<Tensor> {
        let [q, k, _] = self.attention.rotated(&self.input_norm.forward(hidden)?, pass)?;
        let spec = &self.attention.attention;
        ops::attention_weights(&q.narrow(0, row, 1)?, &k.narrow(0, 0, row + 1)?, spec)?.squeeze(1)
    }
}

fn normalize(norm: &Option<RmsNorm>, x: Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(&x),
        None => Ok(x),
    }
}

struct SelfAttention {
    layer: usize,
    projections: Qkv,
    /// Of queries and keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    output: Linear,
    attention: Attention,
}

enum Qkv {
    Separate([Linear; 3]),
    Fused(Linear),
}

impl SelfAttention {
    fn new(builder: &Builder, spec: &DecoderSpec, layer: usize) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let (query, key) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        let linear = |name: &str, rows| Linear::new(&builder.pp(name), spec.width, rows, spec.biases.qkv, init);
        let projections = match spec.projections {
            Projections::Separate => {
                Qkv::Separate([linear("q_proj", query)?, linear("k_proj", key)?, linear("v_proj", key)?])
            }
            Projections::Fused => Qkv::Fused(linear("qkv_proj", query + 2 * key)?),
        };
        let norm = |name: &str| RmsNorm::new(&builder.pp(name), spec.head_dim, spec.norm_eps, spec.norm);
        let head_norms = if spec.head_norms { Some((norm("q_norm")?, norm("k_norm")?)) } else { None };
        let output = Linear::new(&builder.pp("o_proj"), query, spec.width, spec.biases.output, init)?;
        let attention = Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            scale: spec.attention_scale,
            causal: true,
            softcap: spec.attention_softcap,
            window: spec.window(layer),
        };
        Ok(SelfAttention { layer, projections, head_norms, output, attention })
    }

    /// (tokens, width) -> the mixed values (tokens, heads * head_dim), before the output projection.
    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let [q, k, v] = self.rotated(x, pass)?;
        let (k, v) = match pass.cache {
            Some(cache) => cache.write(self.layer, &k, &v, pass.packing)?,
            None => match &pass.packing.keys {
                Some(rows) => (ops::embedding(&k, rows)?, ops::embedding(&v, rows)?),
                None => (k, v),
            },
        };
        ops::attention(&q, &k, &v, &self.attention, &pass.packing.segments)
    }

    /// Queries, keys and values as attention takes them, in the shapes of `project`.
    fn rotated(&self, x: &Tensor, pass: &Pass) -> Result<[Tensor; 3]> {
        let spec = &self.attention;
        let [q, k, v] = self.project(x)?;
        let (q, k) = match &self.head_norms {
            Some((q_norm, k_norm)) => (per_head(q_norm, &q, spec.head_dim)?, per_head(k_norm, &k, spec.head_dim)?),
            None => (q, k),
        };
        let angles = match (&pass.local_angles, spec.window) {
            (Some(angles), Some(_)) => angles,
            _ => &pass.angles,
        };
        Ok([angles.rotate(&q, spec.head_dim)?, angles.rotate(&k, spec.head_dim)?, v])
    }

    /// Queries (tokens, heads * head_dim), keys and values (tokens, kv_heads * head_dim).
    fn project(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        match &self.projections {
            Qkv::Separate([q, k, v]) => Ok([q.forward(x)?, k.forward(x)?, v.forward(x)?]),
            Qkv::Fused(qkv) => {
                let (query, key) =
                    (self.attention.heads * self.attention.head_dim, self.attention.kv_heads * self.attention.head_dim);
                let x = qkv.forward(x)?; // (tokens, (heads + 2 * kv_heads) * head_dim)
                let part = |start, columns| x.narrow(D::Minus1, start, columns);
                Ok([part(0, query)?, part(query, key)?, part(query + key, key)?])
            }
        }
    }

    /// (rows, heads * head_dim) -> (rows, width)
    fn output(&self, mixed: &Tensor) -> Result<Tensor> {
        self.output.forward(mixed)
    }
}

/// Normalizes every head of x (tokens, heads * head_dim).
fn per_head(norm: &RmsNorm, x: &Tensor, head_dim: usize) -> Result<Tensor> {
    norm.forward(&x.reshape(((), head_dim))?)?.reshape(x.shape())
}

struct FeedForward {
    inner: GateUp,
    down: Linear,
    activation: Gate,
    intermediate: usize,
}

enum GateUp {
    Separate(Linear, Linear),
    Fused(Linear),
}

impl FeedForward {
    fn new(builder: &Builder, spec: &DecoderSpec) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let linear =
            |name: &str, input, rows| Linear::new(&builder.pp(name), input, rows, spec.biases.feed_forward, init);
        let (width, intermediate) = (spec.width, spec.intermediate);
        let inner = match spec.projections {
            Projections::Separate => {
                GateUp::Separate(linear("gate_proj", width, intermediate)?, linear("up_proj", width, intermediate)?)
            }
            Projections::Fused => GateUp::Fused(linear("gate_up_proj", width, 2 * intermediate)?),
        };
        let down = linear("down_proj", intermediate, width)?;
        Ok(FeedForward { inner, down, activation: spec.gate, intermediate })
    }

    /// (rows, width) -> (rows, width)
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (gate, up) = match &self.inner {
            GateUp::Separate(gate, up) => (gate.forward(x)?, up.forward(x)?),
            GateUp::Fused(both) => {
                let x = both.forward(x)?; // (rows, 2 * intermediate)
                (x.narrow(D::Minus1, 0, self.intermediate)?, x.narrow(D::Minus1, self.intermediate, self.intermediate)?)
            }
        };
        self.down.forward(&ops::gated(&gate, &up, self.activation)?)
    }
}

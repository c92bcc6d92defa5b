//! The vision transformer. What differs between towers is a value in [`VitSpec`]; there is one forward. Hidden
//! state 0 is what enters block 0, state i the output of block i; no final norm, as LLaVA reads them.
//! Names and order of operations: transformers 4.49.0 (`modeling_{clip,siglip,dinov2,dinov2_with_registers,vit,ijepa}.py`).

mod embed;
mod spec;

use std::sync::Arc;

use candle_core::{D, Result, Tensor};

use self::embed::Embedding;
use super::linear::Linear;
use super::norm::LayerNorm;
use super::ops::{self, Attention, Gate, Segment};
use crate::weights::{Builder, Init, Param};

pub use spec::{Mlp, Positions, Stored, Tokens, Unread, VitNames, VitSpec};

/// A vision tower with its weights.
pub struct Vit {
    spec: VitSpec,
    embedding: Embedding,
    blocks: Vec<Block>,
}

struct Block {
    attention_norm: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    mlp_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    scales: Option<[Arc<Param>; 2]>,
}

impl Vit {
    /// Builds a tower of a spec that was [checked](VitSpec::check); the names come from it, and the prefix before them from the tensors that are there.
    pub fn new(builder: &Builder, spec: VitSpec) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let names = spec.names;
        let probe = format!("{}.weight", names.patch_embedding);
        let there = |prefix: &&&str| builder.has(&format!("{prefix}{probe}"));
        let prefix = names.prefixes.iter().find(there).or(names.prefixes.first()).copied().unwrap_or_default();
        let builder = match prefix.strip_suffix('.') {
            Some(prefix) => builder.pp(prefix),
            None => builder.clone(),
        };
        let embedding = Embedding::new(&builder, &spec, init)?;
        let blocks = (0..spec.layers)
            .map(|layer| Block::new(&builder.pp(names.blocks).pp(layer), &spec, init))
            .collect::<crate::error::Result<_>>()?;
        Ok(Vit { spec, embedding, blocks })
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &VitSpec {
        &self.spec
    }

    /// Hidden states 0..=`blocks` of pixels (batch, channels, height, width), each (batch, sequence, width). Which
    /// sizes it takes is [`VitSpec::patches`].
    pub fn hidden_states(&self, pixels: &Tensor, blocks: usize) -> Result<Vec<Tensor>> {
        let (batch, channels, height, width) = pixels.dims4()?;
        if channels != self.spec.channels {
            candle_core::bail!("the pixels have {channels} channels, the tower takes {}", self.spec.channels);
        }
        let (rows, columns) = self.spec.patches(height, width).map_err(candle_core::Error::wrap)?;
        let sequence = rows * columns + self.spec.extra_tokens();
        let segments: Arc<[Segment]> = (0..batch)
            .map(|image| image * sequence..(image + 1) * sequence)
            .map(|rows| Segment { q: rows.clone(), prefix: 0..0, k: rows })
            .collect();
        let shape = (batch, sequence, self.spec.width);
        let mut hidden = self.embedding.forward(&self.spec, pixels, (rows, columns))?; // (batch * sequence, width)
        let mut states = vec![hidden.reshape(shape)?];
        for block in self.blocks.iter().take(blocks) {
            hidden = block.forward(&self.spec, &hidden, &segments)?;
            states.push(hidden.reshape(shape)?);
        }
        Ok(states)
    }
}

impl Block {
    fn new(builder: &Builder, spec: &VitSpec, init: Init) -> crate::error::Result<Self> {
        let (names, width) = (spec.names, spec.width);
        let linear = |name, input, output, bias| Linear::new(&builder.pp(name), input, output, bias, init);
        let inner = match spec.mlp {
            Mlp::Gelu(_) => spec.intermediate,
            Mlp::SwiGlu => 2 * spec.intermediate,
        };
        let scale = |name| builder.param(name, &[width], Init::Constant(spec.layer_scale));
        Ok(Block {
            attention_norm: LayerNorm::new(&builder.pp(names.attention_norm), width, spec.norm_eps)?,
            q: linear(names.query, width, width, spec.qkv_bias)?,
            k: linear(names.key, width, width, spec.qkv_bias)?,
            v: linear(names.value, width, width, spec.qkv_bias)?,
            o: linear(names.output, width, width, true)?,
            mlp_norm: LayerNorm::new(&builder.pp(names.mlp_norm), width, spec.norm_eps)?,
            fc1: linear(names.fc1, width, inner, true)?,
            fc2: linear(names.fc2, spec.intermediate, width, true)?,
            scales: match names.layer_scales {
                Some([attention, mlp]) => Some([scale(attention)?, scale(mlp)?]),
                None => None,
            },
        })
    }

    /// (batch * sequence, width) -> (batch * sequence, width)
    fn forward(&self, spec: &VitSpec, hidden: &Tensor, segments: &Arc<[Segment]>) -> Result<Tensor> {
        let head_dim = spec.width / spec.heads;
        let attention = Attention {
            heads: spec.heads,
            kv_heads: spec.heads,
            head_dim,
            scale: (head_dim as f64).powf(-0.5),
            causal: false,
            softcap: None,
            window: None,
        };
        let x = self.attention_norm.forward(hidden)?;
        let (q, k, v) = (self.q.forward(&x)?, self.k.forward(&x)?, self.v.forward(&x)?);
        let mixed = ops::attention(&q, &k, &v, &attention, segments)?; // (batch * sequence, width)
        let hidden = (hidden + self.scaled(0, self.o.forward(&mixed)?)?)?;
        let x = self.fc1.forward(&self.mlp_norm.forward(&hidden)?)?; // (batch * sequence, inner width)
        let x = match spec.mlp {
            Mlp::Gelu(kind) => ops::gelu(&x, kind)?,
            Mlp::SwiGlu => {
                let half = spec.intermediate;
                ops::gated(&x.narrow(D::Minus1, 0, half)?, &x.narrow(D::Minus1, half, half)?, Gate::Silu)?
            }
        };
        hidden + self.scaled(1, self.fc2.forward(&x)?)?
    }

    /// The layer scale of attention (0) or MLP (1), where there is one.
    fn scaled(&self, which: usize, x: Tensor) -> Result<Tensor> {
        match &self.scales {
            Some(scales) => x.broadcast_mul(&scales[which].tensor()?),
            None => Ok(x),
        }
    }
}

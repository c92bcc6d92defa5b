//! The vision transformer. What differs between towers is a value in [`VitSpec`]; there is one forward. Hidden
//! state 0 is what enters block 0, state i the output of block i; no final norm, as LLaVA reads them.
//! Names and order of operations: transformers 4.49.0 (`modeling_clip.py`).

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::linear::Linear;
use super::norm::LayerNorm;
use super::ops::{self, Attention, Gelu, Segment};
use crate::weights::{Builder, Init, Param};

/// What stands in the sequence beside the patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    Patches,
    /// One class token in front.
    Cls,
}

/// Names of the tensors of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VitNames {
    pub class_embedding: &'static str,
    pub patch_embedding: &'static str,
    pub position_embedding: &'static str,
    /// LayerNorm before block 0, where there is one.
    pub pre_norm: Option<&'static str>,
    /// `<blocks>.<i>` is a block.
    pub blocks: &'static str,
    pub attention_norm: &'static str,
    pub query: &'static str,
    pub key: &'static str,
    pub value: &'static str,
    pub output: &'static str,
    pub mlp_norm: &'static str,
    pub fc1: &'static str,
    pub fc2: &'static str,
}

/// Everything that defines a vision tower.
#[derive(Clone, Debug, PartialEq)]
pub struct VitSpec {
    pub image_size: usize,
    pub patch_size: usize,
    pub channels: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub gelu: Gelu,
    pub norm_eps: f64,
    pub tokens: Tokens,
    pub patch_bias: bool,
    pub names: VitNames,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
}

impl VitSpec {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Tokens in front of the patches.
    pub fn extra_tokens(&self) -> usize {
        match self.tokens {
            Tokens::Patches => 0,
            Tokens::Cls => 1,
        }
    }

    /// Length of the sequence in the blocks.
    pub fn sequence(&self) -> usize {
        self.grid() * self.grid() + self.extra_tokens()
    }
}

/// A vision tower with its weights.
pub struct Vit {
    spec: VitSpec,
    class_embedding: Option<Arc<Param>>,
    patch_weight: Arc<Param>,
    patch_bias: Option<Arc<Param>>,
    positions: Arc<Param>,
    pre_norm: Option<LayerNorm>,
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
}

impl Vit {
    /// Builds a tower; the names come from the spec.
    pub fn new(builder: &Builder, spec: VitSpec) -> crate::error::Result<Self> {
        let init = Init::Normal(spec.initializer_range);
        let names = spec.names;
        let class_embedding = match spec.tokens {
            Tokens::Patches => None,
            Tokens::Cls => Some(builder.param(names.class_embedding, &[spec.width], init)?),
        };
        let patch = builder.pp(names.patch_embedding);
        let shape = [spec.width, spec.channels, spec.patch_size, spec.patch_size];
        let patch_weight = patch.param("weight", &shape, init)?;
        let patch_bias = if spec.patch_bias { Some(patch.param("bias", &[spec.width], Init::Zeros)?) } else { None };
        let positions = builder.pp(names.position_embedding).param("weight", &[spec.sequence(), spec.width], init)?;
        let pre_norm = match names.pre_norm {
            Some(name) => Some(LayerNorm::new(&builder.pp(name), spec.width, spec.norm_eps)?),
            None => None,
        };
        let blocks = (0..spec.layers)
            .map(|layer| Block::new(&builder.pp(names.blocks).pp(layer), &spec, init))
            .collect::<crate::error::Result<_>>()?;
        Ok(Vit { spec, class_embedding, patch_weight, patch_bias, positions, pre_norm, blocks })
    }

    /// The spec it was built from.
    pub fn spec(&self) -> &VitSpec {
        &self.spec
    }

    /// Hidden states 0..=`blocks` of pixels (batch, channels, size, size), each (batch, sequence, width).
    pub fn hidden_states(&self, pixels: &Tensor, blocks: usize) -> Result<Vec<Tensor>> {
        let (batch, ..) = pixels.dims4()?;
        let (sequence, width) = (self.spec.sequence(), self.spec.width);
        let segments: Arc<[Segment]> = (0..batch)
            .map(|image| image * sequence..(image + 1) * sequence)
            .map(|rows| Segment { q: rows.clone(), prefix: 0..0, k: rows })
            .collect();
        let mut hidden = self.embed(pixels)?; // (batch * sequence, width)
        let mut states = vec![hidden.reshape((batch, sequence, width))?];
        for block in self.blocks.iter().take(blocks) {
            hidden = self.block(block, &hidden, &segments)?;
            states.push(hidden.reshape((batch, sequence, width))?);
        }
        Ok(states)
    }

    /// Patches as one matmul (a convolution whose stride is its kernel), positions, pre-norm.
    fn embed(&self, pixels: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, side) = pixels.dims4()?;
        let spec = &self.spec;
        let expected = (spec.channels, spec.image_size, spec.image_size);
        if (channels, height, side) != expected {
            candle_core::bail!("pixels {:?} do not fit this tower, which takes {expected:?}", pixels.dims());
        }
        let (grid, patch) = (spec.grid(), spec.patch_size);
        let pixels = pixels.narrow(2, 0, grid * patch)?.narrow(3, 0, grid * patch)?;
        let patches = pixels
            .reshape((batch, channels, grid, patch, grid, patch))?
            .permute((0, 2, 4, 1, 3, 5))?
            .reshape((batch * grid * grid, channels * patch * patch))?;
        let weight = self.patch_weight.tensor().flatten_from(1)?; // (width, channels * patch * patch)
        let bias = self.patch_bias.as_ref().map(|bias| bias.tensor());
        let patches = ops::linear(&patches, &weight, bias.as_ref())?;
        let mut hidden = patches.reshape((batch, grid * grid, spec.width))?;
        if let Some(class) = &self.class_embedding {
            let class = class.tensor().reshape((1, 1, spec.width))?.broadcast_as((batch, 1, spec.width))?;
            hidden = Tensor::cat(&[&class, &hidden], 1)?; // (batch, 1 + patches, width)
        }
        let hidden = hidden.broadcast_add(&self.positions.tensor())?.flatten_to(1)?;
        match &self.pre_norm {
            Some(norm) => norm.forward(&hidden),
            None => Ok(hidden),
        }
    }

    fn block(&self, block: &Block, hidden: &Tensor, segments: &Arc<[Segment]>) -> Result<Tensor> {
        let spec = &self.spec;
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
        let x = block.attention_norm.forward(hidden)?;
        let (q, k, v) = (block.q.forward(&x)?, block.k.forward(&x)?, block.v.forward(&x)?);
        let mixed = ops::attention(&q, &k, &v, &attention, segments)?; // (batch * sequence, width)
        let hidden = (hidden + block.o.forward(&mixed)?)?;
        let x = block.mlp_norm.forward(&hidden)?;
        let x = ops::gelu(&block.fc1.forward(&x)?, spec.gelu)?; // (batch * sequence, intermediate)
        hidden + block.fc2.forward(&x)?
    }
}

impl Block {
    fn new(builder: &Builder, spec: &VitSpec, init: Init) -> crate::error::Result<Self> {
        let (names, width) = (spec.names, spec.width);
        let linear = |name, input, output| Linear::new(&builder.pp(name), input, output, true, init);
        Ok(Block {
            attention_norm: LayerNorm::new(&builder.pp(names.attention_norm), width, spec.norm_eps)?,
            q: linear(names.query, width, width)?,
            k: linear(names.key, width, width)?,
            v: linear(names.value, width, width)?,
            o: linear(names.output, width, width)?,
            mlp_norm: LayerNorm::new(&builder.pp(names.mlp_norm), width, spec.norm_eps)?,
            fc1: linear(names.fc1, width, spec.intermediate)?,
            fc2: linear(names.fc2, spec.intermediate, width)?,
        })
    }
}

//! What defines a decoder: sizes, and one enum or number for each thing model families do differently.

use serde::Serialize;

use crate::nn::norm::Norm;
use crate::nn::ops::Gate;
use crate::nn::rope::Rope;

/// Everything that defines a decoder.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    pub embedding_scale: EmbeddingScale,
    pub norm: Norm,
    pub norm_eps: f64,
    pub norms: BlockNorms,
    pub gate: Gate,
    pub projections: Projections,
    pub biases: Biases,
    /// The same RMSNorm on every head of the queries, and one on those of the keys, before the rotation.
    pub head_norms: bool,
    /// The factor of the attention scores, usually 1 / sqrt(head_dim).
    pub attention_scale: f64,
    /// Turns an attention score s into `cap * tanh(s / cap)`.
    pub attention_softcap: Option<f64>,
    /// The same for the final logits.
    pub logit_softcap: Option<f64>,
    /// Layers that see only the last keys.
    pub window: Option<Window>,
    pub rope: Rope,
    /// What layers with a window have instead of `rope`.
    pub local_rope: Option<Rope>,
    /// The head shares the embedding's weight.
    pub tied: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
}

/// What is multiplied by sqrt(width), rounded to the dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum EmbeddingScale {
    None,
    /// Token embeddings, but not what is put in their place (Gemma-3).
    Tokens,
    /// Whatever enters the first block, image features too (Gemma-2).
    Inputs,
}

/// Where a block normalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum BlockNorms {
    /// What enters attention and feed-forward (Llama).
    Before,
    /// What enters and what leaves them (Gemma-2).
    BeforeAndAfter,
}

/// How the checkpoint holds projections of the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Projections {
    /// `q_proj`, `k_proj`, `v_proj`; `gate_proj`, `up_proj`.
    Separate,
    /// `qkv_proj` and `gate_up_proj`, rows in that order (Phi-3).
    Fused,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Biases {
    /// Query, key and value.
    pub qkv: bool,
    /// The output of attention.
    pub output: bool,
    /// The feed-forward layers.
    pub feed_forward: bool,
}

/// Sliding-window attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// Keys a query sees, its own included.
    pub size: usize,
    pub layers: Local,
}

/// The layers that have the window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Local {
    All,
    /// All but every n-th: with 2 layers 0, 2, ...; with 6 all but 5, 11, ...
    ExceptEvery(usize),
    /// From this one on.
    From(usize),
    /// One value a layer.
    Listed(Vec<bool>),
}

impl DecoderSpec {
    /// The longest sequence that is rotated as one of `length` positions is; beyond the original context of a longrope
    /// all positions have other frequencies.
    pub fn horizon(&self, length: usize) -> usize {
        let switches = [Some(&self.rope), self.local_rope.as_ref()].into_iter().flatten().filter_map(Rope::switch);
        switches.filter(|&longest| length <= longest).min().unwrap_or(usize::MAX)
    }

    /// How many keys a query of this layer sees at most.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        let local = match &window.layers {
            Local::All => true,
            Local::ExceptEvery(period) => !(layer + 1).is_multiple_of(*period),
            Local::From(first) => layer >= *first,
            Local::Listed(local) => local.get(layer).copied().unwrap_or(false),
        };
        local.then_some(window.size)
    }
}

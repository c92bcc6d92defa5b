//! Llama 2, 3, 3.1 and models of the same layout (Vicuna, R1-Distill-Llama, SmolLM2).
//! Source: transformers 4.49.0, `configuration_llama.py` (defaults) and `modeling_llama.py` (names).

use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{LayerTypes, Read};
use crate::nn::decoder::{Biases, DecoderSpec};
use crate::nn::ops::Gate;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope: Style::Whole,
    tie_word_embeddings: false,
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["llama"],
    llava: Some("llava_llama"),
    spec,
    keys: &[(Read, "hidden_act attention_bias mlp_bias"), (LayerTypes, "layer_types")],
};

/// Reads a Llama config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    read::expect_activation(config, "hidden_act", Gate::Silu)?;
    let attention = config.bool("attention_bias", false)?;
    let biases = Biases { qkv: attention, output: attention, feed_forward: config.bool("mlp_bias", false)? };
    Ok(DecoderSpec { biases, ..read::spec(config, &DEFAULTS)? })
}

//! Qwen2 and Qwen2.5: a Llama with biases on query, key and value.
//! Source: transformers 4.49.0, `configuration_qwen2.py` and `modeling_qwen2.py`. The layers with a window are chosen by
//! `max_window_layers` (as in flash attention there, and always in 5.x); 4.49's eager mask windows all layers.

use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::decoder::{Biases, DecoderSpec, Local};
use crate::nn::ops::Gate;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 151_936,
    hidden_size: 4096,
    intermediate_size: 22016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: Some(32),
    head_dim: None,
    max_position_embeddings: 32768,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope: Style::Whole,
    tie_word_embeddings: false,
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["qwen2"],
    llava: None,
    spec,
    keys: &[
        (Read, "hidden_act sliding_window layer_types use_sliding_window max_window_layers"),
        (Harmless, "attention_bias"), // its class always has biases on query, key and value
    ],
};

/// Reads a Qwen2 config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    read::expect_activation(config, "hidden_act", Gate::Silu)?;
    let spec = read::spec(config, &DEFAULTS)?;
    let size = match config.bool("use_sliding_window", false)? {
        true => read::optional(config, "sliding_window", Some(4096), Config::usize)?,
        false => None,
    };
    let local = Local::From(config.usize("max_window_layers", 28)?);
    let biases = Biases { qkv: true, ..Biases::default() };
    Ok(DecoderSpec { biases, window: read::window(config, size, local, spec.layers)?, ..spec })
}

//! Mistral: a Llama whose layers may all have a sliding window.
//! Source: transformers 4.49.0, `configuration_mistral.py` and `modeling_mistral.py`.

use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::decoder::{DecoderSpec, Local};
use crate::nn::ops::Gate;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: Some(8),
    head_dim: None,
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope: Style::Whole,
    tie_word_embeddings: false,
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["mistral"],
    llava: Some("llava_mistral"),
    spec,
    keys: &[
        (Read, "hidden_act sliding_window layer_types"),
        (Harmless, "use_sliding_window"), // its class reads `sliding_window` instead
    ],
};

/// Reads a Mistral config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    read::expect_activation(config, "hidden_act", Gate::Silu)?;
    let spec = read::spec(config, &DEFAULTS)?;
    let size = read::optional(config, "sliding_window", Some(4096), Config::usize)?;
    Ok(DecoderSpec { window: read::window(config, size, Local::All, spec.layers)?, ..spec })
}

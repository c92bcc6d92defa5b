//! Phi-3, Phi-3.5 and Phi-4-mini: fused projections, only a part of each head rotated, frequencies by sequence length.
//! Source: transformers 4.49.0, `configuration_phi3.py` and `modeling_phi3.py`.

use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::decoder::{DecoderSpec, Local, Projections};
use crate::nn::ops::Gate;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 32064,
    hidden_size: 3072,
    intermediate_size: 8192,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10_000.0,
    rope: Style::Partial { original: 4096 },
    tie_word_embeddings: false,
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["phi3"],
    llava: Some("llava_phi"),
    spec,
    keys: &[
        (Read, "hidden_act sliding_window layer_types"),
        (Harmless, "use_sliding_window"), // its class reads `sliding_window` instead
    ],
};

/// Reads a Phi-3 config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    read::expect_activation(config, "hidden_act", Gate::Silu)?;
    let spec = read::spec(config, &DEFAULTS)?;
    let size = read::optional(config, "sliding_window", None, Config::usize)?;
    let window = read::window(config, size, Local::All, spec.layers)?;
    Ok(DecoderSpec { projections: Projections::Fused, window, ..spec })
}

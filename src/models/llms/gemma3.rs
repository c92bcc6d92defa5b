//! Gemma-3, the text models: Gemma-2 with normalized query and key heads instead of soft-caps, and five layers with a
//! window and a separate rope for each layer without.
//! Source: transformers 5.23.0, `configuration_gemma3.py` and `modeling_gemma3.py`.

use super::gemma2::family;
use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::decoder::{DecoderSpec, EmbeddingScale, Local};

const DEFAULTS: Defaults = Defaults {
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 131_072,
    rms_norm_eps: 1e-6,
    rope_theta: 1_000_000.0,
    rope: Style::ByLayer { local: 10_000.0 },
    tie_word_embeddings: true,
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["gemma3_text"],
    llava: None,
    spec,
    keys: &[
        (Read, "hidden_activation query_pre_attn_scalar final_logit_softcapping attention_bias"),
        (Read, "attn_logit_softcapping use_bidirectional_attention rope_local_base_freq sliding_window_pattern"),
        (Read, "sliding_window layer_types"),
        (Harmless, "_sliding_window_pattern"), // `layer_types` has the result
        (Harmless, "hidden_act"),              // its class reads `hidden_activation`
        (Harmless, "use_sliding_window"),      // its class reads `sliding_window` instead
    ],
};

/// Reads a Gemma-3 text config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    for key in ["attn_logit_softcapping", "use_bidirectional_attention"] {
        let value = config.value().get(key).filter(|value| !value.is_null() && **value != false);
        if let Some(value) = value {
            return Err(config.unsupported(key, &value.to_string(), "null"));
        }
    }
    let spec = family(config, &DEFAULTS)?;
    let Some(size) = read::optional(config, "sliding_window", Some(4096), Config::usize)? else {
        return Err(config.unsupported("sliding_window", "null", "a number of keys"));
    };
    let local = Local::ExceptEvery(config.usize("sliding_window_pattern", 6)?);
    Ok(DecoderSpec {
        embedding_scale: EmbeddingScale::Tokens,
        head_norms: true,
        logit_softcap: read::optional(config, "final_logit_softcapping", None, Config::f64)?,
        window: read::window(config, Some(size), local, spec.layers)?,
        ..spec
    })
}

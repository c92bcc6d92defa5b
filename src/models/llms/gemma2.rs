//! Gemma-2: norms before and after attention and feed-forward, soft-capped scores and logits, every other layer
//! with a sliding window, inputs times sqrt(width).
//! Source: transformers 4.49.0, `configuration_gemma2.py` and `modeling_gemma2.py`.

use super::read::{self, Defaults};
use super::rope::Style;
use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::decoder::{Biases, BlockNorms, DecoderSpec, EmbeddingScale, Local};
use crate::nn::norm::Norm;
use crate::nn::ops::Gate;

const DEFAULTS: Defaults = Defaults {
    vocab_size: 256_000,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope: Style::Whole,
    tie_word_embeddings: true,
};

/// Which embeddings are multiplied by sqrt(width): `inputs`, the default, or `tokens`, as in a LLaVA of transformers 5.4 and
/// later. A key of llmore's own, which layout llava-more keeps.
pub const EMBEDDING_SCALE: &str = "embedding_scale";

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<DecoderSpec> = Architecture {
    model_types: &["gemma2"],
    llava: Some("llava_gemma"),
    spec,
    keys: &[
        (Read, "hidden_activation query_pre_attn_scalar final_logit_softcapping attention_bias"),
        (Read, "attn_logit_softcapping sliding_window layer_types"),
        // llmore's own key: how the version of transformers that wrote a LLaVA computes (`vlm/checkpoint/versions.rs`).
        (Read, EMBEDDING_SCALE),
        (Harmless, "hidden_act"),         // its class reads `hidden_activation`
        (Harmless, "use_sliding_window"), // its class reads `sliding_window` instead
    ],
};

/// Reads a Gemma-2 config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    let spec = family(config, &DEFAULTS)?;
    let size = read::optional(config, "sliding_window", Some(4096), Config::usize)?;
    let embedding_scale = match config.string(EMBEDDING_SCALE, "inputs")?.as_str() {
        "inputs" => EmbeddingScale::Inputs,
        "tokens" => EmbeddingScale::Tokens,
        other => return Err(config.unsupported(EMBEDDING_SCALE, other, "inputs and tokens")),
    };
    Ok(DecoderSpec {
        embedding_scale,
        attention_softcap: read::optional(config, "attn_logit_softcapping", Some(50.0), Config::f64)?,
        logit_softcap: read::optional(config, "final_logit_softcapping", Some(30.0), Config::f64)?,
        window: read::window(config, size, Local::ExceptEvery(2), spec.layers)?,
        ..spec
    })
}

/// What Gemma-2 and Gemma-3 have in common.
pub(super) fn family(config: &Config, defaults: &Defaults) -> Result<DecoderSpec> {
    read::expect_activation(config, "hidden_activation", Gate::GeluTanh)?;
    let bias = config.bool("attention_bias", false)?;
    Ok(DecoderSpec {
        norm: Norm::RmsPlusOne,
        norms: BlockNorms::BeforeAndAfter,
        gate: Gate::GeluTanh,
        biases: Biases { qkv: bias, output: bias, feed_forward: false },
        attention_scale: config.f64("query_pre_attn_scalar", 256.0)?.powf(-0.5),
        ..read::spec(config, defaults)?
    })
}

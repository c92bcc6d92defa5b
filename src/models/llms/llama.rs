//! Llama 2, 3, 3.1 and what shares its layout (Vicuna, R1-Distill-Llama, SmolLM2).
//! Source: transformers 4.49.0, `configuration_llama.py` (defaults) and `modeling_llama.py` (names).

use crate::bail;
use crate::error::Result;
use crate::models::config::Config;
use crate::nn::decoder::DecoderSpec;
use crate::nn::norm::Norm;
use crate::nn::ops::Gate;
use crate::nn::rope::{Rope, RopeScaling};

/// Reads a Llama config.
pub fn spec(config: &Config) -> Result<DecoderSpec> {
    let width = config.usize("hidden_size", 4096)?;
    let heads = config.usize("num_attention_heads", 32)?;
    let head_dim = config.usize("head_dim", width / heads.max(1))?;
    let activation = config.string("hidden_act", "silu")?;
    if activation != "silu" {
        return Err(config.unsupported("hidden_act", &activation, "silu"));
    }
    let kv_heads = config.usize("num_key_value_heads", heads)?;
    if heads == 0 || kv_heads == 0 || heads % kv_heads != 0 {
        bail!(Shape, "{heads} attention heads cannot share {kv_heads} key/value heads");
    }
    Ok(DecoderSpec {
        width,
        layers: config.usize("num_hidden_layers", 32)?,
        heads,
        kv_heads,
        head_dim,
        intermediate: config.usize("intermediate_size", 11008)?,
        vocab: config.usize("vocab_size", 32000)?,
        context: config.usize("max_position_embeddings", 2048)?,
        norm: Norm::Rms,
        norm_eps: config.f64("rms_norm_eps", 1e-6)?,
        gate: Gate::Silu,
        rope: Rope { base: config.f64("rope_theta", 10_000.0)?, rotary_dim: head_dim, scaling: scaling(config)? },
        attention_bias: config.bool("attention_bias", false)?,
        tied: config.bool("tie_word_embeddings", false)?,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

fn scaling(config: &Config) -> Result<RopeScaling> {
    if !config.value().get("rope_scaling").is_some_and(|scaling| scaling.is_object()) {
        return Ok(RopeScaling::None);
    }
    let scaling = config.nested("rope_scaling");
    let kind = scaling.string("rope_type", &scaling.string("type", "default")?)?;
    match kind.as_str() {
        "default" => Ok(RopeScaling::None),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: scaling.f64("factor", 8.0)?,
            low_freq_factor: scaling.f64("low_freq_factor", 1.0)?,
            high_freq_factor: scaling.f64("high_freq_factor", 4.0)?,
            original_context: scaling.f64("original_max_position_embeddings", 8192.0)?,
        }),
        other => Err(scaling.unsupported("rope_type", other, "default and llama3")),
    }
}

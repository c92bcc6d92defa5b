//! Reads the keys that the configs of all families share: sizes and windows; rotary embeddings are in `rope.rs`.

use serde_json::Value;

use super::rope::{Reading, Style};
use crate::bail;
use crate::error::Result;
use crate::models::config::Config;
use crate::nn::decoder::{Biases, BlockNorms, DecoderSpec, EmbeddingScale, Local, Projections, Window};
use crate::nn::norm::Norm;
use crate::nn::ops::Gate;

/// The defaults of a family, under the names of config.json.
pub(super) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// `None`: as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `None`: the width divided by the number of heads.
    pub head_dim: Option<usize>,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope: Style,
    pub tie_word_embeddings: bool,
}

/// A decoder with the layers of Llama and without biases; families change the fields in which they differ.
pub(super) fn spec(config: &Config, defaults: &Defaults) -> Result<DecoderSpec> {
    let width = config.usize("hidden_size", defaults.hidden_size)?;
    let heads = config.usize("num_attention_heads", defaults.num_attention_heads)?;
    let kv_heads =
        optional(config, "num_key_value_heads", defaults.num_key_value_heads, Config::usize)?.unwrap_or(heads);
    if heads == 0 || kv_heads == 0 || heads % kv_heads != 0 {
        bail!(Shape, "{heads} attention heads cannot share {kv_heads} key/value heads");
    }
    let head_dim = config.usize("head_dim", defaults.head_dim.unwrap_or(width / heads))?;
    let context = config.usize("max_position_embeddings", defaults.max_position_embeddings)?;
    if head_dim == 0 {
        bail!(Shape, "a width of {width} is too small for {heads} attention heads");
    }
    let reading = Reading { style: defaults.rope, base: defaults.rope_theta, head_dim, context };
    let (rope, local_rope) = reading.read(config)?;
    Ok(DecoderSpec {
        width,
        layers: config.usize("num_hidden_layers", defaults.num_hidden_layers)?,
        heads,
        kv_heads,
        head_dim,
        intermediate: config.usize("intermediate_size", defaults.intermediate_size)?,
        vocab: config.usize("vocab_size", defaults.vocab_size)?,
        context,
        embedding_scale: EmbeddingScale::None,
        norm: Norm::Rms,
        norm_eps: config.f64("rms_norm_eps", defaults.rms_norm_eps)?,
        norms: BlockNorms::Before,
        gate: Gate::Silu,
        projections: Projections::Separate,
        biases: Biases::default(),
        head_norms: false,
        attention_scale: (head_dim as f64).powf(-0.5),
        attention_softcap: None,
        logit_softcap: None,
        window: None,
        rope,
        local_rope,
        tied: config.bool("tie_word_embeddings", defaults.tie_word_embeddings)?,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

/// Errors unless the activation under `key` is the one of `gate`.
pub(super) fn expect_activation(config: &Config, key: &str, gate: Gate) -> Result<()> {
    let known = match gate {
        Gate::Silu => "silu",
        Gate::GeluTanh => "gelu_pytorch_tanh",
    };
    let activation = config.string(key, known)?;
    if activation == known { Ok(()) } else { Err(config.unsupported(key, &activation, known)) }
}

/// A key for which null is a value (off), different from an absent key, which takes the default.
pub(super) fn optional<T>(
    config: &Config,
    key: &str,
    default: Option<T>,
    read: impl Fn(&Config, &str, T) -> Result<T>,
) -> Result<Option<T>>
where
    T: Default,
{
    match config.value().get(key) {
        None => Ok(default),
        Some(Value::Null) => Ok(None),
        Some(_) => read(config, key, T::default()).map(Some),
    }
}

const KINDS: &str = "full_attention and sliding_attention";

/// The window of `size` keys, in the layers that `layer_types` says or else in `layers`.
pub(super) fn window(config: &Config, size: Option<usize>, layers: Local, count: usize) -> Result<Option<Window>> {
    let Some(size) = size else {
        let listed = config.value().get("layer_types").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        return match listed
            .iter()
            .find(|kind| !["full_attention", "sliding_attention"].contains(&kind.as_str().unwrap_or("")))
        {
            Some(kind) => Err(config.unsupported("layer_types", &kind.to_string(), KINDS)),
            None => Ok(None),
        };
    };
    if size == 0 {
        return Err(config.unsupported("sliding_window", "0", "null and windows of 1 key or more"));
    }
    let Some(types) = config.value().get("layer_types").filter(|types| !types.is_null()) else {
        return Ok(Some(Window { size, layers }));
    };
    let types = types.as_array().map(Vec::as_slice).unwrap_or_default();
    if types.len() != count {
        return Err(config.unsupported(
            "layer_types",
            &format!("{} long", types.len()),
            &format!("one for each of {count} layers"),
        ));
    }
    let local = |kind: &Value| match kind.as_str() {
        Some("sliding_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(config.unsupported("layer_types", &kind.to_string(), KINDS)),
    };
    Ok(Some(Window { size, layers: Local::Listed(types.iter().map(local).collect::<Result<_>>()?) }))
}

//! What the configs of all families have in common: sizes, rotary embeddings, windows. Both ways of writing are read,
//! that of transformers 4.49 (`rope_theta`, `rope_scaling`) and that of 5.x (`rope_parameters`, `layer_types`).

use serde_json::Value;

use crate::bail;
use crate::error::Result;
use crate::models::config::Config;
use crate::nn::decoder::{Biases, BlockNorms, DecoderSpec, EmbeddingScale, Local, Projections, Window};
use crate::nn::norm::Norm;
use crate::nn::ops::Gate;
use crate::nn::rope::{LongRope, Rope, RopeScaling};

/// What an absent key means, in the words of config.json.
pub(super) struct Defaults {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// `None` is as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `None` is the width divided by the heads.
    pub head_dim: Option<usize>,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub tie_word_embeddings: bool,
}

/// A decoder with the layers of Llama and without biases; the families change what they do differently.
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
        bail!(Shape, "a width of {width} has nothing for each of {heads} attention heads");
    }
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
        rope: rope(config, &rope_parameters(config), head_dim, config.f64("rope_theta", defaults.rope_theta)?)?,
        local_rope: None,
        tied: config.bool("tie_word_embeddings", defaults.tie_word_embeddings)?,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

/// Errors unless the activation under `key` is the one `gate` stands for.
pub(super) fn expect_activation(config: &Config, key: &str, gate: Gate) -> Result<()> {
    let known = match gate {
        Gate::Silu => "silu",
        Gate::GeluTanh => "gelu_pytorch_tanh",
    };
    let activation = config.string(key, known)?;
    if activation == known { Ok(()) } else { Err(config.unsupported(key, &activation, known)) }
}

/// A key whose null is a value of its own: nothing. Absent, it is the default.
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

/// Where the rotary parameters are: `rope_parameters`, else `rope_scaling`, else nowhere.
pub(super) fn rope_parameters(config: &Config) -> Config {
    let key = ["rope_parameters", "rope_scaling"].into_iter().find(|key| is_object(config, key));
    key.map_or_else(nothing, |key| config.nested(key))
}

/// The parameters of one kind of layer (`full_attention`), where they are told apart.
pub(super) fn layer_parameters(parameters: &Config, kind: &str) -> Config {
    if is_object(parameters, kind) { parameters.nested(kind) } else { nothing() }
}

fn is_object(config: &Config, key: &str) -> bool {
    config.value().get(key).is_some_and(Value::is_object)
}

fn nothing() -> Config {
    Config::new(Value::Null, "")
}

/// The rope that `parameters` describe, of this base unless they say one.
pub(super) fn rope(config: &Config, parameters: &Config, head_dim: usize, base: f64) -> Result<Rope> {
    let base = parameters.f64("rope_theta", base)?;
    let part = parameters.f64("partial_rotary_factor", config.f64("partial_rotary_factor", 1.0)?)?;
    let rotary_dim = (head_dim as f64 * part) as usize;
    if base <= 0.0 || !(0.0..=1.0).contains(&part) || !rotary_dim.is_multiple_of(2) {
        bail!(
            Shape,
            "a rope of base {base} cannot rotate {part} of a head of {head_dim}: an even number of values is needed"
        );
    }
    Ok(Rope { base, rotary_dim, scaling: scaling(config, parameters, rotary_dim / 2)? })
}

fn scaling(config: &Config, parameters: &Config, frequencies: usize) -> Result<RopeScaling> {
    let kind = parameters.string("rope_type", &parameters.string("type", "default")?)?;
    match kind.as_str() {
        "default" => Ok(RopeScaling::None),
        "linear" => match parameters.f64("factor", 1.0)? {
            factor if factor >= 1.0 => Ok(RopeScaling::Linear(factor)),
            factor => Err(parameters.unsupported("factor", &factor.to_string(), "1 and more")),
        },
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: parameters.f64("factor", 8.0)?,
            low_freq_factor: parameters.f64("low_freq_factor", 1.0)?,
            high_freq_factor: parameters.f64("high_freq_factor", 4.0)?,
            original_context: parameters.f64("original_max_position_embeddings", 8192.0)?,
        }),
        // `su` and `yarn` are what the first Phi-3 configs called it.
        "longrope" | "su" => longrope(config, parameters, frequencies),
        "yarn" if parameters.value().get("short_factor").is_some() => longrope(config, parameters, frequencies),
        other => Err(parameters.unsupported("rope_type", other, "default, linear, llama3 and longrope")),
    }
}

fn longrope(config: &Config, parameters: &Config, frequencies: usize) -> Result<RopeScaling> {
    let context = config.usize("max_position_embeddings", 4096)?;
    let original = parameters.usize("original_max_position_embeddings", 4096)?;
    let original = config.usize("original_max_position_embeddings", original)?;
    let factor = parameters.f64("factor", context as f64 / original as f64)?;
    let natural = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    let attention_factor = parameters.f64("attention_factor", natural)?;
    if !attention_factor.is_finite() {
        return Err(config.unsupported("original_max_position_embeddings", &original.to_string(), "2 and more"));
    }
    let list = |key: &str| -> Result<Vec<f64>> {
        let values = parameters.value().get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let values: Vec<f64> = values.iter().filter_map(Value::as_f64).filter(|value| *value > 0.0).collect();
        if values.len() != frequencies {
            let known = format!("{frequencies} positive numbers, half of the rotated values of a head");
            return Err(parameters.unsupported(key, &format!("{} of them", values.len()), &known));
        }
        Ok(values)
    };
    let (short, long) = (list("short_factor")?, list("long_factor")?);
    Ok(RopeScaling::LongRope(LongRope { short, long, original_context: original, attention_factor }))
}

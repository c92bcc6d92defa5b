//! The rotary embedding of a GGUF file: keys `<architecture>.rope.*` and tensors of factors become the rope keys of
//! config.json, for every architecture alike. A factor without a type means linear scaling, as in llama.cpp, and so does the
//! older key `rope.scale_linear`.
//! Source: llama.cpp's `llama-model.cpp` (`load_hparams`) and `llama-context.cpp` (a type of `none` scales nothing).

use serde_json::{Map, Value, json};

use super::Reader;
use crate::error;
use crate::error::Result;
use crate::nn::rope::{Rope, RopeScaling};

/// Names of the tensors of factors, by which frequencies are divided.
pub(super) const TENSORS: [&str; 3] = [FREQS, LONG, SHORT];
const FREQS: &str = "rope_freqs.weight";
const LONG: &str = "rope_factors_long.weight";
const SHORT: &str = "rope_factors_short.weight";
/// The original context that Llama-3.1's scaling assumes.
const LLAMA_3_CONTEXT: u32 = 8192;

/// Writes the rope keys into a config that has `head_dim` and `max_position_embeddings`.
pub(super) fn put(reader: &Reader, config: &mut Map<String, Value>) -> Result<()> {
    let base = reader.number("rope.freq_base")?.unwrap_or(10_000.0);
    config.insert("rope_theta".to_string(), json!(base));
    let head_dim = config["head_dim"].as_u64().unwrap_or_default();
    if let Some(rotary) = reader.whole("rope.dimension_count")?.filter(|rotary| *rotary != head_dim) {
        if !reader.architecture.partial {
            let (path, key) = (reader.file.path().display(), reader.key("rope.dimension_count"));
            return Err(error!(Decode, "`{path}`: `{key}` is {rotary}, and heads have {head_dim} values")
                .help("this architecture rotates all values of each head"));
        }
        config.insert("partial_rotary_factor".to_string(), json!(rotary as f64 / head_dim.max(1) as f64));
    }
    let kind = reader.text("rope.scaling.type")?;
    let factor = match reader.number("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => reader.number("rope.scale_linear")?,
    };
    // llama.cpp ignores a factor of 0, and a type of `none` scales nothing.
    let factor = factor.filter(|factor| *factor != 0.0 && *factor != 1.0 && kind.as_deref() != Some("none"));
    let attention = reader.number("rope.scaling.attn_factor")?;
    let factors = factors(reader)?;
    let by_length = matches!(factors, Some(Factors::ByLength { .. }));
    match (kind.as_deref(), factor, attention) {
        (Some(kind), ..) if !["none", "linear", "longrope"].contains(&kind) => {
            return Err(refused(reader, "rope.scaling.type", kind, "none, linear and longrope"));
        }
        (Some("longrope"), ..) if !by_length => {
            let known = format!("it with `{LONG}` and `{SHORT}`, which the file lacks");
            return Err(refused(reader, "rope.scaling.type", "longrope", &known));
        }
        (_, Some(factor), _) if by_length || factor <= 0.0 || !factor.is_finite() => {
            let known = if by_length { "the factors of the tensors there" } else { "factors above 0" };
            return Err(refused(reader, "rope.scaling.factor", &factor.to_string(), known));
        }
        (.., Some(attention)) if !by_length && attention != 1.0 => {
            return Err(refused(reader, "rope.scaling.attn_factor", &attention.to_string(), "1 without longrope"));
        }
        _ => {}
    }
    let scaling = match (factors, factor) {
        (None, None) => return Ok(()),
        (None, Some(factor)) => json!({ "rope_type": "linear", "factor": factor }),
        (Some(Factors::ByLength { short, long }), _) => {
            let original = reader.required("rope.scaling.original_context_length")?;
            config.insert("original_max_position_embeddings".to_string(), json!(original));
            // The default is 1 here; transformers would compute it from the two context lengths.
            json!({
                "type": "longrope", "short_factor": short, "long_factor": long,
                "attention_factor": attention.unwrap_or(1.0),
            })
        }
        (Some(Factors::Always(factors)), None)
            if 2 * factors.len() as u64 == head_dim && is_llama_3(base, &factors) =>
        {
            json!({
                "rope_type": "llama3", "factor": largest(&factors), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": LLAMA_3_CONTEXT,
            })
        }
        // Other factors are written as they are, as a longrope whose short and long factors are equal.
        (Some(Factors::Always(factors)), factor) => {
            let factors: Vec<f64> = factors.iter().map(|value| value * factor.unwrap_or(1.0)).collect();
            config.insert("original_max_position_embeddings".to_string(), config["max_position_embeddings"].clone());
            json!({ "type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0 })
        }
    };
    config.insert("rope_scaling".to_string(), scaling);
    Ok(())
}

/// The divisors of the frequencies.
enum Factors {
    /// The same for any length of text.
    Always(Vec<f64>),
    /// Within the original context, and beyond it.
    ByLength { short: Vec<f64>, long: Vec<f64> },
}

/// The tensors of factors that a file has; those an architecture does not know are refused, as in llama.cpp.
fn factors(reader: &Reader) -> Result<Option<Factors>> {
    let [freqs, long, short] = TENSORS.map(|name| reader.factors(name));
    let (freqs, long, short) = (freqs?, long?, short?);
    let path = reader.file.path().display();
    for (name, there) in [(FREQS, freqs.is_some()), (LONG, long.is_some()), (SHORT, short.is_some())] {
        if there && !reader.architecture.rope.contains(&name) {
            return Err(error!(
                Decode,
                "`{path}`: tensor `{name}` is not one a {} model has", reader.architecture.name
            ));
        }
    }
    match (freqs, short, long) {
        (None, None, None) => Ok(None),
        (Some(factors), None, None) => Ok(Some(Factors::Always(factors))),
        (None, Some(short), Some(long)) => Ok(Some(Factors::ByLength { short, long })),
        (Some(_), ..) => Err(error!(Decode, "`{path}`: `{FREQS}` is there together with `{LONG}` or `{SHORT}`")),
        _ => Err(error!(Decode, "`{path}`: of `{LONG}` and `{SHORT}` only one is there")),
    }
}

/// Whether factors are those of Llama-3.1, which have a name in config.json.
fn is_llama_3(base: f64, factors: &[f64]) -> bool {
    let scaling = RopeScaling::Llama3 {
        factor: largest(factors),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: f64::from(LLAMA_3_CONTEXT),
    };
    let frequencies = |scaling| Rope { base, rotary_dim: 2 * factors.len(), scaling }.frequencies();
    let (plain, scaled) = (frequencies(RopeScaling::None), frequencies(scaling));
    plain.iter().zip(scaled).zip(factors).all(|((plain, scaled), factor)| (plain / scaled / factor - 1.0).abs() < 1e-5)
}

fn largest(factors: &[f64]) -> f64 {
    factors.iter().copied().fold(1.0, f64::max)
}

fn refused(reader: &Reader, key: &str, value: &str, known: &str) -> error::Error {
    error!(Decode, "`{}`: `{}` is `{value}`", reader.file.path().display(), reader.key(key))
        .help(format!("llmore knows {known}"))
}

//! Rotary embeddings in config.json: one reader of all spellings, and one writer.
//!
//! What is read, and who wins, is as in transformers 5.24.0 (`modeling_rope_utils.py`, `configuration_phi3.py`,
//! `configuration_gemma3.py`): `rope_scaling` before `rope_parameters`, a map's own `rope_theta` before the one outside,
//! `original_max_position_embeddings` outside before the one in the map, `rope_type` before `type`. Where that leaves a
//! value unused, or two values contradict each other, a note says so. What is written is what both 4.49 and 5.x read.

mod write;

use serde_json::{Value, json};

pub use write::write;

use crate::error::{Error, Result};
use crate::models::config::Config;
use crate::nn::rope::{LongRope, Rope, RopeScaling};
use crate::{bail, error};

/// What a family makes of the keys.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    /// The whole of each head is rotated, whatever `partial_rotary_factor` says.
    Whole,
    /// As Phi-3: `partial_rotary_factor` counts, `su` and `yarn` are older names of `longrope`, and the original context is
    /// this where config.json has none beside the map.
    Partial { original: usize },
    /// As Gemma-3: layers with a window have a rope of their own, of this base.
    ByLayer { local: f64 },
}

/// What the reader needs of the rest of a spec.
pub(super) struct Reading {
    pub style: Style,
    /// `rope_theta` where config.json has none.
    pub base: f64,
    pub head_dim: usize,
    pub context: usize,
}

/// Keys of config.json that are about the rope.
const KEYS: [&str; 6] =
    ["rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq", "partial_rotary_factor", ORIGINAL];
const ORIGINAL: &str = "original_max_position_embeddings";
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The kinds of rope, and the keys of the map that each reads beyond those that all have.
const KINDS: [(&str, &[&str]); 5] = [
    ("default", &[]),
    ("linear", &["factor"]),
    ("dynamic", &["factor"]),
    ("llama3", &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL]),
    ("longrope", &["short_factor", "long_factor", "factor", "attention_factor", ORIGINAL]),
];
const COMMON: [&str; 4] = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

impl Reading {
    /// The rope of a config, and that of its layers with a window where they have one of their own.
    pub fn read(&self, config: &Config) -> Result<(Rope, Option<Rope>)> {
        let (scaling, parameters) = (map(config, "rope_scaling")?, map(config, "rope_parameters")?);
        if let Style::ByLayer { local } = self.style {
            let (full, sliding) = by_layer(config, scaling, parameters)?;
            let global = self.rope(config, &full, ("rope_theta", self.base))?;
            return Ok((global, Some(self.rope(config, &sliding, ("rope_local_base_freq", local))?)));
        }
        for (key, map) in [("rope_scaling", &scaling), ("rope_parameters", &parameters)] {
            if let Some(kind) = map.as_ref().and_then(|map| [FULL, SLIDING].into_iter().find(|kind| has(map, kind))) {
                return Err(error!(Decode, "{}: `{kind}` tells layers apart", config.nested(key).file()).help(
                    format!("only Gemma-3 has ropes by kind of layer; write one map: `{key}: {{\"rope_type\": ..}}`"),
                ));
            }
        }
        if has(config, "rope_local_base_freq") {
            config.note(
                "`rope_local_base_freq` is not used: only Gemma-3 has a rope of its own for layers with a window",
            );
        }
        let read = |map: &Config| self.rope(config, map, ("rope_theta", self.base));
        let rope = match (&scaling, &parameters) {
            (Some(scaling), Some(parameters)) => {
                let rope = read(scaling)?;
                // Read apart: its notes would be about what is not used.
                let other = read(&Config::new(parameters.value().clone(), parameters.file()));
                if other.map_or(true, |other| other != rope) {
                    let (base, kind) = (rope.base, kind(scaling)?);
                    config.note(format!(
                        "`rope_scaling` is used (`{kind}`, `rope_theta` {base}) and `rope_parameters`, which says something \
                         else, is not, as in transformers 5; take one of them out"
                    ));
                }
                rope
            }
            (Some(map), None) | (None, Some(map)) => read(map)?,
            (None, None) => read(&empty(config, "rope_parameters"))?,
        };
        Ok((rope, None))
    }

    /// The rope that a map describes; its base is in the map, else under a key of the config, else a default.
    fn rope(&self, config: &Config, map: &Config, (key, default): (&str, f64)) -> Result<Rope> {
        let outside = config.f64(key, default)?;
        let base = map.f64("rope_theta", outside)?;
        if base != outside && has(config, key) {
            map.note(format!("`rope_theta` is {base} and is used; `{key}` outside, {outside}, is not"));
        }
        let kind = self.kind(map)?;
        let part = self.part(config, map, kind)?;
        let rotary_dim = (self.head_dim as f64 * part) as usize;
        if !base.is_finite() || base <= 0.0 || !(0.0..=1.0).contains(&part) || !rotary_dim.is_multiple_of(2) {
            bail!(
                Shape,
                "a rope of base {base} cannot rotate {part} of a head of {}: an even number of values is needed",
                self.head_dim
            );
        }
        note_unused(map, kind);
        Ok(Rope { base, rotary_dim, scaling: self.scaling(config, map, kind, rotary_dim / 2)? })
    }

    fn kind(&self, map: &Config) -> Result<&'static str> {
        let name = kind(map)?;
        let known = match name.as_str() {
            "yarn" if matches!(self.style, Style::Partial { .. }) => "longrope",
            "su" => "longrope",
            name => name,
        };
        let found = KINDS.iter().find(|(kind, _)| *kind == known).map(|(kind, _)| *kind);
        found.ok_or_else(|| {
            let names: Vec<_> = KINDS.iter().map(|(kind, _)| *kind).collect();
            map.unsupported("rope_type", &name, &names.join(", "))
        })
    }

    /// How much of each head is rotated.
    fn part(&self, config: &Config, map: &Config, kind: &str) -> Result<f64> {
        let part = map.f64("partial_rotary_factor", config.f64("partial_rotary_factor", 1.0)?)?;
        if part == 1.0 || matches!(self.style, Style::Partial { .. }) {
            return Ok(part);
        }
        // transformers 5.24 makes fewer frequencies there, which do not fit the heads: it cannot compute it.
        if !["default", "dynamic"].contains(&kind) {
            let known = format!("1 beside rope type `{kind}`; this family rotates whole heads");
            return Err(config.unsupported("partial_rotary_factor", &part.to_string(), &known));
        }
        config.note(format!("`partial_rotary_factor` is {part} and is not used: this family rotates whole heads"));
        Ok(1.0)
    }

    fn scaling(&self, config: &Config, map: &Config, kind: &str, frequencies: usize) -> Result<RopeScaling> {
        Ok(match kind {
            "linear" => RopeScaling::Linear(factor(map, kind)?),
            // Frequencies change beyond the context only, and there is nothing beyond it here.
            "dynamic" => {
                factor(map, kind)?;
                map.note("`dynamic` changes nothing up to `max_position_embeddings`, where the context ends");
                RopeScaling::None
            }
            "llama3" => RopeScaling::Llama3 {
                factor: factor(map, kind)?,
                low_freq_factor: positive(map, "low_freq_factor", kind)?,
                high_freq_factor: positive(map, "high_freq_factor", kind)?,
                original_context: self.original(config, map, kind)? as f64,
            },
            "longrope" => RopeScaling::LongRope(self.longrope(config, map, frequencies)?),
            _ => RopeScaling::None,
        })
    }

    /// The context before it was stretched: beside the map, else in it, else what the family takes.
    fn original(&self, config: &Config, map: &Config, kind: &str) -> Result<usize> {
        let inside = positions(map)?;
        let outside = match self.style {
            Style::ByLayer { .. } => None,
            Style::Partial { original } => positions(config)?.or(Some(original)),
            Style::Whole => positions(config)?,
        };
        let original = match (outside, inside) {
            (Some(outside), Some(inside)) if outside != inside => {
                let which = if has(config, ORIGINAL) { "the one outside" } else { "the default of this family" };
                map.note(format!(
                    "`{ORIGINAL}` is {inside} and is not used, as in transformers: {which}, {outside}, wins; write it beside \
                     `max_position_embeddings` as well"
                ));
                outside
            }
            (Some(original), _) | (None, Some(original)) => original,
            (None, None) => {
                map.note(format!(
                    "no `{ORIGINAL}` for rope type `{kind}`: `max_position_embeddings`, {}, is taken for it, as in \
                     transformers 5",
                    self.context
                ));
                self.context
            }
        };
        Ok(original)
    }

    fn longrope(&self, config: &Config, map: &Config, frequencies: usize) -> Result<LongRope> {
        let original_context = self.original(config, map, "longrope")?;
        let natural = natural(map.f64("factor", self.context as f64 / original_context as f64)?, original_context);
        let attention_factor = map.f64("attention_factor", natural)?;
        if !attention_factor.is_finite() {
            return Err(config.unsupported(ORIGINAL, &original_context.to_string(), "2 and more"));
        }
        let list = |key: &str| -> Result<Vec<f64>> {
            let values = map.value().get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let values: Vec<f64> = values.iter().filter_map(Value::as_f64).filter(|value| *value > 0.0).collect();
            if values.len() != frequencies {
                let known = format!("{frequencies} positive numbers, half of the rotated values of a head");
                return Err(map.unsupported(key, &format!("{} of them", values.len()), &known));
            }
            Ok(values)
        };
        Ok(LongRope { short: list("short_factor")?, long: list("long_factor")?, original_context, attention_factor })
    }
}

/// The maps of Gemma-3's two kinds of layers; `rope_scaling` is laid over that of the layers that see everything.
fn by_layer(config: &Config, scaling: Option<Config>, parameters: Option<Config>) -> Result<(Config, Config)> {
    if let Some(parameters) = &parameters
        && !has(parameters, FULL)
        && !has(parameters, SLIDING)
    {
        return Err(error!(Decode, "{}: neither `{FULL}` nor `{SLIDING}` is in it", parameters.file())
            .help("Gemma-3 has a map for each kind of layer, and one for both is used by nobody; write it under `full_attention`"));
    }
    if let Some(key) = parameters
        .as_ref()
        .and_then(|map| map.value().as_object())
        .and_then(|map| map.iter().find(|(key, value)| ![FULL, SLIDING].contains(&key.as_str()) && !value.is_null()))
    {
        config.note(format!("`{}` in `rope_parameters` is not used: no layer is of that kind", key.0));
    }
    let inner = |kind: &str| match &parameters {
        Some(parameters) => map(parameters, kind).map(|map| map.unwrap_or_else(|| empty(parameters, kind))),
        None => Ok(empty(config, kind)),
    };
    let (full, sliding) = (inner(FULL)?, inner(SLIDING)?);
    let Some(scaling) = scaling else { return Ok((full, sliding)) };
    if has(&scaling, FULL) || has(&scaling, SLIDING) {
        return Err(error!(Decode, "{}: it has a map for each kind of layer", scaling.file()).help(
            "Gemma-3 reads those from `rope_parameters`; `rope_scaling` is one map, for the layers without a window",
        ));
    }
    if has(&scaling, "type") && !has(&scaling, "rope_type") {
        let kind = scaling.string("type", "")?;
        return Err(error!(
            Decode,
            "{}: `type` is `{kind}`, which transformers 4 reads and 5 ignores in a Gemma-3",
            scaling.file()
        )
        .help("write `rope_type` instead of `type`, which both read"));
    }
    let mut merged = full.value().as_object().cloned().unwrap_or_default();
    let before = merged.clone();
    merged.extend(scaling.value().as_object().cloned().unwrap_or_default());
    if !before.is_empty() && before != merged {
        config.note(format!(
            "`rope_scaling` is laid over `{FULL}` of `rope_parameters`, which says something else, as in transformers 5; take \
             one of them out"
        ));
    }
    Ok((config.with("rope_scaling", Value::Object(merged)).nested("rope_scaling"), sliding))
}

/// The map under a key; nothing where it is absent, null or empty.
fn map(config: &Config, key: &str) -> Result<Option<Config>> {
    match config.value().get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) if map.is_empty() => Ok(None),
        Some(Value::Object(_)) => Ok(Some(config.nested(key))),
        Some(other) => Err(config.unsupported(key, &other.to_string(), "a map or null")),
    }
}

/// A map without keys that is named as if it were in the config.
fn empty(config: &Config, key: &str) -> Config {
    config.with(key, json!({})).nested(key)
}

fn has(config: &Config, key: &str) -> bool {
    config.value().get(key).is_some_and(|value| !value.is_null())
}

/// The original context that a map says; some writers leave a number with a point there.
fn positions(map: &Config) -> Result<Option<usize>> {
    if !has(map, ORIGINAL) {
        return Ok(None);
    }
    match map.f64(ORIGINAL, 0.0)? {
        value if value >= 1.0 && value.fract() == 0.0 => Ok(Some(value as usize)),
        value => Err(map.unsupported(ORIGINAL, &value.to_string(), "whole numbers from 1 on")),
    }
}

fn kind(map: &Config) -> Result<String> {
    map.string("rope_type", &map.string("type", "default")?)
}

/// Says which values of a map nobody reads.
fn note_unused(map: &Config, kind: &str) {
    let read = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, keys)| *keys).unwrap_or_default();
    let keys = map.value().as_object().into_iter().flatten();
    for (key, _) in keys.filter(|(key, value)| !value.is_null() && !COMMON.contains(&key.as_str())) {
        if !read.contains(&key.as_str()) {
            map.note(format!("`{key}` is not used by rope type `{kind}`"));
        }
    }
    if let (Some(used), Some(other)) = (map.value().get("rope_type"), map.value().get("type"))
        && used != other
        && !used.is_null()
        && !other.is_null()
    {
        map.note(format!("`rope_type` is {used} and is used; `type`, {other}, is not"));
    }
}

fn factor(map: &Config, kind: &str) -> Result<f64> {
    let factor = positive(map, "factor", kind)?;
    if factor < 1.0 {
        map.note(format!("`factor` is {factor}: below 1 the context shrinks"));
    }
    Ok(factor)
}

/// A number of a map that a kind of rope cannot do without.
fn positive(map: &Config, key: &str, kind: &str) -> Result<f64> {
    if !has(map, key) {
        return Err(lacks(map, key, kind));
    }
    match map.f64(key, 0.0)? {
        value if value > 0.0 && value.is_finite() => Ok(value),
        value => Err(map.unsupported(key, &value.to_string(), "numbers above 0")),
    }
}

fn lacks(map: &Config, key: &str, kind: &str) -> Error {
    error!(Missing, "{} has no `{key}`", map.file())
        .help(format!("rope type `{kind}` needs it, in transformers as well; take it from the model's own config.json"))
}

/// The factor of cosines and sines where a longrope map has none.
fn natural(factor: f64, original: usize) -> f64 {
    if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() }
}

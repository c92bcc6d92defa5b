//! Writes ropes into config.json in a form that both 4.49 and 5.x of transformers read.

use serde_json::{Map, Value, json};

use super::{FULL, KEYS, ORIGINAL, SLIDING, natural};
use crate::nn::decoder::DecoderSpec;
use crate::nn::rope::{LongRope, Rope, RopeScaling};

/// Writes the ropes of a spec into a config, and removes all rope keys that were there before.
pub fn write(spec: &DecoderSpec, config: &mut Map<String, Value>) {
    config.retain(|key, _| !KEYS.contains(&key.as_str()));
    let mut put = |key: &str, value: Value| config.insert(key.to_string(), value);
    let scaling = written(spec, &spec.rope);
    match &spec.local_rope {
        // 4.x has no keys for this and ignores both.
        Some(local) if local.scaling != RopeScaling::None => {
            let inner = |rope: &Rope| {
                let mut map = written(spec, rope).unwrap_or_else(|| Map::from_iter([typed("default")]));
                map.insert("rope_theta".to_string(), json!(rope.base));
                map
            };
            put("rope_parameters", json!({ FULL: inner(&spec.rope), SLIDING: inner(local) }));
            return;
        }
        Some(local) => {
            put("rope_local_base_freq", json!(local.base));
        }
        None => {
            if let RopeScaling::LongRope(longrope) = &spec.rope.scaling {
                put(ORIGINAL, json!(longrope.original_context));
            }
            if spec.rope.rotary_dim != spec.head_dim {
                put("partial_rotary_factor", json!(part(spec.rope.rotary_dim, spec.head_dim)));
            }
        }
    }
    put("rope_theta", json!(spec.rope.base));
    if let Some(scaling) = scaling {
        put("rope_scaling", Value::Object(scaling));
    }
}

/// The map of a rope without its base; `None` where frequencies are not scaled.
fn written(spec: &DecoderSpec, rope: &Rope) -> Option<Map<String, Value>> {
    let mut map = match &rope.scaling {
        RopeScaling::None => return None,
        RopeScaling::Linear(factor) => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor, ORIGINAL: *original_context as u64,
        }),
        // Only these three keys where they suffice: 4.49's Phi-3 refuses others.
        RopeScaling::LongRope(LongRope { short, long, .. }) => {
            json!({ "type": "longrope", "short_factor": short, "long_factor": long })
        }
    };
    if let RopeScaling::LongRope(LongRope { original_context, attention_factor, .. }) = rope.scaling {
        if natural(spec.context as f64 / original_context as f64, original_context) != attention_factor {
            map["attention_factor"] = json!(attention_factor);
        }
        if spec.local_rope.is_some() {
            // Gemma-3 reads neither `type` nor keys outside of the map.
            map["rope_type"] = json!("longrope");
            map[ORIGINAL] = json!(original_context);
        }
    }
    map.as_object().cloned()
}

fn typed(kind: &str) -> (String, Value) {
    ("rope_type".to_string(), json!(kind))
}

/// The value of `partial_rotary_factor` from which readers, who round down, compute this many rotated values.
fn part(rotary_dim: usize, head_dim: usize) -> f64 {
    let part = rotary_dim as f64 / head_dim as f64;
    if (head_dim as f64 * part) as usize == rotary_dim { part } else { part.next_up() }
}

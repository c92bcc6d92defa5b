//! Tensors of a checkpoint that no layer uses: reported when it is opened, unless they are known to change nothing.
//! transformers 5.24.0 prints the same names in a table as UNEXPECTED, and skips those of
//! `_keys_to_ignore_on_load_unexpected`.

use std::collections::BTreeMap;

use crate::nn::vit::VitSpec;

/// The largest number of groups of names that are listed.
const TOLD: usize = 8;

/// Prefixes of tensors that may be in an LLM's files without being a part of it: the other parts of a whole model.
const OTHER_PARTS: [&str; 6] = [
    "model.vision_tower.",
    "model.mm_projector.",
    "vision_tower.",
    "multi_modal_projector.",
    "mm_projector.",
    "base_model.model.",
];
/// Suffixes of tensors that may be in an LLM's files without being weights: tables that are computed.
const TABLES: [&str; 5] =
    [".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached", ".masked_bias", ".position_ids"];
/// Tensors that may be in a tower's files without being a part of it: the other tower of a pair, and heads.
const OTHER_TOWERS: [&str; 9] = [
    "text_model.",
    "text_projection.",
    "visual_projection.",
    "logit_scale",
    "logit_bias",
    "classifier.",
    "decoder.",
    "head.",
    "embeddings.mask_token",
];

/// Whether a tensor that an LLM does not use is known to change nothing.
pub(super) fn harmless_to_llm(name: &str) -> bool {
    OTHER_PARTS.iter().any(|start| name.starts_with(start)) || TABLES.iter().any(|end| name.ends_with(end))
}

/// Whether a tensor that a tower does not use changes no hidden state: norms and heads after the last block, the text tower.
pub(super) fn harmless_to_tower(spec: &VitSpec, name: &str) -> bool {
    let is =
        |rest: &str, start: &str| rest.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let own = spec.names.prefixes.iter().filter_map(|prefix| name.strip_prefix(prefix));
    let unread: Vec<&str> = spec.unread().into_iter().map(|(name, _)| name).collect();
    own.clone().any(|rest| unread.iter().any(|start| is(rest, start)))
        || own.chain([name]).any(|rest| OTHER_TOWERS.iter().any(|start| rest.starts_with(start)))
        || name.ends_with(".position_ids")
}

/// A sentence about the tensors of `files` that no layer uses; `layers` is the number in the config, and `layer` returns
/// the layer that a name belongs to.
pub(super) fn told<'a>(
    files: &str,
    names: impl Iterator<Item = &'a str>,
    layers: usize,
    layer: impl Fn(&str) -> Option<usize>,
) -> Option<String> {
    let (mut groups, mut beyond, mut count): (BTreeMap<String, usize>, BTreeMap<usize, usize>, usize) =
        Default::default();
    for name in names {
        count += 1;
        match layer(name).filter(|layer| *layer >= layers) {
            Some(layer) => *beyond.entry(layer).or_default() += 1,
            None => *groups.entry(pattern(name)).or_default() += 1,
        }
    }
    let many = |count: usize| if count > 1 { format!(" ({count})") } else { String::new() };
    let more = groups.len().saturating_sub(TOLD);
    let mut parts: Vec<String> =
        groups.into_iter().take(TOLD).map(|(pattern, count)| format!("`{pattern}`{}", many(count))).collect();
    if more > 0 {
        parts.push(format!("{more} more"));
    }
    if let (Some(first), Some(last)) = (beyond.keys().next(), beyond.keys().next_back()) {
        let which = if first == last { format!("layer {first}") } else { format!("layers {first} to {last}") };
        let tensors: usize = beyond.values().sum();
        parts.push(format!("{which} ({tensors} tensors), where `num_hidden_layers` is {layers}"));
    }
    let verb = if count == 1 { "1 tensor is" } else { &format!("{count} tensors are") };
    (count > 0).then(|| format!("{files}: {verb} ignored, as no layer uses them: {}", parts.join(", ")))
}

/// A name with its numbers replaced by `*`.
fn pattern(name: &str) -> String {
    let part = |part: &str| {
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if number { "*".to_string() } else { part.to_string() }
    };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_grouped_and_layers_beyond_are_told_apart() {
        let layer = |name: &str| name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok();
        let names = [
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.1.self_attn.q_norm.weight",
            "model.layers.2.mlp.up_proj.weight",
            "model.layers.3.mlp.up_proj.weight",
            "lm_head.bias",
        ];
        let text = told("`x`", names.into_iter(), 2, layer).unwrap();
        assert_eq!(
            text,
            "`x`: 5 tensors are ignored, as no layer uses them: `lm_head.bias`, \
             `model.layers.*.self_attn.q_norm.weight` (2), layers 2 to 3 (2 tensors), where `num_hidden_layers` is 2"
        );
        assert_eq!(told("`x`", [].into_iter(), 2, layer), None);
    }
}

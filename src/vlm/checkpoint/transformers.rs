//! `LlavaForConditionalGeneration` checkpoints of transformers, as 4.49 and 5.x write them.
//! Source: transformers 4.49.0 and 5.23.0, `configuration_llava.py` (defaults), `modeling_llava.py` (names, feature
//! selection).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{ModelParts, PartPlace, folder_name, versions};
use crate::assets::Folder;
use crate::error::Result;
use crate::image::folder::{ALONE, INSIDE, WHOLE};
use crate::models::config::Config;
use crate::models::keys;
use crate::models::registry::{self, Target};
use crate::vlm::{EncoderOptions, Origin, Part, ProjectorChoice, Select, Weights};
use crate::weights::TensorFiles;

/// Beginnings of names, theirs and ours. The longer forms are of 4.52 and later, in memory and in some uploads.
const PREFIXES: [(&str, &str); 12] = [
    ("model.language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    ("language_model.model.", "model."),
    ("language_model.", ""),
    ("model.vision_tower.", "model.vision_tower.vision_tower."),
    ("vision_tower.", "model.vision_tower.vision_tower."),
    ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("model.multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("multi_modal_projector.linear_1.", "model.mm_projector.0."),
    ("multi_modal_projector.linear_2.", "model.mm_projector.2."),
    ("lm_head.", "lm_head."),
];
/// What follows `vision_model.` in the names of CLIP and SigLIP; 5.x leaves that word out.
const INNER: [&str; 5] = ["embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "head."];

/// Our name of a tensor; `inner` says that the tower's names begin with `vision_model.`.
fn ours(name: &str, inner: bool) -> String {
    let found = PREFIXES.iter().find_map(|(theirs, ours)| name.strip_prefix(theirs).map(|rest| (ours, rest)));
    let Some((prefix, rest)) = found else { return name.to_string() };
    let word = if *prefix == Part::Encoder.prefix() { tower_word(rest, inner) } else { "" };
    format!("{prefix}{word}{rest}")
}

/// The name that `LlavaForConditionalGeneration` 4.49 gives one of our tensors.
pub(in crate::vlm) fn theirs(name: &str, inner: bool) -> String {
    if let Some(rest) = name.strip_prefix(Part::Encoder.prefix()) {
        return format!("vision_tower.{}{rest}", tower_word(rest, inner));
    }
    match name.strip_prefix(Part::Projector.prefix()) {
        Some(rest) if rest.starts_with("0.") => format!("multi_modal_projector.linear_1.{}", &rest[2..]),
        Some(rest) if rest.starts_with("2.") => format!("multi_modal_projector.linear_2.{}", &rest[2..]),
        _ => format!("language_model.{name}"),
    }
}

fn tower_word(rest: &str, inner: bool) -> &'static str {
    if inner && INNER.iter().any(|word| rest.starts_with(word)) { "vision_model." } else { "" }
}

/// Whether the tensors of a tower of this `model_type` begin with `vision_model.`.
pub(in crate::vlm) fn has_inner(model_type: &str) -> bool {
    ["clip", "siglip"].iter().any(|family| model_type.starts_with(family))
}

/// The parts of a folder.
pub(super) fn parts(origin: &Origin, path: &Path, target: &Target) -> Result<ModelParts> {
    let config = &origin.config;
    keys::check(config, keys::Part::LlavaOfTransformers, &[], &[])?;
    let vision = vision_config(config);
    let inner = has_inner(&vision.string("model_type", "")?);
    let files = Arc::new(TensorFiles::open_folder(&origin.folder)?.renamed(|name| ours(name, inner))?);
    let activation = config.string("projector_hidden_act", "gelu")?;
    if activation != "gelu" {
        return Err(config.unsupported("projector_hidden_act", &activation, "gelu"));
    }
    if !config.bool("multimodal_projector_bias", true)? {
        return Err(config.unsupported("multimodal_projector_bias", "false", "projectors with bias"));
    }
    let architecture = config.string("model_architecture", "")?;
    let aspect = super::aspect(config)?;
    Ok(ModelParts {
        encoder: encoder_options(config, &vision, target)?,
        tower_is_trained: false,
        tower: PartPlace::Inside { id: tower_id(&vision), origin: tower(origin, vision)? },
        llm: PartPlace::Inside { id: folder_name(path), origin: llm(origin, &files)? },
        projector: ProjectorChoice::new("mlp2x_gelu")?,
        template: Some(architecture).filter(|name| !name.is_empty()),
        aspect,
        files,
        llm_name: None,
        looked: String::new(),
    })
}

fn tower_id(vision: &Config) -> String {
    let model_type = vision.value().get("model_type").and_then(Value::as_str).unwrap_or("tower");
    model_type.trim_end_matches("_vision_model").to_string()
}

/// `vision_config` with the defaults of LlavaConfig: the CLIP ViT-L/14-336 where there is none at all.
fn vision_config(config: &Config) -> Config {
    let given = config.value().get("vision_config").is_some_and(Value::is_object);
    if !given {
        let vit_l = json!({
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768
        });
        return config.with("vision_config", vit_l).nested("vision_config");
    }
    config.nested("vision_config").with_default("model_type", "clip_vision_model")
}

/// The tower's folder: its config, and the files that say how pictures are prepared.
fn tower(origin: &Origin, config: Config) -> Result<Origin> {
    let folder = &origin.folder;
    let mut files = BTreeMap::from([("config.json".to_string(), config.value().to_string().into_bytes())]);
    for name in [ALONE, WHOLE].into_iter().filter(|name| folder.has(name)) {
        let mut json = folder.json(name)?;
        let processor = if name == WHOLE { json.get_mut(INSIDE) } else { Some(&mut json) };
        processor.into_iter().for_each(name_processor);
        files.insert(name.to_string(), json.to_string().into_bytes());
    }
    let name = folder.locate("").trim_end_matches('/').to_string();
    Ok(Origin::new(Folder::Memory(name, Arc::new(files)), config))
}

/// A processor without a name is LLaVA's own (transformers 5.24.0, `AutoImageProcessor`).
fn name_processor(json: &mut Value) {
    let named = ["image_processor_type", "feature_extractor_type"]
        .iter()
        .any(|key| json.get(key).is_some_and(|name| !name.is_null()));
    if let (false, Some(object)) = (named, json.as_object_mut()) {
        object.insert("image_processor_type".to_string(), json!("LlavaImageProcessor"));
    }
}

fn encoder_options(config: &Config, vision: &Config, target: &Target) -> Result<EncoderOptions> {
    let layer = match config.value().get("vision_feature_layer").filter(|layer| !layer.is_null()) {
        // A list of one is joined from one.
        Some(Value::Array(layers)) if layers.len() == 1 => layers.first(),
        layer => layer,
    };
    let select_layer = match layer {
        None => -2,
        Some(layer) => layer.as_i64().ok_or_else(|| {
            config.unsupported("vision_feature_layer", &layer.to_string(), "one layer; several are not joined")
        })?,
    };
    // "default" drops the first token, whatever it is; "full" keeps all.
    let extra = registry::encoder_spec(vision)?.extra_tokens();
    let strategy = config.string("vision_feature_select_strategy", "default")?;
    let select = match (strategy.as_str(), extra) {
        ("default", 1) | ("full", 0) => Select::Patch,
        ("full", _) => Select::ClsPatch,
        ("default", _) => {
            let what = format!("default, for a tower with {extra} tokens before its patches");
            return Err(config.unsupported("vision_feature_select_strategy", &what, "`full` there"));
        }
        (other, _) => return Err(config.unsupported("vision_feature_select_strategy", other, "default and full")),
    };
    Ok(EncoderOptions {
        select_layer: Some(select_layer),
        select: Some(select),
        s2: None,
        weights: Weights::Stored,
        seed: 0,
        target: target.clone(),
    })
}

/// The LLM: `text_config` with the defaults of its `model_type`, tokenizer and generation_config beside it.
///
/// # Errors
/// `Decode` for a version that cannot be read where it decides.
fn llm(origin: &Origin, files: &TensorFiles) -> Result<Origin> {
    let given = origin.config.value().get("text_config").is_some_and(Value::is_object);
    let config = if given { origin.config.clone() } else { origin.config.with("text_config", json!({})) };
    let mut config = config.nested("text_config").with_default("model_type", "llama");
    if !files.has("lm_head.weight") {
        config = config.with("tie_word_embeddings", json!(true));
    }
    Ok(Origin::new(origin.folder.clone(), versions::as_written(&origin.config, config)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_version_become_ours_and_ours_those_of_4_49() {
        let cases = [
            ("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"),
            ("model.language_model.embed_tokens.weight", "model.embed_tokens.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("multi_modal_projector.linear_2.bias", "model.mm_projector.2.bias"),
            ("model.multi_modal_projector.linear_1.weight", "model.mm_projector.0.weight"),
            ("vision_tower.vision_model.head.probe", "model.vision_tower.vision_tower.vision_model.head.probe"),
            ("vision_tower.embeddings.x", "model.vision_tower.vision_tower.vision_model.embeddings.x"),
        ];
        for (name, expected) in cases {
            assert_eq!(ours(name, true), expected);
            assert_eq!(ours(&theirs(expected, true), true), expected);
        }
        assert_eq!(theirs("model.norm.weight", true), "language_model.model.norm.weight");
        assert_eq!(theirs("lm_head.weight", true), "language_model.lm_head.weight");
        assert_eq!(ours("vision_tower.embeddings.x", false), "model.vision_tower.vision_tower.embeddings.x");
    }
}

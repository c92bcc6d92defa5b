//! Layout llava-more: all tensors, the LLM's config with the multimodal keys, the tokenizer, and the tower's config and
//! processor in a sub-folder, so that the folder loads by itself.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{SHARD, tokenizer_files};
use crate::error::Result;
use crate::models::llms::rope;
use crate::vlm::base::TOWER_FOLDER;
use crate::vlm::checkpoint::llava_more::{LLMORE, TRAINED_TOWER, class, family, own};
use crate::vlm::written::write_json;
use crate::vlm::{Part, Vlm};
use crate::weights::{save_shards, save_tensors};

/// Writes some parts: all of them, or the projector and perhaps the tower that go with the LLM of a name.
pub(super) fn write(vlm: &Vlm, folder: &Path, (llm, parts): (&str, &[Part])) -> Result<()> {
    let tensors = vlm.tensors(parts)?;
    match parts.contains(&Part::Llm) {
        true => save_shards(&tensors, folder, SHARD)?,
        false => save_tensors(&tensors, &folder.join("mm_projector.safetensors"))?,
    }
    tokenizer_files(&vlm.llm, folder)?;
    let mut config = config(vlm);
    let is_inside = parts.contains(&Part::Encoder);
    if is_inside {
        let tower = folder.join(TOWER_FOLDER);
        crate::fs::create_dir_all(&tower).map_err(|error| crate::error::Error::file(&tower, error))?;
        vlm.encoder.save_config(&tower, None)?;
    }
    name_parts(vlm, &mut config, is_inside)?;
    if !parts.contains(&Part::Llm) {
        config.insert("_name_or_path".to_string(), json!(llm));
    }
    write_json(&folder.join("config.json"), &Value::Object(config))
}

/// Says what the tower is, for the reference by its id on the hub and its kind, for llmore by where it is; and what the parts
/// were called. `is_inside`: whether the tower is in the folder.
fn name_parts(vlm: &Vlm, config: &mut Map<String, Value>, is_inside: bool) -> Result<()> {
    let (encoder, llm) = (&vlm.encoder, &vlm.llm);
    let known = &encoder.origin.known;
    let place = if is_inside { TOWER_FOLDER } else { encoder.origin.place().unwrap_or(&encoder.id) };
    let model_type = encoder.origin.config.string("model_type", "")?;
    config.insert("mm_vision_tower".to_string(), json!(known.hub.as_deref().unwrap_or(place)));
    config.insert("siglip".to_string(), json!(model_type.starts_with("siglip")));
    // The reference takes the weights of the hub's id for those of the tower, unless it is told otherwise.
    config.remove(TRAINED_TOWER);
    if is_inside && (known.is_changed || (known.hub.is_some() && encoder.is_changed()?)) {
        config.insert(TRAINED_TOWER.to_string(), json!(true));
    }
    let parts = json!({
        "tower": place,
        "encoder": known.called.as_ref().unwrap_or(&encoder.id),
        "projector": vlm.projector.choice.name,
        "llm": own(&llm.origin.config, "llm").unwrap_or(&llm.id),
    });
    config.insert(LLMORE.to_string(), parts);
    Ok(())
}

/// The LLM's config with the keys of the released models.
fn config(vlm: &Vlm) -> Map<String, Value> {
    let mut config: Map<String, Value> = vlm.llm.origin.config.value().as_object().cloned().unwrap_or_default();
    rope::write(vlm.llm.model.spec(), &mut config);
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("llama").to_string();
    let (model_type, class) = class(family(&model_type));
    let now = vlm.conventions();
    let keys = [
        ("_name_or_path", json!(vlm.llm.id)),
        ("architectures", json!([class])),
        ("model_type", json!(model_type)),
        ("model_architecture", json!(now.template.name())),
        ("mm_hidden_size", json!(vlm.encoder.width())),
        ("mm_vision_select_layer", json!(vlm.encoder.select_layer)),
        ("mm_vision_select_feature", json!(vlm.encoder.select.name())),
        ("mm_patch_merge_type", json!("flat")),
        ("mm_projector_lr", Value::Null),
        ("freeze_mm_mlp_adapter", json!(false)),
        ("tune_mm_mlp_adapter", json!(false)),
        ("mm_use_im_start_end", json!(false)),
        ("mm_use_im_patch_token", json!(false)),
        ("image_aspect_ratio", json!(now.aspect.name())),
        ("use_mm_proj", json!(true)),
        ("s2", json!(false)),
        ("tokenizer_padding_side", json!("right")),
        ("tokenizer_model_max_length", json!(vlm.llm.context())),
    ];
    for (key, value) in keys {
        config.insert(key.to_string(), value);
    }
    if let Some(scales) = &vlm.encoder.scales {
        let sides: Vec<String> = scales.sides().iter().map(usize::to_string).collect();
        config.insert("s2".to_string(), json!(true));
        config.insert("s2_scales".to_string(), json!(sides.join(",")));
    }
    vlm.projector.choice.write(&mut config);
    config
}

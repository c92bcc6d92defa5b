//! Layout llava-more: all tensors, the LLM's config with the multimodal keys, the tokenizer, and the tower's config and
//! processor in a sub-folder, so that the folder loads by itself.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{SHARD, tokenizer_files};
use crate::error::Result;
use crate::models::llms::rope;
use crate::vlm::base::TOWER_FOLDER;
use crate::vlm::checkpoint::llava_more::{class, family};
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
    if parts.contains(&Part::Encoder) {
        let tower = folder.join(TOWER_FOLDER);
        std::fs::create_dir_all(&tower).map_err(|error| crate::error::Error::file(&tower, error))?;
        vlm.encoder.save_config(&tower, None)?;
    } else {
        config["mm_vision_tower"] = json!(vlm.encoder.origin.place().unwrap_or(&vlm.encoder.id));
    }
    if !parts.contains(&Part::Llm) {
        config["_name_or_path"] = json!(llm);
    }
    write_json(&folder.join("config.json"), &config)
}

/// The LLM's config with the keys of the released models.
fn config(vlm: &Vlm) -> Value {
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
        ("mm_vision_tower", json!(TOWER_FOLDER)),
        ("mm_hidden_size", json!(vlm.encoder.width())),
        ("mm_vision_select_layer", json!(vlm.encoder.select_layer)),
        ("mm_vision_select_feature", json!(vlm.encoder.select.name())),
        ("mm_patch_merge_type", json!("flat")),
        ("mm_use_im_start_end", json!(false)),
        ("mm_use_im_patch_token", json!(false)),
        ("image_aspect_ratio", json!(now.aspect.name())),
        ("use_mm_proj", json!(true)),
        ("s2", json!(false)),
        ("siglip", json!(false)),
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
    Value::Object(config)
}

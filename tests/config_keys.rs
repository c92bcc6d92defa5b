//! Keys of config.json: each is honored, harmless, refused, or said.

use std::path::{Path, PathBuf};

use llmore::models::config::Config;
use llmore::models::keys::{self, Part};
use llmore::models::registry::{self, Target, llm_of_llava};
use llmore::models::{encoders, llms};
use llmore::preset::Presets;
use llmore::vlm::checkpoint;
use serde_json::{Value, json};

use super::scratch::scratch;

/// Every config.json below a folder.
fn configs(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => configs(&path, found),
            path if path.ends_with("config.json") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn every_key_of_every_fixture_is_in_the_table() {
    let mut found = Vec::new();
    for folder in ["tests/fixtures", "stdlib/models"] {
        configs(Path::new(folder), &mut found);
    }
    assert!(found.len() > 40);
    for path in found {
        let json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let config = Config::new(json, path.display().to_string());
        let model_type = config.string("model_type", "").unwrap();
        let two = config.value().get("vision_config").is_some();
        let parts = match model_type.as_str() {
            "llava" => {
                vec![(Part::LlavaOfTransformers, ""), (Part::Llm, "text_config"), (Part::Tower, "vision_config")]
            }
            "clip" | "siglip" if two => vec![(Part::TwoTowers, ""), (Part::Tower, "vision_config")],
            "clip" | "siglip" | "clip_vision_model" | "siglip_vision_model" | "dinov2" | "dinov2_with_registers" => {
                vec![(Part::Tower, "")]
            }
            "vit" | "ijepa" => vec![(Part::Tower, "")],
            llava if llava.starts_with("llava_") => vec![(Part::Llava, ""), (Part::Llm, "")],
            _ => vec![(Part::Llm, "")],
        };
        for (part, key) in parts {
            let nested = if key.is_empty() { config.clone() } else { config.nested(key) };
            let model_type = nested.string("model_type", &model_type).unwrap();
            let family = llm_of_llava(&model_type).unwrap_or(&model_type);
            let own = match part {
                Part::Llm => registry::architecture(llms::ALL, family).map_or(&[][..], |llm| llm.keys),
                Part::Tower => registry::architecture(encoders::ALL, family).map_or(&[][..], |tower| tower.keys),
                _ => &[],
            };
            let elsewhere = if part == Part::Llava { registry::llm_keys() } else { Vec::new() };
            keys::check(&nested, part, own, &elsewhere).unwrap();
        }
        assert_eq!(config.notes().list(), Vec::<String>::new());
    }
}

/// A copy of the checkpoint of layout llava-more with one key changed.
fn with(name: &str, key: &str, value: Value) -> Result<Vec<String>, String> {
    let source = Path::new("tests/fixtures/training/checkpoint");
    let folder = scratch(name);
    for inner in ["", "clip-tower"] {
        std::fs::create_dir_all(folder.join(inner)).unwrap();
        let files = std::fs::read_dir(source.join(inner)).unwrap().flatten().map(|entry| entry.path());
        for file in files.filter(|file| file.is_file()) {
            std::fs::copy(&file, folder.join(inner).join(file.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.join("config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json[key] = value;
    std::fs::write(&path, json.to_string()).unwrap();
    let vlm = checkpoint::load(&Presets::default(), &folder, None, &Target::cpu());
    vlm.map(|vlm| vlm.notes.list()).map_err(|error| error.to_string())
}

#[test]
fn keys_of_llava_that_would_be_ignored_are_refused() {
    let cases = [
        ("mm_use_im_start_end", json!(true)),
        ("mm_use_im_patch_token", json!(true)),
        ("mm_vision_select_layer", json!([-2, -5])),
        ("mm_vision_select_layer", json!("-2")),
        ("mm_resampler_type", json!("perceiver")),
        ("mm_patch_merge_type", json!("spatial_unpad")),
        ("mm_spatial_pool_stride", json!(2)),
        ("image_aspect_ratio", json!("anyres")),
        ("attn_logit_softcapping", json!(50.0)),
        ("s2", json!("true")),
        ("attention_bias", json!(1)),
        ("hidden_act", json!("relu")),
        ("num_hidden_layers", json!("2")),
        ("use_sliding_window", json!(true)),
    ];
    for (index, (key, value)) in cases.into_iter().enumerate() {
        let error = with(&format!("refused-{index}"), key, value).unwrap_err();
        assert!(error.contains(&format!("`{key}` is")) && error.contains("config.json"), "{error}");
    }
}

#[test]
fn harmless_keys_are_quiet_and_unknown_ones_said() {
    for (key, value) in [
        ("mm_use_im_start_end", json!(false)),
        ("mm_projector_lr", json!(2e-5)),
        ("tune_mm_mlp_adapter", json!(true)),
        ("image_grid_pinpoints", Value::Null),
        ("mm_vision_select_layer", json!(-2)),
    ] {
        assert_eq!(with("harmless", key, value), Ok(Vec::new()), "{key}");
    }
    let notes = with("unknown", "mm_flux_capacitor", json!(1.21)).unwrap();
    assert!(matches!(&notes[..], [note] if note.contains("`mm_flux_capacitor`")), "{notes:?}");
}

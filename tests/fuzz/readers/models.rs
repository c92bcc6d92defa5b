//! Whole models: one file of a checkpoint's folder is mutated at a time, the others are whole.

use std::collections::BTreeMap;
use std::path::Path;

use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::vlm::{Llm, LlmOptions, Weights, checkpoint};

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Reader, Seed, file};
use crate::scripting::copy;

pub const MODEL: Reader = Reader {
    name: "model",
    seeds: || FILES.iter().map(|name| seed(name)).collect(),
    words: &[
        "model_type",
        "llava_llama",
        "mm_vision_tower",
        "mm_projector_type",
        "mm_vision_select_layer",
        "mm_hidden_size",
        "llm",
        "tower",
        "mlp2x_gelu",
        "linear",
        "image_token_index",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "text_config",
        "vision_config",
        "eos_token_id",
        "hidden_size",
        "num_attention_heads",
        "image_size",
        "patch_size",
        "size",
        "crop_size",
        "peft_type",
        "LORA",
        "r",
        "lora_alpha",
        "target_modules",
        "base_model_name_or_path",
        "q_proj",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "default",
        "full",
    ],
    open: |folder| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity");
        copy(&fixtures.join("models/stage-1"), &folder.join("stage-1"));
        copy(&fixtures.join("models/clip-llama-v5"), &folder.join("clip-llama-v5"));
        copy(&fixtures.join("lora/llama"), &folder.join("lora"));
        std::fs::copy(fixtures.join("models/stage-1/llm/tokenizer.json"), folder.join("lora/tokenizer.json")).unwrap();
        let whole: BTreeMap<String, Vec<u8>> = FILES.iter().map(|name| (name.to_string(), seed(name).bytes)).collect();
        for (name, bytes) in &whole {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        let (folder, presets) = (folder.to_path_buf(), Presets::default());
        Box::new(move |input| {
            let path = input.write(folder.join(&input.kind));
            let top = input.kind.split('/').next().unwrap();
            let target = Target::cpu();
            let read = if top == "lora" {
                let options = LlmOptions { weights: Weights::Stored, seed: 0, target };
                Llm::open(&presets, &folder.join("lora/adapter").display().to_string(), options).is_ok()
            } else {
                checkpoint::load(&presets, &folder.join(top), Some("llama_3_1"), &target).is_ok()
            };
            let _ = std::fs::remove_file(&path);
            std::fs::write(path, &whole[&input.kind]).unwrap();
            read
        })
    },
};

const FILES: [&str; 10] = [
    "stage-1/config.json",
    "stage-1/llm/config.json",
    "stage-1/llm/generation_config.json",
    "stage-1/tower/config.json",
    "stage-1/tower/preprocessor_config.json",
    "clip-llama-v5/config.json",
    "clip-llama-v5/generation_config.json",
    "clip-llama-v5/processor_config.json",
    "clip-llama-v5/tokenizer_config.json",
    "lora/adapter/adapter_config.json",
];

fn seed(name: &str) -> Seed {
    let (top, rest) = name.split_once('/').unwrap();
    let folder = if top == "lora" { "lora/llama".to_string() } else { format!("models/{top}") };
    let mut bytes = file(&format!("tests/fixtures/parity/{folder}/{rest}"));
    if top == "lora" {
        // Its base is beside it.
        let mut value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        value["base_model_name_or_path"] = "..".into();
        bytes = value.to_string().into();
    }
    Seed { kind: name.to_string(), bytes, frame: Frame::Json }
}

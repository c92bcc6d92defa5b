//! Whole models on disk: what is saved loads again with the same logits, in both layouts, and in transformers itself where
//! a Python with it is at hand.

use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Device, Tensor};
use llmore::image::{Aspect, Image};
use llmore::models::projectors::pool::PoolKind;
use llmore::models::registry::{self, Target};
use llmore::models::{encoders, llms};
use llmore::preset::Presets;
use llmore::text::{IMAGE_ID, Template, Turn};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights, checkpoint};
use llmore::weights::{TensorFiles, save_shards};
use serde_json::{Value, json};

use super::scratch::scratch;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(folder: &Path) -> Vlm {
    checkpoint::load(&Presets::default(), folder, Some("llama_3_1"), &Target::cpu()).unwrap()
}

fn picture() -> Image {
    Image::open(&fixture("training/images/s1_00.png")).unwrap()
}

fn turns() -> Vec<Turn> {
    vec![Turn::human("<image>\nWhat is it?"), Turn::gpt("A circle")]
}

fn logits(vlm: &Vlm) -> Tensor {
    vlm.logits(&[picture()], &turns()).unwrap()
}

fn columns(logits: &Tensor, count: usize) -> Vec<Vec<f32>> {
    logits.narrow(1, 0, count).unwrap().to_vec2().unwrap()
}

#[test]
fn what_is_saved_loads_with_the_same_logits() {
    let folder = scratch("round");
    for source in ["training/checkpoint", "parity/models/clip-llama", "parity/models/stage-1"] {
        let vlm = load(&fixture(source));
        let (before, count) = (logits(&vlm), vlm.llm.model.spec().vocab);
        for round in 0..2 {
            vlm.save(&folder.join("ours")).unwrap();
            vlm.save_transformers(&folder.join("theirs")).unwrap();
            for layout in ["ours", "theirs"] {
                let again = logits(&load(&folder.join(layout)));
                assert_eq!(columns(&again, count), columns(&before, count), "{source}, {layout}, round {round}");
            }
        }
        // What llmore saves for transformers and loads can be saved as LLaVA-MORE's again.
        load(&folder.join("theirs")).save(&folder.join("back")).unwrap();
        assert_eq!(columns(&logits(&load(&folder.join("back"))), count), columns(&before, count), "{source}, back");
    }
}

#[test]
fn no_tensor_is_lost_and_names_are_those_of_4_49() {
    let folder = scratch("names");
    let source = fixture("parity/models/clip-llama");
    load(&source).save_transformers(&folder.join("theirs")).unwrap();
    let (saved, given) = (TensorFiles::open(&folder.join("theirs")).unwrap(), TensorFiles::open(&source).unwrap());
    let skip = |files: &TensorFiles| files.names();
    assert_eq!(skip(&saved), skip(&given));
    for name in given.names() {
        let values = |files: &TensorFiles| {
            files.load(&name, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(values(&saved), values(&given), "{name}");
    }
    // 5.23 leaves `vision_model.` out of the tower's names; saved, they are those of 4.49.
    load(&fixture("parity/models/clip-llama-v5")).save_transformers(&folder.join("from-v5")).unwrap();
    let from_v5 = TensorFiles::open(&folder.join("from-v5")).unwrap();
    assert_eq!(from_v5.names(), given.names());
}

#[test]
fn weights_in_parts_are_the_same_weights() {
    let folder = scratch("parts");
    let vlm = load(&fixture("training/checkpoint"));
    vlm.save(&folder).unwrap();
    let before = logits(&load(&folder));
    let tensors = vlm.tensors(&llmore::vlm::Part::ALL).unwrap();
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    save_shards(&tensors, &folder, 100_000).unwrap();
    let parts = std::fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("-of-00004.safetensors"));
    assert_eq!(parts.count(), 4);
    assert_eq!(columns(&logits(&load(&folder)), 288), columns(&before, 288));
    // Saving over them leaves no index behind that names the old parts.
    vlm.save(&folder).unwrap();
    assert!(!folder.join("model.safetensors.index.json").exists());
    assert_eq!(columns(&logits(&load(&folder)), 288), columns(&before, 288));
}

#[test]
fn an_image_token_is_added_once_with_a_row_that_is_never_chosen() {
    let folder = scratch("token");
    let vlm = load(&fixture("training/checkpoint"));
    vlm.save_transformers(&folder.join("a")).unwrap();
    let config = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(name).join("config.json")).unwrap()).unwrap()
    };
    let first = config("a");
    assert_eq!(
        (first["image_token_index"].as_u64(), first["text_config"]["vocab_size"].as_u64()),
        (Some(288), Some(289))
    );
    let again = load(&folder.join("a"));
    assert_eq!(again.tokenizer().unwrap().token_id("<image>"), Some(288));
    let rows = logits(&again).argmax(1).unwrap().to_vec1::<u32>().unwrap();
    assert!(rows.iter().all(|id| *id != 288));
    again.save_transformers(&folder.join("b")).unwrap();
    assert_eq!(config("b")["text_config"]["vocab_size"], first["text_config"]["vocab_size"]);
}

#[test]
fn what_transformers_cannot_express_is_refused_and_leaves_nothing() {
    let folder = scratch("refused");
    let vlm = load(&fixture("training/checkpoint"));
    let pooled = |name: &str, pool| {
        let choice = ProjectorChoice::new(name).unwrap();
        let choice = match pool {
            Some((kind, tokens)) => choice.pooled(kind, tokens).unwrap(),
            None => choice,
        };
        let (encoder, llm) = (vlm.encoder.clone(), vlm.llm.clone());
        Vlm::compose(encoder, &choice, llm, vlm.template(), vlm.aspect(), 0).unwrap()
    };
    let s2 = compose_with(&scratch("refused-s2"), "clip_vision_model", "llama", Some(vec![24, 48]));
    for (model, part) in [
        (s2, "s2"),
        (pooled("mlp2x_gelu", Some((PoolKind::Average, 1))), "`pool: \"average\"`"),
        (pooled("linear", None), "projector `linear`"),
    ] {
        let error = model.save_transformers(&folder.join("x")).unwrap_err();
        assert!(error.message().contains(part), "{error}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn a_part_alone_is_no_model_and_says_so() {
    let error = |folder: &Path| match checkpoint::load(&Presets::default(), folder, None, &Target::cpu()) {
        Ok(_) => panic!("{} was loaded", folder.display()),
        Err(error) => error,
    };
    let llm = error(&fixture("parity/models/stage-1/llm"));
    assert!(llm.message().contains("an LLM alone") && llm.help_text().unwrap().contains("llm(folder)"), "{llm}");
    let tower = error(&fixture("parity/models/stage-1/tower"));
    assert!(tower.message().contains("a vision tower alone"), "{tower}");
    let unnamed = error(&fixture("parity/models/clip-llama"));
    assert!(unnamed.help_text().unwrap().contains("template"), "{unnamed}");
}

/// A tiny config of an LLM family.
fn llm_config(model_type: &str) -> Option<Value> {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 288, "max_position_embeddings": 256,
        "initializer_range": 0.2, "bos_token_id": 281, "eos_token_id": 287, "pad_token_id": 283, "sliding_window": null,
    });
    match model_type {
        "llama" | "mistral" | "qwen2" => {}
        "phi3" => config["original_max_position_embeddings"] = json!(256),
        "gemma2" => {
            for (key, value) in [("head_dim", 8), ("query_pre_attn_scalar", 8), ("sliding_window", 64)] {
                config[key] = json!(value);
            }
        }
        _ => return None,
    }
    Some(config)
}

/// A tiny config of a tower and its image processor.
fn tower_config(model_type: &str) -> Option<(Value, Value)> {
    let config = json!({
        "model_type": model_type, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3,
        "num_attention_heads": 2, "image_size": 24, "patch_size": 8, "initializer_range": 0.2, "mlp_ratio": 2
    });
    let class = match model_type {
        "clip_vision_model" => "CLIPImageProcessor",
        "siglip_vision_model" => "SiglipImageProcessor",
        "dinov2" => "BitImageProcessor",
        _ => return None,
    };
    let size = match class {
        "CLIPImageProcessor" | "BitImageProcessor" => json!({ "shortest_edge": 24 }),
        _ => json!({ "height": 24, "width": 24 }),
    };
    let processor = json!({
        "image_processor_type": class, "do_resize": true, "size": size, "resample": 3, "do_rescale": true,
        "rescale_factor": 1.0 / 255.0, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "do_center_crop": class != "SiglipImageProcessor", "crop_size": { "height": 24, "width": 24 }, "do_convert_rgb": true
    });
    Some((config, processor))
}

fn compose(folder: &Path, tower: &str, llm: &str) -> Vlm {
    compose_with(folder, tower, llm, None)
}

fn compose_with(folder: &Path, tower: &str, llm: &str, s2: Option<Vec<usize>>) -> Vlm {
    let write = |path: PathBuf, value: &Value| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    };
    let (config, processor) = tower_config(tower).unwrap();
    write(folder.join("tower/config.json"), &config);
    write(folder.join("tower/preprocessor_config.json"), &processor);
    write(folder.join("llm/config.json"), &llm_config(llm).unwrap());
    std::fs::copy(fixture("training/checkpoint/tokenizer.json"), folder.join("llm/tokenizer.json")).unwrap();
    let presets = Presets::default();
    let open = |name: &str| folder.join(name).display().to_string();
    let llm = LlmOptions { weights: Weights::Random, seed: 3, target: Target::cpu() };
    let llm = Llm::open(&presets, &open("llm"), llm).unwrap();
    let options = EncoderOptions {
        select_layer: None,
        select: None,
        s2,
        weights: Weights::Random,
        seed: 4,
        target: Target::cpu(),
    };
    let encoder = Encoder::open(&presets, &open("tower"), options).unwrap();
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    let template = Template::load(&presets, "llama_3_1").unwrap();
    Vlm::compose(encoder.into(), &choice, llm.into(), template, Aspect::Square, 5).unwrap()
}

/// Pythons to ask: those that `LLMORE_TRANSFORMERS` names, separated by colons, else `python3` if it has transformers.
fn pythons() -> Vec<String> {
    if let Ok(list) = std::env::var("LLMORE_TRANSFORMERS") {
        return list.split(':').map(str::to_string).collect();
    }
    let asked = Command::new("python3").args(["-c", "import transformers, torch, PIL"]).output();
    if asked.is_ok_and(|output| output.status.success()) { vec!["python3".to_string()] } else { Vec::new() }
}

/// What the script compares: the model, a picture, and what llmore makes of both.
fn write_expected(vlm: &Vlm, folder: &Path) {
    vlm.save_transformers(&folder.join("model")).unwrap();
    std::fs::copy(fixture("training/images/s1_00.png"), folder.join("picture.png")).unwrap();
    let saved = load(&folder.join("model"));
    let image = saved.tokenizer().unwrap().token_id("<image>").unwrap();
    let rendered = saved.template().render(saved.tokenizer().unwrap(), &turns()).unwrap();
    let spread = |id: &i64| if *id == IMAGE_ID { vec![i64::from(image); saved.image_tokens()] } else { vec![*id] };
    let ids: Vec<i64> = rendered.ids.iter().flat_map(spread).collect();
    let ids = Tensor::from_vec(ids.clone(), (1, ids.len()), &Device::Cpu).unwrap();
    let pixels = saved.encoder.preprocess(&picture(), Aspect::Square).unwrap().unsqueeze(0).unwrap();
    let logits = logits(vlm).to_dtype(DType::F32).unwrap();
    let tensors = [("input_ids", ids), ("pixel_values", pixels), ("logits", logits)];
    let tensors: Vec<(String, Tensor)> = tensors.into_iter().map(|(name, t)| (name.to_string(), t)).collect();
    llmore::weights::save_tensors(&tensors, &folder.join("expected.safetensors")).unwrap();
}

#[test]
fn transformers_loads_what_is_saved_for_it() {
    let pythons = pythons();
    if pythons.is_empty() {
        eprintln!("skipped: no Python with transformers (name one in LLMORE_TRANSFORMERS)");
        return;
    }
    let towers: Vec<&str> =
        registry::model_types(encoders::ALL).into_iter().filter(|n| tower_config(n).is_some()).collect();
    let llms: Vec<&str> = registry::model_types(llms::ALL).into_iter().filter(|n| llm_config(n).is_some()).collect();
    let folder = scratch("transformers");
    for (tower, llm) in towers.iter().map(|tower| (*tower, "llama")).chain(llms.iter().map(|llm| (towers[0], *llm))) {
        let case = folder.join(format!("{tower}-{llm}"));
        write_expected(&compose(&case, tower, llm), &case);
        assert_eq!(
            load(&case.join("model")).save_transformers(&case.join("again")).unwrap().is_some(),
            llm == "gemma2"
        );
        for python in &pythons {
            let output = Command::new(python).arg("scripts/dev/check_transformers.py").arg(&case).output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            // Scaled visual tokens and soft-capped logits are in 4.x only: the note that saving gives says so.
            let differs = llm == "gemma2" && !out.contains("transformers 4.");
            assert_eq!(output.status.success(), !differs, "{tower} and {llm}: {out}{err}");
            eprint!("{tower} and {llm}: {out}");
        }
    }
}

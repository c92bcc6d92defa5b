//! Adapters as peft 0.21.2 writes them: every option it has is computed as it does, or refused by its key.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use llmore::models::registry::Target;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::vlm::{Llm, LlmOptions, Vlm, Weights, checkpoint};
use llmore::weights::TensorFiles;
use serde_json::{Value, json};

use super::scratch::scratch;
use super::scripting::copy;

const TODAY: &str = "tests/fixtures/today/peft-adapters";
const SIBLINGS: &str = "tests/fixtures/today/peft-siblings";

fn open(folder: &Path) -> llmore::error::Result<Llm> {
    let options = LlmOptions { weights: Weights::Stored, seed: 0, target: Target::cpu() };
    Llm::open(&Presets::default(), &folder.display().to_string(), options)
}

pub(super) fn logits(llm: &Llm, ids: &[u32]) -> Tensor {
    let hidden = llm.model.embed(&ids.into()).unwrap();
    llm.model.logits(&llm.model.hidden(&hidden, &Packing::whole(&[ids.len()]), None).unwrap()).unwrap()
}

/// How far an LLM is from the expected logits of a name.
fn worst(llm: &Llm, expected: &Path, name: &str) -> f32 {
    let expected = TensorFiles::open(&expected.join("expected.safetensors")).unwrap();
    let load = |name: &str| expected.load(name, &llm.target().device).unwrap();
    let ids: Vec<u32> =
        load("ids").flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect();
    let expected = load(name);
    let logits = logits(llm, &ids).reshape(expected.shape()).unwrap();
    (logits - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// The adapter `control` alone beside its base, with its config changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
    let root = scratch(name);
    copy(&Path::new(TODAY).join("base"), &root.join("base"));
    let folder = root.join("adapter");
    std::fs::create_dir_all(&folder).unwrap();
    let control = Path::new(TODAY).join("control");
    std::fs::copy(control.join("adapter_model.safetensors"), folder.join("adapter_model.safetensors")).unwrap();
    let config = std::fs::read(control.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["base_model_name_or_path"] = json!("../base");
    change(&mut config);
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn adapters_of_peft_give_its_logits() {
    let names = [
        "rslora",
        "patterns",
        "rslora-patterns",
        "olora",
        "olora-rslora",
        "layers",
        "layers-pattern",
        "exclude",
        "exclude-regex",
        "fan",
        "mica",
        "regex2",
    ];
    for name in names {
        let llm = open(&Path::new(SIBLINGS).join(name)).unwrap();
        let far = worst(&llm, Path::new(SIBLINGS), name);
        assert!(far < 5e-5, "{name}: {far}");
        // Added to the weights it is the same.
        llm.merge().unwrap();
        let far = worst(&llm, Path::new(SIBLINGS), name);
        assert!(far < 5e-5, "{name} merged: {far}");
    }
}

#[test]
fn adapters_in_a_model_give_its_logits_or_are_refused_by_key() {
    let root = scratch("peft-models");
    for part in ["base", "tower", "control", "regex", "paths", "pissa"] {
        copy(&Path::new(TODAY).join(part), &root.join(part));
    }
    // The parts lie beside the folder and not in the working folder.
    let load = |name: &str| -> llmore::error::Result<Vlm> {
        let folder = root.join(name);
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = config.replace("\"base\"", "\"../base\"").replace("\"tower\"", "\"../tower\"");
        std::fs::write(folder.join("config.json"), config).unwrap();
        checkpoint::load(&Presets::default(), &folder, None, &Target::cpu())
    };
    for name in ["control", "regex", "paths"] {
        let vlm = load(name).unwrap();
        let far = worst(&vlm.llm, Path::new(TODAY), name);
        assert!(far < 1e-5, "{name}: {far}");
        // Written again, it is the same adapter, for PEFT as well.
        vlm.save_adapter(&root.join("again"), false).unwrap();
        let again = checkpoint::load(&Presets::default(), &root.join("again"), None, &Target::cpu()).unwrap();
        assert!(worst(&again.llm, Path::new(TODAY), name) < 1e-5, "{name} again");
    }
    let error = load("pissa").err().unwrap();
    assert!(error.to_string().contains("`init_lora_weights` is \"pissa\""), "{error}");
    assert!(error.help_text().unwrap().contains("path_initial_model_for_weight_conversion"), "{error}");
}

#[test]
fn what_was_computed_is_written_as_a_plain_adapter() {
    for name in ["patterns", "rslora-patterns", "olora-rslora", "layers"] {
        let root = scratch(name);
        let llm = open(&Path::new(SIBLINGS).join(name)).unwrap();
        llm.lora().unwrap().save(&root, llm.origin.place().unwrap()).unwrap();
        let far = worst(&open(&root).unwrap(), Path::new(SIBLINGS), name);
        assert!(far < 5e-5, "{name}: {far}");
    }
}

#[test]
fn every_other_key_is_refused_by_name() {
    let refused = [
        ("init_lora_weights", json!("pissa_niter_16")),
        ("init_lora_weights", json!("corda")),
        ("init_lora_weights", json!("lora_ga")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("of_tomorrow")),
        ("alora_invocation_tokens", json!([5, 6])),
        ("arrow_config", json!({ "top_k": 2 })),
        ("use_dora", json!(true)),
        ("lora_bias", json!(true)),
        ("bias", json!("lora_only")),
        ("modules_to_save", json!(["lm_head"])),
        ("trainable_token_indices", json!([1])),
        ("target_parameters", json!(["mlp.gate"])),
        ("layer_replication", json!([[0, 2], [1, 2]])),
        ("megatron_config", json!({ "x": 1 })),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({ "nblocks": 2 })),
        ("kasa_config", json!({ "beta": 1 })),
        ("velora_config", json!({ "rank": 1 })),
        ("monteclora_config", json!({ "n": 1 })),
        ("peft_type", json!("IA3")),
        ("some_key_of_tomorrow", json!(3)),
        ("target_modules", json!(["q_proj", "lm_head"])),
        ("target_modules", json!(["c_attn"])),
        ("target_modules", json!("(")),
        ("layers_to_transform", json!("x")),
    ];
    for (key, value) in refused {
        let error = open(&changed("refused", |config| config[key] = value.clone())).err();
        let error = error.unwrap_or_else(|| panic!("{key} = {value} opens"));
        assert!(error.to_string().contains(&format!("`{key}`")), "{key} = {value}: {error}");
        assert!(error.help_text().is_some(), "{key} = {value}: {error}");
    }
    for (r, text) in [(json!(0), "`r` is 0"), (json!(1u64 << 40), "`r` is 1099511627776")] {
        let error = open(&changed("refused", |config| config["r"] = r)).err().unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
    let harmless = [
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!("eva")),
        ("init_lora_weights", json!(false)),
        ("alora_invocation_tokens", json!([])),
        ("fan_in_fan_out", json!(true)),
        ("ensure_weight_tying", json!(true)),
        ("runtime_config", json!({ "ephemeral_gpu_offload": false })),
        ("loftq_config", json!({ "loftq_bits": 4 })),
        ("task_type", Value::Null),
        ("some_key_of_tomorrow", Value::Null),
    ];
    for (key, value) in harmless {
        let llm = open(&changed("harmless", |config| config[key] = value.clone())).unwrap();
        assert!(worst(&llm, Path::new(TODAY), "control") < 1e-5, "{key} = {value}");
    }
}

#[test]
fn an_adapter_and_its_config_must_go_together() {
    let error = |targets: Value| open(&changed("tensors", |config| config["target_modules"] = targets)).err().unwrap();
    let lacks = error(json!(["q_proj", "gate_proj", "up_proj"])).to_string();
    assert!(lacks.contains("`target_modules` takes `model.layers.0.mlp.up_proj`"), "{lacks}");
    assert!(lacks.contains("(4 of 12 lack)"), "{lacks}");
    let more = error(json!(["q_proj"])).to_string();
    assert!(more.contains("holds 4 tensors that `target_modules` does not take"), "{more}");
}

#[test]
fn a_folder_of_peft_alone_needs_a_base() {
    let folder = changed("alone", |_| {});
    let error = checkpoint::load(&Presets::default(), &folder, None, &Target::cpu()).err().unwrap();
    assert!(error.to_string().contains("holds an adapter alone"), "{error}");
    assert!(error.help_text().unwrap().contains("llm(\""), "{error}");
    assert!(open(&folder).is_ok());
    let gone = changed("alone", |config| config["base_model_name_or_path"] = json!("../nowhere"));
    let error = open(&gone).err().unwrap();
    assert!(error.to_string().contains("its base `../nowhere`"), "{error}");
    assert!(error.help_text().unwrap().contains("base_model_name_or_path"), "{error}");
}

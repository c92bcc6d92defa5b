//! Files that are damaged or made to harm: every one is an error that names the file and what is wrong in it, nothing runs,
//! nothing is allocated for what a file only claims.

use std::path::{Path, PathBuf};

use llmore::error::Error;
use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::memory::{DeviceMemory, Host};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::study::Record;
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, Weights, checkpoint};
use serde_json::{Value, json};

use super::scratch::scratch;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy of the LLaVA-MORE checkpoint to damage.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        Copy::of("training/checkpoint", &["clip-tower"], name)
    }

    fn of(source: &str, inner: &[&str], name: &str) -> Self {
        let folder = scratch(name);
        for part in std::iter::once(&"").chain(inner) {
            std::fs::create_dir_all(folder.join(part)).unwrap();
            for entry in std::fs::read_dir(fixture(source).join(part)).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), folder.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        Copy(folder)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn set(&self, file: &str, key: &str, value: Value) -> &Self {
        let mut config: Value = serde_json::from_slice(&std::fs::read(self.path(file)).unwrap()).unwrap();
        match value {
            Value::Null => drop(config.as_object_mut().unwrap().remove(key)),
            value => config[key] = value,
        }
        std::fs::write(self.path(file), config.to_string()).unwrap();
        self
    }

    fn load(&self) -> Result<(), Error> {
        let template = Some("llama_3_1");
        checkpoint::load(&Presets::default(), &self.0, template, &Target::cpu()).map(|_| ())
    }

    /// Loading fails with a message that holds all of these.
    fn fails(&self, parts: &[&str]) {
        let error = self.load().expect_err(&format!("{} was loaded", self.0.display()));
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}\ndoes not hold {parts:?}");
    }
}

/// A safetensors file of this header and so many bytes of data.
fn safetensors(path: &Path, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn damaged_safetensors() {
    let copy = Copy::new("safetensors");
    let path = copy.path("model.safetensors");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 7, 8, 9, 1000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        copy.fails(&["safetensors"]);
    }
    for header in [u64::MAX, 1 << 40, whole.len() as u64, 0] {
        std::fs::write(&path, [&header.to_le_bytes(), &whole[8..]].concat()).unwrap();
        copy.fails(&["model.safetensors"]);
    }
    let entry = |dtype: &str, shape: &str, from: usize, to: usize| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let two = |a: String, b: String| format!(r#"{{"a":{a},"b":{b}}}"#);
    for header in [
        two(entry("F32", "[2]", 0, 8), entry("F32", "[2]", 4, 12)),
        two(entry("F32", "[2]", 8, 16), entry("F32", "[2]", 8, 0)),
        two(entry("F32", "[2]", 0, 8), entry("F32", "[4611686018427387904,4]", 8, 16)),
        two(entry("F32", "[2]", 0, 8), entry("F99", "[2]", 8, 16)),
        format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
    ] {
        safetensors(&path, &header, 16);
        copy.fails(&["model.safetensors"]);
    }
}

#[test]
fn sides_of_tensors_without_values() {
    let folder = Copy::new("empty-tensors");
    let path = folder.path("empty.safetensors");
    let open = |shape: &str| {
        safetensors(&path, &format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}"#), 0);
        llmore::weights::TensorFiles::open(&path).map(|files| files.names())
    };
    assert_eq!(open("[0, 4096]").unwrap(), ["a"]);
    let error = open("[1152921504606846976, 0]").unwrap_err().to_string();
    assert!(error.contains("empty.safetensors` declares 1152921504606846976 rows for the empty tensor `a`"), "{error}");
}

#[test]
fn an_index_that_points_elsewhere() {
    let copy = Copy::new("index");
    // The one file would win.
    std::fs::remove_file(copy.path("model.safetensors")).unwrap();
    let index = |map: Value| {
        let text = json!({ "weight_map": map }).to_string();
        std::fs::write(copy.path("model.safetensors.index.json"), text).unwrap();
    };
    index(json!({ "a": "../../etc/passwd.safetensors" }));
    copy.fails(&["index.json", "`a`", "../../etc/passwd"]);
    index(json!({ "a": "/etc/passwd" }));
    copy.fails(&["index.json", "/etc/passwd"]);
    index(json!({ "a": "model-00001-of-00002.safetensors" }));
    copy.fails(&["model-00001-of-00002.safetensors"]);
    index(json!({ "a": 3 }));
    copy.fails(&["index.json", "`a`"]);
    index(json!([]));
    copy.fails(&["index.json", "weight_map"]);
    std::fs::write(copy.path("model.safetensors.index.json"), "[".repeat(1_000_000)).unwrap();
    copy.fails(&["index.json"]);
}

#[test]
fn integers_where_weights_belong() {
    let copy = Copy::new("integers");
    let files = llmore::weights::TensorFiles::open(&copy.0).unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    let device = candle_core::Device::Cpu;
    let tensors = files.names().into_iter().map(|other| {
        let tensor = files.load(&other, &device).unwrap();
        let tensor = if other == name { tensor.to_dtype(candle_core::DType::I64).unwrap() } else { tensor };
        (other, tensor)
    });
    let tensors: Vec<_> = tensors.collect();
    llmore::weights::save_tensors(&tensors, &copy.path("model.safetensors")).unwrap();
    copy.fails(&[name, "i64"]);
}

#[test]
fn configs_with_sizes_that_no_model_has() {
    let copy = Copy::new("sizes");
    for (key, value) in [
        ("hidden_size", json!(1_000_000_000_000u64)),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-40)),
        ("hidden_size", json!("40")),
        ("hidden_size", json!(80)),
        ("num_hidden_layers", json!(1_000_000_000_000u64)),
        ("num_hidden_layers", json!(1000)),
        ("num_attention_heads", json!(0)),
        ("num_key_value_heads", json!(3)),
        ("vocab_size", json!(1_000_000_000_000u64)),
        ("max_position_embeddings", json!(1_000_000_000_000u64)),
        ("intermediate_size", json!(u64::MAX)),
        ("mm_vision_tower", Value::Null),
        ("mm_vision_tower", json!("no/such-tower")),
        ("mm_projector_type", json!("mlp99999999999x_gelu")),
        ("mm_vision_select_layer", json!(99)),
        ("model_type", json!("llava_mpt")),
    ] {
        let copy = Copy::new(&format!("sizes-{key}"));
        copy.set("config.json", key, value.clone());
        let error = copy.load().expect_err(&format!("{key} {value}")).to_string();
        let named =
            error.contains(key) || error.contains("shape") || error.contains("lacks") || error.contains("heads");
        assert!(
            named || ["select_layer", "mlp9999", "such-tower"].iter().any(|part| error.contains(part)),
            "{key}: {error}"
        );
    }
    for (key, value) in [
        ("image_size", json!(0)),
        ("image_size", json!(1_000_000_000_000u64)),
        ("patch_size", json!(0)),
        ("num_attention_heads", json!(5)),
        ("num_attention_heads", json!(0)),
        ("num_hidden_layers", json!(1_000_000_000_000u64)),
        ("hidden_size", json!(1_000_000_000_000u64)),
        ("intermediate_size", json!(0)),
    ] {
        let copy = Copy::new(&format!("tower-{key}"));
        copy.set("clip-tower/config.json", key, value.clone());
        copy.fails(&["clip-tower/config.json", key]);
    }
    copy.set("clip-tower/config.json", "patch_size", json!(25));
    assert!(copy.load().is_err());
    assert!(Host.most().is_none_or(|bytes| bytes < 4 << 30), "{:?} bytes", Host.most());
}

#[test]
fn a_random_model_of_a_hostile_config_is_refused_too() {
    let copy = Copy::of("parity/models/stage-1", &["llm", "tower"], "random");
    copy.set("llm/config.json", "num_attention_heads", json!(5)).set("llm/config.json", "head_dim", Value::Null);
    let options = LlmOptions { weights: Weights::Random, seed: 0, target: Target::cpu() };
    let llm = Llm::open(&Presets::default(), &copy.path("llm").display().to_string(), options);
    assert!(llm.err().unwrap().to_string().contains("num_attention_heads"));
    copy.set("tower/config.json", "image_size", json!(0));
    let options = EncoderOptions {
        select_layer: None,
        select: None,
        s2: None,
        weights: Weights::None,
        seed: 0,
        target: Target::cpu(),
    };
    let encoder = Encoder::open(&Presets::default(), &copy.path("tower").display().to_string(), options);
    assert!(encoder.err().unwrap().to_string().contains("image_size"));
}

#[test]
fn files_that_are_not_what_their_names_say() {
    for (file, content) in [
        ("config.json", "[".repeat(1_000_000)),
        ("config.json", "[]".to_string()),
        ("config.json", "{\"model_type\": 3}".to_string()),
        ("tokenizer.json", "{\"model\": {}}".to_string()),
        ("tokenizer.json", "[".repeat(1_000_000)),
        ("clip-tower/config.json", "{}".to_string()),
        ("clip-tower/preprocessor_config.json", "{\"image_mean\": []}".to_string()),
        ("clip-tower/preprocessor_config.json", "{\"size\": {\"shortest_edge\": 99999999999}}".to_string()),
    ] {
        let copy = Copy::new("content");
        std::fs::write(copy.path(file), content).unwrap();
        assert!(copy.load().is_err(), "{file}");
    }
    let copy = Copy::new("no-tokenizer");
    std::fs::remove_file(copy.path("tokenizer.json")).unwrap();
    copy.fails(&["tokenizer.json"]);
}

#[test]
fn a_tokenizer_without_the_templates_tokens() {
    let copy = Copy::new("tokens");
    let text = std::fs::read_to_string(copy.path("tokenizer.json")).unwrap();
    std::fs::write(copy.path("tokenizer.json"), text.replace("<|eot_id|>", "<|other|>")).unwrap();
    // What is declared there is a token of the tokenizer, too.
    copy.set("tokenizer_config.json", "eos_token", Value::Null);
    copy.fails(&["<|eot_id|>", "llama_3_1"]);
}

#[test]
fn torch_files_that_run_code_or_unpack_without_end() {
    for (file, part) in [("code.bin", "posix.system"), ("bomb.bin", "compressed"), ("legacy.bin", "1.6")] {
        let copy = Copy::of("parity/models/stage-1", &["llm", "tower"], file);
        std::fs::copy(fixture("parity/models/pickle").join(file), copy.path("mm_projector.bin")).unwrap();
        copy.fails(&["mm_projector.bin", part]);
    }
    assert!(!Path::new("executed").exists());
}

#[test]
fn what_does_not_fit_is_said_before_weights_are_read() {
    // The LLM's weights are cut off: only what is checked before them can be what the error is about.
    let context = Copy::new("context");
    context.set("config.json", "max_position_embeddings", json!(9));
    context.fails(&["an image takes 9 tokens", "holds 9"]);
    let widths = Copy::of("parity/models/stage-1", &["llm", "tower"], "widths");
    widths.set("llm/config.json", "hidden_size", json!(48)).set("llm/config.json", "num_attention_heads", json!(6));
    std::fs::write(widths.path("llm/model.safetensors"), "cut").unwrap();
    widths.fails(&["model.mm_projector.0.weight", "[24, 16]", "[48, 16]"]);
}

#[test]
fn a_right_answer_at_a_place_that_no_list_has() {
    let path = crate::scratch::scratch_path("answer.jsonl");
    for answer in [json!(4), json!(-1), json!(u32::MAX), json!("4294967295"), json!(i64::MAX), json!(u64::MAX)] {
        let row = json!({ "question": "which?", "options": ["a", "b"], "answer": answer });
        std::fs::write(&path, format!("{row}\n")).unwrap();
        let options = BenchmarkOptions { data: Some(path.clone()), ..BenchmarkOptions::default() };
        let error = Benchmark::open(&Presets::default(), "ai2d", &options).err().unwrap().to_string();
        assert!(error.contains("expected a position among 2 choices"), "{answer}: {error}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_study_that_holds_a_part_twice() {
    let folder = crate::scratch::scratch("study");
    let record = |llms: &str| {
        let text = format!(
            "about = \"\"\nencoders = [\"tiny-clip\"]\nllms = {llms}\nprojector = \"linear\"\nrecipe = \"tiny\"\n\
             benchmarks = []\nseeds = [0]\ncells = []\n"
        );
        std::fs::write(folder.join("study.toml"), text).unwrap();
        Record::open(&folder)
    };
    assert_eq!(record("[\"a\", \"b\"]").unwrap().llms.len(), 2);
    let error = record("[\"a\", \"b\", \"a\"]").unwrap_err().to_string();
    assert!(error.contains("study.toml") && error.contains("`llms` holds `a` twice"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}

//! Weights whose meaning lies beside them: scales, names nobody uses, files that overrule others, GGUF files in parts and
//! of older times. Oracles: float8 widened by a table of its own here, the same model in f32, transformers' logits.

mod float8;
mod gguf;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use llmore::models::registry::Target;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::Tokenizer;
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, Weights, checkpoint};
use llmore::weights::{Quantize, TensorFiles, read_tensors, save_tensors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};

use super::scratch::{scratch, scratch_path};
use super::scripting::copy;

const CASES: &str = "tests/fixtures/today";
/// A whole LLaVA of 288 tokens; its LLM alone is used here.
const CHECKPOINT: &str = "tests/fixtures/training/checkpoint";
const UP: &str = "model.layers.0.mlp.up_proj.weight";

fn open_with(path: &Path, quantize: Option<&str>) -> llmore::error::Result<Llm> {
    let quantize = quantize.map(|name| Quantize::parse(name).unwrap());
    let target = Target { quantize, ..Target::cpu() };
    Llm::open(&Presets::default(), path.to_str().unwrap(), LlmOptions { weights: Weights::Stored, seed: 0, target })
}

fn open(path: &Path) -> Llm {
    open_with(path, None).unwrap()
}

fn refused(path: &Path) -> String {
    open_with(path, None).map(drop).unwrap_err().to_string()
}

fn notes(llm: &Llm) -> String {
    llm.origin.config.notes().list().join("\n")
}

fn logits(llm: &Llm) -> Tensor {
    let ids: Vec<u32> = (0..24).map(|i| (i * 7 + 13) % 250 + 4).collect();
    logits_of(llm, &ids)
}

fn logits_of(llm: &Llm, ids: &[u32]) -> Tensor {
    let ids: Arc<[u32]> = ids.into();
    let hidden = llm.model.hidden(&llm.model.embed(&ids).unwrap(), &Packing::whole(&[ids.len()]), None).unwrap();
    llm.model.logits(&hidden).unwrap()
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

/// The tensors of an LLM and its config, to be changed and written.
struct Sample {
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)>,
    config: Json,
}

impl Sample {
    fn new() -> Self {
        let text = std::fs::read(Path::new(CHECKPOINT).join("config.json")).unwrap();
        let mut config: Json = serde_json::from_slice(&text).unwrap();
        config["model_type"] = json!("llama");
        config.as_object_mut().unwrap().retain(|key, _| !key.starts_with("mm_"));
        let mut sample = Sample { tensors: Vec::new(), config };
        for (name, tensor) in read_tensors(Path::new(CHECKPOINT), &Device::Cpu).unwrap() {
            if !name.starts_with("model.vision_tower") && !name.starts_with("model.mm_projector") {
                sample.put(&name, &tensor.to_dtype(DType::F32).unwrap());
            }
        }
        sample
    }

    fn put(&mut self, name: &str, tensor: &Tensor) {
        let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(name, Dtype::F32, tensor.dims(), bytes);
    }

    fn raw(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.retain(|(known, ..)| known != name);
        self.tensors.push((name.to_string(), dtype, shape.to_vec(), bytes));
    }

    fn get(&self, name: &str) -> Tensor {
        let (_, _, shape, bytes) = self.tensors.iter().find(|(known, ..)| known == name).unwrap();
        Tensor::from_raw_buffer(bytes, DType::F32, shape, &Device::Cpu).unwrap()
    }

    fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|(known, ..)| known != name);
        self
    }

    fn with(mut self, key: &str, value: Json) -> Self {
        self.config[key] = value;
        self
    }

    fn write(&self, name: &str) -> PathBuf {
        let folder = scratch(name);
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        std::fs::copy(Path::new(CHECKPOINT).join("tokenizer.json"), folder.join("tokenizer.json")).unwrap();
        self.part(&folder.join("model.safetensors"), |_| true);
        folder
    }

    /// Writes some of the tensors, by number.
    fn part(&self, path: &Path, take: impl Fn(usize) -> bool) {
        let taken = self.tensors.iter().enumerate().filter(|(index, _)| take(*index));
        let views: HashMap<String, TensorView> = taken
            .map(|(_, (name, dtype, shape, bytes))| {
                (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
            })
            .collect();
        std::fs::write(path, safetensors::serialize(&views, None).unwrap()).unwrap();
    }

    fn linears(&self) -> Vec<String> {
        let names = self.tensors.iter().map(|(name, ..)| name.clone());
        names.filter(|name| name.contains("_proj.") && name.ends_with(".weight")).collect()
    }
}

#[test]
fn weights_that_are_not_computed_are_refused_by_the_name_of_their_method() {
    let method = |name: &str| json!({ "quant_method": name });
    let cases = [
        ("gptq", method("gptq"), ".qweight", "`gptq`"),
        ("awq", method("awq"), ".qzeros", "`awq`"),
        ("gptq-unsaid", Json::Null, ".qweight", "GPTQ"),
        ("bnb-8", json!({ "load_in_8bit": true }), ".other", "`load_in_8bit`"),
        ("bnb-8-unsaid", Json::Null, ".SCB", "bitsandbytes in 8 bits"),
        ("bnb-4", method("bitsandbytes"), ".weight.absmax", "`bitsandbytes`"),
        ("bnb-4-unsaid", Json::Null, ".weight.quant_state.bitsandbytes__nf4", "bitsandbytes in 4 bits"),
        (
            "packed",
            json!({ "quant_method": "compressed-tensors", "format": "pack-quantized" }),
            ".other",
            "`pack-quantized`",
        ),
        ("packed-unsaid", Json::Null, ".weight_packed", "compressed-tensors"),
        (
            "int8",
            json!({ "quant_method": "compressed-tensors", "format": "int-quantized" }),
            ".other",
            "`int-quantized`",
        ),
        ("hqq", method("hqq"), ".W_q", "`hqq`"),
        ("mxfp4", Json::Null, "_blocks", "MXFP4"),
        ("torchao", method("torchao"), "._weight_qdata", "`torchao`"),
        ("nvfp4", json!({ "quant_method": "modelopt", "quant_algo": "NVFP4" }), ".other", "`NVFP4`"),
        ("mlx", json!({ "bits": 4, "group_size": 64 }), ".other", "`quantization.bits`"),
        ("new", method("of-tomorrow"), ".other", "`of-tomorrow`"),
        ("scale", Json::Null, ".weight_scale", "stored as f32 with the scale"),
    ];
    for (name, config, end, expected) in cases {
        let mut sample = Sample::new().with("quantization_config", config);
        sample.put(&UP.replace(".weight", end), &Tensor::ones((4, 4), DType::F32, &Device::Cpu).unwrap());
        let text = refused(&sample.write(&format!("refused-{name}")));
        assert!(text.contains(expected) && text.contains("dequantize"), "{name}: {text}");
        assert!(text.contains(&format!("refused-{name}")), "{name}: {text}");
    }
    // Inside a LLaVA, and for a tower's own weights.
    let mut sample = Sample::new();
    sample.config = json!({ "text_config": sample.config, "model_type": "llama" });
    sample.config["text_config"]["quantization_config"] = method("gptq");
    assert!(refused(&sample.write("refused-nested")).contains("`gptq`"));
    // Whole numbers without any scale.
    let mut sample = Sample::new();
    sample.raw(UP, Dtype::I8, sample.get(UP).dims(), vec![1; sample.get(UP).elem_count()]);
    let text = refused(&sample.write("refused-plain"));
    assert!(text.contains(UP) && text.contains("not as floats") && text.contains("dequantize"), "{text}");
}

#[test]
fn tensors_that_no_layer_uses_are_named_unless_they_are_harmless() {
    let plain = logits(&open(&Sample::new().write("unused-plain")));
    let vector = |count: usize| Tensor::ones(count, DType::F32, &Device::Cpu).unwrap();
    let cases: [(&str, &[&str], &str); 7] = [
        (
            "biases",
            &["model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_proj.bias"],
            "`model.layers.*.self_attn.q_proj.bias` (2)",
        ),
        ("q-norm", &["model.layers.0.self_attn.q_norm.weight"], "`model.layers.*.self_attn.q_norm.weight`"),
        ("layer", &["model.layers.7.input_layernorm.weight"], "layer 7 (1 tensors), where `num_hidden_layers` is 2"),
        ("router", &["model.layers.0.block_sparse_moe.gate.weight"], "`model.layers.*.block_sparse_moe.gate.weight`"),
        ("head", &["lm_head.bias"], "`lm_head.bias`"),
        ("newline", &["model.image_newline"], "`model.image_newline`"),
        (
            "harmless",
            &[
                "model.layers.0.self_attn.rotary_emb.inv_freq",
                "model.layers.0.self_attn.masked_bias",
                "model.vision_tower.x",
                "multi_modal_projector.y",
            ],
            "",
        ),
    ];
    for (name, extra, expected) in cases {
        let mut sample = Sample::new();
        extra.iter().for_each(|name| sample.put(name, &vector(40)));
        let llm = open(&sample.write(&format!("unused-{name}")));
        assert_eq!(worst(&logits(&llm), &plain), 0.0, "{name}");
        assert_eq!(llm.unused.len(), extra.len(), "{name}");
        match expected {
            "" => assert_eq!(notes(&llm), "", "{name}"),
            expected => {
                assert!(notes(&llm).contains(expected) && notes(&llm).contains("no layer uses them"), "{}", notes(&llm))
            }
        }
    }
    // A mask is a truth value, which candle has no type for.
    let mut sample = Sample::new();
    sample.raw("model.layers.0.self_attn.causal_mask", Dtype::BOOL, &[2], vec![1, 0]);
    assert!(notes(&open(&sample.write("unused-bool"))).contains("causal_mask"));
}

#[test]
fn towers_and_whole_models_name_what_they_do_not_use() {
    let folder = scratch("unused-whole");
    copy(Path::new(CHECKPOINT), &folder);
    let quiet = checkpoint::open(&Presets::default(), folder.to_str().unwrap(), None, &Target::cpu()).unwrap();
    assert_eq!(quiet.notes.list(), [""; 0]);
    let mut tensors = read_tensors(Path::new(CHECKPOINT), &Device::Cpu).unwrap();
    let tower = "model.vision_tower.vision_tower.";
    let harmless = [
        "vision_model.post_layernorm.weight",
        "text_model.encoder.layers.0.layer_norm1.weight",
        "logit_scale",
        "vision_model.embeddings.position_ids",
    ];
    let odd =
        ["vision_model.encoder.layers.0.self_attn.q_norm.weight", "vision_model.encoder.layers.99.layer_norm1.weight"];
    let names = harmless.iter().chain(&odd).map(|name| format!("{tower}{name}"));
    let more = names.chain(["model.mm_projector.8.weight".to_string(), "model.image_newline".to_string()]);
    tensors.retain(|(name, _)| !name.contains("post_layernorm"));
    tensors.extend(more.map(|name| (name, Tensor::ones(4, DType::F32, &Device::Cpu).unwrap())));
    save_tensors(&tensors, &folder.join("model.safetensors")).unwrap();
    let vlm = checkpoint::open(&Presets::default(), folder.to_str().unwrap(), None, &Target::cpu()).unwrap();
    let text = vlm.notes.list().join("\n");
    for expected in ["q_norm", "layer 99", "model.mm_projector.*.weight", "model.image_newline"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for silent in ["text_model", "logit_scale", "position_ids", "post_layernorm"] {
        assert!(!text.contains(silent), "{silent}: {text}");
    }
}

#[test]
fn a_stage_1_folder_names_what_belongs_to_no_part() {
    let folder = scratch("stray");
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(Path::new(CHECKPOINT).join(file), folder.join(file)).unwrap();
    }
    let base = Sample::new().write("stray-base");
    let mut config: Json = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    config["_name_or_path"] = json!(base);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    copy(&Path::new(CHECKPOINT).join("clip-tower"), &{
        std::fs::create_dir_all(folder.join("clip-tower")).unwrap();
        folder.join("clip-tower")
    });
    let mut tensors = read_tensors(Path::new(CHECKPOINT), &Device::Cpu).unwrap();
    tensors.retain(|(name, _)| name.starts_with("model.vision_tower") || name.starts_with("model.mm_projector"));
    let told = |tensors: &[(String, Tensor)]| {
        save_tensors(tensors, &folder.join("mm_projector.safetensors")).unwrap();
        let vlm = checkpoint::open(&Presets::default(), folder.to_str().unwrap(), None, &Target::cpu()).unwrap();
        vlm.notes.list()
    };
    assert_eq!(told(&tensors), [""; 0]);
    tensors.push(("model.norm.weight".to_string(), Tensor::ones(40, DType::F32, &Device::Cpu).unwrap()));
    let told = told(&tensors);
    assert!(told.len() == 1 && told[0].ends_with("nothing reads `model.norm.weight`"), "{told:?}");
}

#[test]
fn a_tied_model_may_hold_the_head_alone() {
    // transformers 5.24.0 ties in both directions; its logits are in the fixture.
    let case = Path::new(CASES).join("tied-head-only");
    let (llm, expected) = (open(&case.join("model")), TensorFiles::open(&case.join("expected.safetensors")).unwrap());
    for key in ["a", "b"] {
        let load = |name: &str| expected.load(&format!("{key}.{name}"), &Device::Cpu).unwrap();
        let ids: Vec<u32> = load("ids").to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let theirs = load("logits");
        let ours = logits_of(&llm, &ids).reshape(theirs.shape()).unwrap();
        assert!(worst(&ours, &theirs) < 1e-4);
    }
    let sample = Sample::new().with("tie_word_embeddings", json!(true));
    let text = refused(&sample.write("tied-and-different"));
    assert!(text.contains("`lm_head.weight` and `model.embed_tokens.weight` differ"), "{text}");
    let text = refused(&Sample::new().without("model.embed_tokens.weight").write("no-embedding"));
    assert!(text.contains("`model.embed_tokens.weight`"), "{text}");
}

#[test]
fn one_file_wins_over_an_index_and_parts_need_none() {
    let sample = Sample::new();
    let plain = logits(&open(&sample.write("whole")));
    let mut other = Sample::new();
    other.put("model.norm.weight", &(other.get("model.norm.weight") * 2.0).unwrap());
    let index = |folder: &Path, file: &str| {
        let map: serde_json::Map<String, Json> =
            other.tensors.iter().map(|(name, ..)| (name.clone(), json!(file))).collect();
        std::fs::write(folder.join("model.safetensors.index.json"), json!({ "weight_map": map }).to_string()).unwrap();
    };
    let both = sample.write("both");
    index(&both, "model-00001-of-00001.safetensors");
    other.part(&both.join("model-00001-of-00001.safetensors"), |_| true);
    let llm = open(&both);
    assert_eq!(worst(&logits(&llm), &plain), 0.0);
    assert!(notes(&llm).contains("model.safetensors is read, as transformers does"), "{}", notes(&llm));
    // An index of that very file is nothing to tell.
    index(&both, "model.safetensors");
    assert_eq!(notes(&open(&both)), "");

    let parts = sample.write("parts");
    std::fs::remove_file(parts.join("model.safetensors")).unwrap();
    for number in 0..3 {
        let name = format!("model-{:05}-of-00003.safetensors", number + 1);
        sample.part(&parts.join(name), |index| index % 3 == number);
    }
    let llm = open(&parts);
    assert_eq!(worst(&logits(&llm), &plain), 0.0);
    assert!(notes(&llm).contains("3 parts `model-*.safetensors` are read together"), "{}", notes(&llm));
    std::fs::remove_file(parts.join("model-00002-of-00003.safetensors")).unwrap();
    assert!(refused(&parts).contains("`model-00002-of-00003.safetensors` is lacking"), "{}", refused(&parts));
    index(&parts, "model-00002-of-00003.safetensors");
    assert!(
        refused(&parts).contains("lacks `model-00002-of-00003.safetensors` that model.safetensors.index.json names")
    );
}

#[test]
fn what_stands_in_place_of_weights_is_named() {
    let folder = Sample::new().write("variant");
    std::fs::rename(folder.join("model.safetensors"), folder.join("model.fp16.safetensors")).unwrap();
    let text = refused(&folder);
    assert!(
        text.contains("`model.fp16.safetensors` is a variant") && text.contains("rename it to `model.safetensors`"),
        "{text}"
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 4976698672\n";
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let folder = Sample::new().write(&format!("lfs-{file}"));
        std::fs::write(folder.join(file), pointer).unwrap();
        let text = refused(&folder);
        assert!(
            text.contains(file) && text.contains("pointer of Git LFS, in place of a file of 4976698672 bytes"),
            "{text}"
        );
        assert!(text.contains("git lfs pull"), "{text}");
    }
    let path = scratch("lfs-gguf").join("x.gguf");
    std::fs::write(&path, pointer).unwrap();
    assert!(refused(&path).contains("pointer of Git LFS"));
    assert!(
        Tokenizer::open(&scratch_path("lfs-tokenizer.json")).unwrap_err().to_string().contains("pointer of Git LFS")
    );
}

#[test]
fn values_that_are_no_numbers_and_types_that_fell_back_are_said() {
    let mut sample = Sample::new();
    let mut up: Vec<f32> = sample.get(UP).flatten_all().unwrap().to_vec1().unwrap();
    (up[0], up[5]) = (f32::NAN, f32::NEG_INFINITY);
    sample.put(UP, &Tensor::from_vec(up, sample.get(UP).shape(), &Device::Cpu).unwrap());
    let folder = sample.write("nan");
    let expected = format!("tensor `{UP}` of `{}`: 2 of 3520 values are NaN or infinite", folder.display());
    for quantize in [None, Some("q8_0")] {
        let text = notes(&open_with(&folder, quantize).unwrap());
        assert!(text.contains(&expected), "{text}");
    }
    // 40 and 88 values fit no block, of 256 or of 32.
    let text = notes(&open_with(&Sample::new().write("q4"), Some("q4_k")).unwrap());
    assert!(text.contains("quantize `q4_k`: rows of 40 values do not fit its blocks"), "{text}");
    // 128 values do not fit 256, and the 344 of its feed-forward layers not even 32.
    let llm = open_with(Path::new("tiny-llama"), Some("q4_k")).unwrap();
    assert!(notes(&llm).contains("quantize `q4_k`") && notes(&llm).contains("are in q8_0"), "{}", notes(&llm));
    let text = notes(&open_with(Path::new("tiny-llama"), Some("q8_0")).unwrap());
    assert_eq!(text, "quantize `q8_0`: rows of 344 values do not fit its blocks, so 4 matrices are in f32");
}

#[test]
fn a_tower_alone_names_what_it_does_not_use() {
    let folder = scratch("tower");
    copy(Path::new("tests/fixtures/training/checkpoint/clip-tower"), &folder);
    let tensors = read_tensors(Path::new(CHECKPOINT), &Device::Cpu).unwrap().into_iter();
    let mut tensors: Vec<_> = tensors
        .filter_map(|(name, tensor)| Some((name.strip_prefix("model.vision_tower.vision_tower.")?.to_string(), tensor)))
        .collect();
    let save = |tensors: &[(String, Tensor)]| {
        save_tensors(tensors, &folder.join("model.safetensors")).unwrap();
        let (weights, target) = (Weights::Stored, Target::cpu());
        let options = EncoderOptions { select_layer: None, select: None, weights, s2: None, seed: 0, target };
        Encoder::open(&Presets::default(), folder.to_str().unwrap(), options).unwrap().origin.config.notes().list()
    };
    assert_eq!(save(&tensors), [""; 0]);
    tensors
        .push(("vision_model.head_of_another.weight".to_string(), Tensor::ones(4, DType::F32, &Device::Cpu).unwrap()));
    let told = save(&tensors);
    assert!(told.len() == 1 && told[0].contains("`vision_model.head_of_another.weight`"), "{told:?}");
}

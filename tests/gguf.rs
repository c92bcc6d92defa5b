//! GGUF files: a small model written as one computes what its safetensors compute, bad files are refused with the
//! key or tensor named, and the models of `models/` (scripts/dev/fetch_small_models.sh) agree with their oracles.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use llmore::models::registry::Target;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::Tokenizer;
use llmore::vlm::{Llm, LlmOptions, Weights};
use llmore::weights::{Gguf, Quantize, TensorFiles};

use super::scratch::scratch_path;

const CHECKPOINT: &str = "tests/fixtures/training/checkpoint";

pub fn open(path: &str, quantize: Option<&str>) -> llmore::error::Result<Llm> {
    let quantize = quantize.map(|name| Quantize::parse(name).unwrap());
    let target = Target { quantize, ..Target::cpu() };
    Llm::open(&Presets::default(), path, LlmOptions { weights: Weights::Stored, seed: 0, target })
}

fn logits(llm: &Llm, ids: &[u32]) -> Tensor {
    let ids: Arc<[u32]> = ids.into();
    let hidden = llm.model.hidden(&llm.model.embed(&ids).unwrap(), &Packing::whole(&[ids.len()]), None).unwrap();
    llm.model.logits(&hidden).unwrap()
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    let b = b.to_dtype(DType::F32).unwrap();
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

pub fn text(value: &str) -> Value {
    Value::String(value.to_string())
}

fn texts(values: impl IntoIterator<Item = String>) -> Value {
    Value::Array(values.into_iter().map(Value::String).collect())
}

/// Metadata and tensors of the checkpoint fixture's LLM as llama.cpp would write them.
pub struct Sample {
    values: Vec<(String, Value)>,
    pub tensors: Vec<(String, Tensor, GgmlDType)>,
}

impl Sample {
    pub fn new() -> Self {
        Sample::of(&open(CHECKPOINT, None).unwrap())
    }

    fn of(llm: &Llm) -> Self {
        let config = llm.origin.config.value();
        let tokenizer: serde_json::Value = serde_json::from_slice(llm.tokenizer().unwrap().json()).unwrap();
        let whole = |key: &str| Value::U32(config[key].as_u64().unwrap() as u32);
        let heads = config["num_attention_heads"].as_u64().unwrap() as usize;
        let kv_heads = config["num_key_value_heads"].as_u64().unwrap() as usize;
        let count = llm.tokenizer().unwrap().vocab();
        let mut tokens = vec![String::new(); count];
        let mut kinds = vec![Value::I32(1); count];
        for (token, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
            tokens[id.as_u64().unwrap() as usize] = token.clone();
        }
        for token in tokenizer["added_tokens"].as_array().unwrap() {
            let id = token["id"].as_u64().unwrap() as usize;
            tokens[id] = token["content"].as_str().unwrap().to_string();
            kinds[id] = Value::I32(3);
        }
        let bos = tokens.iter().position(|token| token == "<|begin_of_text|>").unwrap_or(0);
        let merges = tokenizer["model"]["merges"].as_array().unwrap().iter().map(|merge| match merge.as_str() {
            Some(merge) => merge.to_string(),
            None => format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()),
        });
        let values = vec![
            ("general.architecture", text("llama")),
            ("llama.block_count", whole("num_hidden_layers")),
            ("llama.embedding_length", whole("hidden_size")),
            ("llama.feed_forward_length", whole("intermediate_size")),
            ("llama.attention.head_count", whole("num_attention_heads")),
            ("llama.attention.head_count_kv", whole("num_key_value_heads")),
            ("llama.context_length", whole("max_position_embeddings")),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(config["rms_norm_eps"].as_f64().unwrap() as f32)),
            ("llama.rope.freq_base", Value::F32(config["rope_theta"].as_f64().unwrap() as f32)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("llama-bpe")),
            ("tokenizer.ggml.tokens", texts(tokens)),
            ("tokenizer.ggml.token_type", Value::Array(kinds)),
            ("tokenizer.ggml.merges", texts(merges)),
            ("tokenizer.ggml.bos_token_id", Value::U32(bos as u32)),
            ("tokenizer.chat_template", text("{{ '<|start_header_id|>' }} Cutting Knowledge Date")),
        ];
        let values = values.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let tensors = llm.params.iter().map(|param| {
            let (name, tensor) = (param.name(), param.tensor().unwrap());
            let paired = |heads: usize| {
                let (rows, inputs) = tensor.dims2().unwrap();
                let halves = tensor.reshape((heads, 2, rows / heads / 2, inputs)).unwrap();
                halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, inputs)).unwrap()
            };
            let tensor = match name {
                name if name.contains("q_proj") => paired(heads),
                name if name.contains("k_proj") => paired(kv_heads),
                _ => tensor,
            };
            (stored_name(name), tensor, GgmlDType::F32)
        });
        Sample { values, tensors: tensors.collect() }
    }

    pub fn set(mut self, key: &str, value: Option<Value>) -> Self {
        self.values.retain(|(known, _)| known != key);
        self.values.extend(value.map(|value| (key.to_string(), value)));
        self
    }

    pub fn write(&self, name: &str) -> String {
        let tensors: Vec<(String, QTensor)> = self
            .tensors
            .iter()
            .map(|(name, tensor, dtype)| (name.clone(), QTensor::quantize(tensor, *dtype).unwrap()))
            .collect();
        let values: Vec<(&str, &Value)> = self.values.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let path = scratch_path(name);
        gguf_file::write(&mut std::fs::File::create(&path).unwrap(), &values, &tensors).unwrap();
        path.to_string_lossy().into_owned()
    }
}

fn stored_name(name: &str) -> String {
    let pairs = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("model.layers.", "blk."),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ];
    pairs.iter().fold(name.to_string(), |name, (from, to)| name.replace(from, to))
}

const IDS: [u32; 12] = [1, 40, 7, 280, 99, 3, 3, 150, 200, 17, 64, 5];

#[test]
fn a_model_written_as_gguf_computes_what_its_safetensors_compute() {
    let sample = Sample::new();
    let llm = open(&sample.write("whole.gguf"), None).unwrap();
    let expected = open(CHECKPOINT, None).unwrap();
    assert_eq!(llm.model.spec(), expected.model.spec());
    assert_eq!(worst(&logits(&llm, &IDS), &logits(&expected, &IDS)), 0.0);
    assert_eq!(llm.template.as_deref(), Some("llama_3_1"));
    let sentence = "What color is the 12345 shape?<|eot_id|>";
    let (ours, theirs) = (llm.tokenizer().unwrap(), expected.tokenizer().unwrap());
    assert_eq!(ours.encode(sentence).unwrap(), theirs.encode(sentence).unwrap());
}

#[test]
fn quantized_weights_stay_small_close_and_frozen() {
    let mut sample = Sample::of(&open("tiny-llama", None).unwrap());
    let path = sample.write("plain.gguf");
    let quantized = open(&path, Some("q8_0")).unwrap();
    // The same values in f32 compute the same: 12 rows are more than go through the integer kernels.
    let widened = open(&path, None).unwrap();
    for (plain, blocks) in widened.params.iter().zip(quantized.params.iter()) {
        plain.assign(&blocks.tensor().unwrap()).unwrap();
    }
    assert!(worst(&logits(&quantized, &IDS), &logits(&widened, &IDS)) < 1e-4);
    let storage = quantized.storage();
    assert!(storage["q8_0"] > 0 && storage["f32"] < storage["q8_0"], "{storage:?}");
    let message = quantized.params.set_trainable(true).unwrap_err().to_string();
    assert!(message.contains("quantized weights cannot be trained; open without `quantize`"), "{message}");

    // Stored in blocks, opened both ways: the same numbers, as 12 rows are multiplied exactly.
    for (_, tensor, dtype) in &mut sample.tensors {
        if tensor.rank() == 2 && tensor.dim(1).unwrap() % 32 == 0 {
            *dtype = GgmlDType::Q4_1;
        }
    }
    let path = sample.write("blocks.gguf");
    let kept = open(&path, Some("keep")).unwrap();
    assert!(kept.storage()["q4_1"] > 0);
    assert!(worst(&logits(&kept, &IDS), &logits(&open(&path, None).unwrap(), &IDS)) < 1e-5);
    let message = open(CHECKPOINT, Some("keep")).map(drop).unwrap_err().to_string();
    assert!(message.contains("no quantized weights to keep"), "{message}");
}

#[test]
fn what_is_wrong_in_a_file_is_named() {
    let refused = |name: &str, sample: Sample| open(&sample.write(name), None).map(drop).unwrap_err().to_string();
    let cases = [
        ("general.architecture", Some(text("mamba")), "no GGUF architecture `mamba`"),
        ("general.architecture", None, "has no `general.architecture`"),
        ("llama.block_count", None, "has no `llama.block_count`"),
        ("llama.block_count", Some(text("two")), "`llama.block_count` is a text, expected a whole number"),
        ("llama.block_count", Some(Value::U64(u64::MAX)), "`llama.block_count` is 18446744073709551615"),
        ("llama.context_length", Some(Value::U64(1 << 40)), "`llama.context_length` is 1099511627776"),
        ("llama.feed_forward_length", Some(Value::U64(1 << 60)), "`intermediate_size` is 1152921504606846976"),
        ("llama.attention.head_count", Some(Value::U64(0)), "`num_attention_heads` is 0"),
        ("llama.attention.head_count", Some(Value::U64(7)), "cannot rotate 1 of a head"),
        ("llama.rope.scaling.type", Some(text("yarn")), "`llama.rope.scaling.type` is `yarn`"),
        ("tokenizer.ggml.model", Some(text("bert")), "`tokenizer.ggml.model` is `bert`"),
        ("tokenizer.ggml.pre", Some(text("tekken")), "no pre-tokenizer `tekken`"),
        ("tokenizer.ggml.merges", None, "has no `tokenizer.ggml.merges`"),
        ("tokenizer.ggml.merges", Some(texts(["ab".to_string()])), "`tokenizer.ggml.merges`[0] is not a pair"),
        ("tokenizer.ggml.bos_token_id", Some(Value::U32(999)), "`tokenizer.ggml.bos_token_id` is 999"),
        ("general.alignment", Some(Value::U32(0)), "`general.alignment` is 0"),
    ];
    for (index, (key, value, expected)) in cases.into_iter().enumerate() {
        let name = format!("wrong-{index}.gguf");
        let message = refused(&name, Sample::new().set(key, value));
        assert!(message.contains(expected) && message.contains(&name), "{key}: {message}");
    }
    let mut sample = Sample::new();
    sample.tensors.retain(|(name, _, _)| name != "blk.0.ffn_up.weight");
    assert!(refused("lacks.gguf", sample).contains("lacks 1 of"));
    let mut sample = Sample::new();
    let position = sample.tensors.iter().position(|(name, _, _)| name == "blk.0.ffn_up.weight").unwrap();
    sample.tensors[position].0 = "blk.0.ffn_gate_inp.weight".to_string();
    assert!(refused("extra.gguf", sample).contains("tensor `blk.0.ffn_gate_inp.weight` is not one a llama model has"));
}

#[test]
fn truncated_and_hostile_bytes_are_refused() {
    let whole = std::fs::read(Sample::new().write("hostile.gguf")).unwrap();
    let refuse = |bytes: &[u8]| {
        let path = scratch_path("hostile-part.gguf");
        std::fs::write(&path, bytes).unwrap();
        Gguf::open(&path).map(drop).unwrap_err().to_string()
    };
    for part in (0..40).map(|part| part * whole.len() / 40).chain(0..64) {
        let message = refuse(&whole[..part]);
        assert!(message.contains("hostile-part.gguf"), "{part}: {message}");
    }
    let patched = |at: usize, bytes: &[u8]| {
        let mut all = whole.clone();
        all[at..at + bytes.len()].copy_from_slice(bytes);
        refuse(&all)
    };
    assert!(patched(0, b"GGML").contains("does not begin with `GGUF`"));
    assert!(patched(4, &[9, 0, 0, 0]).contains("GGUF version 9"));
    assert!(patched(8, &u64::MAX.to_le_bytes()).contains("tensors cannot be in the"));
    assert!(patched(16, &(u64::MAX / 2).to_le_bytes()).contains("metadata entries cannot be in the"));
    assert!(patched(24, &(1u64 << 62).to_le_bytes()).contains("bytes wanted at byte"));
    // The dtype of a tensor stands after its dimensions.
    let name = b"output_norm.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    assert!(patched(at + 12, &[19, 0, 0, 0]).contains("tensor `output_norm.weight`: it is of type IQ1_S"));
    assert!(patched(at, &[99, 0, 0, 0]).contains("99 dimensions"));
    assert!(patched(at + 4, &(u64::MAX - 31).to_le_bytes()).contains("cannot be stored"));
    assert!(patched(at + 16, &(1u64 << 40).to_le_bytes()).contains("the file has"));
    // Every byte of the head may be anything: an error or a file, never a panic.
    for at in (0..2_000).step_by(7) {
        for byte in [0x00, 0x7f, 0xff] {
            let mut all = whole.clone();
            all[at] = byte;
            let path = scratch_path("hostile-byte.gguf");
            std::fs::write(&path, &all).unwrap();
            drop(Gguf::open(&path));
        }
    }
}

/// A fixture of a downloaded model, or `None` with a visible line where the model is not there.
fn real(model: &str, fixture: &str) -> Option<(Llm, TensorFiles)> {
    if !Path::new(model).exists() {
        eprintln!("skipped: no `{model}`; scripts/dev/fetch_small_models.sh fetches it");
        return None;
    }
    let expected = TensorFiles::open(Path::new(fixture)).unwrap();
    Some((open(model, None).unwrap(), expected))
}

fn agree(model: &str, fixture: &str) {
    let Some((llm, expected)) = real(model, fixture) else { return };
    let load = |name: &str| expected.load(name, &Device::Cpu).unwrap();
    for case in ["short", "long"] {
        let ids: Vec<u32> = load(&format!("{case}.ids")).to_dtype(DType::U32).unwrap().to_vec1().unwrap();
        let all = logits(&llm, &ids);
        let theirs = load(&format!("{case}.logits")); // (last positions, some columns)
        let rows = theirs.dim(0).unwrap();
        let last = all.narrow(0, all.dim(0).unwrap() - rows, rows).unwrap();
        let columns = load("columns").to_dtype(DType::U32).unwrap();
        let ours = last.contiguous().unwrap().index_select(&columns, 1).unwrap();
        let difference = worst(&ours, &theirs);
        println!("{model} {case}: {difference:.1e}");
        // Against f64 the reference in f32 is itself further away than 1e-4 where logits are large.
        let own = format!("{case}.own_error");
        let own = if expected.has(&own) { load(&own).to_vec1::<f32>().unwrap()[0] } else { 0.0 };
        assert!(difference < f32::max(1e-4, 1.5 * own), "{model} {case}: {difference}, the reference {own}");
        let best: Vec<u32> = last.argmax(1).unwrap().to_vec1().unwrap();
        assert_eq!(best, load(&format!("{case}.argmax")).to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap());
    }
}

#[test]
fn smollm2_agrees_with_transformers() {
    agree("models/SmolLM2-135M-Instruct.Q4_1.gguf", "tests/fixtures/gguf/smollm2.safetensors");
}

#[test]
fn gemma_3_agrees_with_transformers() {
    agree("models/gemma-3-270m-q4_k_m.gguf", "tests/fixtures/gguf/gemma3.safetensors");
}

#[test]
fn the_tokenizers_of_the_files_agree_with_llama_cpp_and_hugging_face() {
    let read = std::fs::read("tests/fixtures/gguf/tokens.json").unwrap();
    let cases: serde_json::Value = serde_json::from_slice(&read).unwrap();
    let strings: Vec<String> = serde_json::from_value(cases["strings"].clone()).unwrap();
    for (key, model) in
        [("smollm2", "models/SmolLM2-135M-Instruct.Q4_1.gguf"), ("gemma3", "models/gemma-3-270m-q4_k_m.gguf")]
    {
        if !Path::new(model).exists() {
            eprintln!("skipped: no `{model}`; scripts/dev/fetch_small_models.sh fetches it");
            continue;
        }
        let tokenizer = Tokenizer::open(Path::new(model)).unwrap();
        let expected: Vec<Vec<u32>> = serde_json::from_value(cases[key].clone()).unwrap();
        let differ: Vec<_> = (0..strings.len())
            .filter(|&index| tokenizer.encode(&strings[index]).unwrap() != expected[index])
            .map(|index| (&strings[index], tokenizer.encode(&strings[index]).unwrap(), &expected[index]))
            .collect();
        assert!(
            differ.is_empty(),
            "{key}: {} of {} differ: {:?}",
            differ.len(),
            strings.len(),
            &differ[..differ.len().min(5)]
        );
    }
}

//! Files of weights: every tensor of what opens is loaded.

use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use llmore::assets::Folder;
use llmore::models;
use llmore::notes::Notes;
use llmore::text;
use llmore::weights::{Gguf, TensorFiles};

use crate::fuzz::frames::{self, Frame};
use crate::fuzz::reader::{Input, Read, Reader, file, seeds};

pub const SAFETENSORS: Reader = Reader {
    name: "safetensors",
    seeds: || seeds("model.safetensors", Frame::Safetensors, safetensors()),
    words: &["dtype", "shape", "data_offsets", "__metadata__", "F8_E4M3", "weight_scale_inv", "weight", "{", "[", ":"],
    open: |folder| files(folder, "model.safetensors"),
};

pub const PICKLE: Reader = Reader {
    name: "pickle",
    seeds: || seeds("pytorch_model.bin", Frame::Zip, pickles()),
    words: &["torch._utils", "_rebuild_tensor_v2", "collections", "OrderedDict", "storage", "FloatStorage", "archive"],
    open: |folder| files(folder, "pytorch_model.bin"),
};

pub const INDEX: Reader = Reader {
    name: "index",
    seeds: || seeds(llmore::weights::INDEX, Frame::Json, vec![INDEX_JSON.to_vec()]),
    words: &["weight_map", "metadata", "total_size", "part-1.safetensors", "part-2.safetensors", "model.safetensors"],
    open: |folder| {
        for (part, bytes) in safetensors().iter().take(2).enumerate() {
            std::fs::write(folder.join(format!("part-{}.safetensors", part + 1)), bytes).unwrap();
        }
        let folder = folder.to_path_buf();
        Box::new(move |input| {
            input.write(folder.join(&input.kind));
            TensorFiles::open_folder(&Folder::Disk(folder.clone())).is_ok_and(|files| load(&files))
        })
    },
};

pub const GGUF: Reader = Reader {
    name: "gguf",
    seeds: || {
        let today = |name: &str| file(&format!("tests/fixtures/today/gguf-pre-absent/{name}"));
        seeds("model.gguf", Frame::Bytes, vec![gguf(), gguf(), today("with-pre.gguf"), today("without-pre.gguf")])
    },
    words: &["general.architecture", "llama", "gemma2", "phi3", "qwen2", "tokenizer.ggml.tokens", "blk.0.", "GGUF"],
    open: |folder| {
        let path = folder.join("model.gguf");
        Box::new(move |input| read_gguf(&input.write(path.clone())))
    },
};

const INDEX_JSON: &[u8] =
    br#"{"metadata":{"total_size":96},"weight_map":{"a":"part-1.safetensors","c.weight":"part-2.safetensors"}}"#;

fn files(folder: &Path, name: &'static str) -> Read {
    let path = folder.join(name);
    std::fs::write(folder.join("config.json"), FP8_CONFIG).unwrap();
    let folder = folder.to_path_buf();
    Box::new(move |input: &Input| {
        input.write(path.clone());
        // With the config that says how float8 weights are stored.
        TensorFiles::open_folder(&Folder::Disk(folder.clone())).is_ok_and(|files| load(&files))
    })
}

const FP8_CONFIG: &str = r#"{"quantization_config":{"quant_method":"fp8","weight_block_size":[128,128]}}"#;

fn load(files: &TensorFiles) -> bool {
    files.names().iter().all(|name| files.load(name, &Device::Cpu).is_ok())
}

fn tensor(shape: &[usize], dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|n| n as f32 * 0.25 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn safetensors() -> Vec<Vec<u8>> {
    let saved = |tensors: &[(&str, &[usize], DType)]| {
        let path = crate::scratch::scratch_path("seed.safetensors");
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape, dtype)| (name.to_string(), tensor(shape, *dtype))).collect();
        // Sorted by the library, whatever the order in a map.
        let views = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone()));
        llmore::weights::save_tensors(&views.collect::<Vec<_>>(), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        bytes
    };
    vec![
        saved(&[("a", &[2, 2], DType::F32)]),
        saved(&[("c.weight", &[4], DType::BF16), ("d", &[2, 3], DType::F64), ("e", &[3], DType::I64)]),
        fp8(),
    ]
}

/// A float8 weight with its scale.
fn fp8() -> Vec<u8> {
    let header = r#"{"w.weight":{"dtype":"F8_E4M3","shape":[4,4],"data_offsets":[0,16]},"w.weight_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[16,20]}}"#;
    let padding = " ".repeat((8 - header.len() % 8) % 8);
    let length = (header.len() + padding.len()) as u64;
    [&length.to_le_bytes(), header.as_bytes(), padding.as_bytes(), &[0x38; 16], &1f32.to_le_bytes()].concat()
}

/// The fixtures with their members stored anew, without the padding that torch puts between them.
fn pickles() -> Vec<Vec<u8>> {
    let names = ["tensors.bin", "beyond.bin", "code.bin", "legacy.bin"];
    names
        .iter()
        .map(|name| {
            let bytes = file(&format!("tests/fixtures/parity/models/pickle/{name}"));
            frames::members(&bytes).map_or(bytes, |members| frames::zip_of(&members))
        })
        .collect()
}

fn read_gguf(path: &Path) -> bool {
    let Ok(file) = Gguf::open(path) else { return false };
    let file = Arc::new(file);
    let told = text::gguf::template(&file).is_ok() & models::gguf_keys::check(&file, &Notes::default()).is_ok();
    let tokens = super::tokenizers::opens(path);
    let Ok((config, names)) = models::gguf::describe(&file) else { return false };
    let config = models::config::Config::new(config, "model.gguf");
    let spec = models::registry::llm_spec(&config).is_ok();
    told & tokens & spec & load(&TensorFiles::gguf(file, names))
}

/// A Llama of one block with a vocabulary of SentencePiece.
fn gguf() -> Vec<u8> {
    let text = |text: &str| Value::String(text.to_string());
    let pieces = ["<unk>", "<s>", "</s>", "<0x0A>", "\u{2581}", "a", "b", "ab", "\u{2581}a"];
    let values = [
        ("general.architecture", text("llama")),
        ("llama.block_count", Value::U32(1)),
        ("llama.embedding_length", Value::U32(32)),
        ("llama.feed_forward_length", Value::U32(32)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.context_length", Value::U32(64)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(1e4)),
        ("tokenizer.ggml.model", text("llama")),
        ("tokenizer.ggml.tokens", Value::Array(pieces.iter().map(|piece| text(piece)).collect())),
        ("tokenizer.ggml.scores", Value::Array((0..pieces.len()).map(|n| Value::F32(-(n as f32))).collect())),
        ("tokenizer.ggml.token_type", Value::Array([2, 3, 3, 6, 1, 1, 1, 1, 1].map(Value::I32).to_vec())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.chat_template", text("[INST] {{ x }} [/INST]")),
    ];
    let tensors: [(&str, &[usize], GgmlDType); 11] = [
        ("token_embd.weight", &[9, 32], GgmlDType::Q8_0),
        ("output_norm.weight", &[32], GgmlDType::F32),
        ("blk.0.attn_norm.weight", &[32], GgmlDType::F32),
        ("blk.0.ffn_norm.weight", &[32], GgmlDType::F32),
        ("blk.0.attn_q.weight", &[32, 32], GgmlDType::Q4_0),
        ("blk.0.attn_k.weight", &[16, 32], GgmlDType::Q4_0),
        ("blk.0.attn_v.weight", &[16, 32], GgmlDType::Q8_0),
        ("blk.0.attn_output.weight", &[32, 32], GgmlDType::Q5_1),
        ("blk.0.ffn_gate.weight", &[32, 32], GgmlDType::Q4_0),
        ("blk.0.ffn_up.weight", &[32, 32], GgmlDType::Q4_0),
        ("blk.0.ffn_down.weight", &[32, 32], GgmlDType::F16),
    ];
    let quantized = |shape: &[usize], kind| QTensor::quantize(&tensor(shape, DType::F32), kind).unwrap();
    let tensors: Vec<(&str, QTensor)> =
        tensors.iter().map(|(name, shape, kind)| (*name, quantized(shape, *kind))).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let values: Vec<(&str, &Value)> = values.iter().map(|(key, value)| (*key, value)).collect();
    let mut out = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut out, &values, &tensors).unwrap();
    out.into_inner()
}

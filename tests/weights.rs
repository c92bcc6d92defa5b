//! Weights whose meaning lies beside them: scales, names nobody uses, files that overrule others, GGUF files in parts and
//! of older times. Oracles: float8 widened by a table of its own here, the same model in f32, transformers' logits.

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

const CASES: &str = "tests/fixtures/today";
/// A whole LLaVA of 288 tokens; its LLM alone is used here.
const CHECKPOINT: &str = "tests/fixtures/training/checkpoint";
const UP: &str = "model.layers.0.mlp.up_proj.weight";

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("weights").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

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

/// The value of a byte by the definition of its format, and not by a table.
fn float8(byte: u8, dtype: Dtype) -> f32 {
    let (bits, bias) = if dtype == Dtype::F8_E5M2 { (2, 15) } else { (3, 7) };
    let (exponent, fraction) =
        (i32::from(byte & 0x7f) >> bits, f32::from(byte & ((1 << bits) - 1)) / f32::from(1u8 << bits));
    let size = match exponent {
        0 => fraction * 2f32.powi(1 - bias),
        _ => (1.0 + fraction) * 2f32.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

/// Every linear layer as float8 with scales for blocks, and the same in f32.
fn in_float8(dtype: Dtype, block: impl Fn(&[usize]) -> [usize; 2], end: &str, scale: Dtype, flat: bool) -> [Sample; 2] {
    let (mut eight, mut plain) = (Sample::new(), Sample::new());
    // The largest finite byte of either format stands for the largest value of a block.
    let top = float8(if dtype == Dtype::F8_E5M2 { 0x7b } else { 0x7e }, dtype);
    let nearest = |value: f32| {
        let all = (0u8..=0x7b).map(|byte| (byte, (float8(byte, dtype) - value.abs()).abs()));
        let byte = all.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0;
        if value < 0.0 { byte | 0x80 } else { byte }
    };
    for name in plain.linears() {
        let values: Vec<Vec<f32>> = plain.get(&name).to_vec2().unwrap();
        let (rows, columns) = (values.len(), values[0].len());
        let [high, wide] = block(&[rows, columns]);
        let (down, across) = (rows.div_ceil(high), columns.div_ceil(wide));
        let (mut scales, mut bytes, mut widened) = (Vec::new(), vec![0u8; rows * columns], vec![0f32; rows * columns]);
        for place in 0..down * across {
            let inside = |row: usize, column: usize| row / high * across + column / wide == place;
            let cells: Vec<(usize, usize)> =
                (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).filter(|(r, c)| inside(*r, *c)).collect();
            let largest = cells.iter().map(|(r, c)| values[*r][*c].abs()).fold(0f32, f32::max);
            // A power of two is exact in every type of scale.
            let by = (largest / top).log2().ceil().exp2();
            scales.push(by);
            for (r, c) in cells {
                bytes[r * columns + c] = nearest(values[r][c] / by);
                widened[r * columns + c] = float8(bytes[r * columns + c], dtype) * by;
            }
        }
        let scales: Vec<u8> = match scale {
            Dtype::F32 => scales.iter().flat_map(|scale| scale.to_le_bytes()).collect(),
            Dtype::BF16 => scales.iter().flat_map(|scale| ((scale.to_bits() >> 16) as u16).to_le_bytes()).collect(),
            _ => scales.iter().map(|scale| (scale.log2() as i32 + 127) as u8).collect(),
        };
        let shape = if flat { vec![] } else { vec![down, across] };
        eight.raw(&name, dtype, &[rows, columns], bytes);
        eight.raw(&name.replace(".weight", end), scale, &shape, scales);
        plain.put(&name, &Tensor::from_vec(widened, (rows, columns), &Device::Cpu).unwrap());
    }
    [eight, plain]
}

#[test]
fn float8_weights_are_their_values_times_their_scales() {
    let (e4, e5) = (Dtype::F8_E4M3, Dtype::F8_E5M2);
    let blocks = |size| move |_: &[usize]| size;
    let (row, whole) = (|shape: &[usize]| [1, shape[1]], |shape: &[usize]| [shape[0], shape[1]]);
    let (inverse, plain) = (".weight_scale_inv", ".weight_scale");
    let fp8 = |size: Json| json!({ "quant_method": "fp8", "weight_block_size": size });
    let packed = json!({ "quant_method": "compressed-tensors", "format": "float-quantized" });
    let nested = json!({ "quant_method": "compressed-tensors", "config_groups": { "group_0": {
        "format": "float-quantized", "weights": { "strategy": "block", "block_structure": [16, 16] } } } });
    let cases = [
        ("block", in_float8(e4, blocks([128, 128]), inverse, Dtype::F32, false), fp8(json!([128, 128]))),
        ("small-block", in_float8(e4, blocks([16, 32]), inverse, Dtype::F32, false), fp8(json!([16, 32]))),
        ("e5m2", in_float8(e5, blocks([32, 32]), inverse, Dtype::BF16, false), fp8(json!([32, 32]))),
        ("e8m0", in_float8(e4, blocks([32, 32]), inverse, Dtype::F8_E8M0, false), fp8(json!([32, 32]))),
        ("tensor", in_float8(e4, whole, inverse, Dtype::F32, true), fp8(Json::Null)),
        ("packed", in_float8(e4, whole, plain, Dtype::BF16, false), packed.clone()),
        ("rows", in_float8(e4, row, plain, Dtype::F32, false), packed),
        ("nested", in_float8(e4, blocks([16, 16]), plain, Dtype::F32, false), nested),
        ("fbgemm", in_float8(e5, row, plain, Dtype::F32, false), json!({ "quant_method": "fbgemm_fp8" })),
        ("unsaid", in_float8(e4, row, plain, Dtype::BF16, false), Json::Null),
    ];
    for (name, [mut eight, plain], config) in cases {
        // What is for activations changes nothing.
        eight.raw("model.layers.0.mlp.up_proj.input_scale", Dtype::F32, &[], 3f32.to_le_bytes().to_vec());
        let (eight, plain) = (eight.with("quantization_config", config), plain.write(&format!("{name}-f32")));
        let (ours, theirs) = (open(&eight.write(name)), open(&plain));
        assert_eq!(worst(&logits(&ours), &logits(&theirs)), 0.0, "{name}");
        assert!(ours.unused.is_empty() && notes(&ours).contains("float8 and computed as value times scale"), "{name}");
        // As blocks of eight bits, too.
        assert!(open_with(&scratch_of(name), Some("q8_0")).is_ok(), "{name}");
    }
    // The same of another hand: DeepSeek's way, and in f32 by torch.
    let of = |name: &str| logits(&open(&Path::new(CASES).join(name)));
    assert!(worst(&of("fp8-block"), &of("fp8-block-as-f32")) < 1e-4);
}

fn scratch_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("weights").join(name)
}

#[test]
fn float8_without_a_scale_is_said_and_half_a_set_of_scales_refused() {
    let blocks = |_: &[usize]| [1024, 1024];
    let [eight, _] = in_float8(Dtype::F8_E4M3, blocks, ".weight_scale", Dtype::F32, false);
    let mut bare = Sample::new();
    bare.raw(UP, Dtype::F8_E4M3, bare.get(UP).dims(), vec![0x38; bare.get(UP).elem_count()]);
    let llm = open(&bare.write("bare"));
    assert!(notes(&llm).contains(&format!("1 weights are float8 without a scale, as `{UP}`")), "{}", notes(&llm));
    let up = llm.params.iter().find(|param| param.name() == UP).unwrap().tensor();
    assert_eq!(up.max_all().unwrap().to_scalar::<f32>().unwrap(), 1.0);
    let half = eight.without("model.layers.0.mlp.up_proj.weight_scale").write("half");
    assert!(refused(&half).contains(&format!("have no scale beside them, the first is `{UP}`")), "{}", refused(&half));
    let config = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
    let text = notes(&open(&Sample::new().with("quantization_config", config).write("floats")));
    assert!(text.contains("`quant_method` of config.json is `fp8`, but no weight is float8"), "{text}");
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
                assert!(notes(&llm).contains(expected) && notes(&llm).contains("used by no layer"), "{}", notes(&llm))
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

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
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
    assert!(Tokenizer::open(&scratch_of("lfs-tokenizer.json")).unwrap_err().to_string().contains("pointer of Git LFS"));
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

/// A GGUF file as values and tensors, to be changed and written.
struct Changed {
    values: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
}

impl Changed {
    fn read(path: &Path) -> Self {
        let mut file = std::fs::File::open(path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let tensors = content.tensor_infos.keys();
        let tensors = tensors.map(|name| (name.clone(), content.tensor(&mut file, name, &Device::Cpu).unwrap()));
        Changed { tensors: tensors.collect(), values: content.metadata.into_iter().collect() }
    }

    fn set(&mut self, key: &str, value: Option<Value>) -> &mut Self {
        self.values.retain(|(known, _)| known != key);
        self.values.extend(value.map(|value| (key.to_string(), value)));
        self
    }

    fn put(&mut self, name: &str, tensor: &Tensor) -> &mut Self {
        self.tensors.retain(|(known, _)| known != name);
        self.tensors.push((name.to_string(), QTensor::quantize(tensor, GgmlDType::F32).unwrap()));
        self
    }

    fn write(&self, path: &Path) -> PathBuf {
        write_gguf(path, &self.values, &self.tensors.iter().collect::<Vec<_>>());
        path.to_path_buf()
    }

    fn llm(&self, name: &str) -> llmore::error::Result<Llm> {
        open_with(&self.write(&scratch(name).join("model.gguf")), None)
    }
}

fn write_gguf(path: &Path, values: &[(String, Value)], tensors: &[&(String, QTensor)]) {
    let values: Vec<(&str, &Value)> = values.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(path).unwrap(), &values, &tensors).unwrap();
}

fn biased() -> Changed {
    Changed::read(&Path::new(CASES).join("gguf-mlp-bias/model.gguf"))
}

#[test]
fn biases_of_a_gguf_are_computed_or_refused() {
    let case = Path::new(CASES).join("gguf-mlp-bias");
    let ids: Vec<u32> = (0..24).map(|i| (i * 7 + 13) % 295 + 4).collect();
    let theirs = TensorFiles::open(&case.join("expected.safetensors")).unwrap().load("logits", &Device::Cpu).unwrap();
    let ours = logits_of(&open(&case.join("model.gguf")), &ids);
    assert!(worst(&ours, &theirs.reshape(ours.shape()).unwrap()) < 1e-4);
    // One bias alone is that bias and zeros beside it: what config.json can say, written out.
    for (lone, group) in [
        ("attn_output", ["attn_q", "attn_k", "attn_v", "attn_output"].as_slice()),
        ("attn_k", &["attn_q", "attn_k", "attn_v", "attn_output"]),
        ("ffn_down", &["ffn_gate", "ffn_up", "ffn_down"]),
    ] {
        let rows = |file: &Changed, module: &str| {
            let name = format!("blk.0.{module}.weight");
            file.tensors.iter().find(|(known, _)| *known == name).unwrap().1.shape().dims()[0]
        };
        let (mut alone, mut all) = (biased(), biased());
        for file in [&mut alone, &mut all] {
            file.tensors.retain(|(name, _)| !name.ends_with(".bias"));
        }
        let bias = Tensor::arange(0f32, rows(&alone, lone) as f32, &Device::Cpu).unwrap().affine(0.05, -0.3).unwrap();
        for module in group {
            let zeros = Tensor::zeros(rows(&all, module), DType::F32, &Device::Cpu).unwrap();
            all.put(&format!("blk.0.{module}.bias"), if *module == lone { &bias } else { &zeros });
        }
        let without = logits_of(&alone.llm("bias-none").unwrap(), &ids);
        alone.put(&format!("blk.0.{lone}.bias"), &bias);
        let alone = logits_of(&alone.llm("bias-alone").unwrap(), &ids);
        assert_eq!(worst(&alone, &logits_of(&all.llm("bias-all").unwrap(), &ids)), 0.0, "{lone}");
        assert!(worst(&alone, &without) > 1e-2, "{lone}");
    }
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    for name in [
        "output.bias",
        "output_norm.bias",
        "blk.0.attn_norm.bias",
        "blk.0.attn_q_norm.weight",
        "blk.1.attn_q.weight",
        "rope_else.weight",
    ] {
        let text = biased().put(name, &one).llm("bias-refused").map(drop).unwrap_err().to_string();
        assert!(text.contains(&format!("tensor `{name}` is ")), "{text}");
    }
}

#[test]
fn keys_of_a_gguf_are_honored_refused_or_named() {
    let refused = [
        ("llama.attention.causal", Value::Bool(false), "`llama.attention.causal` is false"),
        ("llama.expert_count", Value::U32(8), "`llama.expert_count` is 8"),
        ("llama.attention.value_length", Value::U32(3), "`llama.attention.value_length` is 3"),
        ("llama.rope.dimension_count", Value::U32(2), "`llama.rope.dimension_count` is 2"),
    ];
    for (key, value, expected) in refused {
        let text = biased().set(key, Some(value)).llm("key-refused").map(drop).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let llm = biased().set("llama.logit_scale", Some(Value::F32(0.1))).llm("key-noted").unwrap();
    assert!(notes(&llm).contains("nothing reads `llama.logit_scale`"), "{}", notes(&llm));
    assert_eq!(notes(&biased().set("general.name", None).llm("key-quiet").unwrap()), "");
}

#[test]
fn a_gguf_in_parts_is_one_model() {
    let whole = biased();
    let expected = logits(&whole.llm("parts-whole").unwrap());
    let folder = scratch("gguf-parts");
    let part = |number: usize| folder.join(format!("m-{number:05}-of-00003.gguf"));
    let mut sorted: Vec<&(String, QTensor)> = whole.tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let count = Value::I32(sorted.len() as i32);
    let split = |no: u16| {
        let of = [("split.no", Value::U16(no)), ("split.count", Value::U16(3)), ("split.tensors.count", count.clone())];
        of.map(|(key, value)| (key.to_string(), value)).to_vec()
    };
    // The first part has all metadata and no tensor, as `--no-tensor-first-split` makes it.
    let head: Vec<_> = whole.values.iter().cloned().chain(split(0)).collect();
    write_gguf(&part(1), &head, &[]);
    let (left, right) = sorted.split_at(sorted.len() / 2);
    write_gguf(&part(2), &split(1), left);
    write_gguf(&part(3), &split(2), right);
    for path in [part(1), part(3), folder.clone()] {
        assert_eq!(worst(&logits(&open(&path)), &expected), 0.0, "{}", path.display());
    }
    assert_eq!(Tokenizer::open(&part(2)).unwrap().vocab(), Tokenizer::open(&part(1)).unwrap().vocab());
    // A part twice, a renamed part, a missing part.
    write_gguf(&part(3), &split(2), left);
    assert!(refused(&part(1)).contains("is in another part as well"));
    write_gguf(&part(3), &split(1), right);
    assert!(refused(&part(1)).contains("`split.no` is 1, expected 2 by the file's name"));
    write_gguf(&part(3), &split(2), &right[1..]);
    assert!(refused(&part(1)).contains("`split.tensors.count` is"));
    std::fs::remove_file(part(2)).unwrap();
    assert!(refused(&part(1)).contains("m-00002-of-00003.gguf"), "{}", refused(&part(1)));
    let alone = scratch("gguf-part").join("renamed.gguf");
    std::fs::copy(part(1), &alone).unwrap();
    assert!(refused(&alone).contains("one of 3 parts of a model"), "{}", refused(&alone));
}

fn texts(values: &[&str]) -> Value {
    Value::Array(values.iter().map(|value| Value::String(value.to_string())).collect())
}

#[test]
fn a_vocabulary_without_its_cut_is_said_and_that_of_llama_3_known() {
    let case = Path::new(CASES).join("gguf-pre-absent");
    let [with, without] = ["with-pre.gguf", "without-pre.gguf"].map(|name| Tokenizer::open(&case.join(name)).unwrap());
    assert_eq!(with.notes().list(), [""; 0]);
    assert_eq!(with.encode("I'M 1234").unwrap(), without.encode("I'M 1234").unwrap());
    assert_eq!(without.bos(), without.token_id("<|begin_of_text|>"));
    let text = without.notes().list().join("\n");
    assert!(text.contains("has no `tokenizer.ggml.pre`: text is cut as Llama 3 does"), "{text}");
    // Without those tokens GPT-2's cut is a guess, by the key's absence and by its default.
    for pre in [None, Some(Value::String("default".to_string()))] {
        let mut file = Changed::read(&case.join("without-pre.gguf"));
        let tokens = file.values.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
        let Value::Array(tokens) = &mut tokens.1 else { panic!("no array") };
        for token in tokens.iter_mut().filter(|token| token.to_string().unwrap().starts_with("<|")) {
            *token = Value::String(token.to_string().unwrap().replace("of_text", "of_story"));
        }
        file.set("tokenizer.ggml.pre", pre);
        let guessed = Tokenizer::open(&file.write(&scratch("pre").join("x.gguf"))).unwrap();
        assert_eq!(guessed.bos(), None);
        assert!(guessed.notes().list()[0].contains("text is cut by GPT-2's rule"), "{:?}", guessed.notes());
    }

    let mut file = Changed::read(&case.join("with-pre.gguf"));
    file.set("tokenizer.ggml.merges", Some(texts(&["a \u{1f600}"])));
    let text = Tokenizer::open(&file.write(&scratch("merge").join("x.gguf"))).unwrap_err().to_string();
    assert!(
        text.contains("`tokenizer.ggml.merges`[0] is") && text.contains("is not in `tokenizer.ggml.tokens`"),
        "{text}"
    );
    assert!(!text.contains("tokenizer.json"), "{text}");
}

#[test]
fn generate_stops_at_the_end_of_turn_of_the_vocabulary() {
    let place = |file: &Changed, key: &str| file.values.iter().position(|(known, _)| known == key).unwrap();
    for end in ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"] {
        let mut file = biased();
        file.set("tokenizer.ggml.eot_token_id", None);
        let at = place(&file, "tokenizer.ggml.tokens");
        let Value::Array(tokens) = &mut file.values[at].1 else { panic!("no array") };
        let id = tokens.len() - 1;
        tokens[id] = Value::String(end.to_string());
        assert!(file.llm("ends").unwrap().end_ids.contains(&(id as u32)), "{end}");
        file.set("tokenizer.ggml.eot_token_id", Some(Value::U32(7)));
        let ids = file.llm("ends").unwrap().end_ids;
        assert!(ids.contains(&7) && !ids.contains(&(id as u32)), "{end}: {ids:?}");
    }
}

#[test]
fn a_gguf_type_that_is_not_computed_is_called_by_its_name() {
    let path = scratch("types").join("x.gguf");
    let whole = std::fs::read(biased().write(&path)).unwrap();
    let name = b"output_norm.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    for (number, expected) in
        [(39u32, "MXFP4"), (34, "TQ1_0"), (35, "TQ2_0"), (20, "IQ4_NL"), (40, "NVFP4"), (42, "Q2_0"), (31, "Q4_0_4_4")]
    {
        let mut bytes = whole.clone();
        bytes[at + 12..at + 16].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let text = refused(&path);
        assert!(text.contains(&format!("tensor `output_norm.weight`: it is of type {expected},")), "{text}");
        assert!(text.contains("llmore computes f32"), "{text}");
    }
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

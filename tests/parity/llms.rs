//! Parity of `fixtures/parity/llms`, and what must hold whatever the architecture: decoding from a cache, with or
//! without a shared prefix, and packing sequences together change nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use llmore::models::LanguageModel;
use llmore::models::config::Config;
use llmore::models::llms;
use llmore::models::registry::{self, Built, Target};
use llmore::nn::cache::{Slot, append};
use llmore::nn::packing::Packing;
use llmore::weights::{Source, TensorFiles, save_tensors};
use serde_json::{Value, json};

use super::{Expected, MAX, assert_close, cases, differences, name};
use crate::scratch::scratch;

const LOSS: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

fn config(case: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(case.join("config.json")).unwrap()).unwrap()
}

fn build(case: &Path, config: Value) -> llmore::error::Result<Built<dyn LanguageModel>> {
    build_in(case, config, DType::F32)
}

fn build_in(case: &Path, config: Value, dtype: DType) -> llmore::error::Result<Built<dyn LanguageModel>> {
    let files = Arc::new(TensorFiles::open(case).unwrap());
    let target = Target { dtype, device: Device::Cpu, quantize: None };
    registry::llm(&Config::new(config, "`config.json`"), Source::Files { files, prefix: String::new() }, &target)
}

/// The model of a case cut after `blocks` blocks.
fn shortened(case: &Path, blocks: usize) -> Box<dyn LanguageModel> {
    let mut config = config(case);
    config["num_hidden_layers"] = json!(blocks);
    if let Some(types) = config.get_mut("layer_types").and_then(Value::as_array_mut) {
        types.truncate(blocks);
    }
    build(case, config).unwrap().model
}

struct Case {
    name: String,
    model: Box<dyn LanguageModel>,
    ids: Vec<u32>,
}

fn opened() -> Vec<Case> {
    let open = |case: PathBuf| {
        let ids = Expected::open(&case).tensor("ids").to_vec1::<u32>().unwrap();
        Case { name: name(&case), model: build(&case, config(&case)).unwrap().model, ids }
    };
    cases("llms").into_iter().map(open).collect()
}

impl Case {
    /// Logits of all positions, (ids, vocab).
    fn logits(&self, ids: &[u32]) -> Tensor {
        let hidden = self.model.hidden(&self.embed(ids), &Packing::whole(&[ids.len()]), None).unwrap();
        self.model.logits(&hidden).unwrap()
    }

    fn embed(&self, ids: &[u32]) -> Tensor {
        self.model.embed(&Arc::from(ids)).unwrap()
    }

    /// Fails unless both are close and have the same largest logits.
    fn assert_same(&self, what: &str, ours: &Tensor, expected: &Tensor) {
        let (max, _) = differences(ours, expected);
        assert!(max <= MAX, "{}: {what} differs by {max:.2e}", self.name);
        let best = |logits: &Tensor| logits.argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap();
        assert_eq!(best(ours), best(expected), "{}: {what}", self.name);
    }
}

#[test]
fn hidden_states_and_logits_agree() {
    for path in cases("llms") {
        let (name, expected) = (name(&path), Expected::open(&path));
        let ids: Arc<[u32]> = expected.tensor("ids").to_vec1::<u32>().unwrap().into();
        let packing = Packing::whole(&[ids.len()]);
        let mut blocks = 0;
        let mut worst = (0f64, 0f64);
        while expected.has(&format!("hidden.{}", blocks + 1)) {
            blocks += 1;
            let model = shortened(&path, blocks);
            let hidden = model.hidden(&model.embed(&ids).unwrap(), &packing, None).unwrap();
            let (max, mean) = assert_close(
                &format!("{name}: hidden.{blocks}"),
                &hidden,
                &expected.tensor(&format!("hidden.{blocks}")),
            );
            worst = (worst.0.max(max), worst.1.max(mean));
        }
        let model = build(&path, config(&path)).unwrap().model;
        assert_eq!(model.spec().layers, blocks, "{name}");
        let hidden = model.hidden(&model.embed(&ids).unwrap(), &packing, None).unwrap();
        let (max, mean) =
            assert_close(&format!("{name}: logits"), &model.logits(&hidden).unwrap(), &expected.tensor("logits"));
        println!("{name}: hidden max {:.1e} mean {:.1e}, logits max {max:.1e} mean {mean:.1e}", worst.0, worst.1);
    }
}

/// What the last row looks at in every block, as transformers' eager attention has it.
#[test]
fn attention_agrees() {
    for path in cases("llms") {
        let (name, expected) = (name(&path), Expected::open(&path).tensor("attention"));
        let ids: Arc<[u32]> = Expected::open(&path).tensor("ids").to_vec1::<u32>().unwrap().into();
        let model = build(&path, config(&path)).unwrap().model;
        let packing = Packing::whole(&[ids.len()]);
        let forward = model.forward(&packing, None).unwrap();
        assert_eq!(expected.dim(0).unwrap(), forward.blocks(), "{name}");
        let mut hidden = forward.enter(&model.embed(&ids).unwrap()).unwrap();
        for block in 0..forward.blocks() {
            let ours = forward.attention(block, &hidden, ids.len() - 1).unwrap(); // (heads, ids)
            assert_close(&format!("{name}: attention of block {block}"), &ours, &expected.get(block).unwrap());
            hidden = forward.block(block, &hidden).unwrap();
        }
    }
}

/// The fixtures show mistakes: another value of one key moves the logits far beyond the tolerance.
#[test]
fn what_the_cases_are_about_can_be_seen_in_them() {
    let changes = [
        ("llama-2", "rms_norm_eps", json!(1e-2)),
        ("llama-3.1", "rope_scaling", json!(null)),
        ("llama-3.1-v5", "rope_parameters", json!(null)),
        ("llama-biases", "rope_scaling", json!(null)),
        ("mistral", "sliding_window", json!(9)),
        ("mistral-v0.3", "rope_theta", json!(1e4)),
        ("phi3-short", "original_max_position_embeddings", json!(15)),
        ("phi3-short", "max_position_embeddings", json!(128)),
        ("phi3-long", "original_max_position_embeddings", json!(64)),
        ("phi3-long", "sliding_window", json!(null)),
        ("phi3-plain", "partial_rotary_factor", json!(0.75)),
        ("gemma2", "sliding_window", json!(7)),
        ("gemma2", "attn_logit_softcapping", json!(null)),
        ("gemma2", "final_logit_softcapping", json!(null)),
        ("gemma2", "query_pre_attn_scalar", json!(12)),
        ("gemma3", "sliding_window_pattern", json!(5)),
        ("gemma3", "rope_theta", json!(1e4)),
        ("gemma3", "rope_local_base_freq", json!(1e6)),
        ("gemma3-listed", "layer_types", json!(null)),
        ("qwen2-window-v5", "use_sliding_window", json!(false)),
    ];
    for path in cases("llms") {
        let expected = Expected::open(&path);
        let ids: Arc<[u32]> = expected.tensor("ids").to_vec1::<u32>().unwrap().into();
        for (_, key, value) in changes.iter().filter(|(case, ..)| *case == name(&path)) {
            let mut config = config(&path);
            config[*key] = value.clone();
            let model = build(&path, config).unwrap().model;
            let hidden = model.hidden(&model.embed(&ids).unwrap(), &Packing::whole(&[ids.len()]), None).unwrap();
            let (max, _) = differences(&model.logits(&hidden).unwrap(), &expected.tensor("logits"));
            assert!(max > 100.0 * MAX, "{}: with {key} {value} the logits move by {max:.1e} only", name(&path));
        }
    }
}

#[test]
fn losses_and_gradients_of_all_parameters_agree() {
    for path in cases("llms") {
        let (name, expected) = (name(&path), Expected::open(&path));
        let Built { model, params, .. } = build(&path, config(&path)).unwrap();
        params.set_trainable(true).unwrap();
        let ids = expected.tensor("ids").to_vec1::<u32>().unwrap();
        let rows = (0..ids.len() as u32 - 1).collect();
        let packing = Packing::whole(&[ids.len()]).with_rows(rows);
        let hidden = model.hidden(&model.embed(&ids.as_slice().into()).unwrap(), &packing, None).unwrap();
        let loss = (model.loss_sum(&hidden, &ids[1..].into()).unwrap() / (ids.len() - 1) as f64).unwrap();
        let (difference, _) = differences(&loss.reshape(1).unwrap(), &expected.tensor("loss"));
        assert!(difference <= LOSS, "{name}: the loss differs by {difference:.2e}");
        if !expected.has("gradient.model.norm.weight") {
            continue;
        }
        let gradients = loss.backward().unwrap();
        let mut worst = 0f64;
        for param in params.iter() {
            let ours = gradients
                .get(&param.tensor().unwrap())
                .unwrap_or_else(|| panic!("{name}: {} has no gradient", param.name()));
            let reference = expected.tensor(&format!("gradient.{}", param.name()));
            let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
            let relative = f64::from(norm(&(ours - &reference).unwrap()) / norm(&reference));
            assert!(relative <= GRADIENT, "{name}: the gradient of {} differs by {relative:.2e}", param.name());
            worst = worst.max(relative);
        }
        println!("{name}: loss {difference:.1e}, gradients {worst:.1e}");
    }
}

#[test]
fn decoding_from_a_cache_is_the_full_pass() {
    for case in opened() {
        let full = case.logits(&case.ids);
        let mut cache = case.model.cache(case.ids.len()).unwrap();
        let mut slot = cache.slot(case.ids.len(), None).unwrap();
        // The prompt, some tokens at once, then one by one.
        let mut start = 0;
        for length in [case.ids.len() / 3, 4].into_iter().chain(std::iter::repeat(1)) {
            let end = (start + length).min(case.ids.len());
            let packing = append(&mut [&mut slot], &[end - start]).unwrap();
            let hidden = case.model.hidden(&case.embed(&case.ids[start..end]), &packing, Some(&cache)).unwrap();
            let logits = case.model.logits(&hidden).unwrap(); // (1, vocab)
            case.assert_same(&format!("position {}", end - 1), &logits, &full.narrow(0, end - 1, 1).unwrap());
            start = end;
            if end == case.ids.len() {
                break;
            }
        }
    }
}

#[test]
fn sequences_may_share_a_prefix_in_the_cache() {
    for case in opened() {
        let (length, shared) = (case.ids.len(), case.ids.len() / 2);
        let mut other = case.ids.clone();
        other[shared..].reverse();
        other.truncate(length - 2);
        let sequences = [&case.ids, &other];
        let full = sequences.map(|ids| case.logits(ids));

        let mut cache = case.model.cache(2 * length).unwrap();
        let mut prefix = cache.slot(shared, None).unwrap().planned(length);
        let packing = append(&mut [&mut prefix], &[shared]).unwrap();
        case.model.hidden(&case.embed(&case.ids[..shared]), &packing, Some(&cache)).unwrap();
        let mut slots: Vec<Slot> =
            sequences.iter().map(|ids| cache.slot(ids.len() - shared, Some(&prefix)).unwrap()).collect();
        for position in shared..other.len() {
            let next = sequences.map(|ids| ids[position]);
            let packing = append(&mut slots.iter_mut().collect::<Vec<_>>(), &[1, 1]).unwrap();
            let hidden = case.model.hidden(&case.embed(&next), &packing, Some(&cache)).unwrap();
            let logits = case.model.logits(&hidden).unwrap(); // (2, vocab)
            for (row, full) in full.iter().enumerate() {
                let (ours, full) = (logits.narrow(0, row, 1).unwrap(), full.narrow(0, position, 1).unwrap());
                case.assert_same(&format!("sequence {row}, position {position}"), &ours, &full);
            }
        }
    }
}

#[test]
fn packed_sequences_do_not_see_each_other() {
    for case in opened() {
        let lengths = [case.ids.len(), 5, case.ids.len() / 2];
        let ids: Vec<u32> = lengths.iter().flat_map(|&length| case.ids[..length].to_vec()).collect();
        let hidden = case.model.hidden(&case.embed(&ids), &Packing::whole(&lengths), None).unwrap();
        let logits = case.model.logits(&hidden).unwrap();
        let mut start = 0;
        for length in lengths {
            let alone = case.logits(&case.ids[..length]);
            case.assert_same(&format!("length {length}"), &logits.narrow(0, start, length).unwrap(), &alone);
            start += length;
        }
    }
}

/// The reference rounds sqrt(width) to the dtype first: 5.65625 for 32 in bf16 (5.656854 in f32).
#[test]
fn embeddings_are_scaled_in_the_dtype() {
    let case = cases("llms").into_iter().find(|case| name(case) == "gemma3").unwrap();
    let model = build_in(&case, config(&case), DType::BF16).unwrap().model;
    let weights = TensorFiles::open(&case).unwrap().load("model.embed_tokens.weight", &Device::Cpu).unwrap();
    let expected = (weights.to_dtype(DType::F32).unwrap() * 5.65625).unwrap().to_dtype(DType::BF16).unwrap();
    let ours = model.embed(&(0..weights.dims()[0] as u32).collect()).unwrap();
    assert_eq!(differences(&ours, &expected).0, 0.0);
}

/// A registry line without a fixture fails here.
#[test]
fn every_architecture_has_a_case() {
    let proven: BTreeSet<String> =
        cases("llms").iter().map(|case| config(case)["model_type"].as_str().unwrap().to_string()).collect();
    for model_type in registry::model_types(llms::ALL) {
        assert!(proven.contains(model_type), "no fixture has the model_type {model_type}");
    }
}

#[test]
fn the_names_of_llava_more_stand_for_their_llms() {
    for path in cases("llms") {
        let plain = config(&path);
        let family = plain["model_type"].as_str().unwrap();
        let Some(alias) = registry::llava_of_llm(family) else { continue };
        let mut renamed = plain.clone();
        renamed["model_type"] = json!(alias);
        let spec = |value| registry::llm_spec(&Config::new(value, "`config.json`")).unwrap();
        assert_eq!(spec(plain), spec(renamed), "{alias}");
    }
}

/// Configs and heads that do not agree: see the reference's section on checkpoints.
#[test]
fn a_head_is_taken_where_there_is_one_and_tied_where_there_is_none() {
    let case = super::cases("llms").into_iter().find(|case| name(case) == "gemma2").unwrap();
    let folder = scratch("parity-llms-heads");
    let mut untied = config(&case);
    untied["tie_word_embeddings"] = json!(false);
    assert!(build(&case, untied.clone()).unwrap().model.spec().tied);

    let tensors = llmore::weights::read_tensors(&case.join("model.safetensors"), &Device::Cpu).unwrap();
    let (_, embedding) = tensors.iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap();
    let with_head = |head: Tensor| {
        let mut tensors = tensors.clone();
        tensors.push(("lm_head.weight".to_string(), head));
        save_tensors(&tensors, &folder.join("model.safetensors")).unwrap();
    };
    with_head(embedding.clone());
    let tied = build(&folder, config(&case)).unwrap();
    assert!(tied.model.spec().tied && tied.unused.is_empty());

    with_head((embedding.to_dtype(DType::F32).unwrap() * 2.0).unwrap().to_dtype(embedding.dtype()).unwrap());
    let message = build(&folder, config(&case)).err().unwrap().to_string();
    assert!(message.contains("`tie_word_embeddings` is true, but `lm_head.weight`"), "{message}");
    let built = build(&folder, untied).unwrap();
    assert!(!built.model.spec().tied && built.params.iter().any(|param| param.name() == "lm_head.weight"));
}

/// A config that cannot be honored is refused by the name of what it says.
#[test]
fn what_no_decoder_does_is_an_error() {
    let message = |value: Value| {
        registry::llm_spec(&Config::new(value, "`config.json`"))
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    let cases = [
        (
            json!({"model_type": "qwen2", "rope_scaling": {"type": "mrope", "mrope_section": [1]}}),
            "`rope_type` is `mrope`",
        ),
        (json!({"model_type": "qwen2", "rope_parameters": {"rope_type": "yarn"}}), "`rope_type` is `yarn`"),
        (json!({"model_type": "llama", "hidden_act": "gelu"}), "`hidden_act` is `gelu`"),
        (json!({"model_type": "mistral", "sliding_window": 0}), "`sliding_window` is `0`"),
        (json!({"model_type": "gemma2", "hidden_activation": "relu"}), "`hidden_activation` is `relu`"),
        (json!({"model_type": "gemma2", "layer_types": ["full_attention"]}), "`layer_types` is `1 long`"),
        (
            json!({"model_type": "gemma3_text", "use_bidirectional_attention": true}),
            "`use_bidirectional_attention` is `true`",
        ),
        (json!({"model_type": "gemma3_text", "sliding_window": null}), "`sliding_window` is `null`"),
        (json!({"model_type": "phi3", "partial_rotary_factor": 1.5}), "cannot rotate 1.5 of a head of 96"),
        (
            json!({"model_type": "phi3", "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": []}}),
            "`short_factor` is `1 of them`",
        ),
        (
            json!({"model_type": "llama", "num_attention_heads": 3, "num_key_value_heads": 2}),
            "3 attention heads cannot share 2",
        ),
        (json!({"model_type": "llava_mpt"}), "no LLM architecture `llava_mpt`"),
    ];
    for (config, expected) in cases {
        let message = message(config.clone());
        assert!(message.contains(expected), "{config}: {message}");
    }
}

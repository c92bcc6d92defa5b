//! Rotary embeddings: every spelling of config.json against transformers 5.24.0, GGUF keys, and generation across the context
//! that a longrope was stretched from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value as Gguf;
use candle_core::{D, Device, Tensor};
use llmore::models::config::Config;
use llmore::models::llms::rope;
use llmore::models::registry::{self, Target};
use llmore::nn::packing::Packing;
use llmore::nn::rope::{Rope, RopeScaling};
use llmore::preset::Presets;
use llmore::vlm::generate::{Engine, Finish, Limits, Piece, Request, Sampling, Stops};
use llmore::vlm::{Llm, LlmOptions, Weights};
use serde_json::{Value, json};

use super::families::{fixture, whole};
use super::generation::texts;
use super::gguf::{Sample, open, text};
use super::scratch::scratch;

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn close(what: &str, ours: &[f64], reference: &[f64]) {
    assert_eq!(ours.len(), reference.len(), "{what}");
    for (a, b) in ours.iter().zip(reference) {
        assert!((a / b - 1.0).abs() < 1e-5, "{what}: {ours:?} and {reference:?}");
    }
}

/// A rope against what the reference's rotary class has.
fn agrees(what: &str, rope: &Rope, expected: &Value) {
    close(what, &rope.frequencies(), &numbers(&expected["inv_freq"]));
    let attention = match &rope.scaling {
        RopeScaling::LongRope(longrope) => {
            if let Some(long) = expected.get("long") {
                let plain = Rope { scaling: RopeScaling::None, ..rope.clone() }.frequencies();
                let ours: Vec<f64> = plain.iter().zip(&longrope.long).map(|(frequency, by)| frequency / by).collect();
                close(what, &ours, &numbers(long));
            }
            longrope.attention_factor
        }
        _ => 1.0,
    };
    close(what, &[attention], &[expected["attention"].as_f64().unwrap()]);
}

#[test]
fn every_spelling_is_what_transformers_makes_of_it_or_refused() {
    // What transformers 5.24 ignores with a warning and 4.x reads, or nobody writes.
    let refused = ["a map by layer without layers", "Gemma-3, type", "Gemma-3, one map for both"];
    let said: BTreeMap<&str, &str> = BTreeMap::from([
        ("theta inside and outside", "`rope_theta` is 500000 and is used; `rope_theta` outside, 700000, is not"),
        ("linear, both names", "`rope_type` is \"linear\" and is used; `type`, \"dynamic\", is not"),
        ("linear, a factor below 1", "`factor` is 0.5"),
        ("a factor without a type", "`factor` is not used by rope type `default`"),
        ("default with a factor", "`factor` is not used by rope type `default`"),
        ("both maps", "`rope_scaling` is used (`linear`, `rope_theta` 10000)"),
        ("llama3 without the original context", "`max_position_embeddings`, 256, is taken for it"),
        ("llama3, two original contexts", "the one outside, 64, wins"),
        ("dynamic", "`dynamic` changes nothing"),
        ("partial in a Llama", "`partial_rotary_factor` is 0.5 and is not used"),
        ("partial inside in a Mistral", "`partial_rotary_factor` is 0.5 and is not used"),
        ("partial in a Qwen2", "`partial_rotary_factor` is 0.25 and is not used"),
        ("longrope, original context inside only", "the default of this family, 4096, wins"),
        ("yarn in a Phi-3", ""),
        ("Gemma-3, both", "`rope_scaling` is laid over `full_attention`"),
        ("Gemma-3, llama3 by layer", "`max_position_embeddings`, 256, is taken for it"),
    ]);
    let cases = json_of(&fixture("ropes/spellings/cases.json"));
    for case in cases.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let config = Config::new(case["config"].clone(), "config.json");
        let spec = registry::llm_spec(&config);
        if case.get("refused").is_some() || refused.contains(&name) {
            let error = spec.err().unwrap_or_else(|| panic!("{name} is not refused"));
            assert!(error.to_string().contains("config.json") && error.help_text().is_some(), "{name}: {error}");
            continue;
        }
        let spec = spec.unwrap_or_else(|error| panic!("{name}: {error}"));
        agrees(name, &spec.rope, &case["full_attention"]);
        if let Some(local) = &spec.local_rope {
            agrees(name, local, &case["sliding_attention"]);
        }
        let notes = config.notes().list();
        match said.get(name) {
            None => assert_eq!(notes, [""; 0], "{name}"),
            Some(text) => assert!(notes.iter().any(|note| note.contains(text)) || text.is_empty(), "{name}: {notes:?}"),
        }
        // What is written of it reads as the same, and leaves nothing to be said.
        let mut written = case["config"].as_object().unwrap().clone();
        rope::write(&spec, &mut written);
        let written = Config::new(Value::Object(written), "written");
        assert_eq!(registry::llm_spec(&written).unwrap(), spec, "{name}");
        let left = written.notes().list().into_iter().filter(|note| !note.contains("below 1")).collect::<Vec<_>>();
        assert_eq!(left, [""; 0], "{name}");
    }
}

#[test]
fn part_of_a_head_is_refused_where_transformers_cannot_compute_it() {
    for map in [
        json!({"rope_type": "linear", "factor": 2.0}),
        json!({"rope_type": "llama3", "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}),
    ] {
        let config = json!({"model_type": "llama", "partial_rotary_factor": 0.5, "rope_scaling": map});
        let error = registry::llm_spec(&Config::new(config, "config.json")).err().unwrap().to_string();
        assert!(error.contains("`partial_rotary_factor` is `0.5`"), "{error}");
    }
}

/// The keys that the spec of a config is written with, and those of the map among them.
fn keys(config: Value) -> (Vec<String>, Vec<String>) {
    let spec = registry::llm_spec(&Config::new(config.clone(), "config.json")).unwrap();
    let mut written = config.as_object().unwrap().clone();
    rope::write(&spec, &mut written);
    let sorted = |map: &serde_json::Map<String, Value>| -> Vec<String> {
        let mut keys: Vec<String> = map.keys().cloned().collect();
        keys.sort();
        keys
    };
    let map = written.get("rope_scaling").or(written.get("rope_parameters")).and_then(Value::as_object);
    (sorted(&written), map.map(sorted).unwrap_or_default())
}

/// 4.49 reads `rope_theta` and `rope_scaling`; its Phi-3 takes three keys there, no more and no fewer.
#[test]
fn what_is_written_is_read_by_4_49() {
    let factors = json!([1.0, 1.0]);
    let phi3 = json!({"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 2, "original_max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 2e4, "short_factor": factors, "long_factor": factors,
            "original_max_position_embeddings": 64, "partial_rotary_factor": 1.0}});
    let (outside, inside) = keys(phi3);
    assert_eq!(inside, ["long_factor", "short_factor", "type"]);
    assert!(outside.contains(&"original_max_position_embeddings".to_string()), "{outside:?}");
    assert!(!outside.contains(&"rope_parameters".to_string()), "{outside:?}");
    let llama = json!({"model_type": "llama", "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0}, "original_max_position_embeddings": 512});
    let (outside, inside) = keys(llama);
    assert_eq!(outside, ["model_type", "rope_scaling", "rope_theta"]);
    let expected = ["factor", "high_freq_factor", "low_freq_factor", "original_max_position_embeddings", "rope_type"];
    assert_eq!(inside, expected);
    let plain = json!({"model_type": "llama", "rope_scaling": null, "rope_parameters": {"rope_type": "default"}});
    assert_eq!(keys(plain).0, ["model_type", "rope_theta"]);
    let by_layer = json!({"model_type": "gemma3_text", "rope_parameters": {
        "sliding_attention": {"rope_type": "linear", "factor": 2.0}, "full_attention": {"rope_type": "default"}}});
    assert_eq!(
        keys(by_layer),
        (
            vec!["model_type".into(), "rope_parameters".into()],
            vec!["full_attention".into(), "sliding_attention".into()]
        )
    );
}

#[test]
fn what_is_no_map_or_no_number_is_refused_by_its_key() {
    let linear = |factor: Value| json!({"rope_type": "linear", "factor": factor});
    for (key, value, expected) in [
        ("rope_scaling", json!("linear"), "`rope_scaling` is `\"linear\"`"),
        ("rope_parameters", json!([1]), "`rope_parameters` is `[1]`"),
        ("rope_scaling", linear(json!("4")), "`factor` is \"4\", expected a number"),
        ("rope_scaling", linear(json!(0.0)), "`factor` is `0`"),
        ("rope_scaling", linear(json!(null)), "has no `factor`"),
        ("rope_theta", json!("5e5"), "`rope_theta` is \"5e5\", expected a number"),
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), "`rope_type` is `yarn`"),
        ("rope_scaling", json!({"rope_type": "proportional"}), "`rope_type` is `proportional`"),
    ] {
        let config = json!({"model_type": "llama", key: value});
        let error = registry::llm_spec(&Config::new(config, "config.json")).err().unwrap().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// The frequencies of the fixture's LLM as a GGUF file with these keys.
fn stretched(name: &str, keys: &[(&str, Gguf)], factors: Option<&[f32]>) -> llmore::error::Result<Rope> {
    let mut sample = keys.iter().fold(Sample::new(), |sample, (key, value)| sample.set(key, Some(value.clone())));
    if let Some(factors) = factors {
        let tensor = Tensor::new(factors, &Device::Cpu).unwrap();
        sample.tensors.push(("rope_freqs.weight".to_string(), tensor, GgmlDType::F32));
    }
    Ok(open(&sample.write(&format!("rope-{name}.gguf")), None)?.model.spec().rope.clone())
}

#[test]
fn linear_scaling_of_gguf_in_every_spelling() {
    let plain = stretched("plain", &[], None).unwrap();
    let expected: Vec<f64> = plain.frequencies().iter().map(|frequency| frequency / 4.0).collect();
    let (factor, linear) = (("llama.rope.scaling.factor", Gguf::F32(4.0)), ("llama.rope.scaling.type", text("linear")));
    let old = ("llama.rope.scale_linear", Gguf::F32(4.0));
    for (name, keys) in [
        ("today", vec![factor.clone(), linear.clone()]),
        ("untyped", vec![factor.clone()]),
        ("old", vec![old.clone()]),
        ("old-typed", vec![old, linear.clone()]),
        ("both", vec![("llama.rope.scale_linear", Gguf::F32(2.0)), factor.clone()]),
    ] {
        close(name, &stretched(name, &keys, None).unwrap().frequencies(), &expected);
    }
    let none = ("llama.rope.scaling.type", text("none"));
    for (name, keys) in [
        ("none", vec![factor.clone(), none]),
        ("zero", vec![("llama.rope.scaling.factor", Gguf::F32(0.0))]),
        ("no-factor", vec![linear]),
    ] {
        assert_eq!(stretched(name, &keys, None).unwrap(), plain, "{name}");
    }
    for (name, key, value, expected) in [
        ("part", "llama.rope.dimension_count", Gguf::U32(4), "`llama.rope.dimension_count` is 4, and heads have 8"),
        ("attention", "llama.rope.scaling.attn_factor", Gguf::F32(1.5), "`llama.rope.scaling.attn_factor` is `1.5`"),
        ("longrope", "llama.rope.scaling.type", text("longrope"), "`llama.rope.scaling.type` is `longrope`"),
    ] {
        let keys = [("llama.attention.key_length", Gguf::U32(8)), (key, value)];
        let error = stretched(name, &keys, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn factors_of_gguf_are_used_whatever_context_they_were_made_for() {
    let plain = stretched("unscaled", &[], None).unwrap();
    for original_context in [8192.0, 512.0, 40.0] {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context };
        let expected = Rope { scaling, ..plain.clone() }.frequencies();
        let factors: Vec<f32> =
            plain.frequencies().iter().zip(&expected).map(|(plain, scaled)| (plain / scaled) as f32).collect();
        let name = format!("freqs-{original_context}");
        let rope = stretched(&name, &[], Some(&factors)).unwrap();
        close(&name, &rope.frequencies(), &expected);
        let keys = [("llama.rope.scaling.factor", Gguf::F32(2.0))];
        let halved: Vec<f64> = expected.iter().map(|frequency| frequency / 2.0).collect();
        close(&name, &stretched(&format!("{name}-linear"), &keys, Some(&factors)).unwrap().frequencies(), &halved);
    }
    let error = stretched("freqs-short", &[], Some(&[1.0])).unwrap_err().to_string();
    assert!(error.contains("`short_factor` is `1 of them`"), "{error}");
}

/// A Phi-3 with an original context of 24 and one of 256.
fn phi3(name: &str) -> Arc<Llm> {
    let folder = scratch(name);
    whole(&fixture("ropes/phi3-switch"), &folder);
    let options = LlmOptions { weights: Weights::Stored, seed: 0, target: Target::cpu() };
    let llm = Llm::open(&Presets::default(), &folder.to_string_lossy(), options).unwrap();
    Arc::new(llm)
}

/// Logits of the last rows of a sequence, computed at once.
fn at_once(llm: &Llm, ids: &[u32]) -> Tensor {
    let ids: Arc<[u32]> = ids.into();
    let hidden = llm.model.hidden(&llm.model.embed(&ids).unwrap(), &Packing::whole(&[ids.len()]), None).unwrap();
    llm.model.logits(&hidden).unwrap()
}

/// The likeliest ids after a prompt, each of a pass over the whole.
fn followed(llm: &Llm, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for _ in 0..count {
        let best = at_once(llm, &ids).argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap();
        ids.push(*best.last().unwrap());
    }
    ids.split_off(prompt.len())
}

fn tokens(ids: &[u32]) -> Vec<Piece> {
    ids.iter().map(|&id| Piece::Token(id)).collect()
}

const STOPS: Stops = Stops { ids: Vec::new(), texts: Vec::new(), trim: true };

#[test]
fn generation_across_the_original_context_is_that_of_the_full_pass() {
    let llm = phi3("switch");
    let expected = json_of(&fixture("ropes/phi3-switch/expected.json"));
    let ids = |key: &str| -> Vec<u32> { numbers(&expected[key]).into_iter().map(|id| id as u32).collect() };
    let (prompt, continuation) = (ids("ids"), ids("continuation"));
    assert_eq!(followed(&llm, &prompt, continuation.len()), continuation, "the full pass and transformers");
    let longer: Vec<u32> = prompt.iter().chain(&continuation).copied().collect();
    let prompts: Vec<Vec<u32>> = [10, 3, 22, 23, 24, 25, 40].map(|length| longer[..length].to_vec()).to_vec();
    let said = |ids: &[u32]| llm.tokenizer().unwrap().decode(ids).unwrap().trim().to_string();
    let expected: Vec<String> = prompts.iter().map(|prompt| said(&followed(&llm, prompt, 40))).collect();
    let pieces: Vec<Vec<Piece>> = prompts.iter().map(|prompt| tokens(prompt)).collect();
    let sampling = Sampling { max_new_tokens: 40, ..Sampling::default() };
    for batch in [1, 3, 16] {
        let mut engine = Engine::new(llm.clone(), Limits::places(batch)).unwrap();
        assert_eq!(texts(&mut engine, &pieces, (&sampling, &STOPS)), expected, "{batch} at a time");
    }
    // One conversation that grows, and one that goes back.
    let mut engine = Engine::new(llm.clone(), Limits::places(1)).unwrap();
    for (pieces, expected) in pieces.iter().zip(&expected) {
        let request = Request::answer(sampling.clone(), Arc::new(STOPS), 0).staying();
        let ticket = engine.submit(pieces.clone(), request).unwrap();
        assert_eq!(engine.run(&[ticket], &mut |_, _, _| true).unwrap()[0].text, *expected);
    }
    // How much is asked for changes nothing of what is answered: not the first token, and none on either side of the
    // original context of 24.
    for (ids, pieces) in prompts.iter().zip(&pieces) {
        for most in [1, 2, 3, 14, 15, 16, 200] {
            let mut engine = Engine::new(llm.clone(), Limits::places(1)).unwrap();
            let few = Sampling { max_new_tokens: most, ..Sampling::default() };
            let text = texts(&mut engine, std::slice::from_ref(pieces), (&few, &STOPS)).remove(0);
            let whole = said(&followed(&llm, ids, most.min(40)));
            match most > 40 {
                true => assert!(text.starts_with(&whole), "{} ids, {most} asked for: {text}", ids.len()),
                false => assert_eq!(text, whole, "{} ids, {most} asked for", ids.len()),
            }
        }
    }
}

#[test]
fn likelihoods_across_the_original_context_are_those_of_the_full_pass() {
    let llm = phi3("likelihoods");
    let ids: Vec<u32> = (0..40).map(|place| place * 7 % 40 + 4).collect();
    let (prompt, continuations) = (&ids[..21], [1, 3, 4, 5, 9].map(|length| ids[21..21 + length].to_vec()).to_vec());
    let mut engine = Engine::new(llm.clone(), Limits::places(1)).unwrap();
    let ticket = engine.submit(tokens(prompt), Request::likelihoods(continuations.clone())).unwrap();
    let ours = engine.run(&[ticket], &mut |_, _, _| true).unwrap().remove(0).likelihoods;
    assert_eq!(ours.len(), continuations.len());
    for (ids, ours) in continuations.iter().zip(ours) {
        let all: Vec<u32> = prompt.iter().chain(&ids[..ids.len() - 1]).copied().collect();
        let logits = at_once(&llm, &all).to_vec2::<f32>().unwrap();
        let likelihood = |(row, &id): (&Vec<f32>, &u32)| {
            f64::from(row[id as usize]) - row.iter().map(|&logit| f64::from(logit).exp()).sum::<f64>().ln()
        };
        let expected: f64 = logits[prompt.len() - 1..].iter().zip(ids).map(likelihood).sum::<f64>() / ids.len() as f64;
        assert!((ours - expected).abs() < 1e-4, "{} ids: {ours} and {expected}", ids.len());
    }
}

#[test]
fn an_answer_ends_where_the_context_does() {
    let llm = phi3("context");
    let ids: Vec<u32> = (0..256).map(|place| place * 7 % 40 + 4).collect();
    let sampling = Sampling { max_new_tokens: 1000, ..Sampling::default() };
    let mut engine = Engine::new(llm, Limits::places(2)).unwrap();
    let request = || Request::answer(sampling.clone(), Arc::new(STOPS), 0);
    let prompts = [tokens(&ids[..250]), tokens(&ids[..255])];
    let tickets = prompts.map(|prompt| engine.submit(prompt, request()).unwrap());
    let outcomes = engine.run(&tickets, &mut |_, _, _| true).unwrap();
    assert_eq!([outcomes[0].new_tokens, outcomes[1].new_tokens], [6, 1]);
    assert!(outcomes.iter().all(|outcome| outcome.finish == Finish::Length && outcome.filled_context(&sampling)));
    let error = engine.submit(tokens(&ids), request()).unwrap_err();
    assert!(error.message().contains("256 positions and 1 new token do not fit the context of 256"), "{error}");
}

//! Every family in a LLaVA as transformers 5.24.0 writes it: opened, saved in both layouts and opened again, it computes what
//! transformers computes (`fixtures/parity/how.md`).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use llmore::models::registry::Target;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::{IMAGE_ID, Rendered};
use llmore::vlm::{Sequence, Vlm, batch, checkpoint};
use llmore::weights::{TensorFiles, save_tensors};
use serde_json::{Value, json};

use super::scratch::scratch;

const IMAGE: i64 = 47;

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(name)
}

/// The numbers of a tensor, as `values` of scripts/dev/parity/families.py makes them from its name.
fn values(name: &str, shape: &[usize]) -> Tensor {
    let seed = name.bytes().fold(2_166_136_261u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let around = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
    let value = |index: usize| {
        let mut hashed = (index as u32).wrapping_mul(2_654_435_761).wrapping_add(seed);
        for (shift, factor) in [(16, 0x85EB_CA6Bu32), (13, 0xC2B2_AE35)] {
            hashed = (hashed ^ (hashed >> shift)).wrapping_mul(factor);
        }
        let value = ((hashed ^ (hashed >> 16)) >> 8) as f32 / 16_777_216.0 - 0.5;
        if shape.len() == 1 { around + value * 0.5 } else { value }
    };
    let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A case as a folder that can be opened: its files, its weights, the tokenizer of all.
pub fn whole(case: &Path, folder: &Path) {
    for entry in std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&entry, folder.join(entry.file_name().unwrap())).unwrap();
    }
    std::fs::copy(fixture("families/tokenizer.json"), folder.join("tokenizer.json")).unwrap();
    let lines = std::fs::read_to_string(case.join("tensors.txt")).unwrap();
    let tensors: Vec<(String, Tensor)> = lines
        .lines()
        .map(|line| {
            let (name, shape) = line.split_once(' ').unwrap();
            let shape: Vec<usize> = shape.split(' ').map(|size| size.parse().unwrap()).collect();
            (name.to_string(), values(name, &shape))
        })
        .collect();
    save_tensors(&tensors, &folder.join("model.safetensors")).unwrap();
}

fn load(folder: &Path) -> Vlm {
    checkpoint::load(&Presets::default(), folder, Some("tiny"), &Target::cpu()).unwrap()
}

/// Logits of the reference's ids, with one mark in place of the picture's run of tokens.
fn logits(vlm: &Vlm, case: &Path) -> Tensor {
    let expected = TensorFiles::open(&case.join("expected.safetensors")).unwrap();
    let tensor = |name: &str| expected.load(name, &Device::Cpu).unwrap();
    let mut ids = tensor("input_ids").flatten_all().unwrap().to_vec1::<i64>().unwrap();
    let start = ids.iter().position(|id| *id == IMAGE).unwrap();
    ids.retain(|id| *id != IMAGE);
    ids.insert(start, IMAGE_ID);
    let labels = vec![-100; ids.len()];
    let rendered = Rendered { text: String::new(), ids, labels, branches: Vec::new() };
    let features = vlm.encoder.encode(&tensor("pixel_values")).unwrap();
    let sequence = Sequence { rendered: &rendered, images: vec![0] };
    let batch = batch(vlm, &[sequence], Some(&features), vlm.llm.context()).unwrap();
    let hidden = vlm.llm.model.hidden(&batch.embeds, &Packing::trees(&batch.trees), None).unwrap();
    vlm.llm.model.logits(&hidden).unwrap()
}

fn reference(case: &Path) -> Tensor {
    let expected = TensorFiles::open(&case.join("expected.safetensors")).unwrap();
    expected.load("logits", &Device::Cpu).unwrap().squeeze(0).unwrap()
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b.to_dtype(DType::F32).unwrap()).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn save(vlm: &Vlm, layout: &str, folder: &Path) {
    match layout {
        "llava-more" => vlm.save(folder).unwrap(),
        _ => drop(vlm.save_transformers(folder).unwrap()),
    }
}

/// The LLM's part of a saved config.json.
fn text_config(folder: &Path) -> Value {
    let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    config.get("text_config").cloned().unwrap_or(config)
}

#[test]
fn every_family_keeps_its_logits_in_both_layouts() {
    let scratch = scratch("layouts");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(fixture("families"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir())
        .collect();
    cases.sort();
    assert_eq!(cases.len(), 19);
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let folder = scratch.join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        whole(case, &folder);
        let vlm = load(&folder);
        let difference = worst(&logits(&vlm, case), &reference(case));
        assert!(difference < 1e-4, "{name}: opened, it differs from transformers by {difference:.2e}");
        for (first, second) in [("llava-more", "transformers"), ("transformers", "llava-more")] {
            let (once, twice) =
                (scratch.join(format!("{name}-{first}")), scratch.join(format!("{name}-{first}-again")));
            save(&vlm, first, &once);
            let saved = load(&once);
            save(&saved, second, &twice);
            for (place, model) in [(&once, &saved), (&twice, &load(&twice))] {
                let difference = worst(&logits(model, case), &reference(case));
                assert!(difference < 1e-4, "{name}, {}: differs by {difference:.2e}", place.display());
                let (spec, before) = (model.llm.model.spec(), vlm.llm.model.spec());
                assert_eq!((&spec.rope, &spec.local_rope), (&before.rope, &before.local_rope), "{}", place.display());
                let config = text_config(place);
                let stale = config.get("rope_parameters").is_some()
                    && ["rope_theta", "rope_scaling", "rope_local_base_freq"]
                        .iter()
                        .any(|key| config.get(*key).is_some());
                assert!(!stale, "{}: {config}", place.display());
            }
        }
    }
}

/// Gemma 2 in a folder of transformers 5.24 is said to compute as there; the folders written of it say which version does.
#[test]
fn what_a_version_computes_is_said() {
    let scratch = scratch("versions");
    whole(&fixture("families/gemma2"), &scratch);
    let notes = |folder: &Path| load(folder).notes.list().join("\n");
    assert!(
        notes(&scratch)
            .contains("written by transformers 5.24.0 and computed as there: visual tokens are not multiplied")
    );
    let written = |folder: &Path| -> Value {
        let config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        config["transformers_version"].clone()
    };
    let new = load(&scratch);
    let note = new.save_transformers(&scratch.join("new")).unwrap().unwrap();
    assert!(note.contains("from 5.4 on computes the same"), "{note}");
    assert_eq!(written(&scratch.join("new")), "5.24.0");
    // As LLaVA-MORE and transformers up to 4.51 compute.
    let mut config: Value = serde_json::from_slice(&std::fs::read(scratch.join("config.json")).unwrap()).unwrap();
    config["transformers_version"] = json!("4.49.0");
    std::fs::write(scratch.join("config.json"), config.to_string()).unwrap();
    let old = load(&scratch);
    let case = fixture("families/gemma2");
    assert!(worst(&logits(&old, &case), &reference(&case)) > 0.1);
    let note = old.save_transformers(&scratch.join("old")).unwrap().unwrap();
    assert!(note.contains("from 4.52 on it does not soft-cap"), "{note}");
    assert_eq!(written(&scratch.join("old")), "4.51.3");
    for layout in ["old", "llava-more"] {
        save(&old, layout, &scratch.join(layout));
        assert!(worst(&logits(&load(&scratch.join(layout)), &case), &logits(&old, &case)) < 1e-4, "{layout}");
    }
}

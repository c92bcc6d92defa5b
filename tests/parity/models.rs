//! Parity of `fixtures/parity/models`: whole checkpoints of transformers 4.49 and 5.23, and a LLaVA-MORE stage-1 folder.

use std::path::Path;

use candle_core::{DType, Tensor};
use llmore::models::registry::Target;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::{IMAGE_ID, Rendered};
use llmore::vlm::{Batch, Sequence, Vlm, batch, checkpoint};

use super::{Expected, assert_close};

fn ids(tensor: &Tensor) -> Vec<i64> {
    tensor.flatten_all().unwrap().to_vec1::<i64>().unwrap()
}

/// Ids and labels of the reference as llmore has them: one mark in place of the picture's run of tokens.
fn marked(ids: &[i64], labels: &[i64], tokens: usize) -> Rendered {
    let image = *ids.iter().max_by_key(|id| ids.iter().filter(|other| other == id).count()).unwrap();
    let start = ids.iter().position(|id| *id == image).unwrap();
    assert!(ids[start..start + tokens].iter().all(|id| *id == image));
    let cut = |values: &[i64], mark: i64| [&values[..start], &[mark], &values[start + tokens..]].concat();
    Rendered { text: String::new(), ids: cut(ids, IMAGE_ID), labels: cut(labels, -100), branches: Vec::new() }
}

fn spliced(vlm: &Vlm, expected: &Expected) -> Batch {
    let rendered = marked(&ids(&expected.tensor("input_ids")), &ids(&expected.tensor("labels")), vlm.image_tokens());
    let features = vlm.encoder.encode(&expected.tensor("pixel_values")).unwrap();
    batch(vlm, &[Sequence { rendered: &rendered, images: vec![0] }], Some(&features), vlm.llm.context()).unwrap()
}

fn check(name: &str, folder: &Path) {
    let expected = Expected::open(folder);
    let vlm = checkpoint::load(&Presets::default(), folder, Some("llama_3_1"), &Target::cpu()).unwrap();
    vlm.freeze().unwrap();
    let batch = spliced(&vlm, &expected);
    let packing = Packing::trees(&batch.trees);
    let logits = vlm.llm.model.logits(&vlm.llm.model.hidden(&batch.embeds, &packing, None).unwrap()).unwrap();
    let reference = expected.tensor("logits").squeeze(0).unwrap();
    let (max, mean) = assert_close(name, &logits, &reference);
    let sum = batch.loss_sum(&vlm).unwrap().to_scalar::<f32>().unwrap();
    let loss = f64::from(sum) / batch.targets.len() as f64;
    let wanted = expected.tensor("loss").to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0];
    assert!((loss - wanted).abs() <= 1e-5, "{name}: loss {loss}, reference {wanted}");
    println!("{name}: logits {max:.2e} at most, {mean:.2e} in the mean; loss {:.2e}", (loss - wanted).abs());
}

fn case(name: &str) {
    check(name, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/models").join(name));
}

#[test]
fn clip_and_llama_as_4_49_writes_them() {
    case("clip-llama");
}

#[test]
fn clip_and_llama_as_5_23_writes_them() {
    case("clip-llama-v5");
}

#[test]
fn siglip_and_llama_as_4_49_writes_them() {
    case("siglip-llama");
}

#[test]
fn siglip_and_llama_as_5_23_writes_them() {
    case("siglip-llama-v5");
}

#[test]
fn a_stage_1_folder_with_a_torch_file() {
    case("stage-1");
}

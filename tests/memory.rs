//! What saves memory changes no more than it says: masters of narrow weights, 8-bit moments, kept features. And plans
//! leave no trace.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::train::{Limits, Status, Trainer};
use llmore::vlm::{Llm, LlmOptions, Vlm, Weights};

use super::resume::{bytes, llm, model, trainer};
use super::scripting::scratch;

const OPTIONS: &str = "batch = 8\nmicro_batch = 4\nsave_every_steps = 2\nseed = 5\nclip = 1.0\n";

fn narrow() -> Arc<Vlm> {
    let target = Target { dtype: DType::BF16, device: Device::Cpu, quantize: None };
    let options = LlmOptions { weights: Weights::Stored, seed: 5, target };
    model(Llm::open(&Presets::default(), "tiny-llama", options).unwrap())
}

fn losses(mut trainer: Trainer, steps: usize) -> Vec<f64> {
    (0..steps).map(|_| trainer.step().unwrap().loss).collect()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
}

/// All values of all weights in f32.
fn values(vlm: &Vlm) -> Vec<f32> {
    let flat = |tensor: Tensor| tensor.detach().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    vlm.named_params().into_iter().flat_map(|(_, _, param)| flat(param.tensor().unwrap())).collect::<Vec<f32>>()
}

#[test]
fn bf16_with_masters_follows_f32_closer_than_without() {
    let folder = scratch("masters");
    let options = |more: &str| format!("{OPTIONS}steps = 30\nschedule = \"constant\"\n{more}train = {{ llm = 1e-4 }}");
    let wide = losses(trainer(&model(llm()), &options(""), &folder), 30);
    let with = losses(trainer(&narrow(), &options(""), &folder), 30);
    let without = losses(trainer(&narrow(), &options("masters = false\n"), &folder), 30);
    let (near, far) = (distance(&wide, &with), distance(&wide, &without));
    println!("mean distance of 30 losses from f32: {near:.2e} with masters, {far:.2e} without");
    assert!(near < 0.5 * far, "{near} and {far}");
}

#[test]
fn updates_below_the_precision_of_bf16_add_up_in_masters() {
    // bf16 holds 8 bits: most weights of about 0.02 do not feel one step of 1e-6, but twenty.
    let folder = scratch("small-updates");
    let moved = |more: &str| {
        let vlm = narrow();
        let before = values(&vlm);
        let table = format!("{OPTIONS}steps = 40\nschedule = \"constant\"\n{more}train = {{ llm = 2e-6 }}");
        losses(trainer(&vlm, &table, &folder), 40);
        let after = values(&vlm);
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        moved as f64 / before.len() as f64
    };
    let (with, without) = (moved(""), moved("masters = false\n"));
    println!("weights that 40 steps at a rate of 2e-6 moved: {with:.3} with masters, {without:.3} without");
    assert!(with > 2.0 * without, "{with} and {without}");
}

fn resumes(name: &str, make: impl Fn() -> Arc<Vlm>, more: &str, files: &[&str]) {
    let folder = scratch(name);
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let table = format!("{OPTIONS}{more}steps = 5\ntrain = {{ projector = 1e-3, llm = 2e-3 }}");
    assert_eq!(trainer(&make(), &table, &whole).fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    trainer(&make(), &table, &stopped).fit(&mut |step| Ok(step.step < 3)).unwrap();
    let mut again = trainer(&make(), &table, &stopped);
    again.resume(&stopped).unwrap();
    assert_eq!(again.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    for file in files {
        assert!(bytes(&whole, file) == bytes(&stopped, file), "{name}: {file} differs");
    }
}

#[test]
fn masters_and_8_bit_moments_resume_to_the_last_bit() {
    let files = ["model.safetensors", "optimizer.safetensors", "masters.safetensors"];
    resumes("resume-masters", narrow, "", &files);
    resumes("resume-8bit", || model(llm()), "moments = \"8bit\"\n", &files[..2]);
    resumes("resume-both", narrow, "moments = \"8bit\"\n", &files);
}

#[test]
fn moments_in_8_bits_follow_f32_at_a_quarter_of_the_bytes() {
    let folder = scratch("8bit");
    let table = |more: &str| format!("{OPTIONS}{more}steps = 60\ntrain = {{ projector = 1e-3, llm = 1e-3 }}");
    let mut wide = trainer(&model(llm()), &table(""), &folder);
    let mut narrow = trainer(&model(llm()), &table("moments = \"8bit\"\n"), &folder);
    let limits = Limits::default();
    let (full, quarter) = (wide.plan(limits).unwrap().memory.moments, narrow.plan(limits).unwrap().memory.moments);
    let share = quarter as f64 / full as f64;
    assert!(share < 0.26, "{share}");
    let (wide, narrow) = (losses(wide, 60), losses(narrow, 60));
    let (from, to) = (wide[0], wide[59]);
    println!(
        "loss {from:.4} -> {to:.4} in f32, {:.4} in 8 bits ({share:.3} of the bytes); mean distance {:.4}",
        narrow[59],
        distance(&wide, &narrow)
    );
    assert!(distance(&wide, &narrow) < 0.02 * (from - to), "{wide:?}\n{narrow:?}");
}

/// The losses of three steps and the gradient of the projector after them, as bits.
fn three_steps(features: &str, folder: &Path) -> (Vec<u64>, Vec<u32>) {
    let table = format!("{OPTIONS}features = \"{features}\"\nsteps = 3\ntrain = {{ projector = 1e-3, llm = 1e-3 }}");
    let mut trainer = trainer(&model(llm()), &table, folder);
    let losses = (0..3).map(|_| trainer.step().unwrap().loss.to_bits()).collect();
    let gradient = trainer.gradient("model.mm_projector.0.weight").unwrap().flatten_all().unwrap();
    (losses, gradient.to_vec1::<f32>().unwrap().iter().map(|value| value.to_bits()).collect())
}

#[test]
fn kept_features_change_no_bit_and_runs_share_them() {
    let folder = scratch("features");
    let computed = three_steps("off", &folder);
    assert!(computed == three_steps("memory", &folder));
    assert!(computed == three_steps("disk", &folder));
    let files: Vec<_> = std::fs::read_dir(folder.join("cache/features")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    let (path, size) = (files[0].path(), files[0].metadata().unwrap().len());
    assert!(size > 0);
    // The second run finds everything and adds nothing; a torn tail disturbs nobody.
    assert!(computed == three_steps("disk", &folder));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size - 5).unwrap();
    assert!(computed == three_steps("disk", &folder));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), size);
}

/// Every file below a folder with its length.
fn files(folder: &Path) -> BTreeMap<std::path::PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => drop(found.insert(path, entry.metadata().unwrap().len())),
        }
    }
    found
}

#[test]
fn a_plan_leaves_no_trace() {
    let folder = scratch("no-trace");
    let table = format!("{OPTIONS}features = \"disk\"\nsteps = 4\ntrain = {{ projector = 1e-3, llm = 1e-3 }}");
    let plain = losses(trainer(&model(llm()), &table, &folder.join("plain")), 4);
    let vlm = model(llm());
    let mut planned = trainer(&vlm, &table, &folder.join("planned"));
    let (weights, before) = (vlm.weights_sha256().unwrap(), files(&folder));
    let plan = planned.plan(Limits::default()).unwrap();
    assert_eq!((vlm.weights_sha256().unwrap(), files(&folder)), (weights.clone(), before));
    assert!(plan.memory.peak > plan.memory.weights, "{plan:?}");
    let mut losses = Vec::new();
    for _ in 0..4 {
        // In the middle of a run as well.
        planned.plan(Limits::default()).unwrap();
        losses.push(planned.step().unwrap().loss);
    }
    assert_eq!(plain, losses);
}

#[test]
fn a_plan_that_does_not_fit_says_what_would() {
    let folder = scratch("does-not-fit");
    let table = format!("{OPTIONS}steps = 4\ntrain = {{ projector = 1e-3, llm = 1e-3 }}");
    let mut trainer = trainer(&model(llm()), &table, &folder);
    // The process has come to its size after the first plan.
    let _ = trainer.plan(Limits::default()).unwrap();
    let peak = trainer.plan(Limits::default()).unwrap().memory.peak;
    let plan = trainer.plan(Limits { memory: Some(peak - 1), disk: None }).unwrap();
    let error = plan.check().unwrap_err();
    assert_eq!(error.kind(), llmore::error::Kind::DoesNotFit);
    assert!(error.message().contains("of memory at its peak, there is"), "{error}");
    let savings = plan.savings();
    let options: Vec<&str> = savings.iter().map(|saving| saving.option.as_str()).collect();
    assert!(options.iter().any(|option| option.starts_with("lora")), "{options:?}");
    assert!(options.contains(&"moments: \"8bit\""), "{options:?}");
    for saving in &savings {
        let fits = plan.memory.peak.saturating_sub(saving.saves) < peak;
        assert_eq!(saving.enough, fits, "{saving:?} of {} with {} at hand", plan.memory.peak, peak - 1);
    }
    let disk = trainer.plan(Limits { memory: None, disk: Some(1) }).unwrap().check().unwrap_err();
    assert!(disk.message().contains("checkpoints need"), "{disk}");
}

#[test]
fn the_program_ends_with_3_when_a_run_does_not_fit() {
    let script = r#"let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 2, steps: 2 });
        t.plan(#{ memory: 1e6 }).check();"#;
    let ended = Command::new(env!("CARGO_BIN_EXE_llmore")).args(["-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("of memory at its peak, there is 977 KiB"), "{said}");
}

//! LoRA training: what moves and what does not, resuming to the last bit, files that load, errors.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use candle_core::quantized::GgmlDType;
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::Turn;
use llmore::train::{Run, Status};
use llmore::vlm::{Llm, LlmOptions, Vlm, Weights, checkpoint};
use llmore::weights::{Param, Quantize, TensorFiles};

use super::resume::{bytes, llm, model, trainer};
use super::scripting::scratch;
use super::training::options;

const OPTIONS: &str = "batch = 8\nmicro_batch = 3\nsteps = 6\nsave_every_steps = 2\nseed = 5\nclip = 1.0\n\
                       train = { projector = 1e-3, llm = 1e-2 }\n\
                       lora = { r = 4, alpha = 8, dropout = 0.1, targets = [\"q_proj\", \"v_proj\"] }";
const UP: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

/// tiny-llama as `load` opens it, so that a folder with an adapter alone finds the same weights.
fn stored_llm() -> Llm {
    let options = LlmOptions { weights: Weights::Stored, seed: 0, target: Target::cpu() };
    Llm::open(&Presets::default(), "tiny-llama", options).unwrap()
}

fn values(vlm: &Vlm, name: &str) -> Vec<f32> {
    let params = vlm.named_params();
    let (_, _, param) = params.iter().find(|(known, _, _)| known == name).unwrap();
    param.tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn logits(vlm: &Vlm) -> Tensor {
    let picture = llmore::image::Image::open(Path::new("tests/fixtures/images/red-circle.png")).unwrap();
    let turns = [Turn::human("<image>\nwhat color is the shape?"), Turn::gpt("red")];
    vlm.logits(&[picture], &turns).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn load(folder: &Path) -> Vlm {
    checkpoint::load(&Presets::default(), folder, None, &Target::cpu()).unwrap()
}

#[test]
fn a_resumed_run_ends_like_an_uninterrupted_one_to_the_last_bit() {
    let folder = scratch("lora-resume");
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let table = format!("checkpointing = true\n{OPTIONS}");
    let mut first = trainer(&model(llm()), &table, &whole);
    assert_eq!(first.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    let mut second = trainer(&model(llm()), &table, &stopped);
    assert_eq!(second.fit(&mut |step| Ok(step.step < 3)).unwrap(), Status::Stopped);
    let mut third = trainer(&model(llm()), &table, &stopped);
    third.resume(&stopped).unwrap();
    assert_eq!(third.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
    let losses = |steps: &[llmore::events::Step]| steps.iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(first.history()), losses(third.history()));
    for file in
        ["adapter_model.safetensors", "adapter_config.json", "mm_projector.safetensors", "optimizer.safetensors"]
    {
        assert!(bytes(&whole, file) == bytes(&stopped, file), "{file} differs");
    }
    let checkpoint = Run::open(&whole).unwrap().checkpoint().unwrap().unwrap();
    assert!(!checkpoint.join("model.safetensors").exists(), "the LLM's weights did not change");
    let other = trainer(&model(llm()), &table.replace("alpha = 8", "alpha = 16"), &stopped).resume(&stopped);
    let message = other.unwrap_err().to_string();
    assert!(message.contains("`lora` was"), "{message}");
}

#[test]
fn adapters_learn_and_the_weights_beside_them_stay() {
    let vlm = model(llm());
    let before = vlm.named_params().into_iter().map(|(name, ..)| (values(&vlm, &name), name)).collect::<Vec<_>>();
    let plain = logits(&vlm);
    let mut trainer = trainer(&vlm, &OPTIONS.replace("steps = 6", "steps = 20"), &scratch("lora-moves"));
    // 4 blocks, q and v of width 128 and 64: 4 * 4 * ((128 + 128) + (128 + 64)); mlp2x_gelu: 128 -> 128 -> 128.
    let projector: usize = vlm.projector.params.count();
    let plan = trainer.plan(llmore::train::Limits::default()).unwrap();
    assert_eq!(plan.trained, 4 * 4 * (256 + 192) + projector);
    assert_eq!(plan.trained + plan.frozen, vlm.params());
    assert_eq!(difference(&plain, &logits(&vlm)), 0.0, "a fresh adapter adds nothing");
    let audit = trainer.audit().unwrap();
    assert!(audit.passed() && audit.trained == 2 * 2 * 4 + 4, "{audit:?}");
    assert!(values(&vlm, UP).iter().all(|value| *value == 0.0), "the audit leaves no trace");

    let losses: Vec<f64> = (0..20)
        .map(|_| {
            let next = trainer.loss().unwrap();
            let loss = trainer.step().unwrap().loss;
            assert!((next - loss).abs() < 1e-6, "loss() {next}, step {loss}");
            loss
        })
        .collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[15..]) < 0.9 * mean(&losses[..5]), "{losses:?}");
    for (then, name) in before.iter().filter(|(_, name)| !name.contains("mm_projector")) {
        assert!(*then == values(&vlm, name), "{name} moved");
    }
    assert!(values(&vlm, UP).iter().any(|value| *value != 0.0));
    assert_eq!(difference(&logits(&vlm), &logits(&vlm)), 0.0, "nothing is dropped outside of training");
}

#[test]
fn adapters_learn_on_quantized_weights() {
    for kind in [GgmlDType::Q8_0, GgmlDType::Q4_0] {
        let target = Target { quantize: Some(Quantize::To(kind)), ..Target::cpu() };
        let options = LlmOptions { weights: Weights::Stored, seed: 0, target };
        let vlm = model(Llm::open(&Presets::default(), "tiny-llama", options).unwrap());
        let blocks = vlm.llm.params.iter().filter(|param| param.blocks().is_some()).count();
        // Six layers of four blocks, and the embedding; rows of 344, down_proj's, fit no blocks of 32.
        assert_eq!(blocks, 6 * 4 + 1);
        let widened = || -> Vec<Vec<f32>> {
            let values = |param: &Arc<Param>| param.tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap();
            vlm.llm.params.iter().map(values).collect()
        };
        let before = widened();
        let table = OPTIONS.replace("steps = 6", "steps = 20").replace("micro_batch = 3", "checkpointing = true");
        let mut trainer = trainer(&vlm, &table, &scratch("qlora"));
        assert!(trainer.audit().unwrap().passed());
        let losses: Vec<f64> = (0..20).map(|_| trainer.step().unwrap().loss).collect();
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(mean(&losses[15..]) < 0.9 * mean(&losses[..5]), "{kind:?}: {losses:?}");
        assert!(before == widened(), "{kind:?}: a quantized weight moved");
        let message = vlm.llm.merge().unwrap_err().to_string();
        assert!(message.contains("the weights are quantized"), "{message}");
    }
}

#[test]
fn dropout_is_a_function_of_seed_and_step() {
    let losses = |table: &str| {
        let mut trainer = trainer(&model(llm()), table, &scratch("lora-dropout"));
        (0..3).map(|_| trainer.step().unwrap().loss.to_bits()).collect::<Vec<_>>()
    };
    let ours = losses(OPTIONS);
    assert_eq!(ours, losses(OPTIONS));
    // The rate begins at 0: in the first two steps B is 0 and knows no dropout.
    let without = losses(&OPTIONS.replace("dropout = 0.1", "dropout = 0.0"));
    assert!(ours[0] == without[0] && ours[2] != without[2]);
}

#[test]
fn saved_models_and_adapters_load_with_the_same_logits() {
    let folder = scratch("lora-save");
    let vlm = model(stored_llm());
    let mut trainer = trainer(&vlm, OPTIONS, &folder.join("run"));
    trainer.fit(&mut |_| Ok(true)).unwrap();
    let expected = logits(&vlm);
    let scale = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let run = Run::open(&folder.join("run")).unwrap().checkpoint().unwrap().unwrap();
    assert_eq!(difference(&logits(&load(&run)), &expected), 0.0, "the run's checkpoint");
    vlm.save_adapter(&folder.join("adapter"), false).unwrap();
    assert_eq!(difference(&logits(&load(&folder.join("adapter"))), &expected), 0.0, "the adapter");
    vlm.save(&folder.join("whole")).unwrap();
    let names = TensorFiles::open(&folder.join("whole")).unwrap().names();
    assert!(!names.iter().any(|name| name.contains("lora")), "{names:?}");
    let merged = load(&folder.join("whole"));
    assert!(merged.llm.lora().is_none());
    assert!(difference(&logits(&merged), &expected) < 1e-5 * scale.max(1.0), "the merged model");

    vlm.llm.merge().unwrap();
    assert_eq!(difference(&logits(&vlm), &logits(&merged)), 0.0);
    let message = trainer.loss().unwrap_err().to_string();
    assert!(message.contains("was merged into the weights"), "{message}");
    assert!(vlm.llm.merge().unwrap_err().to_string().contains("carries no adapter"));
    assert!(vlm.save_adapter(&folder.join("none"), false).is_err());
}

#[test]
fn options_that_cannot_work_are_named() {
    let refused = |vlm: &Arc<Vlm>, table: &str| {
        let setup = super::training::setup("tiny", Aspect::Pad, &scratch("lora-options"));
        let dataset = llmore::data::Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(4);
        match llmore::train::Trainer::new(vlm.clone(), dataset, options(table), setup) {
            Ok(_) => panic!("{table} was taken"),
            Err(error) => error.to_string(),
        }
    };
    let vlm = model(llm());
    for (table, expected) in [
        ("train = { projector = 1e-3 }\nlora = {}", "`train` has no rate for it"),
        ("train = { llm = 1e-3 }\nlora = { r = 0 }", "`r` is 0"),
        ("train = { llm = 1e-3 }\nlora = { r = 100000 }", "`r` is 100000"),
        ("train = { llm = 1e-3 }\nlora = { alpha = 0 }", "`alpha` is 0"),
        ("train = { llm = 1e-3 }\nlora = { dropout = 1.0 }", "`dropout` is 1"),
        ("train = { llm = 1e-3 }\nlora = { targets = \"q_prj\" }", "no linear layer `q_prj`"),
        ("train = { llm = 1e-3 }\nlora = { targets = [] }", "names no linear layer"),
    ] {
        let message = refused(&vlm, table);
        assert!(message.contains(expected), "{table}: {message}");
        assert!(vlm.llm.lora().is_none(), "{table}: nothing is left on the model");
    }
    trainer(&vlm, OPTIONS, &scratch("lora-first"));
    assert!(refused(&vlm, "train = { llm = 1e-3 }").contains("carries an adapter, and option `lora` is not given"));
    let message = refused(&vlm, &OPTIONS.replace("r = 4", "r = 8"));
    assert!(message.contains("another adapter: r 4, alpha 8, targets q_proj, v_proj"), "{message}");
    // The same option goes on with it, and the projector may be trained beside it as it is.
    trainer(&vlm, OPTIONS, &scratch("lora-again"));
    trainer(&vlm, "train = { projector = 1e-3 }", &scratch("lora-beside"));
}

#[test]
fn the_folder_of_a_stage_1_run_loads() {
    let folder = scratch("stage-1-loads");
    let vlm = model(stored_llm());
    trainer(&vlm, "batch = 4\nsteps = 1\ntrain = { projector = 1e-3 }", &folder).fit(&mut |_| Ok(true)).unwrap();
    let run = Run::open(&folder).unwrap().checkpoint().unwrap().unwrap();
    assert_eq!(difference(&logits(&load(&run)), &logits(&vlm)), 0.0);
}

#[test]
fn an_adapter_is_not_put_on_other_weights() {
    let folder = scratch("lora-other-base").join("adapter");
    let vlm = model(stored_llm());
    let trainer = trainer(&vlm, OPTIONS, &folder);
    drop(trainer);
    vlm.save_adapter(&folder, false).unwrap();
    let known = std::fs::read_to_string(folder.join("adapter_base.json")).unwrap();
    let mut known: serde_json::Value = serde_json::from_str(&known).unwrap();
    known["sha256"] = "0123456789abcdef".into();
    std::fs::write(folder.join("adapter_base.json"), known.to_string()).unwrap();
    let open = || llmore::vlm::checkpoint::load(&Presets::default(), &folder, None, &Target::cpu());
    let error = open().err().unwrap().to_string();
    assert!(error.contains("the adapter was trained on other weights than LLM `tiny-llama` has: "), "{error}");
    // A folder of PEFT's says nothing about its base.
    std::fs::remove_file(folder.join("adapter_base.json")).unwrap();
    assert!(open().is_ok());
}

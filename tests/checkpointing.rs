//! Training with `checkpointing: true` gives the gradients of training without it.

use std::sync::Arc;

use candle_core::Tensor;
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::vlm::{Llm, LlmOptions, Vlm, Weights};
use serde_json::json;

use super::resume::{llm, model, trainer};
use super::scripting::scratch;

/// A Gemma-2 with soft-caps that bite, windows, scaled embeddings and biases of none; tiny-llama's tokenizer.
pub fn gemma() -> Llm {
    let folder = scratch("checkpointing-gemma");
    let config = json!({
        "model_type": "gemma2", "model_architecture": "tiny", "vocab_size": 1024, "hidden_size": 64, "head_dim": 16,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
        "max_position_embeddings": 1024, "sliding_window": 24, "query_pre_attn_scalar": 16, "initializer_range": 0.15,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "eos_token_id": 2
    });
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer.json"), llm().tokenizer().unwrap().json()).unwrap();
    let options = LlmOptions { weights: Weights::Random, seed: 3, target: Target::cpu() };
    Llm::open(&Presets::default(), &folder.to_string_lossy(), options).unwrap()
}

/// Loss and gradients of the first step.
fn first_step(vlm: &Arc<Vlm>, table: &str) -> (f64, Vec<(String, Tensor)>) {
    let mut trainer = trainer(vlm, table, &scratch("checkpointing"));
    assert!(trainer.audit().unwrap().passed(), "{:?}", trainer.audit().unwrap());
    let loss = trainer.step().unwrap().loss;
    let names: Vec<String> = trainer.trained().iter().map(|trained| trained.name.clone()).collect();
    let gradient = |name: String| (name.clone(), trainer.gradient(&name).unwrap());
    (loss, names.into_iter().map(gradient).collect())
}

pub fn largest(tensor: &Tensor) -> f64 {
    f64::from(tensor.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap())
}

#[test]
fn gradients_are_those_of_training_without_it() {
    let parts = [
        "train = { projector = 1e-3 }",
        "train = { llm = 1e-3 }",
        "train = { projector = 1e-3, llm = 1e-3 }",
        "train = { encoder = 1e-4, projector = 1e-3 }",
        "train = { projector = 1e-3, llm = 1e-3 }\nlora = { r = 4, dropout = 0.2 }",
        "train = { llm = 1e-3 }\nlora = { r = 4, targets = [\"v_proj\", \"down_proj\"] }",
    ];
    let mut worst = 0.0f64;
    for open in [llm, gemma] {
        for part in parts {
            for micro_batch in [6, 2] {
                let table = format!("batch = 6\nmicro_batch = {micro_batch}\nsteps = 1\nloss = \"token\"\n{part}");
                // A step changes the weights, so every run gets a model of its own.
                let (loss, plain) = first_step(&model(open()), &table);
                let (same, checkpointed) = first_step(&model(open()), &format!("checkpointing = true\n{table}"));
                assert!((loss - same).abs() < 1e-6, "{table}: loss {loss}, with checkpointing {same}");
                assert_eq!(plain.len(), checkpointed.len());
                for ((name, plain), (_, ours)) in plain.iter().zip(&checkpointed) {
                    let difference = largest(&(plain - ours).unwrap());
                    worst = worst.max(difference / largest(plain).max(1e-6));
                    assert!(difference <= 1e-5 * largest(plain).max(1e-6), "{table}: {name} differs by {difference}");
                }
            }
        }
    }
    println!("gradients with and without checkpointing: worst relative difference {worst:.1e}");
}

#[test]
fn blocks_below_the_first_that_learns_are_computed_once() {
    let vlm = model(llm());
    let table = "batch = 4\nsteps = 1\ncheckpointing = true\ntrain = { llm = 1e-3 }\nlora = { targets = \"q_proj\" }";
    let mut trainer = trainer(&vlm, table, &scratch("checkpointing-low"));
    // Only the last block's adapter stays: the gradient has no reason to go further down.
    let last = "model.layers.3.";
    for param in vlm.llm.params.iter().filter(|param| !param.name().starts_with(last)) {
        param.set_adapter(None);
    }
    let error = trainer.fit(&mut |_| Ok(true)).unwrap_err().to_string();
    assert!(error.contains("6 of 8 trainable tensors receive no gradient"), "{error}");
    trainer.step().unwrap();
    let lowest = "base_model.model.model.layers.3.self_attn.q_proj.lora_B.weight";
    assert!(largest(&trainer.gradient(lowest).unwrap()) > 0.0);
    assert!(trainer.gradient(&lowest.replace("layers.3", "layers.2")).is_err());
    assert_eq!(vlm.aspect(), Aspect::Pad);
}

//! How a batch is cut into micro-batches changes neither its loss nor its gradients: samples that are packed together
//! know nothing of each other, and sums of sums are sums.

use candle_core::Tensor;
use llmore::data::Dataset;
use llmore::image::Aspect;
use llmore::preset::Presets;
use llmore::train::Trainer;

use super::checkpointing::largest;
use super::resume::{llm, model};
use super::scripting::scratch;
use super::training::{options, setup};

/// Loss and gradients of a batch of 32 in micro-batches of this size.
fn first_step(micro_batch: usize) -> (f64, Vec<(String, Tensor)>) {
    let table = format!(
        "batch = 32\nmicro_batch = {micro_batch}\nsteps = 1\nloss = \"token\"\n\
         train = {{ encoder = 1e-4, projector = 1e-3, llm = 1e-3 }}"
    );
    let dataset = Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(40);
    let setup = setup("tiny", Aspect::Pad, &scratch("accumulation"));
    let mut trainer = Trainer::new(model(llm()), dataset, options(&table), setup).unwrap();
    let step = trainer.step().unwrap();
    assert_eq!(step.samples, 32);
    let names: Vec<String> = trainer.trained().iter().map(|trained| trained.name.clone()).collect();
    let gradients = names.into_iter().map(|name| (name.clone(), trainer.gradient(&name).unwrap()));
    (step.loss, gradients.collect())
}

#[test]
fn eight_micro_batches_of_four_and_samples_alone_equal_one_batch() {
    let (loss, whole) = first_step(32);
    assert!(whole.len() > 40, "{} tensors", whole.len());
    for micro_batch in [4, 1] {
        let (same, parts) = first_step(micro_batch);
        assert!((loss - same).abs() <= 1e-5 * loss, "micro-batches of {micro_batch}: loss {loss} and {same}");
        let mut worst = 0.0f64;
        // A bias of keys shifts all scores of a query alike: its gradient is nothing but rounding.
        let pairs = whole.iter().zip(&parts).filter(|((name, _), _)| !name.ends_with("k_proj.bias"));
        for ((name, whole), (_, parts)) in pairs {
            let relative = largest(&(whole - parts).unwrap()) / largest(whole).max(1e-6);
            assert!(relative <= 1e-5, "micro-batches of {micro_batch}: gradient of {name} differs by {relative:.1e}");
            worst = worst.max(relative);
        }
        println!("micro-batches of {micro_batch}: worst relative difference of a gradient {worst:.1e}");
    }
}

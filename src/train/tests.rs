//! What a step promises, on a small model: clipping, decay, rates, dropout, the audit, checkpoints. Each test names the
//! arithmetic that it holds the code to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::{Audit, Lock, RunPlace, Trainer, TrainerSetup, checkpoints};
use crate::data::Dataset;
use crate::events::{Interrupt, Listeners};
use crate::image::Aspect;
use crate::models::registry::Target;
use crate::preset::{Presets, from_table};
use crate::scratch::scratch;
use crate::text::Template;
use crate::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, Part, ProjectorChoice, Vlm, Weights};

/// tiny-clip, a projector of two layers, tiny-llama.
pub(super) fn model() -> Arc<Vlm> {
    let (presets, target) = (Presets::default(), Target::cpu());
    let (weights, seed) = (Weights::Random, 5);
    let open = EncoderOptions { select_layer: None, select: None, s2: None, weights, seed, target: target.clone() };
    let encoder = Arc::new(Encoder::open(&presets, "tiny-clip", open).unwrap());
    let llm = Llm::open(&presets, "tiny-llama", LlmOptions { weights: Weights::Stored, seed, target }).unwrap();
    let (choice, template) = (ProjectorChoice::new("mlp2x_gelu").unwrap(), Template::load(&presets, "tiny").unwrap());
    Arc::new(Vlm::compose(encoder, &choice, Arc::new(llm), template, Aspect::Pad, seed).unwrap())
}

/// A trainer over the first samples of tiny-instruct, in their order.
pub(super) fn trainer(vlm: &Arc<Vlm>, samples: usize, table: &str, folder: &Path) -> Trainer {
    let presets = Presets::default();
    let setup = TrainerSetup {
        template: Template::load(&presets, "tiny").unwrap(),
        aspect: Aspect::Pad,
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        lock: Lock::default(),
        folder: RunPlace::Given(folder.to_path_buf()),
        cache: folder.join("cache"),
        features: None,
        repeats: None,
    };
    let options = from_table(format!("order = \"sequential\"\n{table}").parse().unwrap()).unwrap();
    let dataset = Dataset::preset(&presets, "tiny-instruct").unwrap().take(samples);
    Trainer::new(vlm.clone(), dataset, options, setup).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn length<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> f64 {
    let squares = |tensor: &Tensor| numbers(tensor).iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    tensors.into_iter().map(squares).sum::<f64>().sqrt()
}

/// The norm of |a - b|, as a share of that of a.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    length([&(a - b).unwrap()]) / length([a])
}

#[test]
fn clipping_shortens_long_gradients_and_leaves_short_ones() {
    let step = |clip: f64| {
        let table =
            format!("batch = 4\nsteps = 1\nwarmup_ratio = 0.0\nclip = {clip:?}\ntrain = {{ projector = 1e-3 }}");
        let mut trainer = trainer(&model(), 4, &table, &scratch("clip"));
        let norm = trainer.step().unwrap().grad_norm;
        let moments = trainer.stepper.optimizer.moments().unwrap();
        let first: Vec<Tensor> =
            moments.into_iter().filter(|(name, _)| name.starts_with("first.")).map(|(_, moment)| moment).collect();
        // After one step the first moment is (1 - beta1) times the gradient that the optimizer was given.
        let given = length(&first) / 0.1;
        (norm, given, first.iter().flat_map(numbers).collect::<Vec<f32>>())
    };
    let is = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-4;
    let (norm, given, free) = step(0.0);
    assert!(is(given, norm), "without clipping {given} of {norm}");
    let (told, given, _) = step(norm / 4.0);
    assert!(told == norm && is(given, norm / 4.0), "clipped to {given}, a quarter of {norm}");
    let (told, _, unclipped) = step(norm * 4.0);
    assert!(told == norm && unclipped == free, "a gradient below the limit is not changed");
}

#[test]
fn decay_takes_its_share_of_matrices_and_nothing_else() {
    const RATES: [(Part, f64); 3] = [(Part::Encoder, 1e-3), (Part::Projector, 2e-3), (Part::Llm, 4e-3)];
    const DECAY: f64 = 0.5;
    let values = |vlm: &Vlm| -> BTreeMap<String, (Part, Vec<usize>, Vec<f32>)> {
        let all = vlm.named_params().into_iter();
        all.map(|(name, part, param)| (name, (part, param.dims(), numbers(&param.tensor().unwrap())))).collect()
    };
    let before = values(&model());
    let after = |decay: f64| {
        let rates = RATES.map(|(part, rate)| format!("{} = {rate:?}", part.name())).join(", ");
        let table =
            format!("batch = 2\nsteps = 1\nwarmup_ratio = 0.0\nweight_decay = {decay:?}\ntrain = {{ {rates} }}");
        let vlm = model();
        let mut trainer = trainer(&vlm, 2, &table, &scratch("decay"));
        trainer.step().unwrap();
        let trained: Vec<String> = trainer.trained().iter().map(|trained| trained.name.clone()).collect();
        (trained, values(&vlm))
    };
    let ((trained, plain), (_, decayed)) = (after(0.0), after(DECAY));
    let (mut vectors, mut matrices) = (0, 0);
    for name in trained {
        let ((part, dims, before), plain, decayed) = (&before[&name], &plain[&name].2, &decayed[&name].2);
        let rate = RATES.iter().find(|(of, _)| of == part).unwrap().1;
        // Adam's first step is the rate times the sign of the gradient, where that is far above eps.
        let largest = before.iter().zip(plain).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
        let bias_of_keys = name.ends_with("k_proj.bias");
        assert!(bias_of_keys || (largest / rate - 1.0).abs() < 0.02, "{name} moved by {largest} at rate {rate}");
        if dims.len() == 1 {
            vectors += 1;
            assert!(plain == decayed, "{name} is a norm or a bias and decays");
            continue;
        }
        matrices += 1;
        for ((before, plain), decayed) in before.iter().zip(plain).zip(decayed) {
            let (lost, share) = (f64::from(plain - decayed), rate * DECAY * f64::from(*before));
            assert!((lost - share).abs() < 1e-6, "{name}: {before} lost {lost}, not {share}");
        }
    }
    assert!(vectors > 20 && matrices > 20, "{vectors} {matrices}");
}

#[test]
fn dropout_has_another_mask_in_every_step_and_micro_batch() {
    const UP: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    // One sample over and over, at a rate at which no weight moves: B stays 0, and its gradient tells what was dropped.
    let gradients = |dropout: f64, batch: usize| {
        let table = format!(
            "batch = {batch}\nmicro_batch = 1\nsteps = 2\nwarmup_ratio = 0.0\nschedule = \"constant\"\n\
             train = {{ projector = 1e-30, llm = 1e-30 }}\n\
             lora = {{ r = 2, dropout = {dropout:?}, targets = [\"q_proj\"] }}"
        );
        let mut trainer = trainer(&model(), 1, &table, &scratch("dropout"));
        [(); 2].map(|()| {
            assert_eq!(trainer.step().unwrap().samples, batch as u64);
            trainer.gradient(UP).unwrap()
        })
    };
    let [first, second] = gradients(0.0, 1);
    assert!(apart(&first, &second) < 1e-6, "nothing but the mask differs between the steps");
    assert!(apart(&first, &gradients(0.0, 2)[0]) < 1e-5, "nor between a micro-batch and two of them");
    let [first, second] = gradients(0.5, 1);
    assert!(apart(&first, &second) > 0.1, "the mask of the second step is that of the first");
    assert!(apart(&first, &gradients(0.5, 2)[0]) > 0.1, "the mask of the second micro-batch is that of the first");
    assert!(apart(&first, &gradients(0.5, 1)[0]) == 0.0, "a mask is a function of seed, step and micro-batch");
}

#[test]
fn a_steps_loss_is_over_positions_or_over_micro_batches() {
    const NAME: &str = "model.mm_projector.2.weight";
    // At a rate at which nothing moves: two samples one after the other, then both in a step.
    let steps = |batch: usize, loss: &str| {
        let table = format!(
            "batch = {batch}\nmicro_batch = 1\nsteps = {}\nwarmup_ratio = 0.0\nloss = \"{loss}\"\n\
             train = {{ projector = 1e-30 }}",
            2 / batch
        );
        let mut trainer = trainer(&model(), 2, &table, &scratch("losses"));
        let step = |_| {
            let step = trainer.step().unwrap();
            (step.loss, step.tokens as f64, trainer.gradient(NAME).unwrap())
        };
        (0..2 / batch).map(step).collect::<Vec<_>>()
    };
    let [(first, few, one), (second, many, other)] = steps(1, "token").try_into().unwrap();
    assert!(few != many && (first - second).abs() > 1e-3, "{few} {many} {first} {second}");
    for (loss, share) in [("token", few / (few + many)), ("micro_batch", 0.5)] {
        let (step, tokens, gradient) = steps(2, loss).pop().unwrap();
        assert_eq!(tokens, few + many);
        assert!((step - (share * first + (1.0 - share) * second)).abs() < 1e-5, "{loss}: {step}");
        let expected = ((&one * share).unwrap() + (&other * (1.0 - share)).unwrap()).unwrap();
        assert!(apart(&expected, &gradient) < 1e-4, "{loss}: {}", apart(&expected, &gradient));
    }
}

#[test]
fn a_part_that_a_step_does_not_reach_has_a_gradient_of_zeros() {
    let vlm = model();
    let mut trainer = trainer(&vlm, 2, "batch = 2\nsteps = 9\ntrain = { projector = 1e-3 }", &scratch("unreached"));
    let optimizer = &mut trainer.stepper.optimizer;
    let ones: Vec<Tensor> =
        optimizer.trained.iter().map(|trained| trained.param.tensor().unwrap().ones_like().unwrap()).collect();
    let firsts = |optimizer: &super::optimizer::Optimizer| -> Vec<f32> {
        let moments = optimizer.moments().unwrap().into_iter();
        moments.filter(|(name, _)| name.starts_with("first.")).map(|(_, moment)| numbers(&moment)[0]).collect()
    };
    assert!(!optimizer.is_allocated());
    // Gradients of 1, scaled by 3: (1 - 0.9) * 3; then nothing comes, and 0.9 of that is left.
    optimizer.update(|place| ones.get(place), 1, |_| 1e-3, 3.0).unwrap();
    assert!(firsts(optimizer).iter().all(|first| (first - 0.3).abs() < 1e-6), "{:?}", firsts(optimizer));
    optimizer.update(|_| None, 2, |_| 1e-3, 3.0).unwrap();
    assert!(firsts(optimizer).iter().all(|first| (first - 0.27).abs() < 1e-6), "{:?}", firsts(optimizer));
    assert!(optimizer.is_allocated() && optimizer.masters().is_empty());
}

/// The steps whose checkpoints a run of four steps leaves.
fn kept(table: &str) -> Vec<u64> {
    let folder = scratch("kept");
    let table = format!("batch = 1\nsteps = 4\ntrain = {{ projector = 1e-3 }}\n{table}");
    trainer(&model(), 4, &table, &folder).fit(&mut |_| Ok(true)).unwrap();
    checkpoints(&folder).unwrap().into_iter().map(|(step, _)| step).collect()
}

#[test]
fn so_many_checkpoints_are_kept_the_newest() {
    assert_eq!(kept("save_every_steps = 1\nkeep = 2"), [3, 4]);
    assert_eq!(kept("save_every_steps = 1\nkeep = 1"), [4]);
    assert_eq!(kept("save_every_steps = 3\nkeep = 9"), [3, 4]);
}

#[test]
fn checkpoints_come_when_their_time_has_passed() {
    assert_eq!(kept("save_every_minutes = 1e-9\nkeep = 9"), [1, 2, 3, 4]);
    assert_eq!(kept("save_every_minutes = 1e6\nkeep = 9"), [4]);
}

fn assign(vlm: &Vlm, name: &str, value: f32) {
    let params = vlm.named_params();
    let (_, _, param) = params.iter().find(|(known, _, _)| known == name).unwrap();
    param.assign(&Tensor::full(value, param.dims(), &Device::Cpu).unwrap()).unwrap();
}

/// What the audit of a trainer of the projector finds, and what `fit` says of it.
fn audited(vlm: &Arc<Vlm>) -> (Audit, Option<String>) {
    let table = "batch = 2\nsteps = 1\nwarmup_ratio = 0.0\ntrain = { projector = 1e-3 }";
    let mut trainer = trainer(vlm, 2, table, &scratch("audited"));
    let audit = trainer.audit().unwrap();
    assert_eq!(audit.passed(), audit.error().is_none());
    (audit, trainer.fit(&mut |_| Ok(true)).err().map(|error| error.to_string()))
}

#[test]
fn gradients_of_zeros_and_of_no_numbers_do_not_pass_the_audit() {
    let (audit, error) = audited(&model());
    assert!(audit.passed() && audit.trained == 4 && error.is_none(), "{audit:?} {error:?}");
    // Nothing of the first layer gets through a second one of zeros, on the way there or back.
    let vlm = model();
    assign(&vlm, "model.mm_projector.2.weight", 0.0);
    let (audit, error) = audited(&vlm);
    assert_eq!(audit.zero, ["model.mm_projector.0.weight", "model.mm_projector.0.bias"]);
    assert_eq!((audit.good(), audit.unreached.len(), audit.not_finite.len(), audit.moving.len()), (2, 0, 0, 0));
    let said = "audit: 2 of 4 trainable tensors receive a gradient of zeros: `model.mm_projector.0.weight`";
    assert!(error.as_ref().is_some_and(|error| error.contains(said)), "{error:?}");
    let vlm = model();
    assign(&vlm, "model.mm_projector.2.bias", f32::NAN);
    let (audit, error) = audited(&vlm);
    assert_eq!((audit.not_finite.len(), audit.zero.len(), audit.good()), (4, 0, 0));
    assert!(error.as_ref().is_some_and(|error| error.contains("a gradient that is not finite")), "{error:?}");
}

#[test]
fn what_another_trainer_thawed_stands_still() {
    let vlm = model();
    let stays = |name: &str| name.starts_with("model.layers") || name.contains("vision_tower");
    for (name, _, param) in vlm.named_params() {
        param.set_trainable(stays(&name)).unwrap();
    }
    let (audit, error) = audited(&vlm);
    assert!(audit.moving.is_empty() && audit.still() == audit.frozen && error.is_none(), "{audit:?} {error:?}");
    assert!(audit.frozen > 20, "{audit:?}");
}

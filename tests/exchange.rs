//! Any number of ranks trains alike: N steppers in N threads have the losses, gradients and weights of one, to the last
//! bit. What they exchange goes through `Threads` below, which stands for what processes will do.

use std::any::Any;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use candle_core::{DType, Device, Tensor};
use llmore::data::Dataset;
use llmore::error::{Kind, Result};
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::Template;
use llmore::train::{
    Alone, Exchange, Limits, Sight, Status, Stepped, Stepper, Summand, TrainOptions, Trainer, checkpoints, pairwise,
};
use llmore::vlm::{Llm, LlmOptions, Vlm, Weights};

use super::resume::{bytes, llm, model, trainer};
use super::scripting::scratch;
use super::training::{options, setup};

/// What the threads of one process show each other.
struct Threads {
    barrier: Barrier,
    shown: Mutex<Vec<Option<Box<dyn Any + Send>>>>,
}

/// One of them.
struct Rank {
    threads: Arc<Threads>,
    rank: usize,
    ranks: usize,
}

impl Threads {
    fn ranks(ranks: usize) -> Vec<Arc<dyn Exchange>> {
        let shown = Mutex::new((0..ranks).map(|_| None).collect());
        let threads = Arc::new(Threads { barrier: Barrier::new(ranks), shown });
        (0..ranks).map(|rank| Arc::new(Rank { threads: threads.clone(), rank, ranks }) as Arc<dyn Exchange>).collect()
    }
}

impl Rank {
    /// What every rank shows, in order.
    fn all<T: Clone + Send + 'static>(&self, mine: T) -> Vec<T> {
        self.threads.shown.lock().unwrap()[self.rank] = Some(Box::new(mine));
        self.threads.barrier.wait();
        let shown = self.threads.shown.lock().unwrap();
        let all = shown.iter().map(|shown| shown.as_ref().unwrap().downcast_ref::<T>().unwrap().clone()).collect();
        drop(shown);
        self.threads.barrier.wait();
        all
    }

    fn sum<T: Summand + Clone + Send + 'static>(&self, mine: T, own: impl Fn(T) -> T) -> Result<T> {
        Ok(pairwise(self.all(mine).into_iter().map(own))?.unwrap())
    }
}

impl Exchange for Rank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn sum_gradients(&self, mine: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        // Sums are made in place, and others read the same tensors.
        self.sum(mine, |gradients| gradients.into_iter().map(|g| g.map(|g| g.copy().unwrap())).collect())
    }

    fn sum_counts(&self, mine: Vec<f64>) -> Result<Vec<f64>> {
        self.sum(mine, |counts| counts)
    }

    fn any(&self, mine: bool) -> Result<bool> {
        Ok(self.all(mine).contains(&true))
    }
}

/// Of 14 samples the second step of an epoch has 6: of four leaves of two micro-batches the last one is empty. Several
/// answers lie beyond `max_length`, so that there are micro-batches of which nothing is learned.
const OPTIONS: &str = "batch = 8\nmicro_batch = 1\nleaves = 4\nepochs = 1\nwarmup_ratio = 0.0\nseed = 5\nclip = 0.5\n";

fn data() -> Dataset {
    Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(14)
}

fn narrow() -> Llm {
    let target = Target { dtype: DType::BF16, device: Device::Cpu, quantize: None };
    Llm::open(&Presets::default(), "tiny-llama", LlmOptions { weights: Weights::Stored, seed: 5, target }).unwrap()
}

fn stepper(vlm: &Arc<Vlm>, options: TrainOptions, ranks: Arc<dyn Exchange>) -> Stepper {
    let template = Template::load(&Presets::default(), "tiny").unwrap();
    let sight = Sight { template, aspect: Aspect::Pad, features: None };
    Stepper::new(vlm.clone(), data(), options, sight, ranks).unwrap()
}

/// What a training comes to: of each step loss, norm and counts, what `loss()` said before the short one, and the weights in
/// the end.
#[derive(Debug, PartialEq)]
struct Trained {
    steps: Vec<([u64; 3], [u64; 5])>,
    gradients: Vec<Option<Vec<u32>>>,
    weights: String,
}

fn trained(vlm: &Arc<Vlm>, table: &str, ranks: Arc<dyn Exchange>) -> Result<Trained> {
    let mut stepper = stepper(vlm, options(table), ranks);
    let mut steps = Vec::new();
    for number in 0..stepper.steps() {
        let next = if number == 1 { stepper.loss()? } else { 0.0 };
        let step = stepper.step()?;
        let counts = [step.tokens, step.positions, step.samples, step.cut, step.unsupervised];
        steps.push(([next, step.loss, step.grad_norm].map(f64::to_bits), counts));
    }
    let bits = |gradient: Tensor| -> Result<Vec<u32>> {
        Ok(gradient.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
    };
    let names = stepper.trained().iter().map(|trained| trained.name.clone());
    let gradients = names.map(|name| stepper.gradient(&name).ok().map(bits).transpose()).collect::<Result<_>>()?;
    Ok(Trained { steps, gradients, weights: vlm.weights_sha256()? })
}

/// The same by so many ranks, each with a model of its own.
fn trained_by(ranks: usize, make: fn() -> Llm, table: &str) -> Vec<Trained> {
    let models: Vec<Arc<Vlm>> = (0..ranks).map(|_| model(make())).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::ranks(ranks)
            .into_iter()
            .zip(&models)
            .map(|(rank, vlm)| scope.spawn(move || trained(vlm, table, rank)))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
    })
}

fn ranks_train_alike(make: fn() -> Llm, more: &str) -> Trained {
    let table = format!("{OPTIONS}{more}");
    let alone = trained(&model(make()), &table, Arc::new(Alone)).unwrap();
    for ranks in [1, 2, 4] {
        for (rank, trained) in trained_by(ranks, make, &table).into_iter().enumerate() {
            assert!(
                trained == alone,
                "rank {rank} of {ranks} with {more}: {:?}, alone {:?}",
                trained.steps,
                alone.steps
            );
        }
    }
    alone
}

#[test]
fn ranks_have_the_bits_of_one() {
    let more = "max_length = 75\ntrain = { projector = 1e-3, llm = 1e-3 }\nlora = { r = 2, dropout = 0.25 }";
    let alone = ranks_train_alike(llm, more);
    let unsupervised: Vec<u64> = alone.steps.iter().map(|(_, counts)| counts[4]).collect();
    assert_eq!(unsupervised.iter().sum::<u64>(), 3);
    assert_eq!(alone.steps.iter().map(|(_, counts)| counts[2]).collect::<Vec<_>>(), [8, 6]);
    // Leaves are what makes it so: another number of them gives other bits.
    let other = format!("{OPTIONS}{more}").replace("leaves = 4", "leaves = 1");
    assert_ne!(trained(&model(llm()), &other, Arc::new(Alone)).unwrap().weights, alone.weights);
}

#[test]
fn ranks_have_the_bits_of_one_in_bf16_with_masters() {
    ranks_train_alike(narrow, "max_length = 80\nloss = \"micro_batch\"\ncheckpointing = true\ntrain = { llm = 1e-3 }");
}

#[test]
fn whoever_asks_ends_the_step_of_all() {
    let models: Vec<Arc<Vlm>> = (0..2).map(|_| model(llm())).collect();
    let table = format!("{OPTIONS}train = {{ projector = 1e-3 }}");
    let before = models[0].weights_sha256().unwrap();
    std::thread::scope(|scope| {
        for (number, (rank, vlm)) in Threads::ranks(2).into_iter().zip(&models).enumerate() {
            let table = &table;
            scope.spawn(move || {
                let mut stepper = stepper(vlm, options(table), rank);
                let asked = Mutex::new(0);
                // The second rank asks at its third micro-batch.
                let asks = || {
                    *asked.lock().unwrap() += 1;
                    number == 1 && *asked.lock().unwrap() == 3
                };
                assert!(matches!(stepper.try_step(&asks).unwrap(), Stepped::Interrupted));
                assert_eq!((stepper.done(), *asked.lock().unwrap()), (0, 3));
                stepper.step().unwrap();
            });
        }
    });
    let after: Vec<String> = models.iter().map(|vlm| vlm.weights_sha256().unwrap()).collect();
    assert_eq!(after[0], after[1]);
    assert_ne!(after[0], before);
}

#[test]
fn an_error_of_one_rank_ends_the_step_of_all() {
    let folder = scratch("exchange-error");
    let vlms: Vec<Arc<Vlm>> = (0..2).map(|_| model(llm())).collect();
    // The first rank's picture is there, the second one's is not.
    let sample = |id: usize, image: &str| {
        format!(
            r#"{{"id": "{id}", "image": "{image}", "conversations": [{{"from": "human", "value": "<image>\nA?"}}, {{"from": "gpt", "value": "B"}}]}}"#
        )
    };
    std::fs::copy("tests/fixtures/images/red-circle.png", folder.join("a.png")).unwrap();
    std::fs::write(folder.join("d.json"), format!("[{}, {}]", sample(0, "a.png"), sample(1, "b.png"))).unwrap();
    let table = "batch = 2\nmicro_batch = 1\nsteps = 1\norder = \"sequential\"\ntrain = { projector = 1e-3 }";
    let errors: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = Threads::ranks(2)
            .into_iter()
            .zip(&vlms)
            .map(|(rank, vlm)| {
                let dataset = Dataset::llava_json(&folder.join("d.json"), Some(&folder)).unwrap();
                let template = Template::load(&Presets::default(), "tiny").unwrap();
                let sight = Sight { template, aspect: Aspect::Pad, features: None };
                let mut stepper = Stepper::new(vlm.clone(), dataset, options(table), sight, rank).unwrap();
                scope.spawn(move || [stepper.loss().unwrap_err(), stepper.step().unwrap_err()].map(|e| e.to_string()))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(errors[..2].iter().all(|error| error.contains("step 1: another rank ended with an error")), "{errors:?}");
    assert!(errors[2..].iter().all(|error| error.contains("b.png")), "{errors:?}");
}

#[test]
fn ranks_fit_one_run_that_one_of_them_writes() {
    let folder = scratch("exchange-fit");
    let table = format!("{OPTIONS}max_length = 80\nsave_every_steps = 1\ntrain = {{ projector = 1e-3, llm = 1e-3 }}");
    let (whole, shared) = (folder.join("whole"), folder.join("shared"));
    let make = |vlm: &Arc<Vlm>, folder: &Path, rank| {
        Trainer::among(vlm.clone(), data(), options(&table), setup("tiny", Aspect::Pad, folder), rank).unwrap()
    };
    make(&model(llm()), &whole, Arc::new(Alone)).fit(&mut |_| Ok(true)).unwrap();
    let vlms: Vec<Arc<Vlm>> = (0..2).map(|_| model(llm())).collect();
    let runs: Vec<bool> = std::thread::scope(|scope| {
        let trainers = Threads::ranks(2).into_iter().zip(&vlms).map(|(rank, vlm)| make(vlm, &shared, rank));
        let threads: Vec<_> = trainers
            .map(|mut trainer| {
                scope.spawn(move || {
                    assert_eq!(trainer.fit(&mut |_| Ok(true)).unwrap(), Status::Done);
                    trainer.run().is_some()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(runs, [true, false]);
    assert_eq!(checkpoints(&shared).unwrap().iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2]);
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(bytes(&whole, file) == bytes(&shared, file), "{file} differs");
    }
}

#[test]
fn leaves_are_resolved_kept_and_counted() {
    let folder = scratch("leaves");
    let table = |more: &str| format!("batch = 8\nmicro_batch = 1\n{more}steps = 4\ntrain = {{ llm = 1e-3 }}");
    let vlm = model(llm());
    let mut usual = trainer(&vlm, &table(""), &folder);
    assert_eq!(usual.lock().unwrap().options["leaves"].as_integer(), Some(8));
    // A run goes on under the leaves it was begun with, however they were given.
    usual.fit(&mut |step| Ok(step.step < 2)).unwrap();
    let error = trainer(&model(llm()), &table("leaves = 4\n"), &folder).resume(&folder).unwrap_err();
    assert!(error.message().contains("`leaves` was 8, is 4"), "{error}");
    trainer(&model(llm()), &table("leaves = 8\n"), &folder).resume(&folder).unwrap();

    let vlm = model(llm());
    let plan = |more: &str| trainer(&vlm, &table(more), &folder.join("plan")).plan(Limits::default()).unwrap();
    let (one, eight) = (plan("leaves = 1\n"), plan(""));
    assert_eq!((one.leaves, one.memory.leaves), (1, 0));
    assert_eq!((eight.leaves, eight.memory.leaves), (8, 3 * eight.memory.gradients));
    let tight = plan("");
    let mut tight = tight.clone();
    tight.memory.limit = Some(tight.memory.peak - 1);
    let saving = tight.savings().into_iter().find(|saving| saving.option == "leaves: 1").unwrap();
    assert_eq!(saving.saves, eight.memory.leaves);

    let made = Trainer::new(model(llm()), data(), options(&table("leaves = 3\n")), setup("tiny", Aspect::Pad, &folder));
    let error = made.err().unwrap();
    assert_eq!(error.kind(), Kind::Option);
    assert!(error.message().contains("option `leaves` is 3, a step has 8 micro-batches"), "{error}");
}

//! The training loop. A step is a function of (weights, moments, step number, options): sample order comes from
//! counters, gradients are summed in order, so that a resumed run repeats an uninterrupted one to the last bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;

use super::backward::MicroLoss;
use super::feed::{Feed, Loader, Ready};
use super::folder::Place;
use super::gradients::Gradients;
use super::optimizer::{Optimizer, Trained};
use super::options::{Features, LossKind, TrainOptions};
use super::plan::Plan;
use super::run::{Lock, Run};
use crate::data::Dataset;
use crate::data::order::Sampler;
use crate::error::{Context, Kind, Result};
use crate::events::{Interrupt, Listeners, Step};
use crate::image::Aspect;
use crate::rng::Rng;
use crate::text::Template;
use crate::vlm::{self, Batch, FeatureCache, Lora, Part, Sequence, Vlm};
use crate::weights::{Dropping, Source};
use crate::{bail, error};

/// What a trainer needs beside its options.
pub struct TrainerSetup {
    pub template: Template,
    pub aspect: Aspect,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
    /// What run.lock says about the script.
    pub lock: Lock,
    /// Where the run goes unless `out` says.
    pub folder: Place,
    /// Where features are kept between runs.
    pub cache: PathBuf,
    /// Features that another trainer kept, of the same encoder, data and picture shape (default: none).
    pub features: Option<Arc<FeatureCache>>,
    /// The run that this one repeats: `fit` refuses to start when they would differ.
    pub repeats: Option<Lock>,
}

/// Trains parts of a model on a data set.
pub struct Trainer {
    pub(super) vlm: Arc<Vlm>,
    pub(super) loader: Arc<Loader>,
    pub(super) sampler: Sampler,
    pub(super) feed: Feed,
    /// Ids of samples that cannot be trained on and are left out, by the reason.
    pub(super) skipped: BTreeMap<&'static str, Vec<String>>,
    /// Whether samples of which nothing is learned were named.
    pub(super) named_unsupervised: bool,
    /// Whether it was said that the model is asked otherwise from now on.
    pub(super) said_adoption: bool,
    pub options: TrainOptions,
    pub(super) setup: TrainerSetup,
    pub(super) optimizer: Optimizer,
    /// The adapters in training.
    lora: Option<Arc<Lora>>,
    pub(super) step: u64,
    pub(super) steps: u64,
    pub(super) limit: usize,
    gradients: Gradients,
    pub(super) history: Vec<Step>,
    pub(super) run: Option<Run>,
    /// The step of the checkpoint that was last written or loaded, and of the run's newest one as this trainer knows it.
    pub(super) saved: u64,
    pub(super) newest: u64,
    /// The function that ended the run that was resumed, and after which step.
    pub(super) stopped: Option<(u64, String)>,
    pub(super) audited: bool,
    /// What was said before the start, to be held against what it took.
    pub(super) planned: Option<Plan>,
    /// Hash of all weights when the trainer was made, and what the model was then.
    pub(super) start_hash: String,
    pub(super) identity: BTreeMap<String, String>,
}

/// What a forward and backward pass was about.
pub(super) struct Counted {
    /// Summed cross-entropy.
    pub sum: f64,
    pub tokens: usize,
    pub positions: usize,
    /// Samples whose answers do not end within the limit.
    pub cut: usize,
    /// The samples of which nothing is learned: all their answers lie beyond it.
    pub unsupervised: Vec<usize>,
}

impl Trainer {
    /// A trainer at step 0; nothing is written yet.
    pub fn new(vlm: Arc<Vlm>, dataset: Dataset, options: TrainOptions, setup: TrainerSetup) -> Result<Self> {
        options.check()?;
        let (dataset, skipped) = trainable(&dataset)?;
        setup.template.check(vlm.tokenizer()?)?;
        vlm.check_training(&setup.template)?;
        let target = vlm.target();
        if let Some(name) = &options.dtype
            && crate::device::dtype(name)? != target.dtype
        {
            return Err(error!(Option, "option `dtype` is `{name}`, the model is {:?}", target.dtype)
                .help(format!("open the LLM with `#{{ dtype: \"{name}\" }}`")));
        }
        let context = vlm.llm.context();
        let limit = options.max_length.unwrap_or(context.min(4096));
        if limit > context {
            bail!(Option, "option `max_length` is {limit}, the context of LLM `{}` is {context}", vlm.llm.id);
        }
        let lora = adapters(&vlm, &options)?;
        let optimizer = Optimizer::new(&vlm, &options, lora.is_some());
        if optimizer.trained.is_empty() {
            bail!(Option, "the parts named in `train` have no tensors to train");
        }
        let steps = options.total_steps(dataset.len());
        let (start_hash, identity) = (vlm.weights_sha256()?, vlm.identity()?);
        let sampler = Sampler::new(&dataset, options.sampling())?;
        let features = match options.features {
            _ if options.rate(Part::Encoder) > 0.0 => None,
            _ if setup.features.is_some() => setup.features.clone(),
            Features::Off => None,
            Features::Memory => Some(Arc::new(FeatureCache::in_memory(options.features_limit()))),
            Features::Disk => {
                let (folder, limit) = (setup.cache.join("features"), options.features_limit());
                let opened = FeatureCache::on_disk(&folder, &vlm.encoder, setup.aspect, limit);
                Some(Arc::new(opened.context(|| "option `features: \"disk\"`")?))
            }
        };
        let loader = Loader::new(vlm.clone(), dataset, setup.template.clone(), options.turns, setup.aspect, features);
        let loader = Arc::new(loader);
        Ok(Trainer {
            vlm,
            loader,
            sampler,
            feed: Feed::default(),
            skipped,
            named_unsupervised: false,
            said_adoption: false,
            options,
            setup,
            optimizer,
            lora,
            step: 0,
            steps,
            limit,
            gradients: Gradients::default(),
            history: Vec::new(),
            run: None,
            saved: 0,
            newest: 0,
            stopped: None,
            audited: false,
            planned: None,
            start_hash,
            identity,
        })
    }

    /// The model in training.
    pub fn vlm(&self) -> &Arc<Vlm> {
        &self.vlm
    }

    /// The features that are kept, for a trainer that sees the same pictures through the same encoder.
    pub fn features(&self) -> Option<Arc<FeatureCache>> {
        self.loader.features.clone()
    }

    /// The adapters in training.
    pub(super) fn lora(&self) -> Option<&Arc<Lora>> {
        self.lora.as_ref()
    }

    /// The data it is trained on.
    pub fn dataset(&self) -> &Dataset {
        &self.loader.dataset
    }

    /// The tensors that are trained.
    pub fn trained(&self) -> &[Trained] {
        &self.optimizer.trained
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The steps so far, those before a resume included.
    pub fn history(&self) -> &[Step] {
        &self.history
    }

    /// The run folder, once there is one.
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// The gradient of a tensor in the last step, before clipping.
    pub fn gradient(&self, name: &str) -> Result<Tensor> {
        match self.gradients.scaled(name)? {
            Some(gradient) => Ok(gradient),
            None if self.step == 0 => Err(error!(Train, "no step was made yet, so there is no gradient of `{name}`")),
            None => {
                let names: Vec<_> = self.trained().iter().map(|t| t.name.as_str()).collect();
                if names.contains(&name) {
                    bail!(Train, "the last step did not reach `{name}`");
                }
                Err(crate::error::Error::unknown("trained tensor", name, &names, ""))
            }
        }
    }

    /// Loss of the next step's samples; nothing is updated.
    pub fn loss(&self) -> Result<f64> {
        self.activate()?;
        let micros = self.sampler.micro_batches(self.step);
        let mut losses = Vec::new();
        for (number, micro) in micros.iter().enumerate() {
            let _dropping = self.dropping(number);
            if let Some(loss) = self.micro_loss(&self.loader.prepare(micro)?)? {
                losses.push((f64::from(loss.sum.to_scalar::<f32>()?), loss.tokens));
            }
        }
        self.vlm.freeze()?;
        self.combine(&losses).map(|(loss, _)| loss)
    }

    /// One optimizer step; an error when all are done.
    pub fn step(&mut self) -> Result<Step> {
        if self.step >= self.steps {
            return Err(error!(Train, "all {} steps are done", self.steps).help("a new trainer starts again"));
        }
        match self.try_step()? {
            Some(step) => Ok(step),
            None => Err(crate::error::Error::new(Kind::Interrupted, "interrupted between micro-batches")),
        }
    }

    /// One step, or `None` when it was interrupted before the update.
    pub(super) fn try_step(&mut self) -> Result<Option<Step>> {
        let start = Instant::now();
        self.activate()?;
        self.gradients = Gradients::default();
        let micros = self.sampler.micro_batches(self.step);
        let mut losses = Vec::with_capacity(micros.len());
        let (mut positions, mut cut, mut unsupervised, mut broken) = (0, 0, Vec::new(), None);
        for number in 0..micros.len() {
            if self.setup.interrupt.is_set() {
                return Ok(None);
            }
            let later = (self.step + 1..self.steps).flat_map(|step| self.sampler.micro_batches(step));
            let prepared = self.feed.take(&self.loader, micros[number..].iter().cloned().chain(later))?;
            // Until the backward is done: it may compute parts of the forward again.
            let _dropping = self.dropping(number);
            let mut gradients = std::mem::take(&mut self.gradients);
            let encoded = self.loader.encode(&prepared);
            let loss = encoded.and_then(|features| self.accumulate(&prepared, features.as_ref(), &mut gradients));
            self.gradients = gradients;
            let loss = loss.map_err(|error| self.about_samples(&micros[number], error))?;
            positions += loss.positions;
            cut += loss.cut;
            unsupervised.extend(loss.unsupervised.iter().map(|&sample| micros[number][sample]));
            if loss.tokens == 0 {
                continue;
            }
            if !loss.sum.is_finite() {
                broken.get_or_insert(number);
            }
            losses.push((loss.sum, loss.tokens));
        }
        let (loss, scale) = self.combine(&losses).map_err(|error| self.about_samples(&micros.concat(), error))?;
        self.gradients.scale = scale;
        let norm = self.gradients.norm(self.trained())?;
        if !loss.is_finite() || !norm.is_finite() {
            let samples = broken.map_or_else(|| micros.concat(), |number| micros[number].clone());
            let error = error!(Train, "step {}: loss {loss}, grad_norm {norm}", self.step + 1);
            let help = format!("a lower learning rate or `clip: 1.0` may help{}", self.earlier());
            return Err(self.about_samples(&samples, error.help(help)));
        }
        let factor = self.options.schedule.factor(self.step, self.steps, self.options.warmup_ratio);
        let clip = match self.options.clip {
            limit if limit > 0.0 => (limit / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        };
        let rate = |part| self.options.rate(part) * factor;
        self.optimizer.update(&self.gradients, self.step + 1, rate, scale * clip)?;
        self.step += 1;
        let step = Step {
            step: self.step,
            steps: self.steps,
            loss,
            lr: Part::ALL.into_iter().map(rate).fold(0.0, f64::max),
            grad_norm: norm,
            tokens: losses.iter().map(|(_, tokens)| *tokens as u64).sum(),
            positions: positions as u64,
            samples: micros.iter().map(|micro| micro.len() as u64).sum(),
            cut: cut as u64,
            unsupervised: unsupervised.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
        };
        self.history.push(step.clone());
        self.name_unsupervised(&unsupervised);
        self.adopt();
        Ok(Some(step))
    }

    /// Drops inputs of adapters until the guard goes: a function of the seed, the step and the micro-batch.
    pub(super) fn dropping(&self, micro_batch: usize) -> Option<Dropping> {
        let (lora, options) = (self.lora.as_ref()?, self.options.lora.as_ref()?);
        let numbers = Rng::new(self.options.seed, "dropout").split(self.step).split(micro_batch as u64);
        Some(lora.dropping(options.dropout, numbers))
    }

    /// Makes exactly the declared tensors trainable.
    pub(super) fn activate(&self) -> Result<()> {
        if let Some(lora) = &self.lora
            && !self.vlm.llm.lora().is_some_and(|now| Arc::ptr_eq(&now, lora))
        {
            return Err(error!(Train, "the adapter of this trainer was merged into the weights")
                .help("make a new trainer; it starts with a new adapter"));
        }
        self.vlm.freeze()?;
        for trained in self.trained() {
            trained.param.set_trainable(true)?;
        }
        Ok(())
    }

    /// The first micro-batches of the run, for the audit.
    pub(super) fn first_micro_batches(&self, count: usize) -> impl Iterator<Item = Result<Vec<Ready>>> {
        let micros = (0..self.steps).flat_map(|step| self.sampler.micro_batches(step)).take(count);
        micros.map(|micro| self.loader.prepare(&micro))
    }

    /// Forward and backward pass of some samples; of none of them when nothing is supervised.
    pub(super) fn accumulate(
        &self,
        samples: &[Ready],
        features: Option<&Tensor>,
        gradients: &mut Gradients,
    ) -> Result<Counted> {
        let mut batch = self.spliced(samples, features)?;
        let mut counted = Counted {
            sum: 0.0,
            tokens: batch.targets.len(),
            positions: batch.positions(),
            cut: batch.cut,
            unsupervised: std::mem::take(&mut batch.unsupervised),
        };
        if counted.tokens == 0 {
            return Ok(counted);
        }
        let loss = MicroLoss::new(&self.vlm, &batch, self.options.checkpointing)?;
        drop(batch);
        let weight = match self.options.loss {
            LossKind::Token => 1.0,
            LossKind::MicroBatch => 1.0 / loss.tokens as f64,
        };
        counted.sum = f64::from(loss.sum.to_scalar::<f32>()?);
        let trained = &self.optimizer.trained;
        loss.backward(&self.vlm, weight, &mut |store| gradients.add(store, trained))?;
        Ok(counted)
    }

    /// Forward pass of some samples; `None` when none of them has a supervised position.
    pub(super) fn micro_loss(&self, samples: &[Ready]) -> Result<Option<MicroLoss>> {
        let features = self.loader.encode(samples)?;
        let batch = self.spliced(samples, features.as_ref())?;
        if batch.targets.is_empty() {
            return Ok(None);
        }
        MicroLoss::new(&self.vlm, &batch, self.options.checkpointing).map(Some)
    }

    /// Samples and their features as one batch.
    fn spliced(&self, samples: &[Ready], features: Option<&Tensor>) -> Result<Batch> {
        let mut next_image = 0..;
        let sequences: Vec<Sequence> = samples
            .iter()
            .map(|Ready { rendered, images }| Sequence {
                rendered,
                images: next_image.by_ref().take(images.len()).collect(),
            })
            .collect();
        vlm::batch(&self.vlm, &sequences, features, self.limit)
    }

    /// The step's loss and the scale that turns summed gradients into its gradient.
    fn combine(&self, losses: &[(f64, usize)]) -> Result<(f64, f64)> {
        if losses.is_empty() {
            return Err(error!(Data, "no position of this step is supervised")
                .help("`d.check_masks(m)` shows what the template supervises; answers may lie beyond `max_length`"));
        }
        Ok(match self.options.loss {
            LossKind::Token => {
                let tokens: usize = losses.iter().map(|(_, tokens)| tokens).sum();
                let scale = 1.0 / tokens as f64;
                (losses.iter().map(|(sum, _)| sum).sum::<f64>() * scale, scale)
            }
            LossKind::MicroBatch => {
                let scale = 1.0 / losses.len() as f64;
                (losses.iter().map(|(sum, tokens)| sum / *tokens as f64).sum::<f64>() * scale, scale)
            }
        })
    }

    /// The function that ended the resumed run for good, as it was given to [`Fit::stop`](super::fit::Fit::stop), and after
    /// which step.
    pub fn stopped(&self) -> Option<&(u64, String)> {
        self.stopped.as_ref()
    }

    /// Loads a checkpoint into this trainer, which must have been made alike: that of a folder `RUN/checkpoint-<step>`, or the
    /// newest complete one of a run. A run without any begins at step 0.
    ///
    /// # Errors
    /// `Busy` while another process trains it, `Missing` for what is no run or checkpoint, `Train` when the trainer is not
    /// the one of run.lock.
    pub fn resume(&mut self, folder: &Path) -> Result<()> {
        self.resume_from(folder).context(|| format!("resuming `{}`", folder.display()))
    }
}

/// The adapters that are trained, if any: those the LLM has, or new ones.
fn adapters(vlm: &Vlm, options: &TrainOptions) -> Result<Option<Arc<Lora>>> {
    match &options.lora {
        Some(lora) => {
            vlm.llm.adapt(lora, Source::Random { seed: options.seed }).map(Some).context(|| "option `lora`".to_string())
        }
        None if options.rate(Part::Llm) > 0.0 && vlm.llm.lora().is_some() => {
            Err(error!(Option, "LLM `{}` carries an adapter, and option `lora` is not given", vlm.llm.id)
                .help("give `lora` to go on with it, or add it to the weights first: `m.merge()`"))
        }
        None => Ok(None),
    }
}

/// The samples to train on, and the ids of those that are left out.
fn trainable(dataset: &Dataset) -> Result<(Dataset, BTreeMap<&'static str, Vec<String>>)> {
    let (kept, left_out) = dataset.trainable()?;
    if left_out.is_empty() && kept.is_empty() {
        bail!(Data, "data set `{}` is empty", dataset.name());
    }
    let mut skipped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (index, why) in left_out {
        skipped.entry(why).or_default().push(dataset.get(index)?.id);
    }
    if kept.is_empty() {
        let reasons: Vec<_> = skipped.iter().map(|(why, ids)| format!("{} have {why}", ids.len())).collect();
        bail!(Data, "data set `{}` has no sample to train on: {}", dataset.name(), reasons.join(", "));
    }
    Ok((kept, skipped))
}

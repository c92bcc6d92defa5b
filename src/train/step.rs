//! One optimizer step and what it takes: weights, data, gradients, optimizer. A step is a function of (weights, moments,
//! step number, options): sample order comes from counters, gradients are summed in a fixed order (`leaves.rs`), so that
//! a resumed run repeats an uninterrupted one, and any number of ranks one rank, to the last bit. There is no folder
//! here, no event and no signal; the run around it is `trainer.rs`.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Tensor;

use super::exchange::Exchange;
use super::feed::{Feed, Loader, Ready};
use super::gradients::Gradients;
use super::leaves::{Share, Tree, pairwise};
use super::optimizer::{Optimizer, Trained};
use super::options::{TrainOptions, usual_length};
use super::pass::{Counted, Pass, Totals};
use super::trouble::about_samples;
use crate::data::Dataset;
use crate::data::order::Sampler;
use crate::error::{Context, Error, Kind, Result};
use crate::events::Step;
use crate::image::Aspect;
use crate::rng::Rng;
use crate::text::Template;
use crate::vlm::{FeatureCache, Lora, Part, Vlm};
use crate::weights::{Dropping, Source};
use crate::{bail, error};

/// What samples are made into batches by.
pub struct Sight {
    pub template: Template,
    pub aspect: Aspect,
    /// Where features of a frozen encoder are kept.
    pub features: Option<Arc<FeatureCache>>,
}

/// Makes optimizer steps over a data set.
pub struct Stepper {
    pub(super) loader: Arc<Loader>,
    pub(super) sampler: Sampler,
    feed: Feed,
    pub(super) options: TrainOptions,
    pub(super) optimizer: Optimizer,
    /// The adapters in training.
    lora: Option<Arc<Lora>>,
    exchange: Arc<dyn Exchange>,
    pub(super) share: Share,
    gradients: Gradients,
    /// Longest sequence.
    pub(super) limit: usize,
    step: u64,
    steps: u64,
}

/// What an attempt at a step came to.
pub enum Stepped {
    /// The step, and its samples of which nothing is learned: all their answers lie beyond the longest sequence.
    Done(Step, Vec<usize>),
    /// Somebody asked for an end; nothing was updated.
    Interrupted,
    /// Loss or gradients are no numbers; nothing was updated. With the samples it happened to.
    NotFinite { step: u64, loss: f64, grad_norm: f64, samples: Vec<usize> },
}

/// The passes of one step.
struct Passes {
    totals: Totals,
    gradients: Vec<Option<Tensor>>,
    /// Samples of which nothing is learned.
    unsupervised: Vec<usize>,
    /// The first micro-batch whose loss is no number.
    broken: Option<usize>,
    /// What ended the passes early. Other ranks wait for this one's numbers all the same.
    failed: Option<Error>,
}

impl Stepper {
    /// A stepper at step 0 over samples that can be trained on.
    ///
    /// # Errors
    /// `Option` for options that do not go together with the model or the number of ranks, `Template` for a template that
    /// the tokenizer cannot write.
    pub fn new(
        vlm: Arc<Vlm>,
        dataset: Dataset,
        options: TrainOptions,
        sight: Sight,
        exchange: Arc<dyn Exchange>,
    ) -> Result<Self> {
        options.check()?;
        let Sight { template, aspect, features } = sight;
        template.check(vlm.tokenizer()?)?;
        vlm.check_training(&template)?;
        let target = vlm.target();
        if let Some(name) = &options.dtype
            && crate::device::dtype(name)? != target.dtype
        {
            return Err(error!(Option, "option `dtype` is `{name}`, the model is {:?}", target.dtype)
                .help(format!("open the LLM with `#{{ dtype: \"{name}\" }}`")));
        }
        let context = vlm.llm.context();
        let limit = options.max_length.unwrap_or(usual_length(context));
        if limit > context {
            bail!(Option, "option `max_length` is {limit}, the context of LLM `{}` is {context}", vlm.llm.id);
        }
        let share = Share::new(&options, &target.device, exchange.rank(), exchange.ranks())?;
        let lora = adapters(&vlm, &options)?;
        let optimizer = Optimizer::new(&vlm, &options, lora.is_some());
        if optimizer.trained.is_empty() {
            bail!(Option, "the parts named in `train` have no tensors to train");
        }
        let steps = options.total_steps(dataset.len());
        let sampler = Sampler::new(&dataset, options.sampling())?;
        let loader = Arc::new(Loader::new(vlm, dataset, template, options.turns, aspect, features));
        let (feed, gradients) = (Feed::default(), Gradients::default());
        Ok(Stepper {
            loader,
            sampler,
            feed,
            options,
            optimizer,
            lora,
            exchange,
            share,
            gradients,
            limit,
            step: 0,
            steps,
        })
    }

    /// The model in training.
    pub fn vlm(&self) -> &Arc<Vlm> {
        &self.loader.vlm
    }

    /// The data it is trained on.
    pub fn dataset(&self) -> &Dataset {
        &self.loader.dataset
    }

    /// The options it was made with.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// The ranks it steps with.
    pub fn exchange(&self) -> &dyn Exchange {
        &*self.exchange
    }

    /// The adapters in training.
    pub(super) fn lora(&self) -> Option<&Arc<Lora>> {
        self.lora.as_ref()
    }

    /// The tensors that are trained.
    pub fn trained(&self) -> &[Trained] {
        &self.optimizer.trained
    }

    /// How many weights are trained.
    pub(super) fn trained_count(&self) -> usize {
        self.trained().iter().map(|trained| trained.param.count()).sum()
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.step
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on after this step; weights and moments are the caller's to set.
    pub(super) fn go_on_after(&mut self, step: u64) {
        self.step = step;
    }

    /// Lets go of samples that were prepared for a step that does not come, and of the graph of the last one.
    pub(super) fn rest(&mut self) -> Result<()> {
        self.feed.clear();
        self.vlm().freeze()
    }

    /// What to say of a schedule under which nothing moves.
    pub(super) fn stands_still(&self) -> Option<String> {
        let (options, steps) = (&self.options, self.steps);
        (!options.schedule.moves(steps, options.warmup_ratio)).then(|| {
            let all = if steps == 1 { "the only step is".to_string() } else { format!("all {steps} steps are") };
            format!(
                "{all} warm-up at rate 0, so nothing is learned: give more `steps` or `epochs`, a smaller `batch`, or `warmup_ratio: 0`"
            )
        })
    }

    /// The gradient of a tensor in the last step, before clipping.
    ///
    /// # Errors
    /// `Train` when there is none, and for names that are not trained.
    pub fn gradient(&self, name: &str) -> Result<Tensor> {
        let place = self.trained().iter().position(|trained| trained.name == name);
        match place.map(|place| self.gradients.scaled(place)).transpose()?.flatten() {
            Some(gradient) => Ok(gradient),
            None if self.step == 0 => Err(error!(Train, "no step was made yet, so there is no gradient of `{name}`")),
            None if place.is_some() => Err(error!(Train, "the last step did not reach `{name}`")),
            None => {
                let names: Vec<_> = self.trained().iter().map(|t| t.name.as_str()).collect();
                Err(Error::unknown("trained tensor", name, &names, ""))
            }
        }
    }

    /// Loss of the next step's samples; nothing is updated.
    ///
    /// # Errors
    /// `Data` when nothing of them is supervised, and what reading and computing them gives.
    pub fn loss(&self) -> Result<f64> {
        let (totals, failed) = self.forward();
        self.vlm().freeze()?;
        let totals = self.totals_of_ranks(totals, failed)?;
        totals.loss_and_scale().map(|(loss, _)| loss)
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// `Train` when all are done or the loss is no number, `Data` when nothing is supervised, and what reading and
    /// computing the samples gives.
    pub fn step(&mut self) -> Result<Step> {
        match self.try_step(&|| false)? {
            Stepped::Done(step, _) => Ok(step),
            Stepped::Interrupted => Err(Error::new(Kind::Interrupted, "interrupted between micro-batches")),
            Stepped::NotFinite { step, loss, grad_norm, samples } => {
                Err(about_samples(self.dataset(), &samples, not_finite(step, loss, grad_norm)))
            }
        }
    }

    /// One step, unless somebody on any rank asks for an end between two micro-batches.
    ///
    /// # Errors
    /// As [`step`](Self::step), a loss that is no number aside.
    pub fn try_step(&mut self, interrupted: &dyn Fn() -> bool) -> Result<Stepped> {
        if self.step >= self.steps {
            return Err(error!(Train, "all {} steps are done", self.steps).help("a new trainer starts again"));
        }
        let start = Instant::now();
        self.gradients = Gradients::default();
        let micros = self.sampler.micro_batches(self.step);
        let Some(passes) = self.passes(&micros, interrupted)? else { return Ok(Stepped::Interrupted) };
        let Passes { totals, gradients, unsupervised, broken, failed } = passes;
        let totals = self.totals_of_ranks(totals, failed)?;
        let about_all = |error| about_samples(self.dataset(), &micros.concat(), error);
        let (loss, scale) = totals.loss_and_scale().map_err(about_all)?;
        self.gradients = Gradients { sums: self.exchange.sum_gradients(gradients)?, scale };
        let norm = self.gradients.norm()?;
        if !loss.is_finite() || !norm.is_finite() {
            let samples = broken.map_or_else(|| micros.concat(), |number| micros[number].clone());
            return Ok(Stepped::NotFinite { step: self.step + 1, loss, grad_norm: norm, samples });
        }
        let rate = self.update(norm)?;
        Ok(Stepped::Done(
            Step {
                step: self.step,
                steps: self.steps,
                loss,
                lr: rate,
                grad_norm: norm,
                tokens: totals.tokens as u64,
                positions: totals.positions as u64,
                samples: micros.iter().map(|micro| micro.len() as u64).sum(),
                cut: totals.cut as u64,
                unsupervised: totals.unsupervised as u64,
                seconds: start.elapsed().as_secs_f64(),
            },
            unsupervised,
        ))
    }

    /// The forward and backward passes of this rank's leaves; `None` when somebody asked for an end. A failure is kept, so
    /// that all ranks ask each other equally often.
    fn passes(&mut self, micros: &[Vec<usize>], interrupted: &dyn Fn() -> bool) -> Result<Option<Passes>> {
        let (mut gradients, mut totals) = (Tree::default(), Tree::default());
        let (mut unsupervised, mut broken, mut failed) = (Vec::new(), None, self.activate().err());
        for leaf in self.share.numbers() {
            let mut sums = Gradients::none(self.trained().len());
            let mut counts = Totals::default();
            for number in leaf {
                if self.exchange.any(interrupted())? {
                    return Ok(None);
                }
                let Some(micro) = micros.get(number).filter(|_| failed.is_none()) else { continue };
                match self.micro_step(number, micro, &mut sums) {
                    Ok(counted) => {
                        counts.add(&counted);
                        unsupervised.extend(counted.unsupervised.iter().map(|&sample| micro[sample]));
                        if !counted.loss.is_finite() {
                            broken.get_or_insert(number);
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            gradients.push(sums.sums)?;
            totals.push(counts.numbers(false))?;
        }
        let gradients = gradients.sum()?.unwrap_or_default();
        let totals = Totals::of(&totals.sum()?.unwrap_or_default()).0;
        Ok(Some(Passes { totals, gradients, unsupervised, broken, failed }))
    }

    /// The forward and backward pass of one micro-batch of the next step, which is prepared with those after it.
    fn micro_step(&mut self, number: usize, micro: &[usize], gradients: &mut Gradients) -> Result<Counted> {
        let (sampler, share) = (&self.sampler, self.share);
        let own = (self.step..self.steps).flat_map(|step| share.of(sampler.micro_batches(step)));
        let before = share.before(number);
        let prepared = self.feed.take(&self.loader, own.skip(before))?;
        // Until the backward is done: it may compute parts of the forward again.
        let _dropping = self.dropping(number);
        let encoded = self.loader.encode(&prepared);
        let counted =
            encoded.and_then(|features| self.pass().backward(&prepared, features.as_ref(), self.trained(), gradients));
        counted.map_err(|error| about_samples(self.dataset(), micro, error))
    }

    /// What the next step's forward passes come to, as far as they do.
    fn forward(&self) -> (Totals, Option<Error>) {
        let micros = self.sampler.micro_batches(self.step);
        let forward = |number: usize, micro: &[usize]| -> Result<Counted> {
            let _dropping = self.dropping(number);
            let prepared = self.loader.prepare(micro)?;
            self.pass().counted(&prepared, self.loader.encode(&prepared)?.as_ref())
        };
        let leaf = |numbers: Range<usize>| -> Result<Vec<f64>> {
            let mut counts = Totals::default();
            for number in numbers {
                if let Some(micro) = micros.get(number) {
                    counts.add(&forward(number, micro)?);
                }
            }
            Ok(counts.numbers(false))
        };
        let leaves = self.activate().and_then(|()| self.share.numbers().map(leaf).collect::<Result<Vec<_>>>());
        match leaves.and_then(pairwise) {
            Ok(totals) => (Totals::of(&totals.unwrap_or_default()).0, None),
            Err(error) => (Totals::default(), Some(error)),
        }
    }

    /// The sums over all ranks; all end with an error when one has.
    fn totals_of_ranks(&self, mine: Totals, failed: Option<Error>) -> Result<Totals> {
        let (totals, any_failed) = Totals::of(&self.exchange.sum_counts(mine.numbers(failed.is_some()))?);
        match failed {
            Some(error) => Err(error),
            None if any_failed => Err(error!(Train, "step {}: another rank ended with an error", self.step + 1)
                .help("its own message says what it was")),
            None => Ok(totals),
        }
    }

    /// Updates the weights by the gradients of this norm; the largest rate of any part.
    fn update(&mut self, norm: f64) -> Result<f64> {
        let factor = self.options.schedule.factor(self.step, self.steps, self.options.warmup_ratio);
        let clip = match self.options.clip {
            limit if limit > 0.0 => (limit / (norm + 1e-6)).min(1.0),
            _ => 1.0,
        };
        let rate = |part| self.options.rate(part) * factor;
        let gradients = &self.gradients;
        self.optimizer.update(|place| gradients.get(place), self.step + 1, rate, gradients.scale * clip)?;
        self.step += 1;
        Ok(Part::ALL.into_iter().map(rate).fold(0.0, f64::max))
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
            && !self.vlm().llm.lora().is_some_and(|now| Arc::ptr_eq(&now, lora))
        {
            return Err(error!(Train, "the adapter of this trainer was merged into the weights")
                .help("make a new trainer; it starts with a new adapter"));
        }
        self.vlm().freeze()?;
        for trained in self.trained() {
            trained.param.set_trainable(true)?;
        }
        Ok(())
    }

    /// Makes passes with the weights as they are.
    pub(super) fn pass(&self) -> Pass<'_> {
        let TrainOptions { loss, checkpointing, .. } = self.options;
        Pass { vlm: self.vlm(), limit: self.limit, loss, checkpointing }
    }

    /// The first micro-batches of the run, for the audit.
    pub(super) fn first_micro_batches(&self, count: usize) -> impl Iterator<Item = Result<Vec<Ready>>> {
        let micros = (0..self.steps).flat_map(|step| self.sampler.micro_batches(step)).take(count);
        micros.map(|micro| self.loader.prepare(&micro))
    }
}

/// The error of a loss or gradients that are no numbers.
pub(super) fn not_finite(step: u64, loss: f64, grad_norm: f64) -> Error {
    error!(Train, "step {step}: loss {loss}, grad_norm {grad_norm}")
        .help("a lower learning rate or `clip: 1.0` may help")
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

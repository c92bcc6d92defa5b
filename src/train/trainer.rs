//! A trainer: a stepper (`step.rs`), the run it belongs to, and who listens. `fit.rs` is the loop around its steps,
//! `resume.rs` how it goes on with a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use toml::Value;

use super::audit::Audit;
use super::exchange::{Alone, Exchange};
use super::folder::RunPlace;
use super::identity::{changed, data_identity, prints, refuse_drift};
use super::optimizer::Trained;
use super::options::{Features, TrainOptions};
use super::plan::{Limits, Plan, Planner};
use super::run::{Lock, Run};
use super::step::{Sight, Stepped, Stepper, not_finite};
use super::trouble::{about_samples, unsupervised};
use crate::bail;
use crate::data::{Dataset, Print};
use crate::error::{Context, Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners, Step};
use crate::image::Aspect;
use crate::text::Template;
use crate::vlm::{FeatureCache, Part, Vlm};

/// What a trainer needs beside its options.
pub struct TrainerSetup {
    pub template: Template,
    pub aspect: Aspect,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
    /// What run.lock says about the script.
    pub lock: Lock,
    /// Where the run goes unless `out` says.
    pub folder: RunPlace,
    /// Where features are kept between runs.
    pub cache: PathBuf,
    /// Features that another trainer kept, of the same encoder, data and picture shape (default: none).
    pub features: Option<Arc<FeatureCache>>,
    /// The run that this one repeats: `fit` refuses to start when they would differ.
    pub repeats: Option<Lock>,
}

/// Trains parts of a model on a data set.
pub struct Trainer {
    pub(super) stepper: Stepper,
    pub(super) listeners: Listeners,
    pub(super) interrupt: Interrupt,
    origin: Origin,
    /// Ids of samples that cannot be trained on and are left out, by the reason.
    pub(super) skipped: BTreeMap<&'static str, Vec<String>>,
    pub(super) history: Vec<Step>,
    pub(super) place: InRun,
    /// What was said already and is said once.
    said: Said,
    pub(super) audited: bool,
    /// What was said before the start, to be held against what it took.
    pub(super) planned: Option<Plan>,
}

/// What a trainer is before its first step, as run.lock has it.
struct Origin {
    /// What is known of the script.
    lock: Lock,
    folder: RunPlace,
    repeats: Option<Lock>,
    /// Hash of all weights, and what the model was.
    weights_sha256: String,
    identity: BTreeMap<String, String>,
}

/// Where a trainer stands in its run.
#[derive(Default)]
pub(super) struct InRun {
    pub run: Option<Run>,
    /// The step of the checkpoint that was last written or loaded, and of the run's newest one as this trainer knows it.
    pub saved: u64,
    pub newest: u64,
    /// The function that ended the run that was resumed, and after which step.
    pub stopped: Option<(u64, String)>,
}

#[derive(Default)]
struct Said {
    /// Samples of which nothing is learned.
    unsupervised: bool,
    /// The model is asked otherwise from now on.
    adoption: bool,
}

impl Trainer {
    /// A trainer at step 0; nothing is written yet.
    ///
    /// # Errors
    /// As [`Stepper::new`], and `Data` for a data set without a sample to train on.
    pub fn new(vlm: Arc<Vlm>, dataset: Dataset, options: TrainOptions, setup: TrainerSetup) -> Result<Self> {
        Trainer::among(vlm, dataset, options, setup, Arc::new(Alone))
    }

    /// The same as one of several ranks, of which one writes the run folder.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn among(
        vlm: Arc<Vlm>,
        dataset: Dataset,
        options: TrainOptions,
        setup: TrainerSetup,
        ranks: Arc<dyn Exchange>,
    ) -> Result<Self> {
        options.check()?;
        let (dataset, skipped) = trainable(&dataset)?;
        let features = features(&vlm, &options, &setup)?;
        let TrainerSetup { template, aspect, listeners, interrupt, lock, folder, repeats, .. } = setup;
        let stepper = Stepper::new(vlm, dataset, options, Sight { template, aspect, features }, ranks)?;
        let (weights_sha256, identity) = (stepper.vlm().weights_sha256()?, stepper.vlm().identity()?);
        Ok(Trainer {
            stepper,
            listeners,
            interrupt,
            origin: Origin { lock, folder, repeats, weights_sha256, identity },
            skipped,
            history: Vec::new(),
            place: InRun::default(),
            said: Said::default(),
            audited: false,
            planned: None,
        })
    }

    /// The model in training.
    pub fn vlm(&self) -> &Arc<Vlm> {
        self.stepper.vlm()
    }

    /// The options it was made with.
    pub fn options(&self) -> &TrainOptions {
        self.stepper.options()
    }

    /// The features that are kept, for a trainer that sees the same pictures through the same encoder.
    pub fn features(&self) -> Option<Arc<FeatureCache>> {
        self.stepper.loader.features.clone()
    }

    /// The data it is trained on.
    pub fn dataset(&self) -> &Dataset {
        self.stepper.dataset()
    }

    /// The tensors that are trained.
    pub fn trained(&self) -> &[Trained] {
        self.stepper.trained()
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.stepper.done()
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.stepper.steps()
    }

    /// The steps so far, those before a resume included.
    pub fn history(&self) -> &[Step] {
        &self.history
    }

    /// The run folder, once there is one.
    pub fn run(&self) -> Option<&Run> {
        self.place.run.as_ref()
    }

    /// The function that ended the resumed run for good, as it was given to [`Fit::stop`](super::Fit::stop), and after
    /// which step.
    pub fn stopped(&self) -> Option<&(u64, String)> {
        self.place.stopped.as_ref()
    }

    /// The gradient of a tensor in the last step, before clipping.
    ///
    /// # Errors
    /// As [`Stepper::gradient`].
    pub fn gradient(&self, name: &str) -> Result<Tensor> {
        self.stepper.gradient(name)
    }

    /// Loss of the next step's samples; nothing is updated.
    ///
    /// # Errors
    /// As [`Stepper::loss`].
    pub fn loss(&self) -> Result<f64> {
        self.stepper.loss()
    }

    /// Looks at the gradients of the first micro-batches; nothing is updated.
    ///
    /// # Errors
    /// As [`Audit::of`].
    pub fn audit(&self) -> Result<Audit> {
        Audit::of(&self.stepper)
    }

    /// Plans the run. Samples are rendered and dry steps made; weights, moments, random numbers, kept features and
    /// files stay as they are.
    ///
    /// # Errors
    /// What a step gives; a run that does not fit is no error here but one of [`Plan::check`].
    pub fn plan(&mut self, limits: Limits) -> Result<Plan> {
        let (folder, interrupt) = (self.folder(), &self.interrupt);
        let planner = Planner { stepper: &self.stepper, folder: &folder, interrupted: &|| interrupt.is_set() };
        let plan = planner.plan(limits)?;
        self.planned = Some(plan.clone());
        Ok(plan)
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// As [`Stepper::step`].
    pub fn step(&mut self) -> Result<Step> {
        match self.try_step()? {
            Some(step) => Ok(step),
            None => Err(Error::new(Kind::Interrupted, "interrupted between micro-batches")),
        }
    }

    /// One step, or `None` when it was interrupted before the update.
    pub(super) fn try_step(&mut self) -> Result<Option<Step>> {
        let interrupt = &self.interrupt;
        match self.stepper.try_step(&|| interrupt.is_set())? {
            Stepped::Interrupted => Ok(None),
            Stepped::NotFinite { step, loss, grad_norm, samples } => {
                let error = not_finite(step, loss, grad_norm);
                let help = format!("{}{}", error.help_text().unwrap_or_default(), self.earlier());
                Err(about_samples(self.dataset(), &samples, error.help(help)))
            }
            Stepped::Done(step, untaught) => {
                self.history.push(step.clone());
                if !untaught.is_empty() && !std::mem::replace(&mut self.said.unsupervised, true) {
                    let text = unsupervised(self.dataset(), &untaught, step.step, self.stepper.limit);
                    self.warn(text);
                }
                if let Some(text) = self.features().and_then(|features| features.damage()) {
                    self.warn(text);
                }
                self.adopt();
                Ok(Some(step))
            }
        }
    }

    /// Lets the model be asked and saved as it was just trained, and says so once.
    pub(super) fn adopt(&mut self) {
        let loader = &self.stepper.loader;
        let Some(text) = loader.vlm.adopt(&loader.template, loader.aspect) else { return };
        if !std::mem::replace(&mut self.said.adoption, true) {
            self.warn(text);
        }
    }

    /// Tells something that people should know.
    pub(super) fn warn(&self, text: String) {
        self.listeners.tell(&Event::Warning { text });
    }

    /// Where a run that came to numbers that are none can go back to.
    pub(super) fn earlier(&self) -> String {
        let found = self.run().and_then(|run| super::run::checkpoints(run.dir()).ok()).unwrap_or_default();
        let names: Vec<String> = found.iter().rev().map(|(_, path)| format!("`t.resume({path:?})`")).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("; {} of a new trainer goes back", names.join(" or ")),
        }
    }

    /// Where the run is or will be.
    pub(super) fn folder(&self) -> PathBuf {
        match &self.place.run {
            Some(run) => run.dir().to_path_buf(),
            None => self.new_folder().path().to_path_buf(),
        }
    }

    /// Where a new run goes.
    pub(super) fn new_folder(&self) -> RunPlace {
        self.options().out.clone().map_or_else(|| self.origin.folder.clone(), RunPlace::Given)
    }

    /// The fingerprints of the pictures it trains on.
    pub(super) fn prints(&self) -> Result<Arc<Vec<Print>>> {
        prints(self.dataset(), &self.listeners)
    }

    /// Which pictures are others than those of another run on the same data, in words.
    ///
    /// # Errors
    /// `File` or `Decode` when the run's list of them cannot be read.
    pub fn other_pictures(&self, run: &Run) -> Result<Option<String>> {
        Ok(changed(&run.pictures()?, &self.prints()?))
    }

    /// Refuses to go on with a run, or to repeat one, that this would not be.
    pub(super) fn refuse_drift(&self, then: &Lock, run: Option<&Run>) -> Result<()> {
        refuse_drift(then, &self.lock()?, run, &self.prints()?)
    }

    /// Refuses to start when this would not be the run it repeats.
    pub(super) fn refuse_to_differ(&self) -> Result<()> {
        match &self.origin.repeats {
            Some(repeated) => {
                self.refuse_drift(repeated, None).context(|| "this would not be the same run".to_string())
            }
            None => Ok(()),
        }
    }

    /// What run.lock says about this trainer.
    ///
    /// # Errors
    /// What reading the pictures gives.
    pub fn lock(&self) -> Result<Lock> {
        let (mut lock, stepper, target) = (self.origin.lock.clone(), &self.stepper, self.vlm().target());
        lock.set_options(self.options(), self.steps(), stepper.loader.template.name())?;
        let resolved = [
            ("image", Value::from(stepper.loader.aspect.name())),
            ("max_length", Value::from(stepper.limit as i64)),
            ("micro_batch", Value::from(self.options().sampling().micro_batch as i64)),
            ("leaves", Value::from(stepper.share.leaves as i64)),
            ("dtype", Value::from(target.dtype.as_str())),
        ];
        lock.options.extend(resolved.map(|(key, value)| (key.to_string(), value)));
        lock.dataset = self.dataset().name().to_string();
        lock.dataset_sha256 = self.dataset().sha256();
        lock.model = self.vlm().describe();
        lock.weights_sha256 = self.origin.weights_sha256.clone();
        lock.identity = self.origin.identity.clone();
        lock.identity.extend(data_identity(self.dataset().len(), &self.prints()?));
        lock.device = crate::device::device_name(&target.device);
        Ok(lock)
    }
}

/// Where features of a frozen encoder are kept, if anywhere.
fn features(vlm: &Vlm, options: &TrainOptions, setup: &TrainerSetup) -> Result<Option<Arc<FeatureCache>>> {
    Ok(match options.features {
        _ if options.rate(Part::Encoder) > 0.0 => None,
        _ if setup.features.is_some() => setup.features.clone(),
        Features::Off => None,
        Features::Memory => Some(Arc::new(FeatureCache::in_memory(options.features_limit()))),
        Features::Disk => {
            let (folder, limit) = (setup.cache.join("features"), options.features_limit());
            let opened = FeatureCache::on_disk(&folder, &vlm.encoder, setup.aspect, limit);
            Some(Arc::new(opened.context(|| "option `features: \"disk\"`")?))
        }
    })
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

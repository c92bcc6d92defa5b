//! What a run will take, said before it starts: tokens, operations, memory at the peak, time, disk. Counts come from the
//! data's lengths and the model's sizes; memory and time from dry steps (`dry.rs`), which leave no trace.

use std::path::Path;

use super::alternatives::Alternatives;
use super::disk::{DiskPlan, disk_free, disk_plan, saves};
use super::dry::{Dry, Rehearsal};
use super::lengths::{Lengths, lengths, longest};
use super::moments::MomentKind;
use super::options::Features;
use super::step::Stepper;
use crate::data::ImageSource;
use crate::error::Result;
use crate::memory;
use crate::vlm::Part;

/// Samples of a run whose pictures are compared; in a longer run all count as different.
const TOLD_APART: usize = 100_000;
/// Speed that checkpoints are taken to be written with, in bytes per second.
const WRITING: f64 = 400e6;

/// The plan of a trainer.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub name: String,
    pub samples: usize,
    pub steps: u64,
    pub batch: usize,
    pub micro_batch: usize,
    /// Parts of a step that are summed by a tree.
    pub leaves: usize,
    /// Weights that are updated.
    pub trained: usize,
    /// Weights that are not.
    pub frozen: usize,
    /// Positions of an average sample after splicing.
    pub positions: f64,
    /// Supervised positions of an average sample.
    pub tokens: f64,
    /// Positions of the longest micro-batch.
    pub longest: usize,
    /// Floating-point operations of the whole run.
    pub flops: f64,
    pub memory: MemoryPlan,
    pub time: TimePlan,
    pub disk: DiskPlan,
    pub features: FeaturePlan,
    pub alternatives: Alternatives,
    /// Why nothing would be learned, if so.
    pub stands_still: Option<String>,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryPlan {
    pub weights: u64,
    pub gradients: u64,
    /// Gradients of the step's leaves that wait to be added: log2 of their number.
    pub leaves: u64,
    pub moments: u64,
    /// f32 copies of narrower weights.
    pub masters: u64,
    /// Features kept in memory.
    pub features: u64,
    /// What the longest micro-batch needs between its forward and backward pass.
    pub activations: u64,
    /// Whether activations were counted, or read off the memory of the whole process (`DeviceMemory::is_counted`).
    pub is_counted: bool,
    /// The most the process will come to.
    pub peak: u64,
    /// What it may come to, where the system reports it.
    pub limit: Option<u64>,
    /// The longest micro-batch would not have fitted: activations were scaled up from this many positions.
    pub scaled_from: Option<usize>,
}

/// Time in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimePlan {
    /// One step, features known.
    pub step: f64,
    /// All steps, with encoding and checkpoints.
    pub total: f64,
    steps: u64,
}

impl TimePlan {
    /// The part of some steps.
    pub fn of_steps(&self, steps: u64) -> f64 {
        self.total * steps as f64 / self.steps.max(1) as f64
    }
}

/// Features of a frozen encoder in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeaturePlan {
    /// Different pictures that the run sees; in a long one, every sample's counts.
    pub images: usize,
    /// images x tokens x width x bytes, if all were kept.
    pub bytes: u64,
    /// What of it is kept.
    pub kept: u64,
    pub place: Features,
}

/// What to plan against instead of what this machine has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub memory: Option<u64>,
    pub disk: Option<u64>,
}

/// Plans what a stepper will do.
pub(super) struct Planner<'a> {
    pub stepper: &'a Stepper,
    /// Where the run goes.
    pub folder: &'a Path,
    /// Whether somebody asks for an end.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Planner<'_> {
    /// Plans the run. Samples are rendered and dry steps made; weights, moments, random numbers, kept features and
    /// files stay as they are.
    ///
    /// # Errors
    /// What a step gives; a run that does not fit is no error here but one of [`Plan::check`].
    pub(super) fn plan(&self, limits: Limits) -> Result<Plan> {
        let lengths = lengths(self.stepper)?;
        let longest = longest(self.stepper, &lengths)?;
        let trained = self.stepper.trained_count();
        let size = self.stepper.vlm().target().dtype.size_in_bytes();
        let features = self.feature_plan(&lengths)?;
        let device = memory::of(&self.stepper.vlm().target().device);
        let mut memory = MemoryPlan {
            weights: (self.stepper.vlm().params() * size) as u64,
            gradients: 4 * trained as u64,
            leaves: 4 * (trained * self.stepper.share.waiting()) as u64,
            moments: self.stepper.optimizer.moment_bytes(self.stepper.options.moments),
            masters: self.stepper.optimizer.master_bytes(),
            features: if features.place == Features::Memory { features.kept } else { 0 },
            limit: limits.memory.or_else(|| device.limit()),
            is_counted: device.is_counted(),
            ..MemoryPlan::default()
        };
        let later = self.later(&memory);
        let rehearsal = Rehearsal { stepper: self.stepper, interrupted: self.interrupted };
        let dry = rehearsal.run(&longest, memory.gradients, memory.limit.map(|limit| limit.saturating_sub(later)))?;
        memory.activations = dry.activations;
        memory.peak = dry.resident + later;
        memory.scaled_from = dry.scaled_from;
        let disk = DiskPlan {
            free: limits.disk.or_else(|| disk_free(self.stepper, self.folder)),
            ..disk_plan(self.stepper, self.folder)
        };
        let shown = self.samples_seen() * lengths.images as f64 / self.stepper.dataset().len().max(1) as f64;
        let encoded = features.encoded(shown);
        let time = self.time_plan(&dry, &lengths, encoded, &disk, trained);
        Ok(Plan {
            name: self.stepper.options.name.clone(),
            samples: self.stepper.dataset().len(),
            steps: self.stepper.steps(),
            batch: self.stepper.options.batch,
            micro_batch: self.stepper.options.sampling().micro_batch,
            leaves: self.stepper.share.leaves,
            trained,
            frozen: self.stepper.vlm().params() - trained,
            positions: lengths.positions,
            tokens: lengths.tokens,
            longest: dry.longest,
            flops: self.flops(&lengths, encoded),
            alternatives: Alternatives::of(self.stepper, memory.activations, dry.longest),
            stands_still: self.stepper.stands_still(),
            memory,
            time,
            disk,
            features,
        })
    }

    /// Features of the pictures that the run sees.
    fn feature_plan(&self, lengths: &Lengths) -> Result<FeaturePlan> {
        let encoder = &self.stepper.vlm().encoder;
        let each = encoder.tokens() * encoder.width() * encoder.target().dtype.size_in_bytes();
        let place = if self.stepper.loader.features.is_some() { self.stepper.options.features } else { Features::Off };
        let images = match place {
            Features::Off => lengths.images,
            _ => self.pictures(lengths)?,
        };
        let bytes = (images * each) as u64;
        let kept = if place == Features::Off { 0 } else { bytes.min(self.stepper.options.features_limit()) };
        Ok(FeaturePlan { images, bytes, kept, place })
    }

    /// How many different pictures the run sees.
    fn pictures(&self, lengths: &Lengths) -> Result<usize> {
        use rayon::prelude::*;
        if self.samples_seen() > TOLD_APART as f64 {
            return Ok(lengths.images);
        }
        let seen: std::collections::BTreeSet<usize> =
            (0..self.stepper.steps()).flat_map(|step| self.stepper.sampler.positions(step)).collect();
        let dataset = self.stepper.dataset();
        let keys = |&index: &usize| Ok(dataset.get(index)?.images.iter().map(ImageSource::key).collect::<Vec<_>>());
        let keys = seen.par_iter().map(keys).collect::<Result<Vec<_>>>()?;
        Ok(keys.into_iter().flatten().collect::<std::collections::HashSet<_>>().len())
    }

    /// Bytes that the run will take and a dry step does not.
    fn later(&self, memory: &MemoryPlan) -> u64 {
        let state = if self.stepper.optimizer.is_allocated() { 0 } else { memory.moments + memory.masters };
        state + memory.leaves + memory.features
    }

    fn time_plan(&self, dry: &Dry, lengths: &Lengths, encoded: f64, disk: &DiskPlan, trained: usize) -> TimePlan {
        let steps = self.stepper.steps();
        let per_step = self.samples_seen() / steps.max(1) as f64;
        let step = dry.per_position * lengths.positions * per_step + dry.per_weight * trained as f64;
        let encoding = encoded * dry.per_image;
        let saves = saves(self.stepper).min(steps);
        let writing = saves as f64 * disk.checkpoint as f64 / WRITING;
        TimePlan { step, total: step * steps as f64 + encoding + writing, steps }
    }

    /// Samples of all steps together.
    fn samples_seen(&self) -> f64 {
        match self.stepper.options.steps {
            Some(steps) => steps as f64 * self.stepper.options.batch.min(self.stepper.dataset().len()) as f64,
            None => (self.stepper.dataset().len() as u64 * self.stepper.options.epochs) as f64,
        }
    }

    /// 2 operations a weight and position forward, 2 backward for what enters, 2 for the weight itself if it is trained;
    /// attention over half of all pairs.
    fn flops(&self, lengths: &Lengths, encoded: f64) -> f64 {
        let llm = self.stepper.vlm().llm.model.spec();
        let embedding = (llm.vocab * llm.width) as f64;
        let body = self.stepper.vlm().llm.params.count() as f64 - if llm.tied { embedding } else { 2.0 * embedding };
        let attention = 2.0 * (llm.layers * llm.heads * llm.head_dim) as f64 * lengths.positions;
        let passes = |part| if self.stepper.options.rate(part) > 0.0 { 3.0 } else { 2.0 };
        let per_sample = lengths.positions * (2.0 * body * passes(Part::Llm) + 3.0 * attention)
            + 2.0 * embedding * lengths.tokens * passes(Part::Llm);
        let encoder = &self.stepper.vlm().encoder;
        let per_image = 2.0 * encoder.params.count() as f64 * encoder.tokens() as f64;
        let encoding = if self.stepper.options.rate(Part::Encoder) > 0.0 { 3.0 } else { 1.0 };
        per_sample * self.samples_seen() + per_image * encoding * encoded
    }
}

impl FeaturePlan {
    /// How often a picture goes through the encoder when pictures are shown this often.
    fn encoded(&self, shown: f64) -> f64 {
        let again = (shown - self.images as f64).max(0.0);
        shown - again * self.kept as f64 / self.bytes.max(1) as f64
    }
}

impl Plan {
    /// Samples that are seen in all steps, times their positions.
    pub fn total_positions(&self) -> f64 {
        self.positions * (self.steps * self.batch as u64) as f64
    }

    /// Bytes of moments in another form, all else being equal.
    pub(super) fn moments_as(&self, kind: MomentKind) -> u64 {
        kind.bytes(self.trained) as u64
    }
}

//! What a run will take, said before it starts: tokens, operations, memory at the peak, time, disk. Counts come from the
//! data's lengths and the model's sizes; memory and time from dry steps (`dry.rs`), which leave no trace.

use super::dry::Dry;
use super::fits::Alternatives;
use super::moments::MomentKind;
use super::options::Features;
use super::trainer::Trainer;
use crate::data::ImageSource;
use crate::error::Result;
use crate::memory;
use crate::text::{IGNORE, IMAGE_ID};
use crate::vlm::Part;

/// Samples that are rendered to learn how long samples are.
const RENDERED: usize = 256;
/// Samples of steps that are looked through for the longest micro-batch.
const LOOKED_AT: usize = 4_000_000;
/// Micro-batches that are rendered to find the longest.
const CANDIDATES: usize = 8;
/// Samples of a run whose pictures are told apart; of a longer run all are taken to be different.
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
    /// What it may come to, where the system tells.
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

/// Disk in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskPlan {
    pub checkpoint: u64,
    /// The most that checkpoints come to: those that stay, and one that is being written.
    pub peak: u64,
    /// What is free where they go, with those that are there, where the system tells.
    pub free: Option<u64>,
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

/// How long samples are.
pub(super) struct Lengths {
    /// Estimated positions of every sample.
    each: Vec<u32>,
    pub positions: f64,
    pub tokens: f64,
    pub images: usize,
}

impl Trainer {
    /// Plans the run. Samples are rendered and dry steps made; weights, moments, random numbers, kept features and
    /// files stay as they are.
    ///
    /// # Errors
    /// What a step gives; a run that does not fit is no error here but one of [`Plan::check`].
    pub fn plan(&mut self, limits: Limits) -> Result<Plan> {
        let lengths = self.lengths()?;
        let longest = self.longest(&lengths)?;
        let trained: usize = self.trained().iter().map(|trained| trained.param.count()).sum();
        let size = self.vlm().target().dtype.size_in_bytes();
        let features = self.feature_plan(&lengths)?;
        let device = memory::of(&self.vlm().target().device);
        let mut memory = MemoryPlan {
            weights: (self.vlm().params() * size) as u64,
            gradients: 4 * trained as u64,
            moments: self.optimizer.moment_bytes(self.options.moments),
            masters: self.optimizer.master_bytes(),
            features: if features.place == Features::Memory { features.kept } else { 0 },
            limit: limits.memory.or_else(|| device.limit()),
            is_counted: device.is_counted(),
            ..MemoryPlan::default()
        };
        let later = self.later(&memory);
        let dry = self.dry(&longest, memory.gradients, memory.limit.map(|limit| limit.saturating_sub(later)))?;
        memory.activations = dry.activations;
        memory.peak = dry.resident + later;
        memory.scaled_from = dry.scaled_from;
        let disk = DiskPlan { free: limits.disk.or_else(|| self.disk_free()), ..self.disk_plan() };
        let shown = self.samples_seen() * lengths.images as f64 / self.dataset().len().max(1) as f64;
        let encoded = features.encoded(shown);
        let time = self.time_plan(&dry, &lengths, encoded, &disk, trained);
        let plan = Plan {
            name: self.options.name.clone(),
            samples: self.dataset().len(),
            steps: self.steps(),
            batch: self.options.batch,
            micro_batch: self.options.sampling().micro_batch,
            trained,
            frozen: self.vlm().params() - trained,
            positions: lengths.positions,
            tokens: lengths.tokens,
            longest: dry.longest,
            flops: self.flops(&lengths, encoded),
            alternatives: self.alternatives(memory.activations, dry.longest),
            stands_still: self.stands_still(),
            memory,
            time,
            disk,
            features,
        };
        self.planned = Some(plan.clone());
        Ok(plan)
    }

    /// Renders some samples and takes the words of the others for their lengths.
    fn lengths(&self) -> Result<Lengths> {
        let count = self.dataset().len();
        let every = count.div_ceil(RENDERED);
        let chosen: Vec<usize> = (0..count).step_by(every).collect();
        let briefs = self.dataset().briefs()?;
        let per_image = self.vlm().image_tokens();
        let (mut positions, mut tokens, mut texts, mut words, mut bytes) = (0, 0, 0, 0, 0);
        for (&index, (_, rendered)) in chosen.iter().zip(self.loader.render(&chosen)?) {
            let images = rendered.ids.iter().filter(|&&id| id == IMAGE_ID).count();
            let text = rendered.ids.len() - images;
            positions += (text + images * per_image).min(self.limit);
            tokens += rendered.labels.iter().take(self.limit).filter(|&&label| label != IGNORE).count();
            texts += text;
            words += briefs[index].words as usize;
            bytes += briefs[index].bytes();
        }
        let (per_word, per_byte) = (texts as f64 / words.max(1) as f64, texts as f64 / bytes.max(1) as f64);
        let length = |brief: &crate::data::Brief| {
            let images = usize::from(brief.images) * per_image;
            // A text without spaces is one word, however long.
            let text = (f64::from(brief.words) * per_word).max(brief.bytes() as f64 * per_byte);
            (text as usize + images).min(self.limit) as u32
        };
        Ok(Lengths {
            each: briefs.iter().map(length).collect(),
            positions: positions as f64 / chosen.len() as f64,
            tokens: tokens as f64 / chosen.len() as f64,
            images: briefs.iter().map(|brief| usize::from(brief.images)).sum(),
        })
    }

    /// The micro-batch with the most positions: of those that are longest by the estimated lengths, the one that is when
    /// it is rendered.
    fn longest(&self, lengths: &Lengths) -> Result<Vec<usize>> {
        let steps = self.steps().min((LOOKED_AT / self.options.batch.max(1)) as u64).max(1);
        let length = |micro: &[usize]| micro.iter().map(|&index| u64::from(lengths.each[index])).sum::<u64>();
        let mut candidates: Vec<(u64, Vec<usize>)> = Vec::new();
        for micro in (0..steps).flat_map(|step| self.sampler.micro_batches(step)) {
            let length = length(&micro);
            let place = candidates.partition_point(|(known, _)| *known >= length);
            if place < CANDIDATES {
                candidates.insert(place, (length, micro));
                candidates.truncate(CANDIDATES);
            }
        }
        let mut longest = (0, Vec::new());
        for (_, micro) in candidates {
            let positions = self.positions_of(&self.loader, &micro)?;
            if positions > longest.0 || longest.1.is_empty() {
                longest = (positions, micro);
            }
        }
        Ok(longest.1)
    }

    /// Features of the pictures that the run sees.
    fn feature_plan(&self, lengths: &Lengths) -> Result<FeaturePlan> {
        let encoder = &self.vlm().encoder;
        let each = encoder.tokens() * encoder.width() * encoder.target().dtype.size_in_bytes();
        let place = if self.loader.features.is_some() { self.options.features } else { Features::Off };
        let images = match place {
            Features::Off => lengths.images,
            _ => self.pictures(lengths)?,
        };
        let bytes = (images * each) as u64;
        let kept = if place == Features::Off { 0 } else { bytes.min(self.options.features_limit()) };
        Ok(FeaturePlan { images, bytes, kept, place })
    }

    /// How many different pictures the run sees.
    fn pictures(&self, lengths: &Lengths) -> Result<usize> {
        use rayon::prelude::*;
        if self.samples_seen() > TOLD_APART as f64 {
            return Ok(lengths.images);
        }
        let seen: std::collections::BTreeSet<usize> =
            (0..self.steps()).flat_map(|step| self.sampler.positions(step)).collect();
        let dataset = self.dataset();
        let keys = |&index: &usize| Ok(dataset.get(index)?.images.iter().map(ImageSource::key).collect::<Vec<_>>());
        let keys = seen.par_iter().map(keys).collect::<Result<Vec<_>>>()?;
        Ok(keys.into_iter().flatten().collect::<std::collections::HashSet<_>>().len())
    }

    /// Bytes that the run will take and a dry step does not.
    fn later(&self, memory: &MemoryPlan) -> u64 {
        let state = if self.optimizer.is_allocated() { 0 } else { memory.moments + memory.masters };
        state + memory.features
    }

    pub(super) fn disk_plan(&self) -> DiskPlan {
        let size = self.vlm().target().dtype.size_in_bytes();
        let trained: usize = self.trained().iter().map(|trained| trained.param.count()).sum();
        let weights = match self.saves_all() {
            true => size * self.vlm().params(),
            false => size * trained,
        };
        // Checkpoints of a run share it.
        let base = if self.saves_base() && !self.saves_all() { size * self.vlm().llm.params.count() } else { 0 } as u64;
        let state = self.optimizer.moment_bytes(self.options.moments) + self.optimizer.master_bytes();
        let checkpoint = weights as u64 + state + base;
        let (keep, saves) = (self.options.keep as u64, self.saves());
        // A checkpoint is whole before an older one goes.
        let held = if saves > keep { keep + 1 } else { saves };
        DiskPlan { checkpoint, peak: (checkpoint - base) * held + base, free: None }
    }

    /// How many checkpoints will be written, as far as it is known.
    fn saves(&self) -> u64 {
        match (self.options.save_every_steps, self.options.save_every_minutes) {
            (Some(every), _) => self.steps().div_ceil(every),
            (None, Some(_)) => self.options.keep as u64 + 1,
            (None, None) => 1,
        }
    }

    fn time_plan(&self, dry: &Dry, lengths: &Lengths, encoded: f64, disk: &DiskPlan, trained: usize) -> TimePlan {
        let steps = self.steps();
        let per_step = self.samples_seen() / steps.max(1) as f64;
        let step = dry.per_position * lengths.positions * per_step + dry.per_weight * trained as f64;
        let encoding = encoded * dry.per_image;
        let saves = self.saves().min(steps);
        let writing = saves as f64 * disk.checkpoint as f64 / WRITING;
        TimePlan { step, total: step * steps as f64 + encoding + writing, steps }
    }

    /// Samples of all steps together.
    fn samples_seen(&self) -> f64 {
        match self.options.steps {
            Some(steps) => steps as f64 * self.options.batch.min(self.dataset().len()) as f64,
            None => (self.dataset().len() as u64 * self.options.epochs) as f64,
        }
    }

    /// 2 operations a weight and position forward, 2 backward for what enters, 2 for the weight itself if it is trained;
    /// attention over half of all pairs.
    fn flops(&self, lengths: &Lengths, encoded: f64) -> f64 {
        let llm = self.vlm().llm.model.spec();
        let embedding = (llm.vocab * llm.width) as f64;
        let body = self.vlm().llm.params.count() as f64 - if llm.tied { embedding } else { 2.0 * embedding };
        let attention = 2.0 * (llm.layers * llm.heads * llm.head_dim) as f64 * lengths.positions;
        let passes = |part| if self.options.rate(part) > 0.0 { 3.0 } else { 2.0 };
        let per_sample = lengths.positions * (2.0 * body * passes(Part::Llm) + 3.0 * attention)
            + 2.0 * embedding * lengths.tokens * passes(Part::Llm);
        let encoder = &self.vlm().encoder;
        let per_image = 2.0 * encoder.params.count() as f64 * encoder.tokens() as f64;
        let encoding = if self.options.rate(Part::Encoder) > 0.0 { 3.0 } else { 1.0 };
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

//! Dry steps: forward and backward passes over real samples whose gradients are dropped. They tell what a step takes of
//! memory and time; weights, moments, random numbers, kept features and files stay as they are.

use std::time::Instant;

use candle_core::{DType, Tensor};

use super::feed::{Loader, Ready};
use super::gradients::Gradients;
use super::moments::Moments;
use super::step::Stepper;
use crate::error;
use crate::error::Result;
use crate::memory;
use crate::nn::ops;
use crate::vlm::Part;

/// Steps whose time is taken, at most, and seconds after which no further one begins.
const TIMED: usize = 3;
const LONG: f64 = 5.0;
/// Weights that the time of an update is measured with.
const SCRATCH: usize = 1 << 22;

/// What dry steps showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Dry {
    /// Positions of the longest micro-batch.
    pub longest: usize,
    /// Bytes between its forward and backward pass, gradients aside.
    pub activations: u64,
    /// The most memory that the process had, gradients and activations included.
    pub resident: u64,
    /// Positions that `activations` was scaled up from.
    pub scaled_from: Option<usize>,
    /// Seconds of a position forward and backward, of a picture from its file to features, and of a weight's update.
    pub per_position: f64,
    pub per_image: f64,
    pub per_weight: f64,
}

/// Dry steps of a stepper.
pub(super) struct Rehearsal<'a> {
    pub stepper: &'a Stepper,
    /// Whether somebody asks for an end.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Rehearsal<'_> {
    /// Dry steps over the longest micro-batch, when it fits below `limit` bytes, and over one of the first step.
    pub(super) fn run(&self, longest: &[usize], gradients: u64, limit: Option<u64>) -> Result<Dry> {
        let loader = self.stepper.loader.without_features();
        let mut dry = Dry { longest: positions_of(self.stepper, &loader, longest)?, ..Dry::default() };
        let memory = memory::of(&self.stepper.vlm().target().device);
        let resident = || memory.most().unwrap_or_else(|| memory.held());
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(resident()));
        if gradients > room {
            dry.resident = resident() + gradients;
            return Ok(dry);
        }
        self.stepper.activate()?;
        // One sample says about how much the whole batch needs.
        let first = &longest[..longest.len().min(1)];
        let positions = positions_of(self.stepper, &loader, first)?;
        let one = self.activations(&loader, first, gradients)?;
        let scaled = (one as f64 * dry.longest as f64 / positions.max(1) as f64) as u64;
        if scaled + gradients > room {
            dry.scaled_from = Some(positions);
            dry.activations = scaled;
            dry.resident = resident() + gradients + scaled;
        } else {
            dry.activations = self.activations(&loader, longest, gradients)?;
            dry.resident = resident();
            self.time(&loader, &mut dry)?;
        }
        self.stepper.vlm().freeze()?;
        Ok(dry)
    }

    /// Bytes that a forward and backward pass needs beyond the gradients that stay.
    fn activations(&self, loader: &Loader, samples: &[usize], gradients: u64) -> Result<u64> {
        self.stop_if_asked()?;
        let ready = loader.prepare(samples)?;
        let memory = memory::of(&self.stepper.vlm().target().device);
        let before = memory.held();
        memory.watch();
        let _dropping = self.stepper.dropping(0);
        let mut sums = self.no_gradients();
        // Within a leaf the gradient of a micro-batch stands beside the sum of those before it.
        let passes = if self.stepper.share.adds_in_place() { 2 } else { 1 };
        for _ in 0..passes {
            let features = loader.encode(&ready)?;
            self.backward(&ready, features.as_ref(), &mut sums)?;
        }
        // Others may have freed memory meanwhile.
        Ok(memory.peak().saturating_sub(before).saturating_sub(gradients))
    }

    /// Seconds of the first step's first micro-batch, of its pictures, and of an update.
    fn time(&self, loader: &Loader, dry: &mut Dry) -> Result<()> {
        let micros = self.stepper.sampler.micro_batches(0);
        let Some(micro) = micros.first() else { return Ok(()) };
        let start = Instant::now();
        let ready = loader.prepare(micro)?;
        let prepared = start.elapsed().as_secs_f64();
        let features = loader.encode(&ready)?;
        let frozen = self.stepper.options.rate(Part::Encoder) <= 0.0;
        // A trained encoder runs in every step and is part of it.
        let on_pictures = if frozen { start.elapsed().as_secs_f64() } else { prepared };
        dry.per_image = on_pictures / ready.iter().map(|sample| sample.images.len()).sum::<usize>().max(1) as f64;
        let _dropping = self.stepper.dropping(0);
        let mut seconds = Vec::new();
        let mut sums = self.no_gradients();
        while seconds.len() < TIMED && seconds.iter().sum::<f64>() < LONG {
            self.stop_if_asked()?;
            sums = self.no_gradients();
            let start = Instant::now();
            let again = if frozen { features.clone() } else { loader.encode(&ready)? };
            self.backward(&ready, again.as_ref(), &mut sums)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let positions = positions_of(self.stepper, loader, micro)?;
        dry.per_position = seconds[seconds.len() / 2] / positions.max(1) as f64;
        let trained = self.stepper.trained_count();
        let start = Instant::now();
        sums.norm()?;
        dry.per_weight = start.elapsed().as_secs_f64() / trained.max(1) as f64 + self.update_seconds(trained)?;
        Ok(())
    }

    /// Seconds of the update of one weight, measured on numbers that belong to nobody.
    fn update_seconds(&self, trained: usize) -> Result<f64> {
        let count = trained.clamp(1, SCRATCH);
        let device = self.stepper.vlm().target().device;
        let values = || Tensor::full(0.5f32, count, &device);
        let (weights, gradient) = (values()?, values()?);
        let mut moments = Moments::zeros(self.stepper.options.moments, &weights)?;
        let hyper = ops::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            learning_rate: 1e-3,
            step: 1,
            gradient_scale: 1.0,
        };
        let weights = weights.to_dtype(DType::F32)?.force_contiguous()?;
        let gradient = gradient.force_contiguous()?;
        moments.update(&weights, &gradient, &hyper)?;
        let start = Instant::now();
        moments.update(&weights, &gradient, &hyper)?;
        Ok(start.elapsed().as_secs_f64() / count as f64)
    }

    fn backward(&self, samples: &[Ready], features: Option<&Tensor>, sums: &mut Gradients) -> Result<()> {
        self.stepper.pass().backward(samples, features, self.stepper.trained(), sums).map(drop)
    }

    fn no_gradients(&self) -> Gradients {
        Gradients::none(self.stepper.trained().len())
    }

    fn stop_if_asked(&self) -> Result<()> {
        match (self.interrupted)() {
            true => Err(error!(Interrupted, "interrupted while planning")),
            false => Ok(()),
        }
    }
}

/// Positions of samples after splicing.
pub(super) fn positions_of(stepper: &Stepper, loader: &Loader, samples: &[usize]) -> Result<usize> {
    let positions = |rendered| stepper.vlm().positions(rendered).min(stepper.limit);
    Ok(loader.render(samples)?.iter().map(|(_, rendered)| positions(rendered)).sum())
}

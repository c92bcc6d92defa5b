//! Forward and backward passes of micro-batches, and what is counted over them.

use candle_core::Tensor;

use super::backward::MicroLoss;
use super::feed::Ready;
use super::gradients::Gradients;
use super::optimizer::Trained;
use super::options::LossKind;
use crate::error;
use crate::error::Result;
use crate::vlm::{self, Batch, Sequence, Vlm};

/// What a forward and backward pass was about.
pub(super) struct Counted {
    /// What it adds to the numerator and denominator of the step's loss.
    pub loss: f64,
    pub weight: f64,
    /// Supervised positions, and all.
    pub tokens: usize,
    pub positions: usize,
    /// Samples whose answers do not end within the limit.
    pub cut: usize,
    /// The samples of which nothing is learned: all their answers lie beyond it.
    pub unsupervised: Vec<usize>,
}

/// What is counted over a step; sums of these are sums.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    /// The numerator and denominator of the step's loss.
    pub loss: f64,
    pub weight: f64,
    pub tokens: f64,
    pub positions: f64,
    pub cut: f64,
    pub unsupervised: f64,
}

impl Totals {
    pub(super) fn numbers(self, failed: bool) -> Vec<f64> {
        let Totals { loss, weight, tokens, positions, cut, unsupervised } = self;
        vec![loss, weight, tokens, positions, cut, unsupervised, f64::from(u8::from(failed))]
    }

    pub(super) fn of(numbers: &[f64]) -> (Self, bool) {
        let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
        let [loss, weight, tokens, positions, cut, unsupervised, failed] = std::array::from_fn(at);
        (Totals { loss, weight, tokens, positions, cut, unsupervised }, failed != 0.0)
    }

    /// Adds a micro-batch.
    pub(super) fn add(&mut self, counted: &Counted) {
        self.positions += counted.positions as f64;
        self.cut += counted.cut as f64;
        self.unsupervised += counted.unsupervised.len() as f64;
        if counted.tokens == 0 {
            return;
        }
        self.tokens += counted.tokens as f64;
        self.loss += counted.loss;
        self.weight += counted.weight;
    }

    /// The step's loss and the scale that turns summed gradients into its gradient.
    pub(super) fn loss_and_scale(&self) -> Result<(f64, f64)> {
        if self.weight == 0.0 {
            return Err(error!(Data, "no position of this step is supervised")
                .help("`d.check_masks(m)` shows what the template supervises; answers may lie beyond `max_length`"));
        }
        let scale = 1.0 / self.weight;
        Ok((self.loss * scale, scale))
    }
}

/// Makes passes.
pub(super) struct Pass<'a> {
    pub vlm: &'a Vlm,
    /// Longest sequence.
    pub limit: usize,
    pub loss: LossKind,
    pub checkpointing: bool,
}

impl Pass<'_> {
    /// Forward pass of some samples; `None` when none of them has a supervised position.
    pub(super) fn forward(&self, samples: &[Ready], features: Option<&Tensor>) -> Result<Option<MicroLoss>> {
        let batch = self.spliced(samples, features)?;
        if batch.targets.is_empty() {
            return Ok(None);
        }
        MicroLoss::new(self.vlm, &batch, self.checkpointing).map(Some)
    }

    /// What a forward pass comes to.
    pub(super) fn counted(&self, samples: &[Ready], features: Option<&Tensor>) -> Result<Counted> {
        let batch = self.spliced(samples, features)?;
        let mut counted = Counted::of(&batch);
        if counted.tokens > 0 {
            let loss = MicroLoss::new(self.vlm, &batch, self.checkpointing)?;
            self.weigh(&mut counted, &loss)?;
        }
        Ok(counted)
    }

    /// Forward and backward pass of some samples; of none of them when nothing is supervised.
    pub(super) fn backward(
        &self,
        samples: &[Ready],
        features: Option<&Tensor>,
        trained: &[Trained],
        gradients: &mut Gradients,
    ) -> Result<Counted> {
        let batch = self.spliced(samples, features)?;
        let mut counted = Counted::of(&batch);
        if counted.tokens == 0 {
            return Ok(counted);
        }
        let loss = MicroLoss::new(self.vlm, &batch, self.checkpointing)?;
        drop(batch);
        self.weigh(&mut counted, &loss)?;
        let weight = match self.loss {
            LossKind::Token => 1.0,
            LossKind::MicroBatch => 1.0 / loss.tokens as f64,
        };
        let params = || trained.iter().map(|trained| &*trained.param);
        loss.backward(self.vlm, weight, &mut |store| gradients.add(store, params()))?;
        Ok(counted)
    }

    /// Takes down what a micro-batch adds to the loss of its step.
    fn weigh(&self, counted: &mut Counted, loss: &MicroLoss) -> Result<()> {
        let (sum, tokens) = (f64::from(loss.sum.to_scalar::<f32>()?), loss.tokens as f64);
        (counted.loss, counted.weight) = match self.loss {
            LossKind::Token => (sum, tokens),
            LossKind::MicroBatch => (sum / tokens, 1.0),
        };
        Ok(())
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
        vlm::batch(self.vlm, &sequences, features, self.limit)
    }
}

impl Counted {
    /// Of a batch before its forward pass.
    fn of(batch: &Batch) -> Self {
        Counted {
            loss: 0.0,
            weight: 0.0,
            tokens: batch.targets.len(),
            positions: batch.positions(),
            cut: batch.cut,
            unsupervised: batch.unsupervised.clone(),
        }
    }
}

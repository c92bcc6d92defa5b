//! What a run will take, said before it starts: steps, tensors, memory that is held throughout, disk.

use super::trainer::Trainer;
use crate::error::Result;

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
    /// Weights, gradients and moments in bytes; activations come on top.
    pub state_bytes: u64,
    /// Bytes of all checkpoints that stay on disk.
    pub disk_bytes: u64,
    /// Positions of an average sample after splicing, from the first step's samples.
    pub positions: f64,
    /// Supervised positions of an average sample.
    pub tokens: f64,
}

impl Trainer {
    /// Counts without training; the samples of the first step are rendered.
    pub fn plan(&self) -> Result<Plan> {
        let total = self.vlm().params();
        let trained: usize = self.trained().iter().map(|trained| trained.param.count()).sum();
        let moments = self.optimizer.count();
        let size = self.vlm().target().dtype.size_in_bytes();
        let (samples, positions, tokens) = self.lengths_of_first_step()?;
        let saved = if self.saves_all() { total } else { trained };
        let checkpoint = (saved * size + moments * 4) as u64;
        Ok(Plan {
            name: self.options.name.clone(),
            samples: self.dataset().len(),
            steps: self.steps(),
            batch: self.options.batch,
            micro_batch: self.options.micro_batch.unwrap_or(self.options.batch),
            trained,
            frozen: total - trained,
            state_bytes: (total * size + trained * 4 + moments * 4) as u64,
            disk_bytes: checkpoint * self.options.keep as u64,
            positions: positions as f64 / samples as f64,
            tokens: tokens as f64 / samples as f64,
        })
    }
}

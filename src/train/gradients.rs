//! The gradients of one step, summed over its micro-batches.

use std::collections::HashMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use super::optimizer::Trained;
use crate::error::Result;
use crate::nn::ops;

/// Gradients by tensor name. `scale` is still to be put on them.
#[derive(Default)]
pub struct Gradients {
    sums: HashMap<String, Tensor>,
    /// What the sums have to be multiplied by to be gradients of the step's loss.
    pub scale: f64,
}

impl Gradients {
    /// Adds the gradients of one micro-batch.
    pub fn add(&mut self, store: &mut GradStore, trained: &[Trained]) -> Result<()> {
        for trained in trained {
            let Some(gradient) = store.remove(&trained.param.tensor()?) else { continue };
            match self.sums.get(&trained.name) {
                Some(sum) => ops::accumulate(sum, &gradient.to_dtype(sum.dtype())?)?,
                None => {
                    // Without further micro-batches the gradient itself will do.
                    let sum = if gradient.dtype() == DType::F32 { gradient } else { gradient.to_dtype(DType::F32)? };
                    self.sums.insert(trained.name.clone(), sum.contiguous()?.detach());
                }
            }
        }
        Ok(())
    }

    /// The unscaled sum of a tensor, if anything reached it.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.sums.get(name)
    }

    /// The gradient of the step's loss.
    pub fn scaled(&self, name: &str) -> Result<Option<Tensor>> {
        self.get(name).map(|sum| Ok((sum * self.scale)?)).transpose()
    }

    /// The norm over all tensors together, scaled.
    pub fn norm(&self, trained: &[Trained]) -> Result<f64> {
        let mut sum = 0.0;
        for trained in trained {
            if let Some(gradient) = self.get(&trained.name) {
                sum += ops::squared_norm(gradient)?;
            }
        }
        Ok(sum.sqrt() * self.scale)
    }
}

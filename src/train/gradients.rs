//! The gradients of one step, or of a leaf of it, summed over micro-batches.

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::nn::ops;
use crate::weights::Param;

/// Gradients in the order of the trained tensors; `None` where nothing reached one. `scale` is still to be put on them.
#[derive(Default)]
pub(super) struct Gradients {
    pub sums: Vec<Option<Tensor>>,
    /// What the sums have to be multiplied by to be gradients of the step's loss.
    pub scale: f64,
}

impl Gradients {
    /// Of so many tensors, none reached yet.
    pub(super) fn none(count: usize) -> Self {
        Gradients { sums: vec![None; count], scale: 0.0 }
    }

    /// Adds the gradients of one micro-batch.
    pub(super) fn add<'a>(&mut self, store: &mut GradStore, params: impl Iterator<Item = &'a Param>) -> Result<()> {
        for (sum, param) in self.sums.iter_mut().zip(params) {
            let Some(gradient) = store.remove(&param.tensor()?) else { continue };
            match &sum {
                Some(sum) => ops::accumulate(sum, &gradient.to_dtype(sum.dtype())?)?,
                None => {
                    // Without further micro-batches the gradient itself will do.
                    let wide = if gradient.dtype() == DType::F32 { gradient } else { gradient.to_dtype(DType::F32)? };
                    *sum = Some(wide.contiguous()?.detach());
                }
            }
        }
        Ok(())
    }

    /// The unscaled sum of a tensor, if anything reached it.
    pub(super) fn get(&self, place: usize) -> Option<&Tensor> {
        self.sums.get(place)?.as_ref()
    }

    /// The gradient of the step's loss.
    pub(super) fn scaled(&self, place: usize) -> Result<Option<Tensor>> {
        self.get(place).map(|sum| Ok((sum * self.scale)?)).transpose()
    }

    /// The norm over all tensors together, scaled.
    pub(super) fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for gradient in self.sums.iter().flatten() {
            sum += ops::squared_norm(gradient)?;
        }
        Ok(sum.sqrt() * self.scale)
    }
}

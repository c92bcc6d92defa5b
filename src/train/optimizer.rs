//! AdamW over the trained parameters, with a rate per part and moments in f32 that can be saved.
//! Source: torch 2.15 `AdamW` (decoupled weight decay; none on norms and biases, as transformers groups them).

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::gradients::Gradients;
use crate::error::Result;
use crate::nn::ops;
use crate::vlm::{Part, Vlm};
use crate::weights::{Param, TensorFiles};

/// One trained tensor and its moments.
pub struct Trained {
    pub name: String,
    pub part: Part,
    pub param: Arc<Param>,
    first: Tensor,
    second: Tensor,
    decays: bool,
}

/// The optimizer's state.
pub struct Optimizer {
    pub trained: Vec<Trained>,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
}

impl Optimizer {
    /// Zero moments for the parameters of every part that `is_trained`; with `adapters`, for those of the LLM instead of
    /// its weights.
    pub fn new(
        vlm: &Vlm,
        is_trained: impl Fn(Part) -> bool,
        adapters: bool,
        betas: [f64; 2],
        eps: f64,
        weight_decay: f64,
    ) -> Result<Self> {
        let mut trained = Vec::new();
        for (name, part, param) in vlm.named_params() {
            let chosen = part != Part::Llm || Vlm::is_adapter(&name) == adapters;
            if chosen && is_trained(part) && vlm.is_used(part, param.name()) {
                let tensor = param.tensor();
                let zeros = || Tensor::zeros(tensor.shape(), DType::F32, tensor.device());
                let decays = tensor.rank() > 1;
                trained.push(Trained { name, part, first: zeros()?, second: zeros()?, decays, param });
            }
        }
        Ok(Optimizer { trained, betas, eps, weight_decay })
    }

    /// Updates every parameter. `step` counts from 1; `rate` gives the rate of a part; `scale` goes on gradients.
    pub fn update(&self, gradients: &Gradients, step: u64, rate: impl Fn(Part) -> f64, scale: f64) -> Result<()> {
        for trained in &self.trained {
            // A part that this step did not reach (text-only samples) has gradient zero, and its moments decay.
            let gradient = match gradients.get(&trained.name) {
                Some(gradient) => gradient.clone(),
                None => trained.param.tensor().zeros_like()?.detach(),
            };
            let hyper = ops::AdamW {
                beta1: self.betas[0],
                beta2: self.betas[1],
                eps: self.eps,
                weight_decay: if trained.decays { self.weight_decay } else { 0.0 },
                learning_rate: rate(trained.part),
                step,
                gradient_scale: scale,
            };
            ops::adamw(&trained.param.tensor(), &gradient, &trained.first, &trained.second, &hyper)?;
        }
        Ok(())
    }

    /// Values in the moments of all trained parameters.
    pub fn count(&self) -> usize {
        self.trained.iter().map(|trained| 2 * trained.first.elem_count()).sum()
    }

    /// The moments by name, for a checkpoint.
    pub fn moments(&self) -> Vec<(String, Tensor)> {
        let both = |t: &Trained| {
            [(format!("first.{}", t.name), t.first.clone()), (format!("second.{}", t.name), t.second.clone())]
        };
        self.trained.iter().flat_map(both).collect()
    }

    /// Takes the moments of a checkpoint.
    pub fn restore(&mut self, files: &TensorFiles) -> Result<()> {
        for trained in &mut self.trained {
            let device = trained.first.device().clone();
            for (moment, tensor) in [("first", &mut trained.first), ("second", &mut trained.second)] {
                let loaded = files.load(&format!("{moment}.{}", trained.name), &device)?;
                if loaded.shape() != tensor.shape() || loaded.dtype() != DType::F32 {
                    crate::bail!(
                        Shape,
                        "moment `{moment}.{}` of {} is {:?} {:?}, the model needs f32 {:?}",
                        trained.name,
                        files.name(),
                        loaded.dtype(),
                        loaded.dims(),
                        tensor.dims()
                    );
                }
                *tensor = loaded;
            }
        }
        Ok(())
    }
}

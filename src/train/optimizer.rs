//! AdamW over the trained parameters, with a rate per part and a state that can be saved.
//! Source: torch 2.15 `AdamW` (decoupled weight decay; none on norms and biases, as transformers groups them).

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::moments::{Master, MomentKind, Moments, full};
use super::options::TrainOptions;
use crate::error::Result;
use crate::nn::ops;
use crate::vlm::{Part, Vlm};
use crate::weights::{Param, TensorFiles};

/// One trained tensor and what the optimizer knows of it.
pub struct Trained {
    pub name: String,
    pub part: Part,
    pub param: Arc<Param>,
    decays: bool,
    /// Made at the first update.
    moments: Option<Moments>,
    /// Made at the first update, where the parameter is narrower than f32.
    master: Option<Master>,
}

/// The optimizer's state.
pub struct Optimizer {
    pub trained: Vec<Trained>,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    kind: MomentKind,
    masters: bool,
}

impl Optimizer {
    /// An optimizer at step 0 for the parameters of every part with a rate; with `adapters`, for those of the LLM instead
    /// of its weights.
    pub fn new(vlm: &Vlm, options: &TrainOptions, adapters: bool) -> Self {
        let mut trained = Vec::new();
        for (name, part, param) in vlm.named_params() {
            let chosen = part != Part::Llm || Vlm::is_adapter(&name) == adapters;
            if chosen && options.rate(part) > 0.0 && vlm.is_used(part, param.name()) {
                let decays = param.dims().len() > 1;
                trained.push(Trained { name, part, param, decays, moments: None, master: None });
            }
        }
        let TrainOptions { betas, eps, weight_decay, moments: kind, masters, .. } = *options;
        Optimizer { trained, betas, eps, weight_decay, kind, masters }
    }

    /// Updates every parameter. `gradient` gives the one of a trained tensor by its place; `step` counts from 1; `rate` gives
    /// the rate of a part; `scale` goes on gradients.
    pub fn update<'a>(
        &mut self,
        gradient: impl Fn(usize) -> Option<&'a Tensor>,
        step: u64,
        rate: impl Fn(Part) -> f64,
        scale: f64,
    ) -> Result<()> {
        for (place, trained) in self.trained.iter_mut().enumerate() {
            let values = trained.param.tensor()?;
            trained.param.touch();
            // A part that this step did not reach (text-only samples) has gradient zero, and its moments decay.
            let gradient = match gradient(place) {
                Some(gradient) => gradient.clone(),
                None => values.zeros_like()?.detach(),
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
            let moments = match &mut trained.moments {
                Some(moments) => moments,
                none => none.insert(Moments::zeros(self.kind, &values)?),
            };
            if !self.masters || values.dtype() == DType::F32 {
                moments.update(&values, &gradient, &hyper)?;
                continue;
            }
            let master = match &mut trained.master {
                Some(master) => master,
                none => none.insert(Master::of(&trained.param)?),
            };
            moments.update(&master.0, &gradient, &hyper)?;
            master.publish(&trained.param)?;
        }
        Ok(())
    }

    /// Bytes of the moments of all trained parameters, made yet or not.
    pub fn moment_bytes(&self, kind: MomentKind) -> u64 {
        self.trained.iter().map(|trained| kind.bytes(trained.param.count()) as u64).sum()
    }

    /// Bytes of the masters, made yet or not.
    pub fn master_bytes(&self) -> u64 {
        let narrow = |trained: &&Trained| self.masters && trained.param.dtype() != DType::F32;
        self.trained.iter().filter(narrow).map(|trained| 4 * trained.param.count() as u64).sum()
    }

    /// Whether moments and masters exist already.
    pub fn is_allocated(&self) -> bool {
        self.trained.iter().all(|trained| trained.moments.is_some())
    }

    /// The moments by name, for a checkpoint.
    pub fn moments(&self) -> Result<Vec<(String, Tensor)>> {
        let mut tensors = Vec::new();
        for trained in &self.trained {
            if let Some(moments) = &trained.moments {
                tensors.extend(moments.tensors(&trained.name)?);
            }
        }
        Ok(tensors)
    }

    /// The f32 masters by tensor name, for a checkpoint; none where everything trained is f32.
    pub fn masters(&self) -> Vec<(String, Tensor)> {
        let master = |t: &Trained| t.master.as_ref().map(|master| (t.name.clone(), master.0.clone()));
        self.trained.iter().filter_map(master).collect()
    }

    /// Takes the moments of a checkpoint, and its masters where there are any.
    pub fn restore(&mut self, moments: &TensorFiles, masters: Option<&TensorFiles>) -> Result<()> {
        for trained in &mut self.trained {
            let values = trained.param.tensor()?.detach();
            trained.moments = Some(Moments::load(self.kind, moments, &trained.name, &values)?);
            trained.master = match masters {
                Some(files) if values.dtype() != DType::F32 => Some(Master(full(files, &trained.name, &values)?)),
                _ => None,
            };
        }
        Ok(())
    }
}

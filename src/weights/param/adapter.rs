//! A low-rank adapter (LoRA): what training adds to a weight that itself stays as it is. It hangs on the frozen
//! parameter, so that whoever computes with that parameter finds it. Values are f32, whatever the weight has.

use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Result, Tensor};

use super::Param;
use crate::rng::Rng;

/// `scale up down` beside a weight (out, in).
pub struct Adapter {
    /// PEFT's `lora_A`, (r, in).
    pub down: Arc<Param>,
    /// PEFT's `lora_B`, (out, r).
    pub up: Arc<Param>,
    /// alpha / r
    pub scale: f64,
    /// Its place among the adapters of the model, which tells its dropout from theirs.
    pub number: u64,
    pub dropout: Arc<Dropout>,
}

impl Adapter {
    /// What it adds to the weight, (out, in) in f32.
    pub fn delta(&self) -> Result<Tensor> {
        self.up.tensor()?.detach().matmul(&self.down.tensor()?.detach())? * self.scale
    }

    /// The rate at which the adapter's inputs are dropped and the numbers that decide, while a training pass runs.
    pub fn dropping(&self) -> Option<(f64, Rng)> {
        let now = *self.dropout.now.read().unwrap_or_else(PoisonError::into_inner);
        now.map(|(rate, rng)| (rate, rng.split(self.number)))
    }
}

/// The dropout of a model's adapters: off but for training passes.
#[derive(Default)]
pub struct Dropout {
    now: RwLock<Option<(f64, Rng)>>,
}

impl Dropout {
    /// Drops until the guard goes. A pass that is computed again under the same numbers drops the same.
    pub fn on(self: &Arc<Self>, rate: f64, rng: Rng) -> Dropping {
        self.set((rate > 0.0).then_some((rate, rng)));
        Dropping(self.clone())
    }

    fn set(&self, now: Option<(f64, Rng)>) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

/// While this lives, inputs are dropped.
pub struct Dropping(Arc<Dropout>);

impl Drop for Dropping {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

impl Param {
    /// The values with the adapter's, if it has one, added: what a checkpoint without adapters holds.
    pub fn merged(&self) -> Result<Tensor> {
        let tensor = self.tensor()?.detach();
        match self.adapter() {
            None => Ok(tensor),
            Some(adapter) => (tensor.to_dtype(DType::F32)? + adapter.delta()?)?.to_dtype(tensor.dtype()),
        }
    }
}

//! Normalisation layers over the fused ops: which one a model has is a value in its spec.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use serde::Serialize;

use super::ops;
use crate::weights::{Builder, Init, Param};

/// The RMSNorm variants of decoder models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Norm {
    /// `x / rms(x) * w` (Llama).
    Rms,
    /// `x / rms(x) * (1 + w)` (Gemma).
    RmsPlusOne,
}

/// An RMSNorm with its weight.
pub struct RmsNorm {
    weight: Arc<Param>,
    eps: f64,
    offset: f64,
}

impl RmsNorm {
    /// `width` values under `weight`.
    pub fn new(builder: &Builder, width: usize, eps: f64, norm: Norm) -> crate::error::Result<Self> {
        let (offset, init) = match norm {
            Norm::Rms => (0.0, Init::Ones),
            Norm::RmsPlusOne => (1.0, Init::Zeros),
        };
        Ok(RmsNorm { weight: builder.param("weight", &[width], init)?, eps, offset })
    }

    /// (.., width) -> (.., width)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weight.tensor()?, self.eps, self.offset)
    }
}

/// A LayerNorm with weight and bias.
pub struct LayerNorm {
    weight: Arc<Param>,
    bias: Arc<Param>,
    eps: f64,
}

impl LayerNorm {
    /// `width` values under `weight` and `bias`.
    pub fn new(builder: &Builder, width: usize, eps: f64) -> crate::error::Result<Self> {
        let weight = builder.param("weight", &[width], Init::Ones)?;
        Ok(LayerNorm { weight, bias: builder.param("bias", &[width], Init::Zeros)?, eps })
    }

    /// (.., width) -> (.., width)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight.tensor()?, &self.bias.tensor()?, self.eps)
    }
}

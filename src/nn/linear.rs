//! A linear layer over the fused op.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::ops;
use crate::weights::{Builder, Init, Param};

/// `x W^T + b`.
pub struct Linear {
    weight: Arc<Param>,
    bias: Option<Arc<Param>>,
}

impl Linear {
    /// `weight` (output, input) and, with `bias`, `bias` (output,).
    pub fn new(builder: &Builder, input: usize, output: usize, bias: bool, init: Init) -> crate::error::Result<Self> {
        let weight = builder.param("weight", &[output, input], init)?;
        let bias = if bias { Some(builder.param("bias", &[output], bias_init(init))?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// (.., input) -> (.., output)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|bias| bias.tensor());
        ops::linear(x, &self.weight.tensor(), bias.as_ref())
    }
}

/// torch's `Linear` draws the bias from the weight's range; transformers' normal start has zero biases.
fn bias_init(weight: Init) -> Init {
    match weight {
        Init::Uniform(bound) => Init::Uniform(bound),
        _ => Init::Zeros,
    }
}

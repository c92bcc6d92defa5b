//! A linear layer over the fused op.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::ops::{self, Beside};
use crate::weights::{Builder, Init, Param, Weight};

/// `x W^T + b`; W may be quantized.
pub struct Linear {
    weight: Arc<Param>,
    bias: Option<Arc<Param>>,
}

impl Linear {
    /// `weight` (output, input) and, with `bias`, `bias` (output,).
    pub fn new(builder: &Builder, input: usize, output: usize, bias: bool, init: Init) -> crate::error::Result<Self> {
        let weight = builder.weight("weight", [output, input], init)?;
        let bias = if bias { Some(builder.param("bias", &[output], bias_init(init))?) } else { None };
        Ok(Linear { weight, bias })
    }

    /// (.., input) -> (.., output)
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(|bias| bias.tensor()).transpose()?;
        let Some(adapter) = self.weight.adapter() else { return project(x, &self.weight, bias.as_ref()) };
        let beside = Beside { scale: adapter.scale, dropping: adapter.dropping() };
        let base = (self.weight.weight(), bias);
        ops::adapted_linear(x, base, &adapter.down.tensor()?, &adapter.up.tensor()?, beside)
    }
}

/// `x W^T + b` with a weight in whatever form it has.
pub(super) fn project(x: &Tensor, weight: &Param, bias: Option<&Tensor>) -> Result<Tensor> {
    match weight.weight() {
        Weight::Plain(weight) => ops::linear(x, &weight, bias),
        Weight::Quantized(weight) => ops::quantized_linear(x, &weight, bias),
    }
}

/// torch's `Linear` draws the bias from the weight's range; transformers' normal start has zero biases.
fn bias_init(weight: Init) -> Init {
    match weight {
        Init::Uniform(bound) => Init::Uniform(bound),
        _ => Init::Zeros,
    }
}

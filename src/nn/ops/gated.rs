//! The gate of SwiGLU and GeGLU feed-forward layers: `act(gate) * up`.

use candle_core::{Result, Tensor, bail};
use serde::Serialize;

use super::common::in_f32;
use super::dispatch::{Op, apply};

/// The activation of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Gate {
    /// `x * sigmoid(x)`: SwiGLU (Llama, Qwen, Phi).
    Silu,
    /// The tanh form of GELU: GeGLU (Gemma).
    GeluTanh,
}

/// `act(gate) * up`, elementwise; errors if the shapes or dtypes differ.
pub fn gated(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("gated: gate {:?} and up {:?} have different shapes", gate.shape(), up.shape());
    }
    apply(Gated { kind }, [gate, up], || gated_reference(gate, up, kind))
}

/// [`gated`] composed of candle's primitives.
pub fn gated_reference(gate: &Tensor, up: &Tensor, kind: Gate) -> Result<Tensor> {
    in_f32(gate, |gate| {
        let up = up.to_dtype(gate.dtype())?;
        match kind {
            Gate::Silu => gate.silu()? * up,
            Gate::GeluTanh => super::gelu_reference(gate, super::Gelu::Tanh)? * up,
        }
    })
}

/// With g the gradient: dgate = g up act'(gate), dup = g act(gate).
pub(super) struct Gated {
    pub kind: Gate,
}

impl Op<2> for Gated {
    const NAME: &'static str = "gated";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn gated_agrees_with_its_reference() {
        for kind in [Gate::Silu, Gate::GeluTanh] {
            for shape in [[3, 7], [150, 301]] {
                Check::new("gated", &[&shape, &shape])
                    .scaled(4.0)
                    .run(|t| gated(&t[0], &t[1], kind), |t| gated_reference(&t[0], &t[1], kind));
            }
        }
    }

    #[test]
    fn different_shapes_are_named() -> Result<()> {
        let gate = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = gated(&gate, &gate.t()?, Gate::Silu).unwrap_err().to_string();
        assert!(message.contains("gated: gate [2, 3] and up [3, 2] have different shapes"), "{message}");
        let message = gated(&gate, &gate.to_dtype(DType::BF16)?, Gate::Silu).unwrap_err().to_string();
        assert!(message.contains("gated: inputs have different dtypes, F32 and BF16"), "{message}");
        Ok(())
    }
}

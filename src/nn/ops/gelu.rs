//! The Gaussian error linear unit in the three forms that checkpoints use.

use candle_core::{Result, Tensor};
use serde::Serialize;

use super::common::in_f32;
use super::dispatch::{Op, apply};

/// The form of the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Gelu {
    /// `x (1 + erf(x / sqrt 2)) / 2`: torch's `gelu`.
    Erf,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: `gelu_pytorch_tanh`.
    Tanh,
    /// `x sigmoid(1.702 x)`: OpenAI's CLIP.
    Quick,
}

/// The activation of every element.
pub fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    apply(Activation { kind }, [x], || gelu_reference(x, kind))
}

/// [`gelu`] composed of candle's primitives.
pub fn gelu_reference(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    in_f32(x, |x| match kind {
        Gelu::Erf => ((x / std::f64::consts::SQRT_2)?.erf()? + 1.0)? * (x / 2.0)?,
        Gelu::Tanh => {
            let inner = ((x + (x.powf(3.0)? * f64::from(CUBIC))?)? * f64::from(SQRT_2_OVER_PI))?;
            (inner.tanh()? + 1.0)? * (x / 2.0)?
        }
        Gelu::Quick => (((x * -QUICK)?.exp()? + 1.0)?.recip())? * x,
    })
}

pub(super) const QUICK: f64 = 1.702;
pub(super) const CUBIC: f32 = 0.044_715;
pub(super) const SQRT_2_OVER_PI: f32 = 0.797_884_6;

/// dx is the gradient times the slope at x.
pub(super) struct Activation {
    pub kind: Gelu,
}

impl Op<1> for Activation {
    const NAME: &'static str = "gelu";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;

    #[test]
    fn gelu_agrees_with_its_reference() {
        for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
            for shape in [[3, 7], [150, 301]] {
                Check::new("gelu", &[&shape]).scaled(4.0).run(|t| gelu(&t[0], kind), |t| gelu_reference(&t[0], kind));
            }
        }
    }

    /// torch 2.x: `gelu(1.0)` in both forms, and `1 / (1 + exp(-1.702))`.
    #[test]
    fn values_at_one() -> Result<()> {
        for (kind, expected) in [(Gelu::Erf, 0.841_344_7), (Gelu::Tanh, 0.841_192), (Gelu::Quick, 0.845_796_1)] {
            let value = gelu(&Tensor::new(&[1f32], &candle_core::Device::Cpu)?, kind)?.to_vec1::<f32>()?[0];
            assert!((value - expected).abs() < 1e-6, "{kind:?}: {value}");
        }
        Ok(())
    }
}

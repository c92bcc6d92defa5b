//! The Gaussian error linear unit in the three forms that checkpoints use.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use serde::Serialize;

use super::cpu::kernel::kernel;
use super::cpu::math::{erf, exp, fma, sigmoid, tanh};
use super::cpu::memory::{floats, fused, in_f32, storage, tensor, with_floats};
use super::cpu::rows::map_rows;

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
    if !fused("gelu", &[x])? {
        return gelu_reference(x, kind);
    }
    x.contiguous()?.apply_op1(Activation { kind })
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

const QUICK: f64 = 1.702;
const CUBIC: f32 = 0.044_715;
const SQRT_2_OVER_PI: f32 = 0.797_884_6;
const ONE_OVER_SQRT_2PI: f32 = 0.398_942_3;

struct Activation {
    kind: Gelu,
}

/// GELU's tanh form.
#[inline(always)]
pub(super) fn tanh_value<const FMA: bool>(x: f32) -> f32 {
    let inner = SQRT_2_OVER_PI * fma::<FMA>(CUBIC * x * x, x, x);
    0.5 * x * (1.0 + tanh::<FMA>(inner))
}

/// The derivative of GELU's tanh form.
#[inline(always)]
pub(super) fn tanh_slope<const FMA: bool>(x: f32) -> f32 {
    let inner = SQRT_2_OVER_PI * fma::<FMA>(CUBIC * x * x, x, x);
    let t = tanh::<FMA>(inner);
    let inner_slope = SQRT_2_OVER_PI * fma::<FMA>(3.0 * CUBIC * x, x, 1.0);
    0.5 * fma::<FMA>(x * (1.0 - t * t), inner_slope, 1.0 + t)
}

kernel! {
    fn activate<const FMA: bool>(out: &mut [f32], x: &[f32], kind: Gelu) {
        match kind {
            Gelu::Erf => map(out, x, |x| 0.5 * x * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2))),
            Gelu::Tanh => map(out, x, tanh_value::<FMA>),
            Gelu::Quick => map(out, x, |x| x * sigmoid::<FMA>(QUICK as f32 * x)),
        }
    }
}

kernel! {
    /// Multiplies `out`, the gradient of the result, by the slope at `x`.
    fn multiply_by_slope<const FMA: bool>(out: &mut [f32], x: &[f32], gradient: &[f32], kind: Gelu) {
        match kind {
            Gelu::Erf => multiply(out, x, gradient, |x| {
                let cumulative = 0.5 * (1.0 + erf::<FMA>(x * std::f32::consts::FRAC_1_SQRT_2));
                fma::<FMA>(x * ONE_OVER_SQRT_2PI, exp::<FMA>(-0.5 * x * x), cumulative)
            }),
            Gelu::Tanh => multiply(out, x, gradient, tanh_slope::<FMA>),
            Gelu::Quick => multiply(out, x, gradient, |x| {
                let s = sigmoid::<FMA>(QUICK as f32 * x);
                s * fma::<FMA>(QUICK as f32 * x, 1.0 - s, 1.0)
            }),
        }
    }
}

#[inline(always)]
fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f(*x);
    }
}

#[inline(always)]
fn multiply(out: &mut [f32], x: &[f32], gradient: &[f32], slope: impl Fn(f32) -> f32) {
    for ((out, x), gradient) in out.iter_mut().zip(x).zip(gradient) {
        *out = gradient * slope(*x);
    }
}

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dtype = x.dtype();
        let x = floats(x, layout)?;
        let values = map_rows(x.len(), 1, 1, |block, out| activate(out, &x[block], self.kind));
        Ok((storage(values, dtype)?, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let values = with_floats(x, |xs| {
            with_floats(gradient, |gradients| {
                Ok(map_rows(xs.len(), 1, 1, |block, out| {
                    multiply_by_slope(out, &xs[block.clone()], &gradients[block], self.kind);
                }))
            })
        })?;
        Ok(Some(tensor(values, x.shape(), x.dtype())?))
    }
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

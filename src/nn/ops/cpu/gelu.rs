//! GELU on the CPU, and the value and slope of its tanh form for gates.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::gelu::{Activation, CUBIC, Gelu, QUICK, SQRT_2_OVER_PI};
use super::kernel::kernel;
use super::math::{erf, exp, fma, sigmoid, tanh};
use super::memory::{Cpu, floats, storage};
use super::rows::map_rows;

const ONE_OVER_SQRT_2PI: f32 = 0.398_942_3;

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

impl Kernels<CpuStorage, 1> for Activation {
    fn forward(&self, [x]: [Cpu; 1]) -> Result<CpuStorage> {
        let dtype = x.dtype();
        let x = floats(x)?;
        let values = map_rows(x.len(), 1, 1, |block, out| activate(out, &x[block], self.kind));
        storage(values, dtype)
    }

    fn backward(&self, [x]: [Cpu; 1], outcome: Outcome<CpuStorage>, _: [bool; 1]) -> Result<[Option<CpuStorage>; 1]> {
        let (xs, gradients) = (floats(x)?, floats(outcome.gradient)?);
        let values = map_rows(xs.len(), 1, 1, |block, out| {
            multiply_by_slope(out, &xs[block.clone()], &gradients[block], self.kind);
        });
        Ok([Some(storage(values, x.dtype())?)])
    }
}

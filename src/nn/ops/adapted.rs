//! The linear layer over a frozen weight with a low-rank adapter beside it (LoRA). One op, so that the graph holds its
//! inputs and its result and nothing between: what was dropped and what the first matrix made of it are computed again in
//! the backward.

use candle_core::{DType, Result, Shape, Tensor, bail};

use super::common::{width, with_last};
use super::dispatch::{Op, apply, same_floats};
use super::{dropout, linear, quantized};
use crate::rng::Rng;
use crate::weights::Weight;

/// How an adapter's input and output are changed.
#[derive(Clone, Copy, Debug)]
pub struct Beside {
    /// The factor of what is added.
    pub scale: f64,
    /// The rate at which its inputs are dropped and the numbers that decide.
    pub dropping: Option<(f64, Rng)>,
}

/// `x weight^T + bias + scale drop(x) down^T up^T`: x `(.., in)`, the frozen weight `(out, in)` and bias `(out)`, down `(r, in)`
/// and up `(out, r)` in f32, result `(.., out)`.
///
/// Errors if shapes or dtypes do not agree, or weight or bias is tracked. Gradients go to the tracked ones of the rest.
pub fn adapted_linear(
    x: &Tensor,
    base: (Weight, Option<Tensor>),
    down: &Tensor,
    up: &Tensor,
    beside: Beside,
) -> Result<Tensor> {
    let inputs = width("adapted_linear", x)?;
    let (expected, tracked) = match &base.0 {
        Weight::Plain(weight) => (weight.dims2()?, weight.track_op()),
        Weight::Quantized(weight) => (weight.dims().into(), false),
    };
    let ((rank, down_inputs), (out, up_rank)) = (down.dims2()?, up.dims2()?);
    if expected != (out, inputs) || down_inputs != inputs || up_rank != rank {
        bail!(
            "adapted_linear: x {:?}, weight {expected:?} (out, in), down {:?} (r, in), up {:?} (out, r) do not fit",
            x.shape(),
            down.shape(),
            up.shape()
        );
    }
    if tracked || base.1.as_ref().is_some_and(Tensor::track_op) {
        bail!("adapted_linear: the weight beside an adapter has to be frozen");
    }
    let op = AdaptedLinear { weight: base.0.clone(), bias: base.1.clone(), beside };
    apply(op, [x, down, up], || adapted_linear_reference(x, base, down, up, beside))
}

/// [`adapted_linear`] composed of other ops.
pub fn adapted_linear_reference(
    x: &Tensor,
    (weight, bias): (Weight, Option<Tensor>),
    down: &Tensor,
    up: &Tensor,
    Beside { scale, dropping }: Beside,
) -> Result<Tensor> {
    let y = match weight {
        Weight::Plain(weight) => linear::linear(x, &weight, bias.as_ref())?,
        Weight::Quantized(weight) => quantized::quantized_linear(x, &weight, bias.as_ref())?,
    };
    let mut x = x.to_dtype(down.dtype())?;
    if let Some((rate, rng)) = dropping {
        x = dropout::dropout(&x, rate, rng)?;
    }
    let added = linear::linear(&(linear::linear(&x, down, None)? * scale)?, up, None)?; // (.., out)
    (y.to_dtype(added.dtype())? + added)?.to_dtype(y.dtype())
}

/// With g the gradient, d = drop(x) and l = scale g up: dx = g weight + drop(l down), ddown = l^T d,
/// dup = g^T (scale d down^T).
pub(super) struct AdaptedLinear {
    pub weight: Weight,
    pub bias: Option<Tensor>,
    pub beside: Beside,
}

impl Op<3> for AdaptedLinear {
    const NAME: &'static str = "adapted_linear";

    fn shape(&self, [x, _, up]: [&Shape; 3]) -> Result<Shape> {
        with_last(x, up.dims2()?.0)
    }

    fn takes(&self, [x, down, up]: [&Tensor; 3]) -> Result<bool> {
        let matrices = same_floats(<Self as Op<3>>::NAME, &[down, up])? && down.dtype() == DType::F32;
        Ok(matrices && same_floats(<Self as Op<3>>::NAME, &[x])?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::quantized::GgmlDType;
    use candle_core::{Device, Var};

    use super::super::testing::values;
    use super::*;
    use crate::weights::Quantized;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let values = values(shape.iter().product(), seed);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
    }

    /// Result and gradients of x, down and up under a fixed weighting.
    fn outcome(base: (Weight, Option<Tensor>), beside: Beside, fused: bool) -> Vec<Tensor> {
        let inputs = [random(&[3, 11, 64], 1), random(&[4, 64], 2), random(&[96, 4], 3)];
        let [x, down, up] = inputs.map(|input| Var::from_tensor(&input).unwrap().into_inner());
        let op = if fused { adapted_linear } else { adapted_linear_reference };
        let result = op(&x, base, &down, &up, beside).unwrap();
        let store = (&result * random(&[3, 11, 96], 4)).unwrap().sum_all().unwrap().backward().unwrap();
        [&x, &down, &up].map(|input| store.get(input).unwrap().clone()).into_iter().chain([result.detach()]).collect()
    }

    #[test]
    fn adapted_linear_agrees_with_its_reference() {
        let (weight, bias) = (random(&[96, 64], 5), random(&[96], 6));
        let blocks = Arc::new(Quantized::new(&weight, GgmlDType::Q8_0).unwrap());
        let base = |kind: usize| match kind {
            0 => (Weight::Plain(weight.clone()), None),
            1 => (Weight::Plain(weight.clone()), Some(bias.clone())),
            _ => (Weight::Quantized(blocks.clone()), Some(bias.clone())),
        };
        for kind in 0..3 {
            for dropping in [None, Some((0.3, Rng::new(1, "adapted")))] {
                let beside = Beside { scale: 1.75, dropping };
                let (ours, reference) = (outcome(base(kind), beside, true), outcome(base(kind), beside, false));
                for (place, (ours, reference)) in ours.iter().zip(&reference).enumerate() {
                    let difference = (ours - reference).unwrap().abs().unwrap().max_all().unwrap();
                    let (difference, size) = (difference.to_scalar::<f32>().unwrap(), reference.abs().unwrap());
                    let size = size.max_all().unwrap().to_scalar::<f32>().unwrap();
                    assert!(difference <= 2e-6 * size.max(1.0), "base {kind}, tensor {place}: {difference} of {size}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (weight, x) = (random(&[6, 8], 1), random(&[2, 8], 2));
        let beside = Beside { scale: 1.0, dropping: None };
        let call = |weight: Tensor, down: &[usize]| {
            let base = (Weight::Plain(weight), None);
            adapted_linear(&x, base, &random(down, 3), &random(&[6, 2], 4), beside).unwrap_err().to_string()
        };
        assert!(call(weight.clone(), &[2, 7]).contains("down [2, 7] (r, in)"));
        let trained = Var::from_tensor(&weight).unwrap().into_inner();
        assert!(call(trained, &[2, 8]).contains("has to be frozen"));
    }
}

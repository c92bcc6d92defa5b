//! The linear layer over a frozen weight with a low-rank adapter beside it (LoRA). One op, so that the graph holds its
//! inputs and its result and nothing between: what was dropped and what the first matrix made of it are computed again in
//! the backward.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor, bail};

use super::cpu::matrix::{FEW_ROWS, Product, View, project, weight_gradient};
use super::cpu::memory::{Source, floats, fused, storage, tensor, width, with_floats};
use super::cpu::rows::uninitialized;
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
    let matrices = fused("adapted_linear", &[down, up])? && down.dtype() == DType::F32;
    if !matrices || !fused("adapted_linear", &[x])? {
        return adapted_linear_reference(x, base, down, up, beside);
    }
    let (weight, bias) = base;
    x.contiguous()?.apply_op3(&down.contiguous()?, &up.contiguous()?, AdaptedLinear { weight, bias, beside })
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

struct AdaptedLinear {
    weight: Weight,
    bias: Option<Tensor>,
    beside: Beside,
}

impl AdaptedLinear {
    /// x as the adapter sees it.
    fn dropped<'a>(&self, x: &'a [f32]) -> std::borrow::Cow<'a, [f32]> {
        match self.beside.dropping {
            Some((rate, rng)) => dropout::dropped(x, rate, rng).into(),
            None => x.into(),
        }
    }

    /// `scale x down^T` of dropped inputs, (rows, r).
    fn low(&self, dropped: &[f32], down: &[f32], rank: usize) -> Vec<f32> {
        let mut low = project(dropped, Source::F32(down), (rank, down.len() / rank), None);
        low.iter_mut().for_each(|value| *value *= self.beside.scale as f32);
        low
    }

    /// The layer without its adapter, (rows, out).
    fn base(&self, x: &[f32]) -> Result<Vec<f32>> {
        let bias = self.bias.as_ref().map(|bias| with_floats(bias, |bias| Ok(bias.to_vec()))).transpose()?;
        match &self.weight {
            Weight::Plain(weight) => {
                let weight = weight.contiguous()?;
                let (stored, layout) = weight.storage_and_layout();
                let Storage::Cpu(stored) = &*stored else { bail!("adapted_linear: the weight is not on the CPU") };
                Ok(project(x, Source::new(stored, layout)?, weight.dims2()?, bias.as_deref()))
            }
            Weight::Quantized(weight) => {
                let mut values = quantized::product(weight, x)?;
                if let Some(bias) = bias {
                    for row in values.chunks_exact_mut(bias.len()) {
                        row.iter_mut().zip(&bias).for_each(|(value, bias)| *value += bias);
                    }
                }
                Ok(values)
            }
        }
    }
}

impl CustomOp3 for AdaptedLinear {
    fn name(&self) -> &'static str {
        "adapted_linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        down: &CpuStorage,
        down_layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, rank) = up_layout.shape().dims2()?;
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = out;
        }
        let dtype = x.dtype();
        let (x, down, up) = (floats(x, x_layout)?, floats(down, down_layout)?, floats(up, up_layout)?);
        let mut values = self.base(&x)?;
        let low = self.low(&self.dropped(&x), &down, rank);
        let rows = low.len() / rank;
        if rows <= FEW_ROWS {
            // `gemm` adds up one row in another order than several.
            let delta = project(&low, Source::F32(&up), (out, rank), None);
            values.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
        } else {
            let product = Product { add: true, ..Product::new(rows, rank, out) };
            product.write(&mut values, out, View::rows(&low, rank), View::rows(&up, rank).t());
        }
        Ok((storage(values, dtype)?, dims.into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        down: &Tensor,
        up: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let ((rank, inputs), (out, _)) = (down.dims2()?, up.dims2()?);
        let gradients = |x_values: &[f32], down_values: &[f32], up_values: &[f32], gradient: &[f32]| {
            let rows = gradient.len() / out;
            let dropped = self.dropped(x_values);
            let mut low_gradient = uninitialized(rows * rank);
            let product = Product { scale: self.beside.scale as f32, ..Product::new(rows, out, rank) };
            product.write(&mut low_gradient, rank, View::rows(gradient, out), View::rows(up_values, rank));
            let x_gradient = if x.track_op() {
                let mut values = uninitialized(rows * inputs);
                let product = Product::new(rows, rank, inputs);
                product.write(&mut values, inputs, View::rows(&low_gradient, rank), View::rows(down_values, inputs));
                let values = self.dropped(&values);
                let mut sum = match &self.weight {
                    Weight::Plain(weight) => linear::x_gradient(weight, gradient)?,
                    Weight::Quantized(weight) => quantized::x_gradient(weight, gradient)?,
                };
                sum.iter_mut().zip(values.iter()).for_each(|(sum, value)| *sum += value);
                Some(tensor(sum, x.shape(), x.dtype())?)
            } else {
                None
            };
            let down_gradient = if down.track_op() {
                let mut values = uninitialized(rank * inputs);
                weight_gradient(&mut values, &low_gradient, &dropped, rows, false);
                Some(tensor(values, down.shape(), DType::F32)?)
            } else {
                None
            };
            let up_gradient = if up.track_op() {
                let mut values = uninitialized(out * rank);
                weight_gradient(&mut values, gradient, &self.low(&dropped, down_values, rank), rows, false);
                Some(tensor(values, up.shape(), DType::F32)?)
            } else {
                None
            };
            Ok((x_gradient, down_gradient, up_gradient))
        };
        with_floats(x, |x| {
            with_floats(down, |down| {
                with_floats(up, |up| with_floats(gradient, |gradient| gradients(x, down, up, gradient)))
            })
        })
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

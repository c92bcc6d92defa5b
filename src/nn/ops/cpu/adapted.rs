//! The linear layer with a low-rank adapter beside it on the CPU.

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Result, Tensor};

use super::super::adapted::AdaptedLinear;
use super::super::dispatch::{Kernels, Outcome};
use super::dropout;
use super::matrix::{FEW_ROWS, Product, View, project, weight_gradient};
use super::memory::{Cpu, FloatSource, floats, storage, with_operand};
use super::{linear, quantized};
use crate::weights::Weight;

impl AdaptedLinear {
    /// x as the adapter sees it.
    fn dropped<'a>(&self, x: &'a [f32]) -> Cow<'a, [f32]> {
        match self.beside.dropping {
            Some((rate, rng)) => dropout::dropped(x, rate, rng).into(),
            None => x.into(),
        }
    }

    /// `scale x down^T` of dropped inputs, (rows, r).
    fn low(&self, dropped: &[f32], down: &[f32], rank: usize) -> Result<Vec<f32>> {
        let mut low = project(dropped, FloatSource::F32(down), (rank, down.len() / rank), None)?;
        low.iter_mut().for_each(|value| *value *= self.beside.scale as f32);
        Ok(low)
    }

    /// The layer without its adapter, (rows, out).
    fn base(&self, x: &[f32]) -> Result<Vec<f32>> {
        let values = |bias: &Tensor| with_operand(bias, |bias| Ok(floats(bias)?.into_owned()));
        let bias = self.bias.as_ref().map(values).transpose()?;
        match &self.weight {
            Weight::Plain(weight) => {
                with_operand(weight, |weight| project(x, FloatSource::new(weight)?, weight.dims2()?, bias.as_deref()))
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

    /// The gradient of x through the layer without its adapter, (rows, in).
    fn base_gradient(&self, gradient: &[f32]) -> Result<Vec<f32>> {
        match &self.weight {
            Weight::Plain(weight) => {
                with_operand(weight, |weight| Ok(linear::x_gradient(&floats(weight)?, weight.dims2()?, gradient)))
            }
            Weight::Quantized(weight) => quantized::x_gradient(weight, gradient),
        }
    }
}

impl Kernels<CpuStorage, 3> for AdaptedLinear {
    fn forward(&self, [x, down, up]: [Cpu; 3]) -> Result<CpuStorage> {
        let (out, rank) = up.dims2()?;
        let dtype = x.dtype();
        let (x, down, up) = (floats(x)?, floats(down)?, floats(up)?);
        let mut values = self.base(&x)?;
        let low = self.low(&self.dropped(&x), &down, rank)?;
        let rows = low.len() / rank;
        if rows <= FEW_ROWS {
            // `gemm` adds up one row in another order than several.
            let delta = project(&low, FloatSource::F32(&up), (out, rank), None)?;
            values.iter_mut().zip(delta).for_each(|(value, delta)| *value += delta);
        } else {
            let product = Product { add: true, ..Product::new(rows, rank, out) };
            product.write(&mut values, out, View::rows(&low, rank), View::rows(&up, rank).t());
        }
        storage(values, dtype)
    }

    fn backward(
        &self,
        [x, down, up]: [Cpu; 3],
        outcome: Outcome<CpuStorage>,
        [for_x, for_down, for_up]: [bool; 3],
    ) -> Result<[Option<CpuStorage>; 3]> {
        let ((rank, inputs), (out, _)) = (down.dims2()?, up.dims2()?);
        let dtype = x.dtype();
        let (x, gradient) = (floats(x)?, floats(outcome.gradient)?);
        let (down, up) = (floats(down)?, floats(up)?);
        let rows = gradient.len() / out;
        let dropped = self.dropped(&x);
        let product = Product { scale: self.beside.scale as f32, ..Product::new(rows, out, rank) };
        let low_gradient = product.matrix(View::rows(&gradient, out), View::rows(&up, rank));
        let mut x_gradient = None;
        if for_x {
            let product = Product::new(rows, rank, inputs);
            let values = product.matrix(View::rows(&low_gradient, rank), View::rows(&down, inputs));
            let mut sum = self.base_gradient(&gradient)?;
            sum.iter_mut().zip(self.dropped(&values).iter()).for_each(|(sum, value)| *sum += value);
            x_gradient = Some(storage(sum, dtype)?);
        }
        let mut down_gradient = None;
        if for_down {
            down_gradient = Some(storage(weight_gradient(&low_gradient, &dropped, (rank, inputs)), DType::F32)?);
        }
        let mut up_gradient = None;
        if for_up {
            let low = self.low(&dropped, &down, rank)?;
            up_gradient = Some(storage(weight_gradient(&gradient, &low, (out, rank)), DType::F32)?);
        }
        Ok([x_gradient, down_gradient, up_gradient])
    }
}

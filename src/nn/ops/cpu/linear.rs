//! The linear layer on the CPU.

use std::borrow::Cow;

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::linear::Linear;
use super::matrix::{Product, View, column_sums, project, weight_gradient};
use super::memory::{Cpu, FloatSource, floats, storage};

fn forward(x: Cpu, weight: Cpu, bias: Option<&[f32]>) -> Result<CpuStorage> {
    let values = project(&floats(x)?, FloatSource::new(weight)?, weight.dims2()?, bias)?;
    storage(values, x.dtype())
}

/// `gradient weight`: (rows, out) to (rows, in).
pub(super) fn x_gradient(weight: &[f32], (out, inputs): (usize, usize), gradient: &[f32]) -> Vec<f32> {
    let product = Product::new(gradient.len() / out, out, inputs);
    product.matrix(View::rows(gradient, out), View::rows(weight, inputs))
}

fn backward(x: Cpu, weight: Cpu, gradient: Cpu, wanted: [bool; 3]) -> Result<[Option<CpuStorage>; 3]> {
    let (out, inputs) = weight.dims2()?;
    let dtype = x.dtype();
    let gradient: Cow<[f32]> = floats(gradient)?;
    let [for_x, for_weight, for_bias] = wanted;
    let x_gradient = match for_x {
        true => Some(storage(x_gradient(&floats(weight)?, (out, inputs), &gradient), dtype)?),
        false => None,
    };
    let weight_gradient = match for_weight {
        true => Some(storage(weight_gradient(&gradient, &floats(x)?, (out, inputs)), dtype)?),
        false => None,
    };
    let bias_gradient = for_bias.then(|| storage(column_sums(&gradient, out), dtype)).transpose()?;
    Ok([x_gradient, weight_gradient, bias_gradient])
}

impl Kernels<CpuStorage, 2> for Linear {
    fn forward(&self, [x, weight]: [Cpu; 2]) -> Result<CpuStorage> {
        forward(x, weight, None)
    }

    fn backward(
        &self,
        [x, weight]: [Cpu; 2],
        outcome: Outcome<CpuStorage>,
        [for_x, for_weight]: [bool; 2],
    ) -> Result<[Option<CpuStorage>; 2]> {
        let [x, weight, _] = backward(x, weight, outcome.gradient, [for_x, for_weight, false])?;
        Ok([x, weight])
    }
}

impl Kernels<CpuStorage, 3> for Linear {
    fn forward(&self, [x, weight, bias]: [Cpu; 3]) -> Result<CpuStorage> {
        forward(x, weight, Some(&floats(bias)?))
    }

    fn backward(
        &self,
        [x, weight, _]: [Cpu; 3],
        outcome: Outcome<CpuStorage>,
        wanted: [bool; 3],
    ) -> Result<[Option<CpuStorage>; 3]> {
        backward(x, weight, outcome.gradient, wanted)
    }
}

//! The linear layer over a quantized weight on the CPU.

use candle_core::{CpuStorage, Result};

use super::super::dispatch::{Kernels, Outcome};
use super::super::quantized::{FEW_QUANTIZED_ROWS, QuantizedLinear, has_kernel};
use super::matrix::{Product, View, project};
use super::memory::{Cpu, FloatSource, floats, storage};
use crate::weights::Quantized;

/// Rows of the weight that are widened at a time for the gradient.
const STRIP: usize = 256;

impl Kernels<CpuStorage, 1> for QuantizedLinear {
    fn forward(&self, [x]: [Cpu; 1]) -> Result<CpuStorage> {
        storage(product(&self.0, &floats(x)?)?, x.dtype())
    }

    fn backward(&self, [x]: [Cpu; 1], outcome: Outcome<CpuStorage>, _: [bool; 1]) -> Result<[Option<CpuStorage>; 1]> {
        Ok([Some(storage(x_gradient(&self.0, &floats(outcome.gradient)?)?, x.dtype())?)])
    }
}

/// `x weight^T`: (rows, in) to (rows, out).
pub(super) fn product(weight: &Quantized, x: &[f32]) -> Result<Vec<f32>> {
    let [out, inputs] = weight.dims();
    let rows = x.len() / inputs;
    if rows > FEW_QUANTIZED_ROWS || !has_kernel(weight.dtype()) {
        return project(x, FloatSource::Blocks(weight), (out, inputs), None);
    }
    let mut values = vec![0f32; rows * out];
    weight.multiply(x, &mut values)?;
    Ok(values)
}

/// `gradient weight`: (rows, out) to (rows, in).
pub(super) fn x_gradient(weight: &Quantized, gradient: &[f32]) -> Result<Vec<f32>> {
    let [out, inputs] = weight.dims();
    let rows = gradient.len() / out;
    let mut values = vec![0f32; rows * inputs];
    for first in (0..out).step_by(STRIP) {
        let count = STRIP.min(out - first);
        let ids: Vec<u32> = (first..first + count).map(|row| row as u32).collect();
        let weight = weight.rows(&ids)?; // (count, inputs)
        let product = Product { add: first > 0, ..Product::new(rows, count, inputs) };
        let gradient = View { values: &gradient[first..], row_stride: out, column_stride: 1 };
        product.write(&mut values, inputs, gradient, View::rows(&weight, inputs));
    }
    Ok(values)
}

//! The linear layer over a quantized weight. Few rows go through candle's integer kernels, which round x to 8 bits
//! as llama.cpp does; for many rows strips of the weight are widened in cache and multiplied in f32. The weight
//! has no gradient, x has one.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Result, Shape, Tensor, bail};

use super::common::{width, with_last};
use super::dispatch::{Op, apply};
use super::linear::linear_reference;
use crate::weights::Quantized;

/// Rows of x up to which the integer kernels win over widening the weight.
pub const FEW_QUANTIZED_ROWS: usize = 8;

/// `x weight^T + bias`: x `(.., in)`, weight `(out, in)` in blocks, bias `(out)`, result `(.., out)`.
///
/// Errors if the shapes do not agree. Where a device has no kernel for it the weight is widened whole. Gradients go to x and bias if they are tracked.
pub fn quantized_linear(x: &Tensor, weight: &Arc<Quantized>, bias: Option<&Tensor>) -> Result<Tensor> {
    let inputs = width("quantized_linear", x)?;
    let [out, expected] = weight.dims();
    if expected != inputs {
        bail!("quantized_linear: x {:?} does not fit a weight of [{out}, {expected}] (out, in)", x.shape());
    }
    let op = QuantizedLinear(weight.clone());
    let result = apply(op, [x], || linear_reference(x, &widened(weight, x)?, None))?;
    match bias {
        Some(bias) => result.broadcast_add(bias),
        None => Ok(result),
    }
}

/// The whole weight as a plain tensor, like x.
fn widened(weight: &Quantized, x: &Tensor) -> Result<Tensor> {
    weight.tensor()?.to_dtype(x.dtype())?.to_device(x.device())
}

/// Rows of a quantized table `(vocab, width)` by id: f32 `(ids, width)`. Errors for an id the table does not have.
pub fn quantized_embedding(table: &Quantized, ids: &[u32]) -> Result<Tensor> {
    let [vocab, width] = table.dims();
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
        bail!("quantized_embedding: id {id} is outside the table of {vocab} rows");
    }
    Tensor::from_vec(table.rows(ids)?, (ids.len(), width), &Device::Cpu)
}

/// With g the gradient: dx = g weight. The weight has none.
pub(super) struct QuantizedLinear(pub Arc<Quantized>);

impl Op<1> for QuantizedLinear {
    const NAME: &'static str = "quantized_linear";

    fn shape(&self, [x]: [&Shape; 1]) -> Result<Shape> {
        with_last(x, self.0.dims()[0])
    }
}

/// The types candle has vector kernels for; the others are faster widened, and exact.
pub(super) fn has_kernel(dtype: GgmlDType) -> bool {
    !matches!(dtype, GgmlDType::Q4_1 | GgmlDType::Q5_0 | GgmlDType::Q5_1)
}

#[cfg(test)]
mod tests {
    use super::super::testing::values;
    use super::*;
    use candle_core::{DType, Var};

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let values = values(shape.iter().product(), seed);
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap()
    }

    fn worst(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
    }

    #[test]
    fn many_rows_are_exact_and_few_are_within_8_bits() {
        let (wide, bias) = (random(&[300, 512], 1), random(&[300], 2));
        for dtype in [GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::Q4_1, GgmlDType::Q5_0] {
            let weight = Arc::new(Quantized::new(&wide, dtype).unwrap());
            let widened = weight.tensor().unwrap();
            for (rows, few) in [(1, true), (8, true), (9, false), (40, false), (130, false)] {
                let x = random(&[rows, 512], 3);
                let expected = linear_reference(&x, &widened, Some(&bias)).unwrap();
                let difference = worst(&quantized_linear(&x, &weight, Some(&bias)).unwrap(), &expected);
                // 512 products of values below 1, x rounded to 1/254 of its largest value: well below 0.3.
                let limit = if few && has_kernel(dtype) { 0.3 } else { 1e-4 };
                assert!(difference < limit, "{dtype:?}, {rows} rows: {difference}");
            }
        }
    }

    #[test]
    fn x_has_the_gradient_of_finite_differences() {
        let weight = Arc::new(Quantized::new(&random(&[270, 64], 1), GgmlDType::Q8_0).unwrap());
        let widened = weight.tensor().unwrap().to_dtype(DType::F64).unwrap();
        let x = Var::from_tensor(&random(&[2, 5, 64], 2)).unwrap();
        let weights = random(&[2, 5, 270], 3);
        let loss = (quantized_linear(&x, &weight, None).unwrap() * &weights).unwrap().sum_all().unwrap();
        let gradient = loss.backward().unwrap().get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let loss = |values: Vec<f64>| {
            let x = Tensor::from_vec(values, (2, 5, 64), &Device::Cpu).unwrap();
            let result = linear_reference(&x, &widened, None).unwrap() * weights.to_dtype(DType::F64).unwrap();
            result.unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let start: Vec<f64> = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        for place in (0..640).step_by(37) {
            let (mut above, mut below) = (start.clone(), start.clone());
            above[place] += 1e-4;
            below[place] -= 1e-4;
            let slope = (loss(above) - loss(below)) / 2e-4;
            assert!((slope - f64::from(gradient[place])).abs() < 1e-4, "{place}: {slope} and {}", gradient[place]);
        }
    }

    #[test]
    fn narrow_rows_and_wrong_widths() {
        let weight = Arc::new(Quantized::new(&random(&[32, 64], 1), GgmlDType::Q8_0).unwrap());
        let x = random(&[20, 64], 2).to_dtype(DType::BF16).unwrap();
        assert_eq!(quantized_linear(&x, &weight, None).unwrap().dtype(), DType::BF16);
        let message = quantized_linear(&random(&[2, 32], 1), &weight, None).unwrap_err().to_string();
        assert!(message.contains("x [2, 32] does not fit a weight of [32, 64]"), "{message}");
    }
}

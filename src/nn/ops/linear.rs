//! The linear layer `x weight^T + bias`. A frozen weight costs nothing in the backward; few rows take a path
//! that streams the weight once from memory, which is what decoding is bound by.

use candle_core::{Result, Shape, Tensor, bail};

use super::common::{width, with_last};
use super::dispatch::{Op, apply};

/// `x weight^T + bias`: x `(.., in)`, weight `(out, in)`, bias `(out)`, result `(.., out)`.
///
/// Errors if the shapes or dtypes do not agree. Gradients go to the tracked ones among x, weight and bias.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let inputs = width("linear", x)?;
    match *weight.dims() {
        [_, expected] if expected == inputs => (),
        _ => bail!("linear: x {:?} does not fit weight {:?} (out, in)", x.shape(), weight.shape()),
    }
    if let Some(bias) = bias
        && bias.dims() != &weight.dims()[..1]
    {
        bail!("linear: bias {:?} does not fit weight {:?} (out, in)", bias.shape(), weight.shape());
    }
    match bias {
        Some(bias) => apply(Linear, [x, weight, bias], || linear_reference(x, weight, Some(bias))),
        None => apply(Linear, [x, weight], || linear_reference(x, weight, None)),
    }
}

/// [`linear`] composed of candle's primitives.
pub fn linear_reference(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(out);
    // (rows, out)
    let result = x.contiguous()?.reshape(((), inputs))?.matmul(&weight.t()?)?;
    let result = match bias {
        Some(bias) => result.broadcast_add(bias)?,
        None => result,
    };
    result.reshape(dims)
}

/// With g the gradient: dx = g weight, dweight = g^T x, dbias = sum of g.
pub(super) struct Linear;

impl Op<2> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self, [x, weight]: [&Shape; 2]) -> Result<Shape> {
        with_last(x, weight.dims2()?.0)
    }
}

impl Op<3> for Linear {
    const NAME: &'static str = "linear";

    fn shape(&self, [x, weight, _]: [&Shape; 3]) -> Result<Shape> {
        with_last(x, weight.dims2()?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Check, values};
    use super::*;
    use candle_core::{DType, Device, Var};

    #[test]
    fn linear_agrees_with_its_reference() {
        for (x, weight) in
            [([3, 7].as_slice(), [5, 7]), (&[2, 33, 70], [41, 70]), (&[130, 40], [600, 40]), (&[1, 129], [300, 129])]
        {
            Check::new("linear", &[x, &weight])
                .run(|t| linear(&t[0], &t[1], None), |t| linear_reference(&t[0], &t[1], None));
            Check::new("linear with bias", &[x, &weight, &weight[..1]])
                .run(|t| linear(&t[0], &t[1], Some(&t[2])), |t| linear_reference(&t[0], &t[1], Some(&t[2])));
        }
    }

    #[test]
    fn a_transposed_view_is_not_misread() -> Result<()> {
        // (4, 3, 8), not contiguous: candle_nn's Linear reads it wrongly.
        let x = Tensor::from_vec(values(96, 1), (3, 4, 8), &Device::Cpu)?.to_dtype(DType::F32)?.transpose(0, 1)?;
        let weight = Tensor::from_vec(values(40, 2), (5, 8), &Device::Cpu)?.to_dtype(DType::F32)?;
        let difference = (linear(&x, &weight, None)? - linear_reference(&x, &weight, None)?)?.abs()?.max_all()?;
        assert!(difference.to_scalar::<f32>()? < 1e-6);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let weight = Var::zeros((5, 4), DType::F32, &Device::Cpu)?;
        let message = linear(&x, &weight, None).unwrap_err().to_string();
        assert!(message.contains("linear: x [2, 3] does not fit weight [5, 4]"), "{message}");
        let message = linear(&x, &weight.narrow(1, 0, 3)?, Some(&x)).unwrap_err().to_string();
        assert!(message.contains("bias [2, 3] does not fit weight [5, 3]"), "{message}");
        Ok(())
    }
}

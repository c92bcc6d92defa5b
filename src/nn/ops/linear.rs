//! The linear layer `x weight^T + bias`. A frozen weight costs nothing in the backward; few rows take a path
//! that streams the weight once from memory, which is what decoding is bound by.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::cpu::matrix::{Product, View, column_sums, project, weight_gradient};
use super::cpu::memory::{Source, floats, fused, storage, tensor, width, with_floats};
use super::cpu::rows::uninitialized;

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
    let all_fused = match bias {
        Some(bias) => fused("linear", &[x, weight, bias])?,
        None => fused("linear", &[x, weight])?,
    };
    if !all_fused {
        return linear_reference(x, weight, bias);
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear),
        None => x.apply_op2(&weight, Linear),
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

struct Linear;

fn forward(
    x: (&CpuStorage, &Layout),
    weight: (&CpuStorage, &Layout),
    bias: Option<&[f32]>,
) -> Result<(CpuStorage, Shape)> {
    let (out, inputs) = weight.1.shape().dims2()?;
    let mut dims = x.1.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    let dtype = x.0.dtype();
    let x = floats(x.0, x.1)?;
    let values = project(&x, Source::new(weight.0, weight.1)?, (out, inputs), bias);
    Ok((storage(values, dtype)?, dims.into()))
}

/// `gradient weight`: (rows, out) to (rows, in).
pub(super) fn x_gradient(weight: &Tensor, gradient: &[f32]) -> Result<Vec<f32>> {
    let (out, inputs) = weight.dims2()?;
    let rows = gradient.len() / out;
    let mut values = uninitialized(rows * inputs);
    with_floats(weight, |weight| {
        let product = Product::new(rows, out, inputs);
        product.write(&mut values, inputs, View::rows(gradient, out), View::rows(weight, inputs));
        Ok(values)
    })
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

fn backward(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, gradient: &Tensor) -> Result<Gradients> {
    let (out, inputs) = weight.dims2()?;
    let dtype = x.dtype();
    with_floats(gradient, |gradient| {
        let rows = gradient.len() / out;
        let x_gradient =
            if x.track_op() { Some(tensor(x_gradient(weight, gradient)?, x.shape(), dtype)?) } else { None };
        let weight_gradient = if weight.track_op() {
            let mut values = uninitialized(out * inputs);
            with_floats(x, |x| {
                weight_gradient(&mut values, gradient, x, rows, false);
                Ok(())
            })?;
            Some(tensor(values, weight.shape(), dtype)?)
        } else {
            None
        };
        let bias_gradient = match bias {
            Some(bias) if bias.track_op() => Some(tensor(column_sums(gradient, out), bias.shape(), dtype)?),
            _ => None,
        };
        Ok((x_gradient, weight_gradient, bias_gradient))
    })
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward((x, x_layout), (weight, weight_layout), None)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x, weight, _) = backward(x, weight, None, gradient)?;
        Ok((x, weight))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        forward((x, x_layout), (weight, weight_layout), Some(&floats(bias, bias_layout)?))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, bias: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Gradients> {
        backward(x, weight, Some(bias), gradient)
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

//! Layer normalization, `(x - mean) / sqrt(variance + eps) * weight + bias`, with the population variance.

use candle_core::{D, Result, Tensor, bail};

use super::common::{in_f32, width};
use super::dispatch::{Op, apply};

/// Normalizes the last dimension: x `(.., d)`, weight and bias `(d)`, result `(.., d)`.
///
/// Errors if the shapes or dtypes do not agree.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let width = width("layer_norm", x)?;
    for (name, parameter) in [("weight", weight), ("bias", bias)] {
        if parameter.dims() != [width] {
            bail!("layer_norm: x {:?} does not fit {name} {:?}", x.shape(), parameter.shape());
        }
    }
    apply(LayerNorm { eps: eps as f32 }, [x, weight, bias], || layer_norm_reference(x, weight, bias, eps))
}

/// [`layer_norm`] composed of candle's primitives.
pub fn layer_norm_reference(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    in_f32(x, |x| {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        let (weight, bias) = (weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?);
        centered.broadcast_div(&scale)?.broadcast_mul(&weight)?.broadcast_add(&bias)
    })
}

/// With n the normalized row and t = g w: dx = (t - mean(t) - n mean(t n)) / sqrt(variance + eps), dw = sum of g n,
/// db = sum of g.
pub(super) struct LayerNorm {
    pub eps: f32,
}

impl Op<3> for LayerNorm {
    const NAME: &'static str = "layer_norm";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn layer_norm_agrees_with_its_reference() {
        for shape in [[5, 7], [70, 300], [200, 256]] {
            Check::new("layer_norm", &[&shape, &shape[1..], &shape[1..]])
                .run(|t| layer_norm(&t[0], &t[1], &t[2], 1e-5), |t| layer_norm_reference(&t[0], &t[1], &t[2], 1e-5));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let (weight, bias) = (x.get(0)?, Tensor::zeros(4, DType::F32, &Device::Cpu)?);
        let message = layer_norm(&x, &weight, &bias, 1e-6).unwrap_err().to_string();
        assert!(message.contains("layer_norm: x [2, 3] does not fit bias [4]"), "{message}");
        Ok(())
    }
}

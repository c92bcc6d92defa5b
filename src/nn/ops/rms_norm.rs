//! Root-mean-square normalization, `x / rms(x) * (offset + weight)`; an offset of 1 is Gemma's form.

use candle_core::{D, Result, Tensor, bail};

use super::common::{in_f32, width};
use super::dispatch::{Op, apply};

/// Normalizes the last dimension: x `(.., d)`, weight `(d)`, result `(.., d)`.
///
/// `x / sqrt(mean(x^2) + eps) * (offset + weight)`; errors if the shapes or dtypes do not agree.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64, offset: f64) -> Result<Tensor> {
    let width = width("rms_norm", x)?;
    if weight.dims() != [width] {
        bail!("rms_norm: x {:?} does not fit weight {:?}", x.shape(), weight.shape());
    }
    let op = RmsNorm { eps: eps as f32, offset: offset as f32 };
    apply(op, [x, weight], || rms_norm_reference(x, weight, eps, offset))
}

/// [`rms_norm`] composed of candle's primitives.
pub fn rms_norm_reference(x: &Tensor, weight: &Tensor, eps: f64, offset: f64) -> Result<Tensor> {
    in_f32(x, |x| {
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        x.broadcast_div(&scale)?.broadcast_mul(&(weight.to_dtype(x.dtype())? + offset)?)
    })
}

/// With r = 1 / rms and t = g (offset + w): dx = r (t - x r^2 mean(t x)), dw = sum of g x r.
#[derive(Clone, Copy)]
pub(super) struct RmsNorm {
    pub eps: f32,
    pub offset: f32,
}

impl Op<2> for RmsNorm {
    const NAME: &'static str = "rms_norm";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn rms_norm_agrees_with_its_reference() {
        for (shape, eps, offset) in [([5, 7], 1e-5, 0.0), ([70, 300], 1e-6, 1.0), ([200, 256], 1e-6, 0.0)] {
            Check::new("rms_norm", &[&shape, &shape[1..]])
                .run(|t| rms_norm(&t[0], &t[1], eps, offset), |t| rms_norm_reference(&t[0], &t[1], eps, offset));
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_named() -> Result<()> {
        let x = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = rms_norm(&x, &Tensor::zeros(4, DType::F32, &Device::Cpu)?, 1e-6, 0.0).unwrap_err().to_string();
        assert!(message.contains("rms_norm: x [2, 3] does not fit weight [4]"), "{message}");
        Ok(())
    }
}

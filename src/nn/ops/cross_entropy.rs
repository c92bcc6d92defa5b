//! The language-model head and its loss in one operation. Logits exist for one block of rows at a time; where a
//! gradient is wanted it is computed in the forward, while the block's logits are in memory, and the backward
//! only scales it.

use std::sync::Arc;

use candle_core::{D, DType, Result, Shape, Tensor, bail};

use super::dispatch::{ForwardState, Op, apply};

/// The sum over n rows of `-log softmax(hidden weight^T)[target]`, a scalar in f32 (f64 for f64 inputs).
///
/// hidden `(n, d)`, weight `(vocab, d)`, one target id per row; `softcap` turns a logit l into
/// `cap * tanh(l / cap)` first. Errors if the shapes, dtypes or targets do not fit.
pub fn cross_entropy(hidden: &Tensor, weight: &Tensor, targets: &Arc<[u32]>, softcap: Option<f64>) -> Result<Tensor> {
    let (rows, vocab) = match (hidden.dims(), weight.dims()) {
        (&[rows, d], &[vocab, expected]) if d == expected && d > 0 => (rows, vocab),
        _ => bail!(
            "cross_entropy: hidden {:?} (n, d) does not fit weight {:?} (vocab, d)",
            hidden.shape(),
            weight.shape()
        ),
    };
    if targets.len() != rows {
        bail!("cross_entropy: hidden {:?} has {rows} rows, but there are {} targets", hidden.shape(), targets.len());
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= vocab) {
        bail!("cross_entropy: target {target} is outside weight {:?} (vocab, d)", weight.shape());
    }
    let op = CrossEntropy {
        targets: targets.clone(),
        softcap: softcap.map(|cap| cap as f32),
        wanted: [hidden.track_op(), weight.track_op()],
        kept: ForwardState::default(),
    };
    apply(op, [hidden, weight], || cross_entropy_reference(hidden, weight, targets, softcap))
}

/// [`cross_entropy`] composed of candle's primitives.
pub fn cross_entropy_reference(
    hidden: &Tensor,
    weight: &Tensor,
    targets: &Arc<[u32]>,
    softcap: Option<f64>,
) -> Result<Tensor> {
    // (n, vocab)
    let logits = hidden.matmul(&weight.t()?)?;
    let logits = if logits.dtype() == DType::F64 { logits } else { logits.to_dtype(DType::F32)? };
    let logits = match softcap {
        Some(cap) => ((logits / cap)?.tanh()? * cap)?,
        None => logits,
    };
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?.detach())?;
    let normalizer = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::from_slice(targets, (targets.len(), 1), hidden.device())?;
    (normalizer - shifted.gather(&targets, 1)?)?.sum_all()
}

/// With p the softmax of a row's logits and s the slope of the softcap: dlogits = (p - onehot(target)) s,
/// dhidden = dlogits weight, dweight = dlogits^T hidden, all times the gradient of the sum.
pub(super) struct CrossEntropy {
    pub targets: Arc<[u32]>,
    pub softcap: Option<f32>,
    /// Whether hidden and weight need a gradient.
    pub wanted: [bool; 2],
    /// The gradients that the forward computed, until the backward takes them.
    pub kept: ForwardState,
}

impl Op<2> for CrossEntropy {
    const NAME: &'static str = "cross_entropy";

    fn shape(&self, _: [&Shape; 2]) -> Result<Shape> {
        Ok(().into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn cross_entropy_agrees_with_its_reference() {
        for (rows, vocab, width) in [(3, 11, 5), (600, 130, 24), (40, 700, 33)] {
            let targets: Arc<[u32]> = (0..rows as u32).map(|i| i * 7 % vocab as u32).collect();
            for softcap in [None, Some(2.0)] {
                Check::new("cross_entropy", &[&[rows, width], &[vocab, width]]).scaled(2.0).run(
                    |t| cross_entropy(&t[0], &t[1], &targets, softcap),
                    |t| cross_entropy_reference(&t[0], &t[1], &targets, softcap),
                );
            }
        }
    }

    #[test]
    fn a_second_backward_recomputes_and_the_gradient_scales() -> Result<()> {
        let hidden = Var::from_tensor(&Tensor::new(&[[1f32, -2.0], [0.5, 3.0]], &Device::Cpu)?)?;
        let weight = Tensor::new(&[[1f32, 0.0], [0.25, 1.0], [-1.0, 0.5]], &Device::Cpu)?;
        let loss = cross_entropy(&hidden, &weight, &Arc::from([2, 0]), None)?;
        let gradient = |loss: &Tensor| loss.backward()?.get(&hidden).unwrap().to_vec2::<f32>();
        let first = gradient(&loss)?;
        assert_eq!(first, gradient(&loss)?);
        let halved: Vec<Vec<f32>> = first.iter().map(|row| row.iter().map(|v| v * 0.5).collect()).collect();
        assert_eq!(gradient(&(loss * 0.5)?)?, halved);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_named() -> Result<()> {
        let (hidden, weight) =
            (Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?, Tensor::zeros((5, 3), DType::F32, &Device::Cpu)?);
        let message =
            |h: &Tensor, targets: &[u32]| cross_entropy(h, &weight, &Arc::from(targets), None).unwrap_err().to_string();
        assert!(
            message(&hidden.t()?, &[0, 1, 2]).contains("hidden [3, 2] (n, d) does not fit weight [5, 3] (vocab, d)")
        );
        assert!(message(&hidden, &[0]).contains("has 2 rows, but there are 1 targets"));
        assert!(message(&hidden, &[0, 5]).contains("target 5 is outside weight [5, 3]"));
        Ok(())
    }
}

//! The language-model head and its loss in one operation. Logits exist for one block of rows at a time; where a
//! gradient is wanted it is computed in the forward, while the block's logits are in memory, and the backward
//! only scales it.

use std::sync::{Arc, Mutex};

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor, bail};

use super::cpu::kernel::kernel;
use super::cpu::math::{exponentials, maximum, tanh};
use super::cpu::matrix::{Product, View, weight_gradient};
use super::cpu::memory::{floats, fused, tensor, with_floats};
use super::cpu::rows::{Shared, for_each, uninitialized};

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
    if !fused("cross_entropy", &[hidden, weight])? {
        return cross_entropy_reference(hidden, weight, targets, softcap);
    }
    let wanted = [hidden.track_op(), weight.track_op()];
    let op = CrossEntropy {
        targets: targets.clone(),
        softcap: softcap.map(|cap| cap as f32),
        wanted,
        kept: Mutex::new(None),
    };
    hidden.contiguous()?.apply_op2(&weight.contiguous()?, op)
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

struct CrossEntropy {
    targets: Arc<[u32]>,
    softcap: Option<f32>,
    /// Whether hidden and weight need a gradient.
    wanted: [bool; 2],
    /// The gradients the forward computed, until the backward takes them.
    kept: Mutex<Option<Gradients>>,
}

/// The gradients of hidden and weight for a gradient of 1; empty where not wanted.
struct Gradients {
    hidden: Vec<f32>,
    weight: Vec<f32>,
}

kernel! {
    /// Turns one row of logits into its gradient, `softmax - onehot(target)` (with the slope of the softcap),
    /// and returns the row's loss.
    fn finish_row<const FMA: bool>(logits: &mut [f32], target: usize, softcap: Option<f32>, slopes: &mut Vec<f32>) -> f64 {
        if let Some(cap) = softcap {
            slopes.resize(logits.len(), 0.0);
            for (logit, slope) in logits.iter_mut().zip(slopes.iter_mut()) {
                let t = tanh::<FMA>(*logit / cap);
                *slope = 1.0 - t * t;
                *logit = cap * t;
            }
        }
        let shift = maximum(logits);
        let target_logit = logits[target] - shift;
        let sum = exponentials::<FMA>(logits, shift);
        let inverse = 1.0 / sum;
        logits.iter_mut().for_each(|logit| *logit *= inverse);
        logits[target] -= 1.0;
        if softcap.is_some() {
            logits.iter_mut().zip(slopes).for_each(|(logit, slope)| *logit *= *slope);
        }
        f64::from(sum).ln() - f64::from(target_logit)
    }
}

impl CrossEntropy {
    /// The loss and, as wanted, the gradients.
    fn run(&self, hidden: &[f32], weight: &[f32], vocab: usize) -> (f64, Gradients) {
        // 64 MB of logits: enough rows that reading the weight (and its gradient) once per block is cheap.
        const LOGITS: usize = 16 << 20;
        let rows = self.targets.len();
        let width = weight.len() / vocab;
        let block = (LOGITS / vocab).clamp(32, 512).min(rows.max(1));
        let [for_hidden, for_weight] = self.wanted;
        let mut hidden_gradient = uninitialized(if for_hidden { rows * width } else { 0 });
        let mut weight_sum = vec![0f32; if for_weight { vocab * width } else { 0 }];
        // (block, vocab)
        let mut logits = uninitialized(block * vocab);
        let mut losses = vec![0f64; rows];
        for first in (0..rows).step_by(block) {
            let count = block.min(rows - first);
            let logits = &mut logits[..count * vocab];
            let hidden = &hidden[first * width..][..count * width];
            let product = Product::new(count, width, vocab);
            product.write(logits, vocab, View::rows(hidden, width), View::rows(weight, width).t());
            self.finish_block(logits, first, &mut losses[first..first + count]);
            if for_hidden {
                let out = &mut hidden_gradient[first * width..][..count * width];
                let product = Product::new(count, vocab, width);
                product.write(out, width, View::rows(logits, vocab), View::rows(weight, width));
            }
            if for_weight {
                weight_gradient(&mut weight_sum, logits, hidden, count, first > 0);
            }
        }
        (losses.iter().sum(), Gradients { hidden: hidden_gradient, weight: weight_sum })
    }

    fn finish_block(&self, logits: &mut [f32], first: usize, losses: &mut [f64]) {
        use rayon::prelude::*;
        let vocab = logits.len() / losses.len();
        let rows = logits.par_chunks_mut(vocab).with_min_len((16 * 1024 / vocab).max(1)).zip(losses).enumerate();
        rows.for_each_init(Vec::new, |slopes, (row, (logits, loss))| {
            *loss = finish_row(logits, self.targets[first + row] as usize, self.softcap, slopes);
        });
    }
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let vocab = weight_layout.shape().dims2()?.0;
        let (hidden, weight) = (floats(hidden, hidden_layout)?, floats(weight, weight_layout)?);
        let (loss, gradients) = self.run(&hidden, &weight, vocab);
        if let Ok(mut kept) = self.kept.lock() {
            *kept = self.wanted.contains(&true).then_some(gradients);
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let scale = gradient.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        let kept = self.kept.lock().ok().and_then(|mut kept| kept.take());
        let mut gradients = match kept {
            Some(gradients) => gradients,
            // A second backward through the same graph.
            None => {
                let vocab = weight.dim(0)?;
                with_floats(hidden, |hidden| with_floats(weight, |weight| Ok(self.run(hidden, weight, vocab).1)))?
            }
        };
        multiply(&mut gradients.hidden, scale);
        multiply(&mut gradients.weight, scale);
        let [for_hidden, for_weight] = self.wanted;
        Ok((
            for_hidden.then(|| tensor(gradients.hidden, hidden.shape(), hidden.dtype())).transpose()?,
            for_weight.then(|| tensor(gradients.weight, weight.shape(), weight.dtype())).transpose()?,
        ))
    }
}

fn multiply(values: &mut [f32], factor: f32) {
    const BLOCK: usize = 64 * 1024;
    let len = values.len();
    if factor == 1.0 {
        return;
    }
    let base = Shared::new(values);
    for_each(len.div_ceil(BLOCK), false, |block| {
        let start = block * BLOCK;
        // SAFETY: blocks are disjoint parts of `values`.
        let part = unsafe { base.slice(start, BLOCK.min(len - start)) };
        part.iter_mut().for_each(|value| *value *= factor);
    });
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

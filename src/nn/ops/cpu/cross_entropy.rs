//! The language-model head and its loss on the CPU, one block of rows at a time.

use candle_core::{CpuStorage, DType, Result};
use rayon::prelude::*;

use super::super::cross_entropy::CrossEntropy;
use super::super::dispatch::{Kernels, Outcome};
use super::kernel::kernel;
use super::math::{exponentials, maximum, tanh};
use super::matrix::{Product, View, add_weight_gradient};
use super::memory::{Cpu, floats, storage};

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
    fn run(&self, hidden: Cpu, weight: Cpu) -> Result<(f64, Gradients)> {
        let vocab = weight.dims2()?.0;
        let (hidden, weight) = (&*floats(hidden)?, &*floats(weight)?);
        // 64 MB of logits: enough rows that reading the weight (and its gradient) once per block is cheap.
        const LOGITS: usize = 16 << 20;
        let rows = self.targets.len();
        let width = weight.len() / vocab;
        let block = (LOGITS / vocab).clamp(32, 512).min(rows.max(1));
        let [for_hidden, for_weight] = self.wanted;
        let mut hidden_gradient = vec![0f32; if for_hidden { rows * width } else { 0 }];
        let mut weight_sum = vec![0f32; if for_weight { vocab * width } else { 0 }];
        // (block, vocab)
        let mut logits = Vec::new();
        let mut losses = vec![0f64; rows];
        for first in (0..rows).step_by(block) {
            let count = block.min(rows - first);
            let hidden = &hidden[first * width..][..count * width];
            let product = Product::new(count, width, vocab);
            let (a, b) = (View::rows(hidden, width), View::rows(weight, width).t());
            logits = product.matrix_within(logits, a, b);
            self.finish_block(&mut logits, first, &mut losses[first..first + count]);
            if for_hidden {
                let out = &mut hidden_gradient[first * width..][..count * width];
                let product = Product::new(count, vocab, width);
                product.write(out, width, View::rows(&logits, vocab), View::rows(weight, width));
            }
            if for_weight {
                add_weight_gradient(&mut weight_sum, &logits, hidden, count, first > 0);
            }
        }
        Ok((losses.iter().sum(), Gradients { hidden: hidden_gradient, weight: weight_sum }))
    }

    fn finish_block(&self, logits: &mut [f32], first: usize, losses: &mut [f64]) {
        let vocab = logits.len() / losses.len();
        let rows = logits.par_chunks_mut(vocab).with_min_len((16 * 1024 / vocab).max(1)).zip(losses).enumerate();
        rows.for_each_init(Vec::new, |slopes, (row, (logits, loss))| {
            *loss = finish_row(logits, self.targets[first + row] as usize, self.softcap, slopes);
        });
    }
}

impl Kernels<CpuStorage, 2> for CrossEntropy {
    fn forward(&self, [hidden, weight]: [Cpu; 2]) -> Result<CpuStorage> {
        let (loss, gradients) = self.run(hidden, weight)?;
        if self.wanted.contains(&true) {
            self.kept.put(gradients);
        }
        storage(vec![loss as f32], DType::F32)
    }

    fn backward(
        &self,
        [hidden, weight]: [Cpu; 2],
        outcome: Outcome<CpuStorage>,
        _: [bool; 2],
    ) -> Result<[Option<CpuStorage>; 2]> {
        let scale = floats(outcome.gradient)?.first().copied().unwrap_or(0.0);
        let mut gradients = match self.kept.take() {
            Some(gradients) => gradients,
            // A second backward through the same graph.
            None => self.run(hidden, weight)?.1,
        };
        multiply(&mut gradients.hidden, scale);
        multiply(&mut gradients.weight, scale);
        let [for_hidden, for_weight] = self.wanted;
        Ok([
            for_hidden.then(|| storage(gradients.hidden, hidden.dtype())).transpose()?,
            for_weight.then(|| storage(gradients.weight, weight.dtype())).transpose()?,
        ])
    }
}

fn multiply(values: &mut [f32], factor: f32) {
    if factor != 1.0 {
        values.par_chunks_mut(64 * 1024).for_each(|part| part.iter_mut().for_each(|value| *value *= factor));
    }
}

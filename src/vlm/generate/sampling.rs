//! Choosing the next token: greedy, or a draw from what temperature, top-k and top-p leave over. The filters are
//! those of transformers 4.49.0 (`logits_process.py`), in its order; a draw depends on (seed, prompt, step) alone.

use crate::bail;
use crate::error::Result;
use crate::rng::Rng;

/// How to choose the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    pub max_new_tokens: usize,
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Only tokens whose logit is at least that of the k-th best one; 0 is all.
    pub top_k: usize,
    /// The smallest set of tokens with at least this probability.
    pub top_p: f64,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { max_new_tokens: 128, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// The token of step `step` of prompt `prompt`, from its logits (vocab).
    ///
    /// # Errors
    /// `Tensor` when a logit is not a number.
    pub(super) fn choose(&self, logits: &[f32], prompt: u64, step: u64) -> Result<u32> {
        if logits.iter().any(|logit| logit.is_nan()) {
            bail!(Tensor, "the LLM gives logits that are not numbers, at new token {step}");
        }
        if self.temperature <= 0.0 {
            return Ok(best(logits));
        }
        let kept = self.kept(logits);
        let draw = Rng::new(self.seed, "sampling").split(prompt).uniform(step);
        let mut left = draw * kept.iter().map(|(_, weight)| weight).sum::<f64>();
        for &(id, weight) in &kept {
            left -= weight;
            if left < 0.0 {
                return Ok(id);
            }
        }
        Ok(best(logits))
    }

    /// The tokens that can be drawn, by id, with weights relative to the best one's.
    fn kept(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let highest = logits[best(logits) as usize];
        let weight = |logit: f32| ((f64::from(logit) - f64::from(highest)) / self.temperature).exp();
        let lowest = if self.top_k == 0 { f32::NEG_INFINITY } else { kth(logits, self.top_k) };
        let ids = (0..).zip(logits).filter(|(_, logit)| **logit >= lowest);
        let mut kept: Vec<(u32, f64)> = ids.map(|(id, &logit)| (id, weight(logit))).collect();
        if self.top_p < 1.0 {
            nucleus(&mut kept, self.top_p);
        }
        kept
    }
}

/// The first of the highest logits.
fn best(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &logit) in logits.iter().enumerate() {
        if logit > logits[best] {
            best = id;
        }
    }
    best as u32
}

/// The k-th highest logit.
fn kth(logits: &[f32], k: usize) -> f32 {
    let mut sorted = logits.to_vec();
    let place = k.min(sorted.len()) - 1;
    *sorted.select_nth_unstable_by(place, |a, b| b.total_cmp(a)).1
}

/// Keeps the likeliest tokens, as few as have the probability `top_p`.
fn nucleus(kept: &mut Vec<(u32, f64)>, top_p: f64) {
    let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
    // All tokens below this together have less than the probability that is left out: no need to sort them.
    let floor = (1.0 - top_p) * total / kept.len() as f64;
    kept.retain(|(_, weight)| *weight >= floor);
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut sum = 0.0;
    let wanted = kept.iter().take_while(|(_, weight)| {
        let before = sum;
        sum += weight;
        before < top_p * total
    });
    let wanted = wanted.count().max(1);
    kept.truncate(wanted);
    kept.sort_by_key(|(id, _)| *id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        logits: Vec<f32>,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        /// Ids and probabilities that transformers leaves over.
        kept: Vec<(u32, f64)>,
    }

    #[test]
    fn filters_are_those_of_transformers() {
        let text = std::fs::read_to_string("tests/fixtures/generation/filters.json").unwrap();
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
        assert!(cases.len() >= 20);
        for (number, case) in cases.iter().enumerate() {
            let Case { temperature, top_k, top_p, .. } = *case;
            let kept = Sampling { temperature, top_k, top_p, ..Sampling::default() }.kept(&case.logits);
            let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
            assert_eq!(kept.len(), case.kept.len(), "case {number}");
            for ((id, weight), (expected_id, expected)) in kept.iter().zip(&case.kept) {
                assert_eq!(id, expected_id, "case {number}");
                assert!((weight / total - expected).abs() < 1e-6, "case {number}, id {id}");
            }
        }
    }

    #[test]
    fn draws_follow_the_probabilities_and_nothing_else() {
        let logits = [0.0f32, 2.0, 1.0]; // probabilities 0.0900, 0.6652, 0.2447
        let sampling = Sampling { temperature: 1.0, seed: 3, ..Sampling::default() };
        let mut counts = [0usize; 3];
        for prompt in 0..100 {
            for step in 0..300 {
                counts[sampling.choose(&logits, prompt, step).unwrap() as usize] += 1;
            }
        }
        for (count, expected) in counts.into_iter().zip([0.0900, 0.6652, 0.2447]) {
            // Four standard errors of 30,000 draws: 4 * sqrt(0.25 / 30000) = 0.0115.
            assert!((count as f64 / 30_000.0 - expected).abs() < 0.0115, "{counts:?}");
        }
        let again = sampling.choose(&logits, 7, 9).unwrap();
        assert_eq!(sampling.choose(&logits, 7, 9).unwrap(), again);
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_refuses_nan() {
        assert_eq!(Sampling::default().choose(&[1.0, 3.0, 3.0], 0, 0).unwrap(), 1);
        assert!(Sampling::default().choose(&[1.0, f32::NAN], 0, 0).is_err());
    }
}

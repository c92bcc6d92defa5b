//! Tests of counts, and what many tests at once ask for.

use super::{Z, normal_cdf};

/// Above this many discordant pairs the normal approximation is exact enough.
const EXACT: u64 = 1_000;

/// McNemar's two-sided p: how likely a split of the discordant pairs is that is at least as uneven. Exact (binomial)
/// up to 1,000 pairs, with continuity correction above.
pub fn mcnemar(only_first: u64, only_second: u64) -> f64 {
    let pairs = only_first + only_second;
    if pairs == 0 {
        return 1.0;
    }
    let fewer = only_first.min(only_second);
    if pairs > EXACT {
        let distance = (only_first.abs_diff(only_second) as f64 - 1.0).max(0.0);
        return 2.0 * normal_cdf(-distance / (pairs as f64).sqrt());
    }
    // Summed in logarithms: 2^-1000 is no f64.
    let mut log_term = -(pairs as f64) * std::f64::consts::LN_2;
    let mut sum = log_term.exp();
    for k in 0..fewer {
        log_term += ((pairs - k) as f64 / (k + 1) as f64).ln();
        sum += log_term.exp();
    }
    (2.0 * sum).min(1.0)
}

/// Holm's correction: the chance of one false finding among all is at most that of a single test.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut corrected, mut largest) = (vec![1.0; p.len()], 0.0f64);
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[index]).min(1.0);
        corrected[index] = largest;
    }
    corrected
}

/// The 80 % quantile of the standard normal.
const Z_POWER: f64 = 0.841_621_233_572_914_3;

/// The smallest true difference that a paired test with this standard error finds in 80 % of the cases (5 %, two-sided).
pub fn detectable(error: f64) -> f64 {
    (Z + Z_POWER) * error
}

/// The same ahead of any run: `questions` independent questions, on a share of which the models disagree.
pub fn detectable_between(questions: usize, disagreement: f64) -> f64 {
    detectable((disagreement / questions.max(1) as f64).sqrt()).min(1.0)
}

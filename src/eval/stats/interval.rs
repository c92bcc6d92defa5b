//! Intervals of one score: Student's t with the jackknife's standard error over groups, on the log-odds scale, which
//! keeps the interval inside the metric's range and holds its coverage near 0 and 1. Percentile and BCa bootstrap cover 88
//! to 93 % for 20 to 100 groups; `tests/statistics.rs` simulates.

use super::groups::jackknife;
use super::{Groups, SAME, t_quantile};

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// Whether a value lies in it; its ends do.
    pub fn contains(&self, value: f64) -> bool {
        (self.low - 1e-12..=self.high + 1e-12).contains(&value)
    }

    /// The same, wide enough for a value that rounding put outside.
    pub fn with(self, value: f64) -> Self {
        Interval { low: self.low.min(value), high: self.high.max(value) }
    }
}

/// The 95 % interval of a metric; `None` for fewer than two groups.
pub fn interval(groups: &Groups) -> Option<Interval> {
    if groups.len() < 2 {
        return None;
    }
    let value = (groups.value() / groups.scale).clamp(0.0, 1.0);
    let (error, freedom) = jackknife(&groups.left_out(), &groups.by_stratum());
    let (error, t) = (error / groups.scale, t_quantile(freedom));
    let (low, high) = match error > SAME && value > 0.0 && value < 1.0 {
        true => {
            let center = (value / (1.0 - value)).ln();
            let half = t * error / (value * (1.0 - value));
            let back = |log_odds: f64| 1.0 / (1.0 + (-log_odds).exp());
            (back(center - half), back(center + half))
        }
        // No group differs from another: Wilson's interval with a trial a group.
        false => wilson(value, groups.len() as f64, t),
    };
    Some(Interval { low: low * groups.scale, high: high * groups.scale }.with(groups.value()))
}

fn wilson(value: f64, n: f64, t: f64) -> (f64, f64) {
    let square = t * t / n;
    let center = (value + square / 2.0) / (1.0 + square);
    let half = (value * (1.0 - value) * square + square * square / 4.0).sqrt() / (1.0 + square);
    ((center - half).max(0.0), (center + half).min(1.0))
}

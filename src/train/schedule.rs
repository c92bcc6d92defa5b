//! Learning-rate schedules: linear warm-up, then cosine, linear or constant.
//! Source: transformers 4.49.0, `optimization.py`.

use serde::{Deserialize, Serialize};

/// What happens after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    #[default]
    Cosine,
    Linear,
    Constant,
}

impl Schedule {
    /// The factor on the peak rate in step `step` (from 0) of `steps`; the first warm-up step has rate 0.
    pub fn factor(self, step: u64, steps: u64, warmup_ratio: f64) -> f64 {
        let warmup = (steps as f64 * warmup_ratio).ceil();
        let step = step as f64;
        if step < warmup {
            return step / warmup;
        }
        let left = (steps as f64 - warmup).max(1.0);
        match self {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * (step - warmup) / left).cos()),
            Schedule::Linear => (steps as f64 - step) / left,
            Schedule::Constant => 1.0,
        }
    }

    /// Whether any step of a run has a rate above 0; a run of one step with a warm-up has none.
    pub fn moves(self, steps: u64, warmup_ratio: f64) -> bool {
        (0..steps).any(|step| self.factor(step, steps, warmup_ratio) > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get_cosine_schedule_with_warmup(optimizer, 1, 20)` of transformers 4.49.0: first, second, third, last.
    #[test]
    fn cosine_agrees_with_transformers() {
        let rates = [(0, 0.0), (1, 1.0), (2, 0.993181), (19, 0.00681935)];
        for (step, rate) in rates {
            assert!((Schedule::Cosine.factor(step, 20, 0.03) - rate).abs() < 1e-6, "step {step}");
        }
    }

    #[test]
    fn linear_falls_to_the_last_step_and_constant_stays() {
        // 2 steps of 10 are warm-up; 8 are left, and a step after the last would have rate 0.
        let linear: Vec<f64> = (0..10).map(|step| Schedule::Linear.factor(step, 10, 0.2)).collect();
        assert_eq!(linear, [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
        let constant: Vec<f64> = (0..4).map(|step| Schedule::Constant.factor(step, 4, 0.25)).collect();
        assert_eq!(constant, [0.0, 1.0, 1.0, 1.0]);
        // A started step counts: 0.1 of 11 are 2 steps.
        assert_eq!([1, 2].map(|step| Schedule::Constant.factor(step, 11, 0.1)), [0.5, 1.0]);
    }

    #[test]
    fn one_step_has_a_finite_rate() {
        for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
            assert!(schedule.factor(0, 1, 0.0).is_finite());
            assert_eq!(schedule.factor(0, 1, 0.03), 0.0);
            assert!(!schedule.moves(1, 0.03) && schedule.moves(1, 0.0) && schedule.moves(2, 0.03));
        }
    }
}

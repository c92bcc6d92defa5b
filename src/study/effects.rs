//! The effect of each axis: one encoder against another, averaged over LLMs and seeds, and one LLM against another,
//! averaged over encoders and seeds. The mean over the benchmarks is tested first; p values are corrected (Holm) among
//! those tests, and separately among the tests of single benchmarks.

use super::cells::StudyCell;
use super::grid::{Contrast, Grid};
use crate::error::Result;
use crate::eval::stats::{detectable, holm};

/// A difference with a corrected p below this is significant.
pub(super) const ALPHA: f64 = 0.05;

/// The axis that is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Encoder,
    Llm,
}

/// One value of an axis against another.
pub(super) struct Effect {
    pub axis: Axis,
    pub first: String,
    pub second: String,
    /// `None` is the mean over all benchmarks.
    pub benchmark: Option<usize>,
    pub contrast: Contrast,
    /// p after correction.
    pub p: f64,
    /// Whether there is more than one test of this kind.
    pub corrected: bool,
}

impl Effect {
    /// Whether the difference is significant.
    pub(super) fn is_found(&self) -> bool {
        self.p < ALPHA
    }

    /// Whether other seeds alone could move the difference by as much.
    pub(super) fn is_within_seeds(&self) -> bool {
        let difference = self.contrast.paired.difference.abs();
        self.contrast.seeds.is_some_and(|seeds| difference < seeds.margin)
    }

    /// The smallest true difference that would be found in 80 % of the cases; `None` where the scores of no question differ, or
    /// all differ by the same amount: without variance the power is unknown.
    pub(super) fn detectable(&self, points: bool) -> Option<f64> {
        let error = self.contrast.paired.error;
        // No difference of fractions is above 1.
        let least = |error| if points { detectable(error) } else { detectable(error).min(1.0) };
        (error.is_finite() && error > 0.0).then(|| least(error))
    }
}

impl Grid<'_> {
    /// The headline effects: on the mean of the benchmarks, or on the only one.
    pub(super) fn headline_effects(&self) -> Result<Vec<Effect>> {
        let only = match self.scored[..] {
            [only] => Some(only),
            _ => None,
        };
        let mut effects = self.effects_on(&self.scored, only)?;
        correct(&mut effects);
        Ok(effects)
    }

    /// The effects on each of several benchmarks.
    pub(super) fn single_effects(&self) -> Result<Vec<Effect>> {
        let mut effects = Vec::new();
        if self.scored.len() > 1 {
            for benchmark in &self.scored {
                effects.extend(self.effects_on(&[*benchmark], Some(*benchmark))?);
            }
        }
        correct(&mut effects);
        Ok(effects)
    }

    fn effects_on(&self, which: &[usize], benchmark: Option<usize>) -> Result<Vec<Effect>> {
        let record = self.folder.record();
        let mut effects = Vec::new();
        for (axis, values) in [(Axis::Encoder, &record.encoders), (Axis::Llm, &record.llms)] {
            for (number, first) in values.iter().enumerate() {
                for second in &values[number + 1..] {
                    let Some(contrast) = self.contrast(&self.opposed(axis, first, second), which)? else { continue };
                    let (first, second) = (first.clone(), second.clone());
                    effects.push(Effect { axis, first, second, benchmark, contrast, p: 1.0, corrected: false });
                }
            }
        }
        Ok(effects)
    }

    /// The cells with the first value, and for each the cell that differs from it only in having the second.
    fn opposed(&self, axis: Axis, first: &str, second: &str) -> Vec<(usize, usize)> {
        let cells = &self.folder.record().cells;
        let parts = |cell: &StudyCell| match axis {
            Axis::Encoder => (cell.encoder.clone(), (cell.llm.clone(), cell.seed)),
            Axis::Llm => (cell.llm.clone(), (cell.encoder.clone(), cell.seed)),
        };
        let mut pairs = Vec::new();
        for (a, cell) in cells.iter().enumerate().filter(|(_, cell)| parts(cell).0 == first) {
            let rest = parts(cell).1;
            let other = cells.iter().position(|other| parts(other) == (second.to_string(), rest.clone()));
            pairs.extend(other.map(|b| (a, b)));
        }
        pairs
    }
}

fn correct(effects: &mut [Effect]) {
    let raw: Vec<f64> = effects.iter().map(|effect| effect.contrast.paired.p).collect();
    let corrected = raw.len() > 1;
    for (effect, p) in effects.iter_mut().zip(holm(&raw)) {
        (effect.p, effect.corrected) = (p, corrected);
    }
}

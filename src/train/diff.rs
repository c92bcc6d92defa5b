//! What two runs differ in: everything their locks hold, the first step at which their losses part, and the weights of the
//! last checkpoint that both have.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::run::{Lock, Run};
use super::same_weights::{self, WeightDifference};
use crate::error;
use crate::error::Result;

/// A fact of run.lock that two runs do not share: its name and both values.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub key: String,
    pub values: [String; 2],
}

/// How the losses of two runs compare, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct LossDifference {
    /// Steps that both have.
    pub common: usize,
    /// Steps each has.
    pub steps: [usize; 2],
    /// Steps each was to have.
    pub planned: [u64; 2],
    /// The first step (from 1) whose losses are not the same to the last bit, with both.
    pub first: Option<(u64, [f64; 2])>,
    /// The largest difference over the common steps.
    pub largest: f64,
    pub last: [Option<f64>; 2],
}

/// Two runs side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct RunDiff {
    pub facts: Vec<Difference>,
    /// Lines of the script from the first that differs to the last, `-` of the first run and `+` of the second.
    pub script: Vec<String>,
    pub losses: LossDifference,
    /// At the last step of which both have a checkpoint.
    pub weights: Option<WeightDifference>,
}

impl RunDiff {
    /// Compares two runs.
    ///
    /// # Errors
    /// `Usage` when they are one; what reading them gives.
    pub fn new(a: &Run, b: &Run) -> Result<Self> {
        let real = |run: &Run| std::fs::canonicalize(run.dir()).ok();
        if real(a).is_some() && real(a) == real(b) {
            return Err(error!(Usage, "`{}` and `{}` are one run", a.dir().display(), b.dir().display())
                .help("a run agrees with itself; name another one, or make it again: `llmore rerun RUN`"));
        }
        let (then, now) = (a.lock()?, b.lock()?);
        let planned = |lock: &Lock| lock.options.get("steps").and_then(Value::as_integer).unwrap_or(0) as u64;
        let losses = |run: &Run| -> Result<Vec<(u64, f64)>> {
            Ok(run.steps()?.iter().map(|step| (step.step, step.loss)).collect())
        };
        Ok(RunDiff {
            facts: facts(&then, &now),
            script: lines(&then.script, &now.script),
            losses: compare(&losses(a)?, &losses(b)?, [planned(&then), planned(&now)]),
            weights: same_weights::compare(a, b)?,
        })
    }

    /// Whether the runs computed the same: losses and weights agree to the last bit as far as both go.
    pub fn same(&self) -> bool {
        let weights = self.weights.as_ref().is_none_or(|weights| weights.first.is_none());
        self.losses.common > 0 && self.losses.first.is_none() && weights
    }
}

fn facts(a: &Lock, b: &Lock) -> Vec<Difference> {
    let texts = |lock: &Lock| {
        [
            ("llmore", lock.llmore.clone()),
            ("device", lock.device.clone()),
            ("threads", lock.threads.to_string()),
            ("model", lock.model.clone()),
            ("weights_sha256", lock.weights_sha256.clone()),
            ("dataset", lock.dataset.clone()),
            ("dataset_sha256", lock.dataset_sha256.clone()),
            ("args", lock.args.join(" ")),
        ]
    };
    let mut found = Vec::new();
    for ((key, then), (_, now)) in texts(a).into_iter().zip(texts(b)) {
        if then != now {
            found.push(Difference { key: key.to_string(), values: [then, now] });
        }
    }
    found.extend(tables("", &a.options, &b.options));
    found.extend(tables("--set ", &a.set, &b.set));
    found
}

fn tables(prefix: &str, a: &Table, b: &Table) -> Vec<Difference> {
    let show = |value: Option<&Value>| value.map_or_else(|| "not set".to_string(), Value::to_string);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    keys.into_iter()
        .filter(|key| a.get(*key) != b.get(*key))
        .map(|key| Difference { key: format!("{prefix}{key}"), values: [show(a.get(key)), show(b.get(key))] })
        .collect()
}

/// The lines between the common beginning and the common end.
fn lines(a: &str, b: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = (a.len() - start).min(b.len() - start);
    let end = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let removed = a[start..a.len() - end].iter().map(|line| format!("- {line}"));
    removed.chain(b[start..b.len() - end].iter().map(|line| format!("+ {line}"))).collect()
}

fn compare(a: &[(u64, f64)], b: &[(u64, f64)], planned: [u64; 2]) -> LossDifference {
    let others: BTreeMap<u64, f64> = b.iter().copied().collect();
    let common: Vec<(u64, [f64; 2])> =
        a.iter().filter_map(|(step, loss)| Some((*step, [*loss, *others.get(step)?]))).collect();
    LossDifference {
        common: common.len(),
        steps: [a.len(), b.len()],
        planned,
        first: common.iter().find(|(_, [x, y])| x.to_bits() != y.to_bits()).copied(),
        largest: common.iter().map(|(_, [x, y])| (x - y).abs()).fold(0.0, f64::max),
        last: [a.last().map(|step| step.1), b.last().map(|step| step.1)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let mut a = Lock { model: "a".to_string(), script: "one\ntwo\nthree".to_string(), ..Lock::default() };
        a.options.insert("batch".to_string(), Value::Integer(8));
        let mut b = a.clone();
        b.options.insert("batch".to_string(), Value::Integer(16));
        b.script = "one\n2\nthree".to_string();
        let values = ["8".to_string(), "16".to_string()];
        assert_eq!(facts(&a, &b), [Difference { key: "batch".to_string(), values }]);
        assert_eq!(lines(&a.script, &b.script), ["- two", "+ 2"]);
        assert_eq!(lines("x", "x\ny"), ["+ y"]);
        assert!(facts(&a, &a).is_empty() && lines(&a.script, &a.script).is_empty());
    }

    #[test]
    fn the_first_step_that_parts_is_found() {
        let difference = compare(&[(1, 2.0), (2, 1.5), (3, 1.0)], &[(1, 2.0), (2, 1.25)], [3, 3]);
        assert_eq!(difference.first, Some((2, [1.5, 1.25])));
        assert_eq!((difference.common, difference.largest), (2, 0.25));
    }
}

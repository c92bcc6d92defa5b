//! What trivial answerers score on the questions that are asked. A preset says it for the whole set; of a part of it, it is
//! computed where that is possible.

use std::collections::BTreeMap;

use super::answers::Answer;
use super::benchmark::Benchmark;
use super::item::Item;
use super::metrics::Metric;

/// Stands behind the name of a baseline that is known for the whole set alone.
const OF_ALL: &str = " of all questions";

impl Benchmark {
    /// The baselines beside a score over some of its questions.
    pub fn baselines_of(&self, items: &[&Item]) -> BTreeMap<String, f64> {
        if self.baselines.is_empty() || items.len() >= self.counts.found {
            return self.baselines.clone();
        }
        let of = |(name, score): (&String, &f64)| match self.baseline(name, items) {
            Some(score) => (name.clone(), score),
            None => (format!("{name}{OF_ALL}"), *score),
        };
        self.baselines.iter().map(of).collect()
    }

    /// What a baseline scores on some questions; `None` where its name does not say how it answers.
    fn baseline(&self, name: &str, items: &[&Item]) -> Option<f64> {
        let constant = match name.split_once(' ') {
            Some(("always", text)) => text,
            None if name == "majority" => self.common.as_str(),
            None if name == "chance" => return chance(self.scorer.metric(), items),
            _ => return None,
        };
        let answer = Answer { output: constant.to_string(), likelihoods: Vec::new() };
        let groups = self.groups(items);
        let rows = items.iter().zip(&groups).map(|(item, group)| self.row("", (*item, group), &answer, Vec::new()));
        Some(self.scorer.metric().headline(&rows.collect::<Vec<_>>())).filter(|score| score.is_finite())
    }
}

/// What drawing one of the choices scores, where that is a mean over questions.
fn chance(metric: Metric, items: &[&Item]) -> Option<f64> {
    let is_mean = matches!(metric, Metric::Mean(_) | Metric::Seed | Metric::Mmmu);
    let all = items.iter().map(|item| Some(item.gold.choices.len()).filter(|count| *count > 0));
    let counts = all.collect::<Option<Vec<usize>>>().filter(|counts| is_mean && !counts.is_empty())?;
    Some(counts.iter().map(|count| 1.0 / *count as f64).sum::<f64>() / counts.len() as f64)
}

/// A baseline's name in a table.
pub fn baseline_name(name: &str) -> String {
    match name.strip_suffix(OF_ALL) {
        Some(name) => format!("{name} baseline{OF_ALL}"),
        None => format!("{name} baseline"),
    }
}

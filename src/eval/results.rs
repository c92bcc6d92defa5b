//! Results: one row per question, scores and metrics derived from the rows, a JSON-lines file that opens again. A row
//! holds all that scoring needs, so a file explains and re-scores itself.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::answers::{Answer, Likelihood};
use super::benchmark::Benchmark;
use super::item::Item;
use super::metrics::Metric;
use super::result_file::{Facts, LeftOut, push, push_facts, read};
use super::row::Row;
use super::rules::Rules;
use super::scorers::Scorer;
use super::stats::{Groups, Interval, interval};
use crate::error::{Error, Result};
use crate::files;
use crate::{bail, error};

/// The answers of one model to one benchmark.
#[derive(Clone, Debug)]
pub struct Results {
    pub benchmark: String,
    /// What answered: a model's description, or `predictions`.
    pub model: String,
    pub rows: Vec<Row>,
    pub scorer: Scorer,
    pub rules: Rules,
    /// Questions that are not in the score.
    pub left_out: Vec<LeftOut>,
    pub facts: Facts,
}

impl Results {
    /// Scores raw outputs in item order.
    pub fn score_outputs(benchmark: &Benchmark, model: &str, outputs: &[String], seconds: f64) -> Result<Self> {
        if outputs.len() != benchmark.items.len() {
            bail!(
                Data,
                "benchmark `{}` has {} items, {} outputs were given",
                benchmark.id,
                benchmark.items.len(),
                outputs.len()
            );
        }
        let answer = |output: &String| Ok(Answer { output: output.clone(), likelihoods: Vec::new() });
        let mut facts = Facts { seconds, questions: benchmark.counted().unwrap_or_default(), ..Facts::default() };
        if benchmark.is_ungrouped() {
            facts.notes.push("no picture and no name of one: every question counts as a draw of its own".to_string());
        }
        let items: Vec<&Item> = benchmark.items.iter().collect();
        facts.baselines = benchmark.baselines_of(&items);
        let groups = benchmark.groups(&items);
        let items = items.into_iter().zip(groups.iter().map(String::as_str));
        Ok(Self::of_answers(benchmark, model, items.zip(outputs.iter().map(answer)), &|_| Vec::new(), facts))
    }

    /// Scores the questions that were answered and keeps the errors of the others; `pictures` are hashes of what was shown.
    pub(super) fn of_answers<'a>(
        benchmark: &Benchmark,
        model: &str,
        answers: impl Iterator<Item = ((&'a Item, &'a str), Result<Answer>)>,
        pictures: &dyn Fn(&Item) -> Vec<String>,
        facts: Facts,
    ) -> Self {
        let reason = |id: &str, error: &Error| LeftOut { id: id.to_string(), why: error.message() };
        let mut left_out: Vec<LeftOut> = benchmark.left_out.iter().map(|error| reason("", error)).collect();
        let mut rows = Vec::new();
        for (item, answer) in answers {
            match answer {
                Ok(answer) => rows.push(benchmark.row(model, item, &answer, pictures(item.0))),
                Err(error) => left_out.push(reason(&item.0.id, &error)),
            }
        }
        Results {
            benchmark: benchmark.id.clone(),
            model: model.to_string(),
            rows,
            scorer: benchmark.scorer,
            rules: benchmark.rules,
            left_out,
            facts,
        }
    }

    /// The headline: a fraction, or the points of MME; not a number where nothing scores automatically.
    pub fn score(&self) -> f64 {
        self.scorer.metric().headline(&self.rows)
    }

    /// 95 % interval of the headline over groups of questions; none where nothing scores automatically.
    pub fn interval(&self) -> Option<Interval> {
        if self.scorer.metric() == Metric::None {
            return None;
        }
        // Sums that are added in another order may differ in their last digit.
        interval(&self.groups()).map(|ends| ends.with(self.score()))
    }

    /// The headline's sums per group.
    pub fn groups(&self) -> Groups {
        self.scorer.metric().groups(&self.rows)
    }

    /// The same, the groups of questions taken from elsewhere.
    pub fn groups_by(&self, groups: &HashMap<String, String>) -> Groups {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            if let Some(group) = groups.get(&row.id) {
                row.group.clone_from(group);
            }
        }
        self.scorer.metric().groups(&rows)
    }

    /// Every metric.
    pub fn metrics(&self) -> Map<String, Value> {
        let mut values = self.scorer.metric().values(&self.rows);
        if !self.left_out.is_empty() {
            values.insert("left_out".to_string(), self.left_out.len().into());
        }
        values
    }

    /// Output -> extraction -> comparison -> score of a row, in words.
    pub fn why(&self, index: usize) -> Result<String> {
        let row = self.row(index)?;
        let verdict = self.scorer.score(row.rules, &row.output, &row.gold);
        let mut text = format!("{} `{}`\n  {:?}\n", row.benchmark, row.id, row.prompt);
        if !row.likelihoods.is_empty() {
            let likelihood = |one: &Likelihood| {
                format!("{} {:.4} ({:.2} %)", one.letter, one.log_probability, 100.0 * one.log_probability.exp())
            };
            let list: Vec<String> = row.likelihoods.iter().map(likelihood).collect();
            text += &format!("  log-probabilities after the prompt: {}\n", list.join(", "));
        }
        text += &format!("  output {:?}", row.output);
        text += &format!(" -> {} ({}, rules {})", verdict.why, self.scorer.version(), row.rules.name());
        if let Some(context) = self.scorer.metric().context(&self.rows, index) {
            text += &format!("\n  {context}");
        }
        if row.scorer != self.scorer.version() {
            text += &format!("\n  the stored score, {}, is that of {}", row.score, row.scorer);
        }
        Ok(text)
    }

    /// The same outputs under other rules.
    pub fn rescore(&self, rules: Rules) -> Result<Self> {
        self.scorer.check(rules)?;
        let mut results = self.clone();
        results.rules = rules;
        for row in &mut results.rows {
            let verdict = self.scorer.score(rules, &row.output, &row.gold);
            (row.extracted, row.score) = (verdict.extracted, verdict.score);
            (row.scorer, row.rules) = (self.scorer.version(), rules);
        }
        Ok(results)
    }

    /// The results of some questions alone.
    pub fn only(&self, ids: &HashSet<&str>) -> Self {
        let mut results = self.clone();
        results.rows.retain(|row| ids.contains(row.id.as_str()));
        results.left_out.retain(|left_out| left_out.id.is_empty() || ids.contains(left_out.id.as_str()));
        results
    }

    /// A row by position.
    pub fn row(&self, index: usize) -> Result<&Row> {
        self.rows.get(index).ok_or_else(|| error!(Data, "there are {} rows, no row {index}", self.rows.len()))
    }

    /// Positions of the `n` lowest scores, in item order among equals.
    pub fn worst(&self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|&a, &b| self.rows[a].score.total_cmp(&self.rows[b].score));
        order.truncate(n);
        order
    }

    /// Writes a JSON line for every question, also for those that are left out.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (mut text, mut facts) = (Vec::new(), Some(&self.facts));
        for row in &self.rows {
            push(&mut text, row, facts.take())?;
        }
        for left_out in &self.left_out {
            push(&mut text, left_out, facts.take())?;
        }
        if let Some(facts) = facts {
            push_facts(&mut text, facts)?;
        }
        files::write(path, &text)
    }

    /// Opens a file that `save` or a run with `out` wrote. Stored scores stay as they are; `rescore` makes new ones.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_all(&[path])
    }

    /// Opens the files of a run in parts (`shard`) as one.
    pub fn open_all(paths: &[&Path]) -> Result<Self> {
        let (mut rows, mut ids) = (Vec::new(), HashSet::new());
        let (mut left_out, mut facts): (Vec<LeftOut>, Option<Facts>) = (Vec::new(), None);
        for path in paths {
            let lines = read(path)?;
            for row in lines.rows {
                if !ids.insert(row.id.clone()) {
                    bail!(Data, "`{}`: question `{}` is answered twice", path.display(), row.id);
                }
                rows.push(row);
            }
            for one in lines.left_out {
                if !left_out.contains(&one) {
                    left_out.push(one);
                }
            }
            match &mut facts {
                // A part without any question says nothing in files of older versions.
                _ if lines.is_empty => {}
                None => facts = Some(lines.facts),
                Some(known) => known.join(path, lines.facts)?,
            }
        }
        let path = paths.first().map_or(String::new(), |path| path.display().to_string());
        let Some(first) = rows.first() else { bail!(Data, "`{path}` holds no results") };
        let same =
            |row: &&Row| row.benchmark == first.benchmark && row.model == first.model && row.rules == first.rules;
        if let Some(other) = rows.iter().find(|row| !same(row)) {
            let of = |row: &Row| format!("of `{}` to `{}` by rules {}", row.model, row.benchmark, row.rules.name());
            bail!(Data, "`{path}`: answers {} among those {}", of(other), of(first));
        }
        Ok(Results {
            benchmark: first.benchmark.clone(),
            model: if first.model.is_empty() { path } else { first.model.clone() },
            scorer: Scorer::of_version(&first.scorer)?,
            rules: first.rules,
            left_out,
            facts: facts.unwrap_or_default(),
            rows,
        })
    }
}

//! Results: one row per question, scores and metrics derived from the rows, a JSON-lines file that opens again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::benchmark::Benchmark;
use super::scorers::Scorer;
use super::stats::clustered_interval;
use crate::error::{Error, Result};
use crate::weights::write_atomically;
use crate::{bail, error};

/// One answered question; one line of `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub benchmark: String,
    pub id: String,
    /// What questions have to share to count as one draw: the image.
    pub group: String,
    pub category: String,
    pub prompt: String,
    pub output: String,
    pub extracted: String,
    pub answer: String,
    pub score: f64,
    pub scorer: String,
}

/// The answers of one model to one benchmark.
#[derive(Clone, Debug)]
pub struct Results {
    pub benchmark: String,
    /// What answered: a model's description, or `predictions`.
    pub model: String,
    pub rows: Vec<Row>,
    pub scorer: Scorer,
    pub baselines: BTreeMap<String, f64>,
    /// Wall-clock time of inference; 0 when nothing was run.
    pub seconds: f64,
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
        let rows = benchmark
            .items
            .iter()
            .zip(outputs)
            .map(|(item, output)| {
                let output = output.trim();
                let verdict = benchmark.scorer.score(output, &item.answer);
                Row {
                    benchmark: benchmark.id.clone(),
                    id: item.id.clone(),
                    group: item.image.as_ref().map_or_else(|| item.id.clone(), |image| image.key()),
                    category: item.category.clone(),
                    prompt: item.prompt.clone(),
                    output: output.to_string(),
                    extracted: verdict.extracted,
                    answer: item.answer.clone(),
                    score: verdict.score,
                    scorer: benchmark.scorer.version().to_string(),
                }
            })
            .collect();
        Ok(Results {
            benchmark: benchmark.id.clone(),
            model: model.to_string(),
            rows,
            scorer: benchmark.scorer,
            baselines: benchmark.baselines.clone(),
            seconds,
        })
    }

    /// The headline: mean score, a fraction.
    pub fn score(&self) -> f64 {
        mean(self.rows.iter().map(|row| row.score))
    }

    /// 95 % interval of the headline, clustered by image.
    pub fn interval(&self) -> Option<(f64, f64)> {
        let scores: Vec<_> = self.rows.iter().map(|row| (row.group.clone(), row.score)).collect();
        clustered_interval(&scores)
    }

    /// Mean score and number of rows per category.
    pub fn by_category(&self) -> BTreeMap<String, (f64, usize)> {
        let mut categories: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        for row in &self.rows {
            let entry = categories.entry(row.category.clone()).or_default();
            entry.0 += row.score;
            entry.1 += 1;
        }
        categories.into_iter().map(|(name, (sum, count))| (name, (sum / count as f64, count))).collect()
    }

    /// Output -> extraction -> comparison -> score of a row, in words.
    pub fn why(&self, index: usize) -> Result<String> {
        let row = self.row(index)?;
        let verdict = self.scorer.score(&row.output, &row.answer);
        Ok(format!("{} `{}`\n  {:?}\n  {} ({})", row.benchmark, row.id, row.prompt, verdict.why, row.scorer))
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

    /// Writes one JSON line per row.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = Vec::new();
        for row in &self.rows {
            serde_json::to_writer(&mut text, row).map_err(|error| error!(File, "`{}`: {error}", path.display()))?;
            text.push(b'\n');
        }
        write_atomically(path, |file| std::fs::write(file, &text).map_err(|error| Error::file(file, error)))
    }

    /// Opens a file that `save` wrote.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
        let mut rows = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let row: Row = serde_json::from_str(text)
                .map_err(|error| error!(Decode, "`{}`, line {}: {error}", path.display(), line + 1))?;
            rows.push(row);
        }
        let Some(first) = rows.first() else { bail!(Data, "`{}` holds no results", path.display()) };
        Ok(Results {
            benchmark: first.benchmark.clone(),
            model: path.display().to_string(),
            scorer: Scorer::of_version(&first.scorer)?,
            baselines: BTreeMap::new(),
            seconds: 0.0,
            rows,
        })
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

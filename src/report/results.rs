//! The page of one result: the score with its interval, every metric, and a gallery of answers.

use std::collections::HashSet;

use serde_json::Value;

use super::ReportOptions;
use super::answers::Answers;
use crate::error::{Error, Result};
use crate::eval::compare::shown;
use crate::eval::{Benchmark, Metric, Results, baseline_name};
use crate::show::page::{Block, Headline, Page, Section};
use crate::show::{Cell, Table, count, percent};
use crate::vlm::Vlm;

/// The number of questions in the gallery of a benchmark.
pub(super) const CARDS: usize = 48;

pub(super) fn page(
    results: &Results,
    benchmark: std::result::Result<&Benchmark, &Error>,
    model: Option<&Vlm>,
    options: &ReportOptions,
) -> Result<Page> {
    let mut about = vec![format!("answers by {}", results.model)];
    about.extend(benchmark.ok().map(|benchmark| benchmark.about.clone()));
    let (tables, gallery) = blocks(results, benchmark, Ok(model), options)?;
    let score = Section { title: "Score".to_string(), blocks: tables };
    Ok(Page {
        title: format!("Results: {}", results.benchmark),
        about,
        headlines: headlines(results, benchmark.ok()),
        sections: vec![score, Section::new("Answers").with(gallery)],
    })
}

/// The tables of one result and the gallery of its answers.
pub(super) fn blocks(
    results: &Results,
    benchmark: std::result::Result<&Benchmark, &Error>,
    model: std::result::Result<Option<&Vlm>, &Error>,
    options: &ReportOptions,
) -> Result<(Vec<Block>, Block)> {
    let mut tables = vec![Block::Table(results.table()), Block::Table(metrics(results))];
    if !results.left_out.is_empty() {
        let reasons = results.left_out.iter().take(CARDS).map(|left_out| left_out.why.clone()).collect();
        tables.extend([Block::Note("Left out:".to_string()), Block::List(reasons)]);
    }
    let answers = Answers { results, benchmark, model, maps: options.maps, most: CARDS };
    Ok((tables, Block::Gallery(answers.gallery("")?)))
}

pub(super) fn headlines(results: &Results, benchmark: Option<&Benchmark>) -> Vec<Headline> {
    let score = results.score();
    let interval = results.interval().filter(|_| score.is_finite()).map_or(String::new(), |interval| {
        format!("{} to {} (95 %)", shown(results, interval.low), shown(results, interval.high))
    });
    let mut headlines = vec![Headline::new(results.benchmark.as_str(), shown(results, score), interval)];
    let groups = results.groups().len();
    let pictures = if groups < results.rows.len() { format!("in {} groups", count(groups)) } else { String::new() };
    headlines.push(Headline::new("questions", count(results.rows.len()), pictures));
    if results.scorer.metric() != Metric::None {
        let wrong = results.rows.iter().filter(|row| row.score < 1.0).count();
        headlines.push(Headline::new("not fully right", count(wrong), "answers"));
    }
    let unread = results.rows.iter().filter(|row| row.is_unread()).count();
    headlines.push(Headline::new("could not be read", count(unread), "count as wrong"));
    // A file of an older version does not have them.
    let ids: HashSet<&str> = results.rows.iter().map(|row| row.id.as_str()).collect();
    let of = |benchmark: &Benchmark| {
        let asked: Vec<_> = benchmark.items.iter().filter(|item| ids.contains(item.id.as_str())).collect();
        benchmark.baselines_of(&asked)
    };
    let baselines = match results.facts.baselines.is_empty() {
        true => benchmark.map(of).unwrap_or_default(),
        false => results.facts.baselines.clone(),
    };
    if let Some((name, score)) = baselines.iter().max_by(|a, b| a.1.total_cmp(b.1)) {
        headlines.push(Headline::new("best baseline", percent(*score), baseline_name(name)));
    }
    headlines
}

/// Every metric by name; metrics per category are in the table of the score.
fn metrics(results: &Results) -> Table {
    let mut table = Table::new("all metrics").column("metric").number("value");
    for (name, value) in &results.metrics() {
        match value {
            Value::Number(number) => {
                let cell = number.as_u64().map(|n| Cell::from(n as usize));
                table.push([
                    Cell::from(name.as_str()),
                    cell.unwrap_or_else(|| number.as_f64().unwrap_or(f64::NAN).into()),
                ]);
            }
            Value::Object(_) | Value::Array(_) => {}
            other => table.push([Cell::from(name.as_str()), Cell::from(other.to_string())]),
        }
    }
    table.note(format!("scorer {}, rules {}", results.scorer.version(), results.rules.name()))
}

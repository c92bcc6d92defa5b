//! Comparison: results side by side, benchmark by benchmark. The first result of a benchmark is what the others are compared
//! with, question by question; p values are corrected for their number (Holm).

use std::collections::HashMap;

use super::groups::shared;
use super::metrics::Metric;
use super::names::names;
use super::published::PublishedModel;
use super::results::Results;
use super::row::Row;
use super::rules::Rules;
use super::stats::{Paired, detectable, holm, mcnemar, paired};
use crate::error::{Context, Result};
use crate::show::{Cell, Table, grouped, p_value, percent};
use crate::{bail, error};

/// One result beside the first of its benchmark.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    pub results: &'a Results,
    /// The difference from the first result of the benchmark; `None` for that one itself and where nothing is scored.
    pub paired: Option<Paired>,
    /// p after Holm's correction over all comparisons.
    pub p: Option<f64>,
    /// Whether its score is the highest of its benchmark, among several.
    pub best: bool,
}

/// Pairs results of the same benchmarks.
///
/// # Errors
/// `Data` when two results of a benchmark are not about the same questions or were scored by other rules.
pub fn compare<'a>(all: &[&'a Results]) -> Result<Vec<Compared<'a>>> {
    let mut compared: Vec<Compared> = Vec::new();
    let mut benchmarks: Vec<&str> = all.iter().map(|results| results.benchmark.as_str()).collect();
    benchmarks.sort_by_key(|id| all.iter().position(|results| results.benchmark == **id));
    benchmarks.dedup();
    for benchmark in benchmarks {
        let of: Vec<&Results> = all.iter().copied().filter(|results| results.benchmark == benchmark).collect();
        let highest = of.iter().map(|results| results.score()).fold(f64::NEG_INFINITY, f64::max);
        for (number, results) in of.iter().enumerate() {
            let paired = match number {
                0 => None,
                _ if results.scorer.metric() == Metric::None => None,
                _ => Some(pair(of[0], results).context(|| format!("benchmark `{benchmark}`"))?),
            };
            let best = of.len() > 1 && results.score() == highest;
            compared.push(Compared { results, paired, p: None, best });
        }
    }
    let raw: Vec<f64> = compared.iter().filter_map(|one| one.paired.as_ref()).map(|paired| paired.p).collect();
    let mut corrected = holm(&raw).into_iter();
    for one in compared.iter_mut().filter(|one| one.paired.is_some()) {
        one.p = corrected.next();
    }
    Ok(compared)
}

/// Refuses results that were scored otherwise or are not about the same questions.
///
/// # Errors
/// `Data`, naming both.
pub fn check_same(first: &Results, second: &Results) -> Result<()> {
    let named = || <[String; 2]>::try_from(names(&[first, second])).unwrap_or_default();
    if first.scorer != second.scorer || first.rules != second.rules {
        let [one, other] = named();
        bail!(
            Data,
            "`{one}` was scored by {} with rules {}, `{other}` by {} with rules {}",
            first.scorer.version(),
            first.rules.name(),
            second.scorer.version(),
            second.rules.name()
        );
    }
    let mut ids = [first, second].map(|results| results.rows.iter().map(|row| &row.id).collect::<Vec<_>>());
    ids.iter_mut().for_each(|ids| ids.sort_unstable());
    if ids[0] == ids[1] {
        return Ok(());
    }
    let both = ids[0].iter().filter(|id| ids[1].binary_search(id).is_ok()).count();
    let ([one, other], [a, b]) = (named(), [ids[0].len(), ids[1].len()]);
    let what = format!("the questions are not the same: `{one}` answers {}, `{other}` {}", grouped(a), grouped(b));
    let (few, many) = (a.min(b), a.max(b));
    Err(match both {
        both if both == few => error!(Data, "{what}; {} of them both", grouped(both)).help(format!(
            "run both with the same `limit`: `b.run(m, #{{ limit: {few} }})`, or let the other one answer all {}",
            grouped(many)
        )),
        both => error!(Data, "{what}; {} of them both", grouped(both))
            .help("results are compared question by question: run both on the same data with the same `limit`"),
    })
}

fn pair(first: &Results, second: &Results) -> Result<Paired> {
    check_same(first, second)?;
    let (first, second) = match shared(&[first, second]) {
        None => (first.groups(), second.groups()),
        Some(groups) => (first.groups_by(&groups), second.groups_by(&groups)),
    };
    let mut paired = paired(&first, &second)?;
    // Where every question is a group of its own, the exact test of the discordant pairs says the same and is exact.
    if let Some((a, b)) = super::stats::discordant(&first, &second) {
        paired.p = mcnemar(a, b);
    }
    Ok(paired)
}

/// A score as people read it: percent, or points.
pub fn shown(results: &Results, value: f64) -> String {
    match results.scorer.metric().is_points() {
        _ if value.is_nan() => "no score".to_string(),
        true => format!("{value:.1}"),
        false => percent(value),
    }
}

/// The same for an interval or a difference, with its sign.
fn signed(results: &Results, value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!("{sign}{}", shown(results, value))
}

/// The comparison as a table, with the published numbers of a model where asked for.
pub fn table(compared: &[Compared], published: Option<&PublishedModel>) -> Table {
    let mut table = Table::new("comparison")
        .column("benchmark")
        .column("answers by")
        .number("questions")
        .number("score")
        .column("95 % interval")
        .number("difference")
        .column("95 % interval of it")
        .number("p (Holm)");
    if let Some(model) = published {
        table = table.number(format!("published: {}", model.name));
    }
    let called = names(&compared.iter().map(|one| one.results).collect::<Vec<_>>());
    for (one, called) in compared.iter().zip(&called) {
        let (results, score) = (one.results, one.results.score());
        let interval = results.interval().map_or(String::new(), |interval| {
            format!("{} to {}", shown(results, interval.low), shown(results, interval.high))
        });
        let mut cells = vec![
            Cell::from(results.benchmark.as_str()),
            Cell::from(called.as_str()).bold_if(one.best),
            results.rows.len().into(),
            Cell::of(shown(results, score), score).bold_if(one.best),
            interval.into(),
        ];
        match &one.paired {
            None => cells.extend([Cell::from(""), Cell::from(""), Cell::from("")]),
            Some(paired) => {
                let interval = paired.interval.map_or(String::new(), |interval| {
                    format!("{} to {}", signed(results, interval.low), signed(results, interval.high))
                });
                let p = one.p.unwrap_or(1.0);
                cells.push(Cell::of(signed(results, paired.difference), paired.difference));
                cells.push(interval.into());
                cells.push(Cell::of(p_value(p), p));
            }
        }
        if let Some(model) = published {
            let headline = model.headline(&results.benchmark);
            cells.push(headline.map_or(Cell::from(""), |value| Cell::of(shown(results, value), value)));
        }
        table.push(cells);
    }
    let notes = notes(compared);
    if notes.is_empty() { table } else { table.note(notes.join("; ")) }
}

/// What is not as published, what is missing, and what the comparisons could have found.
fn notes(compared: &[Compared]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    for results in compared.iter().map(|one| one.results) {
        let questions = Some(&results.facts.questions).filter(|questions| !questions.is_empty()).cloned();
        for about in questions.into_iter().chain(results.warnings()) {
            let note = format!("{}: {about}", results.benchmark);
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes.extend(other_questions(compared));
    let found = compared.iter().filter_map(|one| Some((one.results, one.paired.as_ref()?)));
    // No difference is larger than the scale.
    let least = |results: &Results, error: f64| detectable(error).min(results.groups().scale);
    let found: Vec<String> = found
        .filter(|(_, paired)| paired.error > 0.0)
        .map(|(results, paired)| format!("{} {}", results.benchmark, shown(results, least(results, paired.error))))
        .collect();
    if !found.is_empty() {
        notes.push(format!("smallest difference found in 80 % of cases: {}", found.join(", ")));
    }
    notes
}

/// What questions of the same ids have not in common: other pictures or right answers may be what is compared, and people
/// should know.
fn other_questions(compared: &[Compared]) -> Vec<String> {
    let mut notes = Vec::new();
    for (place, one) in compared.iter().enumerate() {
        let first = compared[..place].iter().find(|other| other.results.benchmark == one.results.benchmark);
        let Some(first) = first else { continue };
        let known: HashMap<&str, &Row> = first.results.rows.iter().map(|row| (row.id.as_str(), row)).collect();
        let count = |differs: &dyn Fn(&Row, &Row) -> bool| {
            let rows = one.results.rows.iter();
            rows.filter(|row| known.get(row.id.as_str()).is_some_and(|known| differs(known, row))).count()
        };
        let golds = count(&|a, b| a.gold != b.gold);
        let pictures = count(&|a, b| !a.pictures.is_empty() && !b.pictures.is_empty() && a.pictures != b.pictures);
        for (n, what) in [(golds, "right answers"), (pictures, "pictures")] {
            let note = format!(
                "{}: {} questions have other {what} than in the first results",
                one.results.benchmark,
                grouped(n)
            );
            if n > 0 && !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    notes
}

/// What changed when outputs were scored by other rules.
pub fn rescored(before: &Results, after: &Results) -> Table {
    let (old, new): (Rules, Rules) = (before.rules, after.rules);
    let mut table = Table::new(format!("{}, scored again", before.benchmark))
        .column("metric")
        .number(old.name())
        .number(new.name())
        .number("difference");
    let (old, new) = (before.metrics(), after.metrics());
    for (name, value) in &new {
        let (Some(value), Some(was)) = (value.as_f64(), old.get(name).and_then(serde_json::Value::as_f64)) else {
            continue;
        };
        table.push([Cell::from(name.as_str()), was.into(), value.into(), (value - was).into()]);
    }
    let rows = || before.rows.iter().zip(&after.rows);
    let gained = rows().filter(|(before, after)| after.score > before.score).count();
    let lost = rows().filter(|(before, after)| after.score < before.score).count();
    table.note(format!("{gained} of {} rows score higher, {lost} lower", before.rows.len()))
}

#[cfg(test)]
mod tests {
    use super::super::gold::Gold;
    use super::super::result_file::Facts;
    use super::super::scorers::Scorer;
    use super::*;

    /// Results of a model on five questions.
    fn results(model: &str, scores: [f64; 5]) -> Results {
        let row = |(id, score): (usize, f64)| Row {
            benchmark: "b".to_string(),
            model: model.to_string(),
            id: id.to_string(),
            group: id.to_string(),
            category: String::new(),
            section: String::new(),
            prompt: String::new(),
            pictures: Vec::new(),
            output: String::new(),
            likelihoods: Vec::new(),
            extracted: Some("x".to_string()),
            gold: Gold::new("x"),
            score,
            scorer: "exact_match/2".to_string(),
            rules: Rules::default(),
        };
        Results {
            benchmark: "b".to_string(),
            model: model.to_string(),
            rows: scores.into_iter().enumerate().map(row).collect(),
            scorer: Scorer::of_version("exact_match/2").unwrap(),
            rules: Rules::default(),
            left_out: Vec::new(),
            facts: Facts::default(),
        }
    }

    #[test]
    fn all_are_compared_with_the_first_and_the_highest_is_the_best() {
        let (first, second) = (results("1", [1.0, 0.0, 0.0, 0.0, 0.0]), results("2", [1.0; 5]));
        let third = results("3", [1.0, 1.0, 1.0, 0.0, 0.0]);
        let compared = compare(&[&first, &second, &third]).unwrap();
        assert_eq!(compared.iter().map(|one| one.best).collect::<Vec<_>>(), [false, true, false]);
        let differences: Vec<Option<f64>> =
            compared.iter().map(|one| one.paired.as_ref().map(|paired| (10.0 * paired.difference).round())).collect();
        assert_eq!(differences, [None, Some(8.0), Some(4.0)]);
        // 4 and 2 questions that differ, all one way: 2 / 2^4 and 2 / 2^2; twice the first, and not below that.
        let p: Vec<Option<f64>> = compared.iter().map(|one| one.p).collect();
        assert_eq!(p, [None, Some(0.25), Some(0.5)]);
        assert!(!compare(&[&first]).unwrap()[0].best, "alone it is the best of nothing");
        let told = rescored(&first, &third).text(None, false);
        assert!(told.contains("2 of 5 rows score higher, 0 lower"), "{told}");
    }
}

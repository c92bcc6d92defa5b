//! A result as a table: the score with its interval, categories, what trivial answerers reach, and what to know about it.

use super::baselines::baseline_name;
use super::compare::shown;
use super::metrics::Metric;
use super::result_file::Shard;
use super::results::Results;
use super::rules::Rules;
use super::stats::{Groups, interval};
use super::{Choices, Facts};
use crate::show::{Cell, Table, count, percent, seconds};

/// Unread answers that a table names.
const EXAMPLES: usize = 3;

impl Results {
    /// The score with its interval, categories, and what trivial answerers reach.
    pub fn table(&self) -> Table {
        let metric = self.scorer.metric();
        let text = |value: f64| shown(self, value);
        let counted = match self.facts.questions.as_str() {
            "" => String::new(),
            questions => format!(", {questions}"),
        };
        let mut table = Table::new(format!("{} on {}{counted}", self.model, self.benchmark))
            .column("answers by")
            .number("questions")
            .number("score")
            .column("95 % interval");
        let mut push = |name: Cell, questions: usize, groups: &Groups, bold: bool| {
            let value = groups.value();
            let ends =
                interval(groups).map_or(String::new(), |ends| format!("{} to {}", text(ends.low), text(ends.high)));
            table.push([name, questions.into(), Cell::of(text(value), value).bold_if(bold), ends.into()]);
        };
        if metric != Metric::None {
            push(Cell::from("the model").bold(), self.rows.len(), &self.groups(), true);
            for (category, questions, groups) in metric.by_category(&self.rows) {
                push(Cell::from(format!("  {category}")), questions, &groups, false);
            }
        }
        for (name, score) in &self.facts.baselines {
            let score = Cell::of(percent(*score), *score);
            table.push([Cell::from(baseline_name(name)), Cell::from(""), score, Cell::from("")]);
        }
        let notes = notes(self);
        if notes.is_empty() { table } else { table.note(notes.join("; ")) }
    }
}

impl Results {
    /// What is missing, where these are not all the answers of a run.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.facts.shard.iter().filter_map(Shard::missing).collect();
        let left_out = self.left_out.iter().filter(|left_out| !left_out.id.is_empty()).count();
        let (done, asked) = (self.rows.len() + left_out, self.facts.asked);
        if done < asked {
            warnings.push(format!("{} of {} questions are answered: the run was stopped", count(done), count(asked)));
        }
        warnings
    }
}

/// Of a model that was opened from a folder, which one it is: its name says the parts alone.
fn about_model(results: &Results) -> Option<String> {
    let fact = |key: &str| results.facts.made.get(key).map(String::as_str);
    let folder = fact("folder")?;
    let made_of = fact("made of").map_or(String::new(), |parts| format!(", made of {parts}"));
    let more: Vec<&str> = ["numbers", "adapter"].iter().filter_map(|key| fact(key)).collect();
    let template = fact("template").map_or(String::new(), |name| format!(", template {name}"));
    Some(format!("the model is `{folder}`{made_of}: {}{template}", more.join(", ")))
}

fn notes(results: &Results) -> Vec<String> {
    let mut notes = results.warnings();
    notes.extend(about_model(results));
    notes.extend(results.facts.notes.iter().cloned());
    if results.scorer.metric() == Metric::None {
        notes.push(format!("{} answers, nothing scores them automatically", results.rows.len()));
    }
    if results.rules != Rules::default() {
        notes.push(format!("rules: {}{}", results.rules.name(), results.scorer.differs(results.rules)));
    }
    let unparsed: Vec<&str> = results.rows.iter().filter(|row| row.is_unread()).map(|row| row.id.as_str()).collect();
    if !unparsed.is_empty() {
        let ids = unparsed.iter().take(EXAMPLES).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        let more = if unparsed.len() > EXAMPLES { ", ..." } else { "" };
        notes.push(format!("unparsed: {} answers could not be read and count as wrong ({ids}{more})", unparsed.len()));
    }
    if let Some(trained) = &results.facts.trained_template {
        notes.push(format!("asked by template `{}`, trained or made with `{trained}`", results.facts.template));
    }
    if results.facts.choices == Choices::Likelihood {
        notes.push("the answer is the likeliest letter".to_string());
    }
    if let Some(first) = results.left_out.first() {
        notes.push(format!("{} questions left out, the first: {}", results.left_out.len(), first.why));
    }
    if results.rows.iter().any(|row| row.category == "video" && row.scorer.starts_with("seed/")) {
        notes.push("of a video the first frame is shown".to_string());
    }
    let Facts { seconds: took, cached, .. } = results.facts;
    if cached > 0 {
        notes.push(format!("{} answers from the cache", count(cached)));
    }
    if took > 0.0 {
        let speed = results.rows.len().saturating_sub(cached) as f64 / took;
        notes.push(format!("{}, {} questions/s", seconds(took), count(speed as usize)));
    }
    notes
}

//! The output of `llmore diff` and `llmore rerun`: tables and lines about two runs, two studies, or two files of answers.

use std::path::Path;

use super::output;
use super::say::say;
use crate::error;
use crate::error::Result;
use crate::eval::{AnswerDiff, Results};
use crate::show::{Cell, Table, number};
use crate::study::{Folder, RECORD, StudyDiff};
use crate::train::{LossDifference, Run, RunDiff, WeightDifference};

/// A comparison, ready to be printed.
#[derive(Default)]
pub(super) struct Comparison {
    tables: Vec<Table>,
    lines: Vec<String>,
    /// The number of steps and questions that both sides have.
    pub count: usize,
    pub differs: bool,
}

impl Comparison {
    /// Two runs, or two studies.
    pub(super) fn of(a: &Path, b: &Path) -> Result<Self> {
        let is_study = |path: &Path| path.join(RECORD).is_file();
        match (is_study(a), is_study(b)) {
            (true, true) => Comparison::studies(a, b, None),
            (false, false) => Comparison::runs(&Run::open(a)?, &Run::open(b)?, &[]),
            (one, _) => {
                let (study, run) = if one { (a, b) } else { (b, a) };
                let cells = Folder::open(study)?.record().cells.first().and_then(|cell| cell.stages.first().cloned());
                let example = cells.map_or(study.join("cells/CELL/stage-1"), |stage| study.join(stage));
                Err(error!(Usage, "`{}` is a study, `{}` is none", study.display(), run.display()).help(format!(
                    "two runs or two studies are compared; a run of the study is `{}`",
                    example.display()
                )))
            }
        }
    }

    /// Two runs: the differences of their locks (except for the options in `known`), their losses, their last common weights.
    pub(super) fn runs(a: &Run, b: &Run, known: &[&str]) -> Result<Self> {
        let diff = RunDiff::new(a, b)?;
        let names = [a, b].map(|run| run.dir().display().to_string());
        let mut table = Table::new("differences").column("what").column(&names[0]).column(&names[1]);
        for fact in diff.facts.iter().filter(|fact| !known.contains(&fact.key.as_str())) {
            // The first digits of a hash are enough to see whether it is the same.
            let length = if fact.key.ends_with("sha256") { 12 } else { usize::MAX };
            let [then, now] = fact.values.each_ref().map(|value| value.chars().take(length).collect::<String>());
            table.push([Cell::from(fact.key.clone()), then.into(), now.into()]);
        }
        let losses = &diff.losses;
        let last = |loss: Option<f64>| loss.map_or_else(|| "no step".to_string(), number);
        table.push([Cell::from("steps done"), losses.steps[0].into(), losses.steps[1].into()]);
        table.push([Cell::from("last loss"), last(losses.last[0]).into(), last(losses.last[1]).into()]);
        let mut lines = diff.script.clone();
        lines.push(about_losses(losses));
        lines.extend(about_ends(losses, &names));
        lines.push(about_weights(diff.weights.as_ref()));
        Ok(Comparison { tables: vec![table], lines, count: losses.common, differs: losses.common > 0 && !diff.same() })
    }

    /// Two studies, or a cell of them.
    pub(super) fn studies(a: &Path, b: &Path, cell: Option<&str>) -> Result<Self> {
        let diff = StudyDiff::new(a, b, cell)?;
        let title = format!("`{}` and `{}`", a.display(), b.display());
        let mut table = Table::new(title).column("what").column("verdict");
        let (mut count, mut lines) = (0, Vec::new());
        for (name, run) in &diff.runs {
            count += run.losses.common;
            let facts = run.facts.iter().map(|fact| fact.key.as_str()).filter(|key| *key != "out");
            let facts: Vec<&str> = facts.collect();
            let mut verdict = format!("{}; {}", about_losses(&run.losses), about_weights(run.weights.as_ref()));
            if !facts.is_empty() {
                verdict = format!("{verdict}; {} differ", facts.join(", "));
            }
            table.push([Cell::from(name.as_str()), verdict.into()]);
        }
        for (name, answers) in &diff.answers {
            count += answers.common;
            table.push([Cell::from(name.as_str()), answers.to_string().into()]);
        }
        for (dir, only) in [a, b].iter().zip(&diff.only).filter(|(_, only)| !only.is_empty()) {
            lines.push(format!("only in `{}`: {}", dir.display(), only.join(", ")));
        }
        if count == 0 {
            lines.push("no step and no answer in common".to_string());
        }
        Ok(Comparison { tables: vec![table], lines, count, differs: count > 0 && !diff.same() })
    }

    /// Adds files of answers.
    pub(super) fn answers(&mut self, a: &Path, b: &Path) -> Result<()> {
        let diff = AnswerDiff::new(&Results::open(a)?, &Results::open(b)?);
        self.lines.push(format!("`{}`: {diff}", a.display()));
        self.count += diff.common;
        self.differs |= diff.common > 0 && !diff.same();
        Ok(())
    }

    /// Prints it; the exit code says whether something was compared and both sides agree.
    pub(super) fn print(&self, json: bool) -> i32 {
        self.tables.iter().for_each(|table| output::print_table(table, json));
        self.lines.iter().for_each(|line| say(line));
        i32::from(self.differs || self.count == 0)
    }
}

fn steps(number: usize) -> String {
    if number == 1 { "1 step".to_string() } else { format!("{number} steps") }
}

fn about_losses(losses: &LossDifference) -> String {
    match losses.first {
        None if losses.common == 0 => "no step in common".to_string(),
        None => format!("losses agree to the last bit over {}", steps(losses.common)),
        Some((step, [x, y])) => format!(
            "losses part at step {step}: {x:.9} and {y:.9}; the largest difference is {:.3e} over {}",
            losses.largest,
            steps(losses.common)
        ),
    }
}

/// The steps at which the runs ended, unless both are complete.
fn about_ends(losses: &LossDifference, names: &[String; 2]) -> Option<String> {
    let whole = |side: usize| losses.steps[side] as u64 == losses.planned[side];
    if losses.steps[0] == losses.steps[1] && whole(0) && whole(1) {
        return None;
    }
    let end = |side: usize| format!("`{}` has {} of {} steps", names[side], losses.steps[side], losses.planned[side]);
    Some(format!("{} were compared: {}, {}", losses.common, end(0), end(1)))
}

fn about_weights(weights: Option<&WeightDifference>) -> String {
    match weights {
        None => "no checkpoint of the same step, so weights were not compared".to_string(),
        Some(WeightDifference { step, first: None, .. }) => format!("weights agree to the last bit at step {step}"),
        Some(WeightDifference { step, first: Some((file, tensor, by)), .. }) => {
            format!("weights of step {step} differ: `{tensor}` of {file} by {by:.3e} at most")
        }
    }
}

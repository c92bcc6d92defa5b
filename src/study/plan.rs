//! The cost of a study: what is left to do per cell, with times from dry steps and from a few questions for each pair of
//! encoder and LLM. What is done is not measured again, and what cells share is counted once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::Study;
use super::cells::{StudyCell, below};
use super::parts::SharedParts;
use super::run::{Progress, progress};
use super::standing::{answered, look};
use crate::error::{Kind, Result};
use crate::eval::{self, Benchmark};
use crate::events::{Event, Listeners};
use crate::show::{self, Cell, Table};
use crate::train::{Limits, Plan};

/// How many questions of each benchmark are timed.
const TIMED: usize = 8;

/// The measurements for an encoder with an LLM.
struct Measured {
    stages: Vec<Plan>,
    /// Seconds per question, by benchmark.
    question: BTreeMap<String, f64>,
}

/// Totals, summed up cell by cell.
#[derive(Default)]
struct Totals {
    seconds: f64,
    bytes: u64,
    peak_disk: u64,
    memory: u64,
    /// Seconds that shared runs and shared features save.
    runs_saved: f64,
    features_saved: f64,
    runs_shared: usize,
    /// Run folders counted already, and (encoder, stage) whose features are available from there on.
    seen: BTreeMap<String, String>,
    encoded: BTreeSet<(String, usize)>,
}

impl Study {
    /// The plan as a table: per cell each stage, the questions and the time; below it the totals, and what sharing saves.
    ///
    /// # Errors
    /// `Interrupted`. A pair that cannot be measured is not an error: the rows of its cells say why.
    pub fn plan(&mut self) -> Result<Table> {
        look(&self.options.out, &mut self.record, &self.asked)?;
        let this = &*self;
        this.planned()
    }

    fn planned(&self) -> Result<Table> {
        let mut kept = SharedParts::default();
        let mut totals = Totals::default();
        let mut table = Table::new(format!("plan of a study: {}", self.record.about)).column("cell");
        for stage in 0..self.stages.len() {
            table = table.column(self.stage_name(stage));
        }
        table = table.number("questions left").number("time");
        let (mut pair, mut measured) = (None, None);
        let (start, total) = (Instant::now(), self.record.cells.len() as u64);
        let (task, unit) = ("planning".to_string(), "cells".to_string());
        self.setup.listeners.tell(&Event::Start { task: task.clone(), done: 0, total, unit: unit.clone() });
        for (done, cell) in (0..).zip(&self.record.cells) {
            self.setup.listeners.tell(&Event::Progress { task: task.clone(), done, total });
            let now = (cell.encoder.as_str(), cell.llm.as_str());
            if pair != Some(now) {
                let mine = |other: &&StudyCell| (other.encoder.as_str(), other.llm.as_str()) == now;
                let left = self.record.cells.iter().filter(mine).any(|cell| self.is_left(cell));
                measured = if left { Some(self.measure(cell, &mut kept)) } else { None };
                pair = Some(now);
            }
            match &measured {
                Some(Err(error)) if error.kind() == Kind::Interrupted => return Err(error.clone()),
                Some(Err(error)) => {
                    table.push([Cell::from(cell.id.as_str()), format!("cannot be planned: {}", error.message()).into()])
                }
                Some(Ok(measured)) => table.push(self.row(cell, Some(measured), &mut totals)?),
                None => table.push(self.row(cell, None, &mut totals)?),
            }
        }
        let (status, seconds) = ("done".to_string(), start.elapsed().as_secs_f64());
        self.setup.listeners.tell(&Event::End { task, done: total, total, unit, status, seconds });
        Ok(table.note(self.totals(&totals)))
    }

    /// Whether anything of a cell is left to do.
    fn is_left(&self, cell: &StudyCell) -> bool {
        !self.record.left(cell).is_empty()
    }

    fn row(&self, cell: &StudyCell, measured: Option<&Measured>, totals: &mut Totals) -> Result<Vec<Cell>> {
        let mut seconds = 0.0;
        let mut row = vec![Cell::from(cell.id.as_str())];
        for stage in 0..self.stages.len() {
            let (text, time) = self.stage(cell, stage, measured, totals)?;
            row.push(text.into());
            seconds += time;
        }
        let mut questions = 0;
        let holder = if self.is_left(cell) { self.holder(cell) } else { None };
        for place in self.record.left(cell) {
            let result = &cell.results[place];
            let all = self.record.questions.get(&result.benchmark).copied().unwrap_or(0);
            let ids = self.asked.ids(&result.benchmark);
            let left = all.saturating_sub(answered(&below(&self.options.out, &result.file)?, ids.as_ref()));
            questions += left;
            let each = measured.and_then(|measured| measured.question.get(&result.benchmark)).copied().unwrap_or(0.0);
            seconds += left as f64 * each;
        }
        totals.seconds += seconds;
        row.push(questions.into());
        row.push(match self.is_left(cell) {
            true if holder.is_some() => {
                format!("being made by {}", holder.map_or(String::new(), |holder| holder.to_string())).into()
            }
            true => Cell::of(show::seconds(seconds), seconds),
            false => Cell::of("done", 0.0),
        });
        Ok(row)
    }

    /// What is left of a stage, in words and in seconds.
    fn stage(
        &self,
        cell: &StudyCell,
        stage: usize,
        measured: Option<&Measured>,
        totals: &mut Totals,
    ) -> Result<(String, f64)> {
        let folder = &cell.stages[stage];
        let state = match self.is_left(cell) && self.whole_at(cell)?.is_none_or(|last| stage > last) {
            true => progress(&below(&self.options.out, folder)?)?,
            // Its outcome is in the weights of a later stage.
            false => Progress::Done,
        };
        let plan = measured.and_then(|measured| measured.stages.get(stage));
        if let Some(first) = totals.seen.get(folder) {
            totals.runs_shared += 1;
            totals.runs_saved += plan.map_or(0.0, |plan| plan.time.total);
            return Ok((format!("that of {first}"), 0.0));
        }
        totals.seen.insert(folder.clone(), cell.id.clone());
        let Some(plan) = plan else { return Ok((if state == Progress::Done { "done" } else { "" }.to_string(), 0.0)) };
        let memory = &plan.memory;
        totals.bytes += plan.disk.checkpoint.saturating_sub(memory.moments + memory.masters);
        totals.peak_disk = totals.peak_disk.max(plan.disk.peak);
        totals.memory = totals.memory.max(memory.peak);
        let (text, left) = match state {
            Progress::Done => return Ok(("done".to_string(), 0.0)),
            Progress::At(step) => {
                (format!("resume at {step} of {} steps", plan.steps), plan.steps.saturating_sub(step))
            }
            Progress::New => (format!("{} steps", show::count(plan.steps as usize)), plan.steps),
        };
        let mut seconds = plan.time.of_steps(left);
        if plan.features.kept > 0 && !totals.encoded.insert((cell.encoder.clone(), stage)) {
            // Most of the time outside of steps is spent on encoding.
            let encoding = (plan.time.total - plan.time.step * plan.steps as f64).max(0.0);
            let saved = (encoding * plan.features.kept as f64 / plan.features.bytes.max(1) as f64).min(seconds);
            totals.features_saved += saved;
            seconds -= saved;
        }
        Ok((text, seconds))
    }

    fn totals(&self, totals: &Totals) -> String {
        let (done, cells) = (self.record.finished(), self.record.cells.len());
        if done == cells {
            return format!("all {cells} cells are done");
        }
        let hours = match totals.seconds {
            seconds if seconds < 3600.0 => show::seconds(seconds),
            seconds => format!("{:.1} hours", seconds / 3600.0),
        };
        let mut lines = vec![format!(
            "{} of {cells} cells to do, {hours} in all; memory {} at the peak; disk {} of weights in the end, {} during a run",
            cells - done,
            show::bytes(totals.memory),
            show::bytes(totals.bytes),
            show::bytes(totals.peak_disk)
        )];
        if totals.runs_shared > 0 {
            let (n, saved) = (totals.runs_shared, show::seconds(totals.runs_saved));
            let runs = if n == 1 { "1 run is".to_string() } else { format!("{n} runs are") };
            lines.push(format!("{runs} another cell's, which saves {saved}"));
        }
        if totals.features_saved > 0.0 {
            let saved = show::seconds(totals.features_saved);
            lines.push(format!("the cells of an encoder share its features, which saves {saved}"));
        }
        lines.push(format!("times are from dry steps and {TIMED} questions of each benchmark"));
        lines.join("\n")
    }

    /// Plans every stage of an encoder with an LLM and times a few questions.
    fn measure(&self, cell: &StudyCell, kept: &mut SharedParts) -> Result<Measured> {
        self.stop_if_asked()?;
        let vlm = self.compose(cell, kept)?;
        let plan = |stage| {
            let mut trainer = self.trainer(&vlm, (cell, stage), kept, Listeners::default())?;
            trainer.plan(Limits::default())
        };
        let stages = (0..self.stages.len()).map(plan).collect::<Result<_>>()?;
        let mut question = BTreeMap::new();
        for benchmark in &self.options.benchmarks {
            self.stop_if_asked()?;
            let few = few_questions(benchmark);
            let options = self.asking(None, Listeners::default());
            let start = Instant::now();
            eval::run(&vlm, &few, &options)?;
            question.insert(benchmark.id.clone(), start.elapsed().as_secs_f64() / few.items.len().max(1) as f64);
        }
        Ok(Measured { stages, question })
    }
}

/// Consecutive questions from the middle of a benchmark: neighbors share their picture as they do in the run.
fn few_questions(benchmark: &Arc<Benchmark>) -> Benchmark {
    let mut few = benchmark.as_ref().clone();
    let start = (few.items.len() / 2).min(few.items.len().saturating_sub(TIMED));
    few.items = few.items.into_iter().skip(start).take(TIMED).collect();
    few
}

//! `llmore watch`, `llmore rerun`, `llmore diff` and `llmore report`: looking at runs, and making one again.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::listen::ProgressListener;
use crate::error::{Error, Result};
use crate::events::{Event, Interrupt, Listener};
use crate::preset::Presets;
use crate::report::{self, ReportOptions};
use crate::show::{Cell, Figure, LinePlot, Table, number};
use crate::train::{Run, RunDiff};

/// Time between two looks at a file that has not grown.
const PAUSE: Duration = Duration::from_millis(250);

/// Follows a run's events from its beginning until it ends, or until Ctrl-C.
pub(super) fn watch(folder: &Path, listener: &ProgressListener, interrupt: &Interrupt) -> Result<()> {
    let path = Run::open(folder)?.dir().join("events.jsonl");
    let file = File::open(&path).map_err(|error| Error::file(&path, error))?;
    let (mut reader, mut line) = (BufReader::new(file), String::new());
    while !interrupt.is_set() {
        let read = reader.read_line(&mut line).map_err(|error| Error::file(&path, error))?;
        if read == 0 {
            std::thread::sleep(PAUSE);
        }
        // A line is an event once its end is there.
        if !line.ends_with('\n') {
            continue;
        }
        if let Ok(event) = serde_json::from_str::<Event>(&line) {
            listener.hear(&event);
            let ended = matches!(event, Event::End { .. });
            if ended && reader.fill_buf().is_ok_and(<[u8]>::is_empty) {
                break;
            }
        }
        line.clear();
    }
    Ok(())
}

/// The loss curve of a run.
pub(super) fn curve(run: &Run) -> Result<Figure> {
    let points = run.steps()?.iter().map(|step| (step.step as f64, step.loss)).collect();
    Figure::line(LinePlot {
        series: vec![("loss".to_string(), points)],
        title: run.dir().display().to_string(),
        x: "step".to_string(),
        y: "loss".to_string(),
        log: false,
    })
}

/// Writes the report of a run, a study or a results file and says where it is.
pub(super) fn report(
    path: &Path,
    out: Option<&Path>,
    data: Option<PathBuf>,
    (presets, maps): (&Presets, usize),
) -> Result<PathBuf> {
    let page = report::page_of(path, &ReportOptions { presets, data, maps })?;
    let beside = if path.is_dir() { path.join("report.html") } else { path.with_extension("html") };
    let out = out.map_or(beside, Path::to_path_buf);
    report::write(&page, &out)?;
    Ok(out)
}

/// What two runs differ in, as tables and lines.
pub(super) fn diff(a: &Run, b: &Run) -> Result<(Table, Vec<String>, RunDiff)> {
    let diff = RunDiff::new(a, b)?;
    let name = |run: &Run| run.dir().display().to_string();
    let mut table = Table::new("differences").column("what").column(name(a)).column(name(b));
    for fact in &diff.facts {
        // The beginning of a hash tells as much as all of it.
        let length = if fact.key.ends_with("sha256") { 12 } else { usize::MAX };
        let [then, now] = fact.values.each_ref().map(|value| value.chars().take(length).collect::<String>());
        table.push([Cell::from(fact.key.clone()), then.into(), now.into()]);
    }
    let losses = &diff.losses;
    let last = |loss: Option<f64>| loss.map_or_else(|| "no step".to_string(), number);
    table.push([Cell::from("steps"), losses.steps[0].into(), losses.steps[1].into()]);
    table.push([Cell::from("last loss"), last(losses.last[0]).into(), last(losses.last[1]).into()]);
    let verdict = match losses.first {
        None if losses.common == 0 => "no step in common".to_string(),
        None => format!("losses agree to the last bit over {} steps", losses.common),
        Some((step, [x, y])) => format!(
            "losses part at step {step}: {x:.9} and {y:.9}; the largest difference is {:.3e} over {} steps",
            losses.largest, losses.common
        ),
    };
    let mut lines = diff.script.clone();
    lines.push(verdict);
    Ok((table, lines, diff))
}

/// Remembers the folders of the runs it hears of.
#[derive(Default)]
pub(super) struct Folders(Mutex<Vec<PathBuf>>);

impl Folders {
    /// The run that was made as the trainer of this number.
    pub(super) fn of(self: &Arc<Self>, number: u64) -> Option<Run> {
        let folders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = folders.iter().filter_map(|folder| Run::open(folder).ok());
        runs.into_iter().find(|run| run.lock().is_ok_and(|lock| lock.number == number))
    }
}

impl Listener for Folders {
    fn hear(&self, event: &Event) {
        if let Event::Checkpoint { path, .. } = event
            && let Some(run) = path.parent()
        {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(run.to_path_buf());
        }
    }
}

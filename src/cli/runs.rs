//! `llmore watch` and `llmore report`: showing runs and studies.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::listen::ProgressListener;
use crate::error::{Error, Result};
use crate::events::{Event, Interrupt, Listener};
use crate::files::EVENTS;
use crate::ledger::Ledger;
use crate::preset::Presets;
use crate::report::{self, ReportOptions};
use crate::show::{Figure, LinePlot};
use crate::study::{Folder, RECORD};
use crate::train::Run;

/// Time between two checks of a file that has not grown.
const PAUSE: Duration = Duration::from_millis(250);

/// Follows a run, or the runs of a study one after the other, until it ends, or until Ctrl-C. Returns what is known of each
/// run that was followed.
pub(super) fn watch(folder: &Path, listener: &ProgressListener, interrupt: &Interrupt) -> Result<Vec<Run>> {
    if !folder.join(RECORD).is_file() {
        let run = super::rerun::open(folder)?;
        follow(&run, listener, interrupt)?;
        return Ok(vec![run]);
    }
    let mut followed: Vec<Run> = Vec::new();
    while !interrupt.is_set() {
        let study = Folder::open(folder)?;
        let stages = (0..study.record().cells.len()).map(|cell| study.stages(cell)).collect::<Result<Vec<_>>>()?;
        let is_new = |run: &Run| followed.iter().all(|old| old.dir() != run.dir());
        let next = stages.concat().iter().filter_map(|stage| Run::open(stage).ok()).find(is_new);
        match next {
            Some(run) => {
                follow(&run, listener, interrupt)?;
                followed.push(run);
            }
            None if study.is_at_rest()? => break,
            None => std::thread::sleep(PAUSE),
        }
    }
    Ok(followed)
}

/// Follows a run's events from its beginning until it ends.
fn follow(run: &Run, listener: &ProgressListener, interrupt: &Interrupt) -> Result<()> {
    let path = run.dir().join(EVENTS);
    let file = crate::fs::open(&path).map_err(|error| Error::file(&path, error))?;
    let (mut reader, mut line) = (BufReader::new(file), String::new());
    while !interrupt.is_set() {
        let read = reader.read_line(&mut line).map_err(|error| Error::file(&path, error))?;
        if read == 0 {
            std::thread::sleep(PAUSE);
        }
        // A line is complete once its line break is there.
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

/// Writes the report of a run, a study or a results file and prints its path.
pub(super) fn report(
    path: &Path,
    out: Option<&Path>,
    data: Option<PathBuf>,
    (presets, maps): (&Presets, usize),
    (ledger, overwrite): (&Ledger, bool),
) -> Result<PathBuf> {
    let beside = if path.is_dir() { path.join("report.html") } else { path.with_extension("html") };
    let out = out.map_or(beside, Path::to_path_buf);
    if !overwrite {
        ledger.may_replace(&out)?;
    }
    let page = report::page_of(path, &ReportOptions { presets, data, maps })?;
    report::write(&page, &out)?;
    ledger.note(&out);
    Ok(out)
}

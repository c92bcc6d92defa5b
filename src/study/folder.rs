//! Reads a study's folder: which cells are done, with what results. No model is opened here; tables, figures and the
//! report are made from these files alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::asked::AskedQuestions;
use super::cells::below;
use super::record::Record;
use super::standing::{self, look_at_answers};
use crate::error;
use crate::error::{Context, Result};
use crate::eval::{Metric, Results, Row, compare};
use crate::files::EVENTS;
use crate::train::Run;

/// The content of a study's folder.
pub struct Folder {
    dir: PathBuf,
    record: Record,
    /// By cell and benchmark, in the record's order; complete ones only.
    results: Vec<Vec<Option<Results>>>,
}

impl Folder {
    /// Opens the folder of a study, finished or not.
    ///
    /// # Errors
    /// `Missing` when it is not the folder of a study; else the error of reading its files, naming them.
    pub fn open(dir: &Path) -> Result<Self> {
        let (mut record, asked) = (Record::open(dir)?, AskedQuestions::open(dir)?);
        for stage in record.cells.iter().flat_map(|cell| &cell.stages) {
            below(dir, stage)?;
        }
        look_at_answers(dir, &mut record, &asked)?;
        Folder::of(dir, record, &asked)
    }

    /// The folder for a record whose `answered` counts are up to date.
    pub(super) fn of(dir: &Path, mut record: Record, asked: &AskedQuestions) -> Result<Self> {
        // A benchmark that another cell answered more of will be run again: a picture may have been missing then.
        let left: Vec<Vec<usize>> = record.cells.iter().map(|cell| record.left(cell)).collect();
        let mut results: Vec<Vec<Option<Results>>> = Vec::with_capacity(record.cells.len());
        for (cell, left) in record.cells.iter_mut().zip(left) {
            for place in left {
                cell.results[place].answered = None;
            }
            let of = |benchmark: &String| -> Result<Option<Results>> {
                let whole = cell.results.iter().find(|file| file.benchmark == *benchmark && file.answered.is_some());
                let Some(file) = whole else { return Ok(None) };
                standing::results(&below(dir, &file.file)?, asked.ids(benchmark).as_ref()).map(Some)
            };
            results.push(record.benchmarks.iter().map(of).collect::<Result<_>>()?);
        }
        let folder = Folder { dir: dir.to_path_buf(), record, results };
        folder.check_questions().context(|| format!("the study in `{}`", dir.display()))?;
        Ok(folder)
    }

    /// Checks that all cells have answered the same questions.
    fn check_questions(&self) -> Result<()> {
        for (benchmark, id) in self.record.benchmarks.iter().enumerate() {
            let named = |cell: usize| Some((self.record.cells[cell].id.as_str(), self.results(cell, benchmark)?));
            let mut all = (0..self.results.len()).filter_map(named);
            if let Some(first) = all.next() {
                let same = |other: (&str, &Results)| {
                    compare::check_same(first.1, other.1)?;
                    same_words(first, other)
                };
                all.try_for_each(same).context(|| format!("benchmark `{id}`"))?;
            }
        }
        Ok(())
    }

    /// Whether nothing is left to do, or the run written last says that it ended before its last step.
    ///
    /// # Errors
    /// The errors of reading the runs.
    pub fn is_at_rest(&self) -> Result<bool> {
        if self.record.cells.iter().all(|cell| cell.error.is_some() || self.record.left(cell).is_empty()) {
            return Ok(true);
        }
        let mut newest = None;
        for stage in self.record.cells.iter().flat_map(|cell| &cell.stages) {
            let folder = below(&self.dir, stage)?;
            let written = std::fs::metadata(folder.join(EVENTS)).and_then(|file| file.modified());
            if let Ok(written) = written {
                newest = newest.max(Some((written, folder)));
            }
        }
        match newest {
            Some((_, folder)) => Ok(["paused", "failed", "stopped"].contains(&Run::open(&folder)?.status()?.as_str())),
            None => Ok(false),
        }
    }

    /// The path of the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of its study.toml.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The run folders of a cell's stages, whether they exist yet or not.
    ///
    /// # Errors
    /// `Decode` for one that is not below the study's folder.
    pub fn stages(&self, cell: usize) -> Result<Vec<PathBuf>> {
        let stages = self.record.cells.get(cell).map_or(&[][..], |cell| &cell.stages);
        stages.iter().map(|stage| below(&self.dir, stage)).collect()
    }

    /// The results of a cell, by the positions of both in the record; `None` when they are incomplete.
    pub fn results(&self, cell: usize, benchmark: usize) -> Option<&Results> {
        self.results.get(cell)?.get(benchmark)?.as_ref()
    }

    /// Some cell's results of a benchmark, for its metric and its questions.
    pub(super) fn example(&self, benchmark: usize) -> Option<&Results> {
        self.results.iter().find_map(|of| of[benchmark].as_ref())
    }

    /// Benchmarks that are scored automatically and have an answer.
    pub(super) fn scored(&self) -> Vec<usize> {
        let is = |benchmark: &usize| self.example(*benchmark).is_some_and(|r| r.scorer.metric() != Metric::None);
        (0..self.record.benchmarks.len()).filter(is).collect()
    }
}

/// Refuses results whose questions have the same ids but other text, answers or pictures. Elsewhere such results may be
/// compared on purpose; in a study the questions are the same for all cells.
fn same_words((cell, first): (&str, &Results), (other, second): (&str, &Results)) -> Result<()> {
    let known: HashMap<&str, &Row> = first.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let differs = |row: &Row| -> Option<&str> {
        let known = known.get(row.id.as_str())?;
        let said = !known.pictures.is_empty() && !row.pictures.is_empty();
        match () {
            () if known.prompt != row.prompt => Some("prompt"),
            () if known.gold != row.gold => Some("answer"),
            () if said && known.pictures != row.pictures => Some("picture"),
            () => None,
        }
    };
    match second.rows.iter().find_map(|row| Some((row, differs(row)?))) {
        Some((row, what)) => Err(error!(Data, "question `{}` has another {what} for {other} than for {cell}", row.id)
            .help(
                "remove the answers of one of them (`cells/*/*.jsonl`) to have it asked again, or choose another `out`",
            )),
        None => Ok(()),
    }
}

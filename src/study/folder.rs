//! A study's folder, read: which cells are done, with what results. No model is opened here; tables, figures and the
//! report are made from these files alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::cells::below;
use super::record::Record;
use crate::error;
use crate::error::{Context, Result};
use crate::eval::{Metric, Results, Row, compare};

/// A study as its folder has it.
pub struct Folder {
    dir: PathBuf,
    record: Record,
    /// By cell and benchmark, in the record's order; only whole ones.
    results: Vec<Vec<Option<Results>>>,
}

impl Folder {
    /// Opens the folder of a study, finished or not.
    ///
    /// # Errors
    /// `Missing` when it is none; what its files give, naming them.
    pub fn open(dir: &Path) -> Result<Self> {
        Folder::of(dir, Record::open(dir)?)
    }

    pub(super) fn of(dir: &Path, record: Record) -> Result<Self> {
        let mut results: Vec<Vec<Option<Results>>> = Vec::with_capacity(record.cells.len());
        for stage in record.cells.iter().flat_map(|cell| &cell.stages) {
            below(dir, stage)?;
        }
        for cell in &record.cells {
            let of = |benchmark: &String| -> Result<Option<Results>> {
                let Some(file) = cell.results.iter().find(|result| result.benchmark == *benchmark) else {
                    return Ok(None);
                };
                let path = below(dir, &file.file)?;
                match (file.answered, path.is_file()) {
                    (Some(_), _) => Results::open(&path).map(Some),
                    // A run may be in the middle of it.
                    (None, true) => Ok(Results::open(&path).ok()),
                    (None, false) => Ok(None),
                }
            };
            results.push(record.benchmarks.iter().map(of).collect::<Result<_>>()?);
        }
        let mut folder = Folder { dir: dir.to_path_buf(), record, results };
        folder.keep_whole();
        folder.check_questions().context(|| format!("the study in `{}`", dir.display()))?;
        Ok(folder)
    }

    /// Takes away results that are still growing.
    fn keep_whole(&mut self) {
        for (benchmark, id) in self.record.benchmarks.clone().iter().enumerate() {
            let answered = |cell: &super::Cell| cell.results.iter().find(|r| r.benchmark == *id)?.answered;
            let rows = self.results.iter().filter_map(|of| of[benchmark].as_ref()).map(|results| results.rows.len());
            let said = self.record.cells.iter().filter_map(answered).max();
            let whole = said.or(self.record.questions.get(id).copied()).or(rows.max()).unwrap_or(0);
            for (of, cell) in self.results.iter_mut().zip(&mut self.record.cells) {
                of[benchmark] = of[benchmark].take().filter(|results| results.rows.len() >= whole);
                if let Some(file) = cell.results.iter_mut().find(|result| result.benchmark == *id) {
                    file.answered = of[benchmark].as_ref().map(|results| results.rows.len());
                }
            }
        }
    }

    /// All cells have to have answered the same questions.
    fn check_questions(&self) -> Result<()> {
        for (benchmark, id) in self.record.benchmarks.iter().enumerate() {
            let mut all = self.results.iter().filter_map(|of| of[benchmark].as_ref());
            if let Some(first) = all.next() {
                let same = |other: &Results| {
                    compare::check_same(first, other)?;
                    same_words(first, other)
                };
                all.try_for_each(same).context(|| format!("benchmark `{id}`"))?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What its study.toml says.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The run folders of a cell's stages, made yet or not.
    ///
    /// # Errors
    /// `Decode` for one that is not below the study's folder.
    pub fn stages(&self, cell: usize) -> Result<Vec<PathBuf>> {
        let stages = self.record.cells.get(cell).map_or(&[][..], |cell| &cell.stages);
        stages.iter().map(|stage| below(&self.dir, stage)).collect()
    }

    /// The results of a cell, by the positions of both in the record; `None` when they are not whole.
    pub fn results(&self, cell: usize, benchmark: usize) -> Option<&Results> {
        self.results.get(cell)?.get(benchmark)?.as_ref()
    }

    /// Any cell's results of a benchmark: its metric, its questions.
    pub(super) fn example(&self, benchmark: usize) -> Option<&Results> {
        self.results.iter().find_map(|of| of[benchmark].as_ref())
    }

    /// Benchmarks that something was answered to and that are scored automatically.
    pub(super) fn scored(&self) -> Vec<usize> {
        let is = |benchmark: &usize| self.example(*benchmark).is_some_and(|r| r.scorer.metric() != Metric::None);
        (0..self.record.benchmarks.len()).filter(is).collect()
    }
}

/// Refuses results whose questions have the same ids but other words or answers. Prompts may be what is compared
/// elsewhere; in a study they are the same for all.
fn same_words(first: &Results, second: &Results) -> Result<()> {
    let known: HashMap<&str, &Row> = first.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let is_other = |row: &&Row| {
        known.get(row.id.as_str()).is_some_and(|known| (&known.prompt, &known.gold) != (&row.prompt, &row.gold))
    };
    match second.rows.iter().find(is_other) {
        Some(row) => Err(error!(
            Data,
            "question `{}` has another prompt or answer for `{}` than for `{}`", row.id, second.model, first.model
        )
        .help("choose another `out` for another study")),
        None => Ok(()),
    }
}

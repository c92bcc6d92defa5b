//! Which of a study's results are complete. study.toml says what was complete when it was written; since then files may have
//! been removed or truncated, and limits may have changed. So a result counts as complete when its file is.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::asked::AskedQuestions;
use super::cells::{StudyCell, below};
use super::record::Record;
use crate::error::Result;
use crate::eval::{Results, Tally};
use crate::files::RUN_LOCK;

/// Sets `answered` of every result to the number in its file, `None` where it is incomplete: where the file is missing, holds
/// fewer questions than are asked, or belongs to a run whose folder is gone although other runs are there.
pub(super) fn look(dir: &Path, record: &mut Record, asked: &AskedQuestions) -> Result<()> {
    let all: Vec<usize> = (0..record.cells.len()).collect();
    look_at(dir, record, asked, &all)?;
    drop_runless(dir, record, &all)
}

/// The same for one cell, by position.
pub(super) fn look_at_cell(dir: &Path, record: &mut Record, asked: &AskedQuestions, cell: usize) -> Result<()> {
    look_at(dir, record, asked, &[cell])?;
    drop_runless(dir, record, &[cell])
}

/// The same without looking at runs, for readers of a study: the runs need not have been copied along.
pub(super) fn look_at_answers(dir: &Path, record: &mut Record, asked: &AskedQuestions) -> Result<()> {
    let all: Vec<usize> = (0..record.cells.len()).collect();
    look_at(dir, record, asked, &all)
}

fn drop_runless(dir: &Path, record: &mut Record, cells: &[usize]) -> Result<()> {
    let has_run = |cell: &StudyCell| -> Result<bool> {
        let last = cell.stages.last().map(|stage| below(dir, stage)).transpose()?;
        Ok(last.is_none_or(|folder| folder.join(RUN_LOCK).is_file()))
    };
    let runs = record.cells.iter().map(has_run).collect::<Result<Vec<bool>>>()?;
    // Results without any run were copied from another machine.
    if runs.contains(&true) {
        for cell in cells.iter().copied().filter(|cell| !runs[*cell]) {
            record.cells[cell].results.iter_mut().for_each(|result| result.answered = None);
        }
    }
    Ok(())
}

fn look_at(dir: &Path, record: &mut Record, asked: &AskedQuestions, cells: &[usize]) -> Result<()> {
    let mut files: Vec<(usize, usize, PathBuf)> = Vec::new();
    for cell in cells.iter().copied() {
        for (place, result) in record.cells[cell].results.iter().enumerate() {
            files.push((cell, place, below(dir, &result.file)?));
        }
    }
    let count = |(cell, place, path): &(usize, usize, PathBuf)| {
        let benchmark = &record.cells[*cell].results[*place].benchmark;
        let tally = Tally::open(path).ok()?;
        whole(&tally, record.questions.get(benchmark).copied(), asked.ids(benchmark).as_ref())
    };
    let found: Vec<Option<usize>> = files.par_iter().map(count).collect();
    for ((cell, place, _), answered) in files.into_iter().zip(found) {
        record.cells[cell].results[place].answered = answered;
    }
    Ok(())
}

/// How many of the asked questions are answered; `None` while some that could be are not.
fn whole(tally: &Tally, questions: Option<usize>, ids: Option<&HashSet<&str>>) -> Option<usize> {
    let is_asked = |id: &&String| ids.is_none_or(|ids| ids.contains(id.as_str()));
    let answered = tally.answered.iter().filter(is_asked).count();
    let left_out = tally.left_out.iter().filter(is_asked).count();
    let is_whole = answered > 0 && !tally.is_cut && questions.is_none_or(|questions| answered + left_out >= questions);
    is_whole.then_some(answered)
}

/// How many questions of a file need not be asked again.
pub(super) fn answered(path: &Path, ids: Option<&HashSet<&str>>) -> usize {
    let is_asked = |id: &&String| ids.is_none_or(|ids| ids.contains(id.as_str()));
    Tally::open(path).map_or(0, |tally| tally.answered.iter().filter(is_asked).count())
}

/// The results in a file, limited to the questions that are asked.
pub(super) fn results(path: &Path, ids: Option<&HashSet<&str>>) -> Result<Results> {
    let results = Results::open(path)?;
    Ok(match ids {
        Some(ids) if results.rows.iter().any(|row| !ids.contains(row.id.as_str())) => results.only(ids),
        _ => results,
    })
}

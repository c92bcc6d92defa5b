//! A study run again (`llmore rerun`), and the differences of two studies: by cell, each stage's run and each benchmark's
//! answers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Study;
use super::asked::AskedQuestions;
use super::cells::{StudyCell, below};
use super::record::Record;
use crate::error;
use crate::error::Result;
use crate::eval::{AnswerDiff, Results};
use crate::train::{Lock, Run, RunDiff};

/// The study that is repeated by another one.
#[derive(Clone, Debug)]
pub struct Repeated {
    /// Its folder.
    pub folder: PathBuf,
    /// The only cell to be run again; `None` for all of them.
    pub cell: Option<String>,
}

impl Repeated {
    /// The part of a study that a folder belongs to: all of it, a cell, or the cell of a stage's run; `None` outside studies.
    ///
    /// # Errors
    /// The errors of reading study.toml.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let Ok(real) = std::fs::canonicalize(folder) else { return Ok(None) };
        let mut above = real.ancestors();
        let Some(root) = above.find(|above| above.join(super::RECORD).is_file()) else { return Ok(None) };
        let inside = real.strip_prefix(root).unwrap_or(Path::new(""));
        if inside.as_os_str().is_empty() {
            return Ok(Some(Repeated { folder: folder.to_path_buf(), cell: None }));
        }
        let is_it = |cell: &&StudyCell| {
            inside == Path::new(&cell.folder) || cell.stages.iter().any(|stage| inside == Path::new(stage))
        };
        let cell = Record::open(root)?.cells.iter().find(is_it).map(|cell| cell.id.clone());
        Ok(cell.map(|cell| Repeated { folder: root.to_path_buf(), cell: Some(cell) }))
    }

    /// The run.lock with the script that made the study.
    ///
    /// # Errors
    /// `Missing` when nothing was trained, `Data` when several scripts made it.
    pub fn lock(&self) -> Result<Lock> {
        let record = Record::open(&self.folder)?;
        let mut locks: Vec<Lock> = Vec::new();
        for cell in record.cells.iter().filter(|cell| self.is_wanted(cell)) {
            for stage in cell.stages.iter().rev() {
                if let Ok(run) = Run::open(&below(&self.folder, stage)?) {
                    locks.push(run.lock()?);
                    // The last stage belongs to the cell itself; an earlier one may belong to another.
                    break;
                }
            }
        }
        let of =
            |lock: &Lock| (lock.script.clone(), lock.modules.clone(), lock.args.clone(), lock.set.clone(), lock.number);
        let Some(lock) = locks.pop() else {
            return Err(error!(Missing, "`{}`: nothing of this study was trained yet", self.folder.display()));
        };
        match locks.iter().find(|other| of(other) != of(&lock)) {
            None => Ok(lock),
            Some(_) => Err(error!(Data, "the cells of `{}` were made by several scripts", self.folder.display())
                .help("make one cell again: `llmore rerun STUDY/cells/CELL`")),
        }
    }

    fn is_wanted(&self, cell: &StudyCell) -> bool {
        self.cell.as_ref().is_none_or(|wanted| *wanted == cell.id)
    }

    /// Its record with the same cells, none of them done, and the questions it asked.
    pub(super) fn untried(&self) -> Result<(Record, AskedQuestions)> {
        let mut record = Record::open(&self.folder)?;
        for cell in &mut record.cells {
            cell.error = None;
            cell.results.iter_mut().for_each(|result| result.answered = None);
        }
        Ok((record, AskedQuestions::open(&self.folder)?))
    }
}

impl Study {
    /// Whether a cell is to be trained: a rerun may be limited to one cell.
    pub(super) fn is_wanted(&self, cell: &StudyCell) -> bool {
        self.setup.repeats.as_ref().is_none_or(|repeated| repeated.is_wanted(cell))
    }

    /// run.lock of the run that a stage repeats.
    pub(super) fn repeated_run(&self, cell: &StudyCell, stage: usize) -> Result<Option<Lock>> {
        let Some(repeated) = &self.setup.repeats else { return Ok(None) };
        Run::open(&below(&repeated.folder, &cell.stages[stage])?).ok().map(|run| run.lock()).transpose()
    }
}

/// The differences of two studies, over the cells that both have.
#[derive(Clone, Debug, Default)]
pub struct StudyDiff {
    /// Cells that only one of them has.
    pub only: [Vec<String>; 2],
    /// By cell and stage.
    pub runs: Vec<(String, RunDiff)>,
    /// By cell and benchmark.
    pub answers: Vec<(String, AnswerDiff)>,
}

impl StudyDiff {
    /// Compares two studies, or only `cell` of them.
    ///
    /// # Errors
    /// The errors of reading them; `Usage` when both are the same study.
    pub fn new(a: &Path, b: &Path, cell: Option<&str>) -> Result<Self> {
        let (then, now) = (Record::open(a)?, Record::open(b)?);
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(a).is_some() && real(a) == real(b) {
            return Err(error!(Usage, "`{}` and `{}` are one study", a.display(), b.display())
                .help("a study agrees with itself; name another one, or make it again: `llmore rerun STUDY`"));
        }
        let mut diff = StudyDiff::default();
        let wanted = |record: &Record| -> Vec<StudyCell> {
            record.cells.iter().filter(|other| cell.is_none_or(|cell| cell == other.id)).cloned().collect()
        };
        let (then, now) = (wanted(&then), wanted(&now));
        let lacks = |cells: &[StudyCell], id: &str| !cells.iter().any(|cell| cell.id == id);
        diff.only[0] = then.iter().filter(|cell| lacks(&now, &cell.id)).map(|cell| cell.id.clone()).collect();
        diff.only[1] = now.iter().filter(|cell| lacks(&then, &cell.id)).map(|cell| cell.id.clone()).collect();
        let mut seen = BTreeSet::new();
        for one in &then {
            let Some(other) = now.iter().find(|cell| cell.id == one.id) else { continue };
            for (number, (x, y)) in one.stages.iter().zip(&other.stages).enumerate() {
                let (x, y) = (below(a, x)?, below(b, y)?);
                if !seen.insert((x.clone(), y.clone())) {
                    continue;
                }
                if let (Ok(x), Ok(y)) = (Run::open(&x), Run::open(&y)) {
                    diff.runs.push((format!("{}, stage {}", one.id, number + 1), RunDiff::new(&x, &y)?));
                }
            }
            for result in &one.results {
                let Some(again) = other.results.iter().find(|again| again.benchmark == result.benchmark) else {
                    continue;
                };
                let (x, y) = (below(a, &result.file)?, below(b, &again.file)?);
                if x.is_file() && y.is_file() {
                    let compared = AnswerDiff::new(&Results::open(&x)?, &Results::open(&y)?);
                    diff.answers.push((format!("{}, {}", one.id, result.benchmark), compared));
                }
            }
        }
        Ok(diff)
    }

    /// Whether something was compared and no difference was found.
    pub fn same(&self) -> bool {
        let trained = self.runs.iter().all(|(_, diff)| diff.same());
        !self.runs.is_empty() && trained && self.answers.iter().all(|(_, diff)| diff.same())
    }
}

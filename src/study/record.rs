//! `study.toml`: the axes of a study, its cells with their folders, and which of their results are complete. It is written
//! before anything else; a study can be continued only in a folder whose axes are a subset of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::StudyOptions;
use super::asked::AskedQuestions;
use super::cells::{ResultFile, StudyCell};
use crate::device::device_name;
use crate::error::{Error, Result};
use crate::eval::Benchmark;
use crate::files;
use crate::train::Lock;
use crate::{error, guard};

/// The file's name in the folder.
pub const FILE: &str = "study.toml";

/// The content of study.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub about: String,
    pub encoders: Vec<String>,
    pub llms: Vec<String>,
    pub projector: String,
    pub recipe: String,
    pub benchmarks: Vec<String>,
    pub seeds: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The first stage, from 1, that a seed changes.
    #[serde(default = "one")]
    pub seeds_from: usize,
    /// Questions of each benchmark.
    #[serde(default)]
    pub questions: BTreeMap<String, usize>,
    /// What trivial answerers score, by benchmark.
    #[serde(default)]
    pub baselines: BTreeMap<String, BTreeMap<String, f64>>,
    /// The number type and the device of all computations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computed: Option<String>,
    /// Trainer options of each stage.
    #[serde(default)]
    pub protocol: Vec<Table>,
    pub cells: Vec<StudyCell>,
}

fn one() -> usize {
    1
}

impl Record {
    /// Reads a study's folder.
    ///
    /// # Errors
    /// `Missing` when it is not the folder of a study, `Decode` when study.toml cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(error!(Missing, "`{}` is not the folder of a study: it has no {FILE}", dir.display()));
        }
        let text = crate::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        let record: Record = guard::read("toml", &path.display(), || {
            toml::from_str(&text).map_err(|error| error!(Decode, "`{}`: {}", path.display(), error.message()))
        })?;
        // Every pair of an axis is compared: a name that comes often would be against itself as often as it comes, squared.
        for (axis, names) in [("encoders", &record.encoders), ("llms", &record.llms)] {
            let mut known = BTreeSet::new();
            if let Some(name) = names.iter().find(|name| !known.insert(*name)) {
                return Err(error!(Decode, "`{}`: `{axis}` holds `{name}` twice", path.display())
                    .help("a study has each part once: take the second one out"));
            }
        }
        Ok(record)
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        crate::fs::create_dir_all(dir).map_err(|error| Error::file(dir, error))?;
        let text = toml::to_string(self).map_err(|error| error!(File, "{FILE}: {error}"))?;
        files::write(&dir.join(FILE), &text)
    }

    /// The record of a study; `known` is the record that its folder holds already, with the questions it asked.
    pub(super) fn new(
        options: &StudyOptions,
        stages: &[Table],
        known: Option<(&Record, &AskedQuestions)>,
    ) -> Result<Self> {
        let mut record = Record {
            about: String::new(),
            encoders: options.encoders.clone(),
            llms: options.llms.clone(),
            projector: options.projector.label(),
            recipe: options.recipe.clone(),
            benchmarks: options.benchmarks.iter().map(|benchmark| benchmark.id.clone()).collect(),
            seeds: options.seeds.clone(),
            limit: options.limit,
            seeds_from: options.seeds_from,
            questions: options.benchmarks.iter().map(|b| (b.id.clone(), b.items.len())).collect(),
            baselines: options.benchmarks.iter().map(|b| (b.id.clone(), baselines(b))).collect(),
            computed: Some(format!("{} on {}", options.target.dtype.as_str(), device_name(&options.target.device))),
            protocol: stages.to_vec(),
            cells: Vec::new(),
        };
        record.about = format!("{}, recipe {}, projector {}", record.grid(), record.recipe, record.projector);
        if let Some((known, asked)) = known {
            known.refuse_smaller(&record)?;
            known.refuse_drift(&record, asked, &AskedQuestions::of(&options.benchmarks))?;
        }
        record.cells = record.lay_out(known.map_or(&[], |(known, _)| &known.cells));
        Ok(record)
    }

    /// This record, completed from the record in the folder: cells and values of an axis that other processes have added, and
    /// the state of their cells. For the cells in `own` (positions) this record is the current one.
    pub(super) fn joined(&self, folder: &Record, own: &[usize]) -> Record {
        let mut joined = self.clone();
        for (_, cell) in joined.cells.iter_mut().enumerate().filter(|(place, _)| !own.contains(place)) {
            if let Some(there) = folder.cells.iter().find(|there| there.id == cell.id) {
                cell.clone_from(there);
            }
        }
        let new = |there: &&StudyCell| !self.cells.iter().any(|cell| cell.id == there.id);
        joined.cells.extend(folder.cells.iter().filter(new).cloned());
        add(&mut joined.encoders, &folder.encoders);
        add(&mut joined.llms, &folder.llms);
        add(&mut joined.seeds, &folder.seeds);
        add(&mut joined.benchmarks, &folder.benchmarks);
        for (id, count) in &folder.questions {
            joined.questions.entry(id.clone()).or_insert(*count);
        }
        for (id, baselines) in &folder.baselines {
            joined.baselines.entry(id.clone()).or_insert_with(|| baselines.clone());
        }
        joined
    }

    /// `2 encoders x 1 LLM x 2 seeds`.
    pub fn grid(&self) -> String {
        let plural = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
        let (encoders, llms) = (plural(self.encoders.len(), "encoder"), plural(self.llms.len(), "LLM"));
        format!("{encoders} x {llms} x {}", plural(self.seeds.len(), "seed"))
    }

    /// Cells with all their results.
    pub fn finished(&self) -> usize {
        self.cells.iter().filter(|cell| self.left(cell).is_empty()).count()
    }

    /// The benchmarks, by position, of which a cell has fewer answers than are asked, or than another cell has (a picture may
    /// have been missing then).
    pub(super) fn left(&self, cell: &StudyCell) -> Vec<usize> {
        let of = |benchmark: &str| -> Option<usize> {
            let same = |result: &&ResultFile| result.benchmark == benchmark;
            self.cells.iter().flat_map(|cell| &cell.results).filter(same).filter_map(|result| result.answered).max()
        };
        let is_left = |result: &ResultFile| result.answered.is_none() || result.answered < of(&result.benchmark);
        (0..cell.results.len()).filter(|place| is_left(&cell.results[*place])).collect()
    }

    /// Refuses a study whose axes do not contain those of the folder.
    fn refuse_smaller(&self, new: &Record) -> Result<()> {
        grown("encoders", &self.encoders, &new.encoders)?;
        grown("llms", &self.llms, &new.llms)?;
        grown("seeds", &self.seeds, &new.seeds)?;
        grown("benchmarks", &self.benchmarks, &new.benchmarks)
    }

    /// Refuses a study that differs from the folder's in anything but the limits; `then` and `now` are the questions asked
    /// of limited benchmarks.
    pub(super) fn refuse_drift(&self, new: &Record, then: &AskedQuestions, now: &AskedQuestions) -> Result<()> {
        same("projector", &self.projector, &new.projector)?;
        same("recipe", &self.recipe, &new.recipe)?;
        same("seeds_from", &self.seeds_from, &new.seeds_from)?;
        let limited = |id: &str| self.limit.is_some() || then.ids(id).is_some() || now.ids(id).is_some();
        for (id, count) in self.questions.iter().filter(|(id, _)| !limited(id)) {
            if let Some(now) = new.questions.get(id) {
                same(&format!("questions of {id}"), count, now)?;
            }
        }
        if self.computed.is_some() {
            same("dtype and device", &self.computed, &new.computed)?;
        }
        same("number of stages", &self.protocol.len(), &new.protocol.len())?;
        for cell in &self.cells {
            same(&format!("number of stages of {}", cell.id), &cell.stages.len(), &new.protocol.len())?;
        }
        for (number, (then, now)) in self.protocol.iter().zip(&new.protocol).enumerate() {
            same(&format!("data of stage {}", number + 1), &then.get("data"), &now.get("data"))?;
            let lock = |options: &Table| Lock { options: options.clone(), ..Lock::default() };
            let differences = lock(then).differences(&lock(now));
            if !differences.is_empty() {
                return Err(error!(Option, "stage {}: {}", number + 1, differences.join("; ")).help(OTHER));
            }
        }
        Ok(())
    }
}

/// The scores of trivial answerers on the questions that are asked.
fn baselines(benchmark: &Benchmark) -> BTreeMap<String, f64> {
    benchmark.baselines_of(&benchmark.items.iter().collect::<Vec<_>>())
}

/// Adds the values that are new to a list.
fn add<T: PartialEq + Clone>(list: &mut Vec<T>, more: &[T]) {
    for value in more {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
}

const OTHER: &str = "choose another `out` for another study";

fn grown<T: PartialEq + Debug>(axis: &str, then: &[T], now: &[T]) -> Result<()> {
    if then.iter().all(|value| now.contains(value)) {
        return Ok(());
    }
    Err(error!(Option, "`{axis}` was {then:?}, is {now:?}")
        .help("an axis may grow: name what it had, too; or choose another `out` for another study"))
}

fn same<T: PartialEq + Debug>(key: &str, then: &T, now: &T) -> Result<()> {
    if then != now {
        return Err(error!(Option, "`{key}` was {then:?}, is {now:?}").help(OTHER));
    }
    Ok(())
}

//! `study.toml`: the axes of a study, its cells with their folders, and which of their results are whole. It is written
//! before anything else, and a study goes on only in a folder whose axes it contains.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::StudyOptions;
use crate::error::{Error, Result};
use crate::train::Lock;
use crate::weights::write_atomically;
use crate::{bail, error};

/// The file's name in the folder.
pub(super) const FILE: &str = "study.toml";

/// What a study's folder says of it.
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
    /// Trainer options of each stage.
    #[serde(default)]
    pub protocol: Vec<Table>,
    pub cells: Vec<Cell>,
}

/// One model of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub id: String,
    pub encoder: String,
    pub llm: String,
    pub seed: u64,
    /// Below the study's folder.
    pub folder: String,
    /// The run folder of each stage below the study's folder; another cell's where the two share it.
    pub stages: Vec<String>,
    /// Why it could not be finished when it was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub results: Vec<ResultFile>,
}

/// The answers of a cell to a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultFile {
    pub benchmark: String,
    /// Below the study's folder.
    pub file: String,
    /// How many questions it answers, once it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<usize>,
}

fn one() -> usize {
    1
}

impl Record {
    /// Reads a study's folder.
    ///
    /// # Errors
    /// `Missing` when it is none, `Decode` when its file says something else.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(error!(Missing, "`{}` is not the folder of a study: it has no {FILE}", dir.display()));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        toml::from_str(&text).map_err(|error| error!(Decode, "`{}`: {}", path.display(), error.message()))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).map_err(|error| Error::file(dir, error))?;
        let text = toml::to_string(self).map_err(|error| error!(File, "{FILE}: {error}"))?;
        write_atomically(&dir.join(FILE), |file| {
            std::fs::write(file, &text).map_err(|error| Error::file(file, error))
        })
    }

    /// The record of a study; `known` is what its folder says already.
    pub(super) fn new(options: &StudyOptions, stages: &[Table], known: Option<&Record>) -> Result<Self> {
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
            baselines: options.benchmarks.iter().map(|b| (b.id.clone(), b.baselines.clone())).collect(),
            protocol: stages.to_vec(),
            cells: Vec::new(),
        };
        record.about = format!("{}, recipe {}, projector {}", record.grid(), record.recipe, record.projector);
        if let Some(known) = known {
            known.refuse_drift(&record)?;
        }
        record.cells = record.lay_out(known.map_or(&[], |known| &known.cells));
        Ok(record)
    }

    /// `2 encoders x 1 LLM x 2 seeds`.
    pub fn grid(&self) -> String {
        let plural = |n: usize, thing: &str| format!("{n} {thing}{}", if n == 1 { "" } else { "s" });
        let (encoders, llms) = (plural(self.encoders.len(), "encoder"), plural(self.llms.len(), "LLM"));
        format!("{encoders} x {llms} x {}", plural(self.seeds.len(), "seed"))
    }

    /// Cells with all their results.
    pub fn finished(&self) -> usize {
        self.cells.iter().filter(|cell| cell.results.iter().all(|result| result.answered.is_some())).count()
    }

    /// A folder takes studies whose axes contain its own and that are the same in everything else.
    fn refuse_drift(&self, new: &Record) -> Result<()> {
        grown("encoders", &self.encoders, &new.encoders)?;
        grown("llms", &self.llms, &new.llms)?;
        grown("seeds", &self.seeds, &new.seeds)?;
        grown("benchmarks", &self.benchmarks, &new.benchmarks)?;
        same("projector", &self.projector, &new.projector)?;
        same("recipe", &self.recipe, &new.recipe)?;
        same("seeds_from", &self.seeds_from, &new.seeds_from)?;
        let limit = |record: &Record| record.limit.map_or("none".to_string(), |limit| limit.to_string());
        same("limit", &limit(self), &limit(new))?;
        for (id, then) in &self.questions {
            if let Some(now) = new.questions.get(id) {
                same(&format!("questions of {id}"), then, now)?;
            }
        }
        same("number of stages", &self.protocol.len(), &new.protocol.len())?;
        for (number, (then, now)) in self.protocol.iter().zip(&new.protocol).enumerate() {
            let lock = |options: &Table| Lock { options: options.clone(), ..Lock::default() };
            let differences = lock(then).differences(&lock(now));
            if !differences.is_empty() {
                return Err(error!(Option, "stage {}: {}", number + 1, differences.join("; ")).help(OTHER));
            }
        }
        Ok(())
    }

    /// The cells, encoder by encoder. Those that are known stay what they are.
    fn lay_out(&self, known: &[Cell]) -> Vec<Cell> {
        let mut used: BTreeSet<String> = known.iter().map(|cell| cell.id.clone()).collect();
        let mut cells: Vec<Cell> = Vec::new();
        for encoder in &self.encoders {
            for llm in &self.llms {
                for seed in &self.seeds {
                    let is = |cell: &&Cell| (&cell.encoder, &cell.llm, &cell.seed) == (encoder, llm, seed);
                    let mut cell = match known.iter().find(is) {
                        Some(cell) => cell.clone(),
                        None => {
                            let id = free(format!("{}--{}--s{seed}", file_safe(encoder), file_safe(llm)), &mut used);
                            let pair = |cell: &&Cell| (&cell.encoder, &cell.llm) == (encoder, llm);
                            let before = known.iter().chain(&cells).find(pair);
                            self.new_cell(id, (encoder, llm, *seed), before)
                        }
                    };
                    for benchmark in &self.benchmarks {
                        if !cell.results.iter().any(|result| result.benchmark == *benchmark) {
                            let file = format!("{}/{}.jsonl", cell.folder, file_safe(benchmark));
                            cell.results.push(ResultFile { benchmark: benchmark.clone(), file, answered: None });
                        }
                    }
                    cells.push(cell);
                }
            }
        }
        cells
    }

    /// A cell whose stages before `seeds_from` are those of an earlier cell of the same encoder and LLM.
    fn new_cell(&self, id: String, (encoder, llm, seed): (&str, &str, u64), before: Option<&Cell>) -> Cell {
        let folder = format!("cells/{id}");
        let stage = |number: usize| match before.and_then(|cell| cell.stages.get(number - 1)) {
            Some(theirs) if number < self.seeds_from => theirs.clone(),
            _ => format!("{folder}/stage-{number}"),
        };
        Cell {
            encoder: encoder.to_string(),
            llm: llm.to_string(),
            seed,
            stages: (1..=self.protocol.len()).map(stage).collect(),
            error: None,
            results: Vec::new(),
            id,
            folder,
        }
    }

    /// What tells a cell from the others: `siglip + phi-4, seed 1`; axes with one value say nothing.
    pub fn short_name(&self, cell: &Cell) -> String {
        let model = self.pair_name(&cell.encoder, &cell.llm);
        if self.seeds.len() > 1 { format!("{model}, seed {}", cell.seed) } else { model }
    }

    /// The same of an encoder with an LLM.
    pub fn pair_name(&self, encoder: &str, llm: &str) -> String {
        match (self.encoders.len(), self.llms.len()) {
            (_, 1) => encoder.to_string(),
            (1, _) => llm.to_string(),
            _ => format!("{encoder} + {llm}"),
        }
    }

    /// The cell whose folder a stage's run is in.
    pub(super) fn owner<'a>(&'a self, cell: &'a Cell, stage: usize) -> &'a Cell {
        let is_in = |owner: &&Cell| cell.stages[stage].strip_prefix(&owner.folder).is_some_and(|r| r.starts_with('/'));
        self.cells.iter().find(is_in).unwrap_or(cell)
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

/// An id as a part of a file's name.
fn file_safe(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = id.trim_matches(['/', '.']).chars().map(safe).collect();
    if name.is_empty() { "x".to_string() } else { name }
}

/// The name, numbered when it is taken.
fn free(name: String, used: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let found = std::iter::once(name.clone()).chain(numbered).find(|name| !used.contains(name)).unwrap_or(name);
    used.insert(found.clone());
    found
}

/// A study's answers go only into files below its folder.
pub(super) fn below(dir: &Path, relative: &str) -> Result<std::path::PathBuf> {
    let plain = Path::new(relative).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !plain {
        bail!(Decode, "`{}`: `{relative}` is not a path below it", dir.join(FILE).display());
    }
    Ok(dir.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_do_not_collide() {
        assert_eq!(file_safe("org/model@main"), "org-model-main");
        assert_eq!(file_safe("../up"), "up");
        assert_eq!(file_safe("//"), "x");
        let mut used = BTreeSet::new();
        assert_eq!(free("a".to_string(), &mut used), "a");
        assert_eq!(free("a".to_string(), &mut used), "a-2");
        assert!(below(Path::new("s"), "cells/a").is_ok());
        assert!(below(Path::new("s"), "../a").is_err() && below(Path::new("s"), "/etc").is_err());
    }
}

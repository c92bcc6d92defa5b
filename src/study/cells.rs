//! The cells of a study: the folders of their runs and results, and the runs they share. A cell keeps its folder when the
//! study grows.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{FILE, Record};
use crate::bail;
use crate::error::Result;

/// One model of the grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StudyCell {
    pub id: String,
    pub encoder: String,
    pub llm: String,
    pub seed: u64,
    /// Relative to the study's folder.
    pub folder: String,
    /// The run folder of each stage, relative to the study's folder; another cell's where the two share it.
    pub stages: Vec<String>,
    /// The error of the last attempt, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub results: Vec<ResultFile>,
}

/// The answers of a cell to a benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultFile {
    pub benchmark: String,
    /// Relative to the study's folder.
    pub file: String,
    /// How many questions are answered, once the file is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<usize>,
}

impl Record {
    /// The cells, encoder by encoder. Known cells are taken over unchanged.
    pub(super) fn lay_out(&self, known: &[StudyCell]) -> Vec<StudyCell> {
        let mut used: BTreeSet<String> = known.iter().map(|cell| cell.id.clone()).collect();
        let mut cells: Vec<StudyCell> = Vec::new();
        for encoder in &self.encoders {
            for llm in &self.llms {
                for seed in &self.seeds {
                    let is = |cell: &&StudyCell| (&cell.encoder, &cell.llm, &cell.seed) == (encoder, llm, seed);
                    let mut cell = match known.iter().find(is) {
                        Some(cell) => cell.clone(),
                        None => {
                            let id = free(format!("{}--{}--s{seed}", file_safe(encoder), file_safe(llm)), &mut used);
                            let pair = |cell: &&StudyCell| (&cell.encoder, &cell.llm) == (encoder, llm);
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

    /// A cell that shares the stages before `seeds_from` with an earlier cell of the same encoder and LLM.
    fn new_cell(&self, id: String, (encoder, llm, seed): (&str, &str, u64), before: Option<&StudyCell>) -> StudyCell {
        let folder = format!("cells/{id}");
        let stage = |number: usize| match before.and_then(|cell| cell.stages.get(number - 1)) {
            Some(theirs) if number < self.seeds_from => theirs.clone(),
            _ => format!("{folder}/stage-{number}"),
        };
        StudyCell {
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

    /// The name that distinguishes a cell from the others: `siglip + phi-4, seed 1`; axes with one value are left out.
    pub fn short_name(&self, cell: &StudyCell) -> String {
        let model = self.pair_name(&cell.encoder, &cell.llm);
        if self.seeds.len() > 1 { format!("{model}, seed {}", cell.seed) } else { model }
    }

    /// The same for an encoder with an LLM.
    pub fn pair_name(&self, encoder: &str, llm: &str) -> String {
        match (self.encoders.len(), self.llms.len()) {
            (_, 1) => encoder.to_string(),
            (1, _) => llm.to_string(),
            _ => format!("{encoder} + {llm}"),
        }
    }

    /// The cell whose folder a stage's run is in.
    pub(super) fn owner<'a>(&'a self, cell: &'a StudyCell, stage: usize) -> &'a StudyCell {
        let is_in =
            |owner: &&StudyCell| cell.stages[stage].strip_prefix(&owner.folder).is_some_and(|r| r.starts_with('/'));
        self.cells.iter().find(is_in).unwrap_or(cell)
    }
}

/// An id in a form that is safe in a file name.
fn file_safe(id: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = id.trim_matches(['/', '.']).chars().map(safe).collect();
    if name.is_empty() { "x".to_string() } else { name }
}

/// The name, with a number appended when it is taken.
fn free(name: String, used: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let found = std::iter::once(name.clone()).chain(numbered).find(|name| !used.contains(name)).unwrap_or(name);
    used.insert(found.clone());
    found
}

/// A study's answers go only into files below its folder.
pub(super) fn below(dir: &Path, relative: &str) -> Result<PathBuf> {
    let plain = Path::new(relative).components().all(|part| matches!(part, Component::Normal(_)));
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

//! The questions that a study asks where a limit leaves some out: `questions.json`, beside study.toml. A limit may be raised
//! and lowered again: answers to other questions stay in their files and are left out of the scores.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::error;
use crate::error::{Error, Result};
use crate::eval::Benchmark;
use crate::files;

/// The file's name in the folder.
const FILE: &str = "questions.json";

/// Ids by benchmark; a benchmark without a limit has no entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AskedQuestions(BTreeMap<String, Vec<String>>);

impl AskedQuestions {
    /// The ids of the questions of some benchmarks.
    pub(super) fn of(benchmarks: &[Arc<Benchmark>]) -> Self {
        let limited = benchmarks.iter().filter(|benchmark| benchmark.items.len() < benchmark.counts.found);
        let ids = |benchmark: &Arc<Benchmark>| benchmark.items.iter().map(|item| item.id.clone()).collect();
        AskedQuestions(limited.map(|benchmark| (benchmark.id.clone(), ids(benchmark))).collect())
    }

    /// The content of questions.json in a study's folder; folders of older versions have none.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Ok(AskedQuestions::default());
        }
        let bytes = crate::fs::read(&path).map_err(|error| Error::file(&path, error))?;
        serde_json::from_slice(&bytes)
            .map(AskedQuestions)
            .map_err(|error| error!(Decode, "`{}`: {error}", path.display()))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FILE);
        if self.0.is_empty() && !path.exists()
            || AskedQuestions::open(dir).is_ok_and(|there| there == *self && path.exists())
        {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.0).map_err(|error| error!(File, "{FILE}: {error}"))?;
        files::write(&path, &text)
    }

    /// The questions that are asked of a benchmark; `None` for all of them.
    pub(super) fn ids(&self, benchmark: &str) -> Option<HashSet<&str>> {
        Some(self.0.get(benchmark)?.iter().map(String::as_str).collect())
    }
}

//! `results.jsonl`: a line for each question, answered or left out. What holds for all of them stands in the first line,
//! under `facts`, so that a file shows what the run showed.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::results::Row;
use super::runner::Choices;
use crate::error::{Error, Result};
use crate::{bail, error};

/// What holds for all answers of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// A hash of what decided the answers beside the questions; empty where nobody asked for it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub answers_sha256: String,
    pub choices: Choices,
    /// The type of the model's numbers and where they were computed; empty where nothing was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dtype: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// What trivial answerers score.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub baselines: BTreeMap<String, f64>,
    /// Wall-clock time of inference; 0 when nothing was run.
    #[serde(skip_serializing_if = "is_zero")]
    pub seconds: f64,
    /// Answers that were not computed for their question.
    #[serde(skip_serializing_if = "is_none")]
    pub cached: usize,
}

impl Facts {
    /// Adds those of another part of the same run.
    ///
    /// # Errors
    /// `Data` when the parts are of different runs.
    pub(super) fn join(&mut self, path: &Path, part: Facts) -> Result<()> {
        if (&self.answers_sha256, self.choices) != (&part.answers_sha256, part.choices) {
            bail!(Data, "`{}` holds answers of other weights or settings than the files before it", path.display());
        }
        self.seconds += part.seconds;
        self.cached += part.cached;
        Ok(())
    }
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

fn is_none(count: &usize) -> bool {
    *count == 0
}

/// A question that is not in the score.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeftOut {
    /// Empty for a row of the data that is no question.
    pub id: String,
    #[serde(rename = "left_out")]
    pub why: String,
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Lines {
    pub rows: Vec<Row>,
    /// Each once, and none that is answered.
    pub left_out: Vec<LeftOut>,
    pub facts: Facts,
}

/// Reads the lines of a file, of which `path` is the name.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Lines> {
    let mut lines = Lines::default();
    let mut seen = HashSet::new();
    for (number, text) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, text)| !text.is_empty()) {
        let failed = |error| error!(Decode, "`{}`, line {}: {error}", path.display(), number + 1);
        let mut value: Value = serde_json::from_slice(text).map_err(failed)?;
        if let Some(facts) = value.as_object_mut().and_then(|object| object.remove("facts")) {
            lines.facts = serde_json::from_value(facts).map_err(failed)?;
        }
        if value.get("left_out").is_some() {
            let left_out: LeftOut = serde_json::from_value(value).map_err(failed)?;
            if seen.insert(left_out.clone()) {
                lines.left_out.push(left_out);
            }
        } else {
            lines.rows.push(serde_json::from_value(value).map_err(failed)?);
        }
    }
    let answered: HashSet<&str> = lines.rows.iter().map(|row| row.id.as_str()).collect();
    lines.left_out.retain(|left_out| left_out.id.is_empty() || !answered.contains(left_out.id.as_str()));
    Ok(lines)
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Lines> {
    parse(path, &std::fs::read(path).map_err(|error| Error::file(path, error))?)
}

/// Adds a line to `text`; the first line of a file is given its facts.
pub(super) fn push(text: &mut Vec<u8>, line: &impl Serialize, facts: Option<&Facts>) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T: Serialize> {
        #[serde(flatten)]
        line: &'a T,
        #[serde(skip_serializing_if = "Option::is_none")]
        facts: Option<&'a Facts>,
    }
    serde_json::to_writer(&mut *text, &Line { line, facts }).map_err(|error| error!(File, "a result: {error}"))?;
    text.push(b'\n');
    Ok(())
}

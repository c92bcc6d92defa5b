//! `results.jsonl`: a line for each question, answered or left out. What holds for all of them stands in the first line,
//! under `facts`, so that a file shows what the run showed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::row::Row;
use super::run_options::Choices;
use super::sums::{self, Sum};
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
    /// How the model was asked; empty where nothing was, and in files of older versions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub template: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The template that the model was trained or made with, where it was asked by another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_template: Option<String>,
    /// What tells the model from others of its name (`Vlm::facts`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub made: BTreeMap<String, String>,
    /// The type of the model's numbers and where they were computed; empty where nothing was.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dtype: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// What to say of the number of questions, where it is not the published one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub questions: String,
    /// What else people should know of the data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How many questions were to be asked; 0 where that is not known.
    #[serde(skip_serializing_if = "is_none")]
    pub asked: usize,
    /// Which parts of a run in parts these are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
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

/// Parts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// How many there are of the whole run.
    pub of: usize,
    /// Those that are here, from 0.
    pub parts: BTreeSet<usize>,
}

impl Shard {
    /// Part k of n.
    pub(super) fn new(k: usize, n: usize) -> Self {
        Shard { of: n, parts: BTreeSet::from([k]) }
    }

    /// What to say of the parts that are not here.
    pub(super) fn missing(&self) -> Option<String> {
        let missing: Vec<usize> = (0..self.of).filter(|part| !self.parts.contains(part)).collect();
        let list = |parts: &[usize]| parts.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        Some(match &missing[..] {
            [] => return None,
            [one] => format!("part {one} of {} is missing", self.of),
            [first @ .., last] => format!("parts {} and {last} of {} are missing", list(first), self.of),
        })
    }
}

impl Facts {
    /// Takes over what a later run into the same file says: another part, or other questions.
    pub(super) fn go_on(&mut self, later: Facts) {
        if *self == Facts::default() {
            *self = later;
        } else if !self.covers(&later) {
            self.shard = match (self.shard.take(), later.shard) {
                (Some(mine), Some(other)) if mine.of == other.of => {
                    self.asked += later.asked;
                    Some(Shard { of: mine.of, parts: &mine.parts | &other.parts })
                }
                (_, shard) => {
                    self.asked = later.asked;
                    shard
                }
            };
            (self.questions, self.baselines) = (later.questions, later.baselines);
        }
    }

    /// Whether a run asks for nothing that these do not tell of.
    pub(super) fn covers(&self, run: &Facts) -> bool {
        match (&self.shard, &run.shard) {
            (Some(mine), Some(other)) => mine.of == other.of && other.parts.is_subset(&mine.parts),
            // Fewer questions of the same file: it goes on telling of all that are in it.
            (None, None) => self.asked > run.asked || (self.asked == run.asked && self.questions == run.questions),
            _ => false,
        }
    }

    /// Adds those of another part of the same run.
    ///
    /// # Errors
    /// `Data` when the parts are of different runs.
    pub(super) fn join(&mut self, path: &Path, part: Facts) -> Result<()> {
        let path = path.display();
        let how = |facts: &Facts| (facts.answers_sha256.clone(), facts.choices, facts.template.clone());
        if how(self) != how(&part) {
            bail!(Data, "`{path}` holds answers of other weights or settings than the files before it");
        }
        // Of a file that does not say, nobody can tell what is missing.
        self.shard = match (self.shard.take(), part.shard) {
            (Some(mine), Some(other)) if mine.of != other.of => {
                bail!(Data, "`{path}` is of a run in {} parts, the files before it in {}", other.of, mine.of)
            }
            (Some(mine), Some(other)) => Some(Shard { of: mine.of, parts: &mine.parts | &other.parts }),
            _ => None,
        };
        let new: Vec<String> = part.notes.into_iter().filter(|note| !self.notes.contains(note)).collect();
        self.notes.extend(new);
        self.asked += part.asked;
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
    /// Whether there is no line at all.
    pub is_empty: bool,
}

/// Reads the lines of a file, of which `path` is the name.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Lines> {
    check_sums(path, bytes)?;
    let mut lines = Lines { is_empty: bytes.is_empty(), ..Lines::default() };
    let mut seen = HashSet::new();
    for (number, text) in bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, text)| !text.is_empty()) {
        let failed = |error| error!(Decode, "`{}`, line {}: {error}", path.display(), number + 1);
        let mut value: Value = serde_json::from_slice(text).map_err(failed)?;
        let mut without = |key: &str| value.as_object_mut().and_then(|object| object.remove(key));
        without("sum");
        if let Some(facts) = without("facts") {
            lines.facts.go_on(serde_json::from_value(facts).map_err(failed)?);
        }
        // A part without any question has its facts alone.
        if value.as_object().is_some_and(serde_json::Map::is_empty) {
            continue;
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

/// Refuses a line that is not what it was when it was written. Lines that an older version wrote have no sum; once a line has
/// one, all after it have.
fn check_sums(path: &Path, bytes: &[u8]) -> Result<()> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, text)| !text.is_empty());
    let looked = lines.map(|(number, text)| (number + 1, sums::look(text)));
    let looked: Vec<(usize, Sum)> = looked.skip_while(|(_, sum)| *sum == Sum::None).collect();
    let Some((number, _)) = looked.into_iter().find(|(_, sum)| *sum != Sum::Right) else { return Ok(()) };
    Err(error!(Decode, "`{}`, line {number} is not as it was written: its `sum` is not that of the line", path.display())
        .help("without that line a run into the file asks its question again; lines that were changed on purpose are taken once no line has a `sum`"))
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Lines> {
    parse(path, &crate::fs::read(path).map_err(|error| Error::file(path, error))?)
}

/// A line of facts alone, for a file without questions.
pub(super) fn push_facts(text: &mut Vec<u8>, facts: &Facts) -> Result<()> {
    #[derive(Serialize)]
    struct Nothing {}
    push(text, &Nothing {}, Some(facts))
}

/// Adds a line with its sum to `text`; the first line of a file is given its facts.
pub(super) fn push(text: &mut Vec<u8>, line: &impl Serialize, facts: Option<&Facts>) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a, T: Serialize> {
        #[serde(flatten)]
        line: &'a T,
        #[serde(skip_serializing_if = "Option::is_none")]
        facts: Option<&'a Facts>,
    }
    let start = text.len();
    serde_json::to_writer(&mut *text, &Line { line, facts }).map_err(|error| error!(File, "a result: {error}"))?;
    sums::add(text, start);
    text.push(b'\n');
    Ok(())
}

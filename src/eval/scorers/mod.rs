//! Scorers: raw output -> extracted answer -> score. One file each; a scorer's version changes when its scores do.

mod exact_match;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The scorers presets can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scorer {
    ExactMatch,
}

/// How one output was scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What was read out of the output.
    pub extracted: String,
    pub score: f64,
    /// Output -> extraction -> comparison -> score, in words.
    pub why: String,
}

impl Scorer {
    /// Name and version, as result files record it.
    pub fn version(self) -> &'static str {
        match self {
            Scorer::ExactMatch => "exact_match/1",
        }
    }

    /// The scorer that wrote a result file; another version would score otherwise.
    pub fn of_version(version: &str) -> Result<Self> {
        let all = [Scorer::ExactMatch];
        let known: Vec<_> = all.iter().map(|scorer| scorer.version()).collect();
        all.into_iter()
            .find(|scorer| scorer.version() == version)
            .ok_or_else(|| Error::unknown("scorer version", version, &known, ""))
    }

    /// Scores one raw output.
    pub fn score(self, output: &str, answer: &str) -> Verdict {
        match self {
            Scorer::ExactMatch => exact_match::score(output, answer),
        }
    }
}

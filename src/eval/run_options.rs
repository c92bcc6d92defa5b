//! How a benchmark is run: what is shown, how an answer comes about, what is kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::answers::AnswerCache;
use crate::events::{Interrupt, Listeners};

/// What stands in for the pictures, to see how much of a score needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The pictures themselves.
    Off,
    /// A uniform gray picture for every question.
    Gray,
}

/// How an answer comes about where a question has lettered choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choices {
    /// The model writes, and the scorer reads a letter out of it.
    #[default]
    Generate,
    /// The letter that is likeliest right after the prompt.
    Likelihood,
}

/// How to run a benchmark.
pub struct RunOptions {
    /// What tables call the model, where its parts do not say it.
    pub name: Option<String>,
    /// Questions that are decoded together.
    pub batch: usize,
    pub control: Control,
    pub choices: Choices,
    /// Answers that need not be asked for again; without, equal questions are all asked.
    pub cache: Option<AnswerCache>,
    /// A results file that grows while questions are answered; what it holds is not asked again.
    pub out: Option<PathBuf>,
    /// Questions at most, from the first on, with what the metric counts together with them.
    pub limit: Option<usize>,
    /// `(k, n)`: the k-th of n parts, from 0.
    pub shard: Option<(usize, usize)>,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
}

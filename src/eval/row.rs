//! One answered question, with all that its score depends on.

use serde::{Deserialize, Serialize};

use super::answers::Likelihood;
use super::gold::Gold;
use super::rules::Rules;

/// One answered question; one line of `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub benchmark: String,
    /// What answered: a model's description, or `predictions`.
    #[serde(default)]
    pub model: String,
    pub id: String,
    /// What questions have to share to count as one draw: the picture's name, or a hash of it.
    pub group: String,
    pub category: String,
    /// A category above the category: MMBench's L2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub section: String,
    pub prompt: String,
    /// Hashes of the pictures that were shown, in their order; files of older versions do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<String>,
    pub output: String,
    /// Of the choices, where the output is the likeliest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub likelihoods: Vec<Likelihood>,
    /// What was read out of the output; `None` when no answer could be.
    pub extracted: Option<String>,
    #[serde(flatten)]
    pub gold: Gold,
    pub score: f64,
    pub scorer: String,
    #[serde(default)]
    pub rules: Rules,
}

impl Row {
    /// Whether no answer was read: none could be, or nothing was left of it.
    pub fn is_unread(&self) -> bool {
        self.extracted.as_deref().is_none_or(|text| super::python::strip(text).is_empty())
    }
}

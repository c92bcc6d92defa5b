//! What a question is compared with: gold answers, choices, the kind of question. It is stored with every result, so
//! that a result file explains and re-scores itself.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// A lettered choice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    pub letter: char,
    pub text: String,
}

/// One answer, or several that count alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RightAnswers {
    One(String),
    Several(Vec<String>),
}

/// What is known about the right answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gold {
    pub answer: RightAnswers,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// MMMU asks some questions without choices.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
}

impl RightAnswers {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            RightAnswers::One(answer) => std::slice::from_ref(answer),
            RightAnswers::Several(answers) => answers,
        }
    }

    /// The first one; nothing when there is none.
    pub fn first(&self) -> &str {
        self.all().first().map_or("", String::as_str)
    }
}

impl std::fmt::Display for RightAnswers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.all().join(" | "))
    }
}

impl Gold {
    /// One right answer and nothing else.
    pub fn new(answer: impl Into<String>) -> Self {
        Gold { answer: RightAnswers::One(answer.into()), choices: Vec::new(), open: false }
    }
}

/// The most frequent right answer, which is what a majority baseline says; the first of equals.
pub(super) fn most_frequent<'a>(golds: impl Iterator<Item = &'a Gold>) -> String {
    let mut counts: HashMap<&str, (usize, Reverse<usize>)> = HashMap::new();
    for (place, gold) in golds.enumerate() {
        counts.entry(gold.answer.first()).or_insert((0, Reverse(place))).0 += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or(String::new(), |(answer, _)| answer.to_string())
}

/// Choices under the letters A, B, ...; an absent one leaves its letter out.
pub(super) fn lettered(texts: impl IntoIterator<Item = Option<String>>) -> Vec<Choice> {
    ('A'..='Z').zip(texts).filter_map(|(letter, text)| Some(Choice { letter, text: text? })).collect()
}

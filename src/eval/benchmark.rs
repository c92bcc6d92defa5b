//! Benchmarks: items with prompts and gold answers, and the scorer that goes with them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scorers::Scorer;
use crate::data::{ImageSource, Pack};
use crate::error::Result;
use crate::preset::{PresetKind, Presets};
use crate::{bail, error};

/// One question.
#[derive(Clone)]
pub struct Item {
    pub id: String,
    pub image: Option<ImageSource>,
    /// The task's text; the image mark is added when asking.
    pub prompt: String,
    pub answer: String,
    pub category: String,
}

/// A list of questions with how they are scored.
#[derive(Clone)]
pub struct Benchmark {
    pub id: String,
    pub about: String,
    pub items: Vec<Item>,
    pub scorer: Scorer,
    pub max_new_tokens: usize,
    /// What trivial answerers score, to be printed beside every result.
    pub baselines: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BenchmarkPreset {
    about: String,
    pack: String,
    scorer: Scorer,
    max_new_tokens: usize,
    #[serde(default)]
    baselines: BTreeMap<String, f64>,
}

impl Benchmark {
    /// A preset, cut to its first `limit` questions.
    pub fn open(presets: &Presets, id: &str, limit: Option<usize>) -> Result<Self> {
        let preset: BenchmarkPreset = presets.get(PresetKind::Benchmarks, id)?;
        let pack = Pack::open(&preset.pack)?;
        let mut items = Vec::new();
        for image in 0..pack.len() {
            for (number, (question, answer)) in pack.questions(image).iter().enumerate() {
                items.push(Item {
                    id: format!("{image}-{number}"),
                    image: Some(ImageSource::Packed { pack: pack.clone(), index: image }),
                    prompt: question.clone(),
                    answer: answer.clone(),
                    category: category(question, answer),
                });
            }
        }
        items.truncate(limit.unwrap_or(usize::MAX));
        if items.is_empty() {
            bail!(Option, "benchmark `{id}` with `limit: 0` has no questions");
        }
        Ok(Benchmark {
            id: id.to_string(),
            about: preset.about,
            items,
            scorer: preset.scorer,
            max_new_tokens: preset.max_new_tokens,
            baselines: preset.baselines,
        })
    }

    /// The item at a position.
    pub fn item(&self, index: usize) -> Result<&Item> {
        self.items
            .get(index)
            .ok_or_else(|| error!(Data, "benchmark `{}` has {} items, there is no {index}", self.id, self.items.len()))
    }
}

/// What a question asks for.
fn category(question: &str, answer: &str) -> String {
    match (answer, question.contains("color")) {
        ("yes" | "no", _) => "yes/no",
        (_, true) => "color",
        (_, false) => "shape",
    }
    .to_string()
}

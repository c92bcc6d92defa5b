//! Published results, as data: `stdlib/published/*.toml`. Columns bear the names of our benchmarks and metrics.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error;
use crate::error::{Error, Result};
use crate::show::{Cell, Table};

const EMBEDDED: [(&str, &str); 1] = [("llava-more", include_str!("../../stdlib/published/llava-more.toml"))];

/// Columns in the order of the published table, with the benchmark whose headline they are.
const COLUMNS: [(&str, Option<&str>); 13] = [
    ("textvqa_val", Some("textvqa_val")),
    ("scienceqa_img", Some("scienceqa_img")),
    ("ai2d", Some("ai2d")),
    ("seed_video", None),
    ("seed_all", Some("seedbench")),
    ("seed_image", None),
    ("mmmu_val", Some("mmmu_val")),
    ("mmbench_cn_dev", Some("mmbench_cn_dev")),
    ("mmbench_en_dev", Some("mmbench_en_dev")),
    ("pope", Some("pope")),
    ("gqa", Some("gqa")),
    ("mme_perception", None),
    ("mme_cognition", None),
];

/// A published table of results.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub about: String,
    pub models: Vec<PublishedModel>,
}

/// One row of it.
#[derive(Clone, Debug, Deserialize)]
pub struct PublishedModel {
    pub name: String,
    /// The presets it is made of, where they say all of it.
    pub encoder: Option<String>,
    pub llm: Option<String>,
    /// Percent; MME in points.
    #[serde(flatten)]
    pub scores: BTreeMap<String, f64>,
}

impl Published {
    /// A table by id.
    pub fn open(id: &str) -> Result<Self> {
        let known: Vec<&str> = EMBEDDED.iter().map(|(id, _)| *id).collect();
        let found = EMBEDDED.iter().find(|(known, _)| *known == id);
        let (_, text) = found.ok_or_else(|| Error::unknown("published table", id, &known, ""))?;
        toml::from_str(text).map_err(|error| error!(Decode, "published table `{id}`: {}", error.message()))
    }

    /// A row by the model's name.
    pub fn model(&self, name: &str) -> Result<&PublishedModel> {
        let known: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        let found = self.models.iter().find(|model| model.name == name);
        found.ok_or_else(|| Error::unknown("published model", name, &known, "`published(\"llava-more\")` lists them"))
    }

    /// The row of an encoder and an LLM, by their preset ids.
    pub fn of_parts(&self, encoder: &str, llm: &str) -> Option<&PublishedModel> {
        let is = |part: &Option<String>, id: &str| part.as_deref() == Some(id);
        self.models.iter().find(|model| is(&model.encoder, encoder) && is(&model.llm, llm))
    }

    /// The table, the best of each column standing out.
    pub fn table(&self) -> Table {
        let mut table =
            COLUMNS.iter().fold(Table::new(&*self.about).column("model"), |table, (name, _)| table.number(*name));
        let best = |name: &str| {
            let scores = self.models.iter().filter_map(|model| model.scores.get(name));
            scores.copied().fold(f64::NEG_INFINITY, f64::max)
        };
        for model in &self.models {
            let cell = |name: &str| match model.scores.get(name) {
                Some(score) => Cell::of(format!("{score:.1}"), *score).bold_if(*score == best(name)),
                None => Cell::from(""),
            };
            let scores = COLUMNS.iter().map(|(name, _)| cell(name));
            table.push(std::iter::once(Cell::from(model.name.as_str())).chain(scores));
        }
        table.note("percent; MME in points; TextVQA with OCR tokens")
    }
}

impl PublishedModel {
    /// The published headline of one of our benchmarks, as our headline is: a fraction, for MME points.
    pub fn headline(&self, benchmark: &str) -> Option<f64> {
        if benchmark == "mme" {
            return Some(self.scores.get("mme_perception")? + self.scores.get("mme_cognition")?);
        }
        let (column, _) = COLUMNS.iter().find(|(_, of)| *of == Some(benchmark))?;
        self.scores.get(*column).map(|score| score / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_table_is_whole() {
        let published = Published::open("llava-more").unwrap();
        assert_eq!(published.models.len(), 10);
        assert!(published.models.iter().all(|model| model.scores.len() == COLUMNS.len()));
        let model = published.model("MORE LLaMA-3.1-8B CLIP").unwrap();
        assert_eq!(model.headline("pope"), Some(0.851));
        assert_eq!(model.headline("mme"), Some(1531.5 + 353.3));
        let parts = published.of_parts("siglip-so400m-384", "llama-3.1-8b-instruct").unwrap();
        assert_eq!(parts.name, "MORE LLaMA-3.1-8B SigLIP");
        assert!(published.model("MORE").is_err() && Published::open("llava").is_err());
    }
}

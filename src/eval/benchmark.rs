//! Benchmarks: items with prompts and gold answers, and the scorer that goes with them. One TOML file says all of it:
//! where the questions come from, how a prompt is made, what scores the answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::embedded::{PackQuestions, pack_items};
use super::gold::Gold;
use super::scorers::{Rules, Scorer};
use super::source::{Fields, Source};
use super::table_items::table_items;
use crate::data::ImageSource;
use crate::error::{Error, Result};
use crate::preset::{PresetKind, Presets};
use crate::{bail, error};

/// One question.
#[derive(Clone)]
pub struct Item {
    pub id: String,
    /// What questions have to share to count as one draw: the image.
    pub group: String,
    /// Pictures in the order in which the prompt shows them.
    pub images: Vec<ImageSource>,
    /// The task's text; where it holds no image mark, one is added when asking.
    pub prompt: String,
    pub gold: Gold,
    pub category: String,
    /// A category above the category: MMBench's L2.
    pub section: String,
}

/// A list of questions with how they are scored.
#[derive(Clone)]
pub struct Benchmark {
    pub id: String,
    pub about: String,
    pub items: Vec<Item>,
    pub scorer: Scorer,
    pub rules: Rules,
    pub max_new_tokens: usize,
    /// What trivial answerers score, to be printed beside every result.
    pub baselines: BTreeMap<String, f64>,
    /// Why rows of the data are no items; one error a row.
    pub left_out: Vec<Error>,
}

/// What a script may choose.
#[derive(Clone, Debug, Default)]
pub struct BenchmarkOptions {
    /// A parquet or JSON-lines file, or a folder of them.
    pub data: Option<PathBuf>,
    /// A second table with pictures (`id`, `image`), as GQA has one.
    pub images: Option<PathBuf>,
    /// The first n questions.
    pub limit: Option<usize>,
    pub rules: Rules,
    /// Oddities of the reference's prompts as well.
    pub reference_quirks: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BenchmarkPreset {
    about: String,
    scorer: Scorer,
    max_new_tokens: usize,
    /// Embedded pictures, and what is asked about them.
    pack: Option<String>,
    items: Option<PackQuestions>,
    /// Where the data are published, for messages.
    source: Option<String>,
    /// Files of a folder whose names begin so.
    split: Option<String>,
    prompt: Option<String>,
    /// The prompt of questions without choices, where it is another one.
    prompt_open: Option<String>,
    fields: Option<Fields>,
    #[serde(default)]
    baselines: BTreeMap<String, f64>,
}

impl Benchmark {
    /// A preset and its data.
    ///
    /// # Errors
    /// `Option` when data are missing or not wanted; `Data` when no row can be used.
    pub fn open(presets: &Presets, id: &str, options: &BenchmarkOptions) -> Result<Self> {
        let preset: BenchmarkPreset = presets.get(PresetKind::Benchmarks, id)?;
        preset.scorer.check(options.rules)?;
        let (mut items, left_out) = preset.read(id, options)?;
        items.truncate(options.limit.unwrap_or(usize::MAX));
        if items.is_empty() {
            match left_out.first() {
                Some(first) => return Err(first.clone().context(format!("benchmark `{id}`: no row can be used"))),
                None => bail!(Option, "benchmark `{id}` with `limit: 0` has no questions"),
            }
        }
        Ok(Benchmark {
            id: id.to_string(),
            about: preset.about,
            items,
            scorer: preset.scorer,
            rules: options.rules,
            max_new_tokens: preset.max_new_tokens,
            baselines: preset.baselines,
            left_out,
        })
    }

    /// The item at a position.
    pub fn item(&self, index: usize) -> Result<&Item> {
        self.items
            .get(index)
            .ok_or_else(|| error!(Data, "benchmark `{}` has {} items, there is no {index}", self.id, self.items.len()))
    }
}

impl BenchmarkPreset {
    fn read(&self, id: &str, options: &BenchmarkOptions) -> Result<(Vec<Item>, Vec<Error>)> {
        match (&self.pack, &self.fields, &options.data) {
            (Some(pack), None, None) => Ok((pack_items(pack, self.items.unwrap_or_default())?, Vec::new())),
            (Some(_), None, Some(data)) => {
                bail!(Option, "benchmark `{id}` is embedded, it takes no `data` ({})", data.display())
            }
            (None, Some(fields), Some(data)) => self.read_table(fields, data, options),
            (None, Some(_), None) => {
                let published = self.source.as_deref().unwrap_or("its own set");
                Err(error!(Option, "benchmark `{id}` needs its questions: {published}").help(format!(
                    "`benchmark(\"{id}\", #{{ data: \"folder or file\" }})` takes parquet and JSON lines"
                )))
            }
            _ => bail!(Option, "benchmark `{id}` has to have either `pack` or `[fields]`"),
        }
    }

    fn read_table(&self, fields: &Fields, data: &Path, options: &BenchmarkOptions) -> Result<(Vec<Item>, Vec<Error>)> {
        let Some(prompt) = &self.prompt else { bail!(Option, "the benchmark has no `prompt`") };
        let source = Source::new(fields, prompt, self.prompt_open.as_deref(), self.scorer, options.reference_quirks)?;
        table_items(&source, data, self.split.as_deref(), options.images.as_deref())
    }
}

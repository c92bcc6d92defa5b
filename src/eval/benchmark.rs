//! Benchmarks: items with prompts and gold answers, and the scorer that goes with them. One TOML file says all of it:
//! where the questions come from, how a prompt is made, what scores the answers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::answers::Answer;
use super::counts::{Counts, first};
use super::embedded::{PackQuestions, pack_items};
use super::fields::{Fields, OneOrMany};
use super::gold::most_frequent;
use super::grouping::Grouping;
use super::item::Item;
use super::item_reader::ItemReader;
use super::layout::{Layout, Set};
use super::row::Row;
use super::rules::Rules;
use super::scorers::Scorer;
use super::table_items::table_items;
use crate::error::{Error, Result};
use crate::preset::{PresetKind, Presets};
use crate::{bail, error};

/// A list of questions with how they are scored.
#[derive(Clone)]
pub struct Benchmark {
    pub id: String,
    pub about: String,
    pub items: Vec<Item>,
    pub scorer: Scorer,
    pub rules: Rules,
    pub max_new_tokens: usize,
    /// What trivial answerers score on all questions (`baselines_of` says it of some).
    pub baselines: BTreeMap<String, f64>,
    /// The most frequent right answer of all questions.
    pub common: String,
    /// Why rows of the data are no items; one error a row.
    pub left_out: Vec<Error>,
    pub counts: Counts,
    pub grouping: Grouping,
    /// Where its pictures belong, for those who forgot them.
    pub pictures: String,
}

/// What a script may choose.
#[derive(Clone, Debug, Default)]
pub struct BenchmarkOptions {
    /// A parquet, JSON or TSV file, a folder of them as it was downloaded, or a data set on the hub.
    pub data: Option<PathBuf>,
    /// A second table with pictures (`id`, `image`) or a folder of them, as GQA has one.
    pub images: Option<PathBuf>,
    /// The first n questions; of MMBench in all their orders, of MME whole pictures.
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
    /// How many questions are published, or were in either of two publications.
    questions: Option<OneOrMany<usize>>,
    /// Embedded pictures, and what is asked about them.
    pack: Option<String>,
    items: Option<PackQuestions>,
    /// Where the data are published: data sets on the hub, the first one to be fetched.
    source: Option<OneOrMany<String>>,
    /// The names of the split, the first that is there counts.
    split: Option<OneOrMany<String>>,
    /// What else tells its files and rows from others.
    #[serde(default)]
    layout: Layout,
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
        let (items, left_out) = preset.read(presets, id, options)?;
        match left_out.first() {
            _ if options.limit == Some(0) => bail!(Option, "benchmark `{id}` with `limit: 0` has no questions"),
            Some(first) if items.is_empty() => {
                return Err(first.clone().context(format!("benchmark `{id}`: no row can be used")));
            }
            None if items.is_empty() => bail!(Data, "benchmark `{id}`: the data hold no question"),
            _ => {}
        }
        let published = preset.questions.as_ref().map_or(Vec::new(), OneOrMany::all);
        let mut benchmark = Benchmark {
            id: id.to_string(),
            pictures: preset.pictures(id),
            about: preset.about,
            counts: Counts { published, found: items.len(), limit: None },
            common: most_frequent(items.iter().map(|item| &item.gold)),
            items,
            scorer: preset.scorer,
            rules: options.rules,
            max_new_tokens: preset.max_new_tokens,
            baselines: preset.baselines,
            left_out,
            grouping: Grouping::default(),
        };
        if let Some(limit) = options.limit {
            benchmark.limit(limit);
        }
        Ok(benchmark)
    }

    /// Keeps the first n questions, with what the metric counts together with them.
    pub fn limit(&mut self, n: usize) {
        let kept: Vec<Item> = first(self.scorer.metric(), &self.items, n).into_iter().cloned().collect();
        if kept.len() < self.items.len() {
            (self.items, self.counts.limit) = (kept, Some(n));
        }
    }

    /// What to say of the number of questions, unless it is the published one.
    pub fn counted(&self) -> Option<String> {
        self.counts.note(self.scorer.metric(), self.items.len(), None)
    }

    /// Refuses to ask about pictures that are not there. Answers can be scored without.
    ///
    /// # Errors
    /// `Data`, with where they belong.
    pub(super) fn check_pictures(&self) -> Result<()> {
        if self.items.is_empty() || self.items.iter().any(|item| !item.images.is_empty()) {
            return Ok(());
        }
        let (id, questions) = (&self.id, self.items.len());
        Err(error!(Data, "benchmark `{id}` asks about pictures, and none of its {questions} questions has one")
            .help(self.pictures.clone()))
    }

    /// Scores an output to a question, of which `group` is the group and `pictures` hashes of what was shown.
    pub(super) fn row(&self, model: &str, (item, group): (&Item, &str), answer: &Answer, pictures: Vec<String>) -> Row {
        let output = super::python::strip(&answer.output);
        let verdict = self.scorer.score(self.rules, output, &item.gold);
        Row {
            benchmark: self.id.clone(),
            model: model.to_string(),
            id: item.id.clone(),
            group: group.to_string(),
            category: item.category.clone(),
            section: item.section.clone(),
            prompt: item.prompt.clone(),
            pictures,
            output: output.to_string(),
            likelihoods: answer.likelihoods.clone(),
            extracted: verdict.extracted,
            gold: item.gold.clone(),
            score: verdict.score,
            scorer: self.scorer.version(),
            rules: self.rules,
        }
    }

    /// The item at a position.
    pub fn item(&self, index: usize) -> Result<&Item> {
        self.items
            .get(index)
            .ok_or_else(|| error!(Data, "benchmark `{}` has {} items, there is no {index}", self.id, self.items.len()))
    }
}

impl BenchmarkPreset {
    fn read(&self, presets: &Presets, id: &str, options: &BenchmarkOptions) -> Result<(Vec<Item>, Vec<Error>)> {
        match (&self.pack, &self.fields) {
            (Some(pack), None) => match options.data.as_ref().or(options.images.as_ref()) {
                None => Ok((pack_items(pack, self.items.unwrap_or_default())?, Vec::new())),
                Some(data) => {
                    bail!(
                        Option,
                        "benchmark `{id}` is embedded, it takes no `data` and no `images` ({})",
                        data.display()
                    )
                }
            },
            (None, Some(fields)) => self.read_table(presets, id, fields, options),
            _ => bail!(Option, "benchmark `{id}` has to have either `pack` or `[fields]`"),
        }
    }

    /// Where the pictures belong.
    fn pictures(&self, id: &str) -> String {
        let source = self.published();
        match self.fields.as_ref().map(|fields| (fields.second_table(), fields.image())) {
            Some((true, image)) => format!(
                "they are a table of their own: `benchmark(\"{id}\", #{{ data: .., images: \"folder or file\" }})` \
                 ({source}); or each row has a field `{image}`"
            ),
            Some((false, image)) => {
                format!("they belong in the field `{image}` of each row ({source}); `b.score(outputs)` needs none")
            }
            None => String::new(),
        }
    }

    /// Where the set is published, in words.
    fn published(&self) -> String {
        let homes = self.source.as_ref().map_or(Vec::new(), OneOrMany::all);
        if homes.is_empty() { "its own set".to_string() } else { homes.join(" or ") }
    }

    fn read_table(
        &self,
        presets: &Presets,
        id: &str,
        fields: &Fields,
        options: &BenchmarkOptions,
    ) -> Result<(Vec<Item>, Vec<Error>)> {
        let Some(prompt) = &self.prompt else { bail!(Option, "the benchmark has no `prompt`") };
        let prompts: Vec<&str> = std::iter::once(prompt.as_str()).chain(self.prompt_open.as_deref()).collect();
        let names = |names: &Option<OneOrMany<String>>| names.as_ref().map_or(Vec::new(), OneOrMany::all);
        let (homes, split) = (names(&self.source), names(&self.split));
        let set = Set::new(presets, id, (homes, split), &self.layout, fields, &prompts)?;
        let Some(data) = &options.data else {
            let published = self.published();
            return Err(error!(Option, "benchmark `{id}` needs its questions: {published}").help(set.published()));
        };
        let reader = ItemReader::new(fields, prompt, self.prompt_open.as_deref(), options.reference_quirks)?;
        table_items(&reader, &set, &set.files(presets, data)?, options.images.as_deref())
    }
}

//! Smoke runs (`--set smoke=true`): any script in seconds, on what is embedded. Ids and paths become `tiny-*` stand-ins, and
//! options that a stand-in cannot honor give way to what it can. All such rules are here, the API functions only ask;
//! outside smoke runs each function gives back what it got. Where a smoke run writes is in `places.rs`.

use std::path::Path;

use rhai::{Dynamic, Map};
use toml::{Table, Value};

use super::state::State;
use crate::data::Dataset;
use crate::error::Result;
use crate::eval::{Benchmark, Choices, Results, Rules};
use crate::preset::PresetKind;
use crate::text::{Template, Tokenizer};
use crate::vlm::{Encoder, EncoderOptions, Llm, Vlm, Weights};

/// Steps of every trainer and samples of each.
pub(super) const TRAIN: [(&str, i64); 2] = [("steps", 2), ("batch", 4)];
/// Questions of every benchmark.
const QUESTIONS: usize = 16;
/// Tokens of an answer: the untrained stand-ins seldom end one.
const NEW_TOKENS: usize = 32;
/// Visual tokens the stand-ins can be pooled to: all have a grid of 8 x 8.
const GRIDS: [usize; 4] = [64, 16, 4, 1];
/// Samples of a data set that stands in for another, so that walks over it are short.
const SAMPLES: usize = 1000;
/// Samples that are looked at to see what kind a data set is of.
const LOOKED_AT: usize = 64;
/// The published metrics that are one number.
const METRICS: [&str; 12] = [
    "accuracy",
    "cognition",
    "exact_match",
    "f1",
    "mmmu_acc",
    "perception",
    "precision",
    "recall",
    "seed_all",
    "seed_image",
    "seed_video",
    "yes_ratio",
];

/// The `tiny-*` preset that is most like what an id or a path names.
fn tiny(kind: PresetKind, id: &str) -> &'static str {
    let id = id.to_lowercase();
    let names = |words: &[&str]| words.iter().any(|word| id.contains(word));
    match kind {
        PresetKind::Encoders if names(&["siglip"]) => "tiny-siglip",
        PresetKind::Encoders if names(&["dino"]) => "tiny-dinov2",
        PresetKind::Encoders => "tiny-clip",
        PresetKind::Llms if names(&["gemma"]) => "tiny-gemma-2",
        PresetKind::Llms => "tiny-llama",
        PresetKind::Models => "tiny-llava",
        PresetKind::Datasets if names(&["blip", "caption", "pretrain"]) => "tiny-captions",
        PresetKind::Datasets => "tiny-instruct",
        PresetKind::Benchmarks if names(&["pope"]) => "tiny-pope",
        PresetKind::Benchmarks if names(&["seed", "mmbench", "ai2d", "scienceqa", "mmmu", "realworld"]) => "tiny-seed",
        PresetKind::Benchmarks => "tiny-vqa",
        PresetKind::Recipes => "llava-more-tiny",
        PresetKind::Templates => "tiny",
    }
}

impl State {
    /// Whether this is a smoke run.
    pub(super) fn smoke(&self) -> bool {
        self.overrides().smoke
    }

    /// The id to open: itself, or the stand-in of a smoke run. What the smoke run has written itself is opened.
    pub(super) fn stand_in(&self, kind: PresetKind, id: &str) -> String {
        let is_tiny = |name: &str| name.starts_with("tiny-") || name.ends_with("-tiny");
        if !self.smoke() {
            // A rerun opens what it has made again.
            return self.made(Path::new(id)).map_or(id.to_string(), |place| place.display().to_string());
        }
        if is_tiny(id) || kind == PresetKind::Templates {
            return id.to_string();
        }
        if let Some(place) = self.made(Path::new(id)).filter(|_| kind != PresetKind::Benchmarks) {
            return place.display().to_string();
        }
        // `data/tiny-captions`: a script put a folder before what the tiny recipe names.
        let named = id.rsplit('/').next().filter(|name| is_tiny(name) && self.presets().contains(kind, name));
        named.unwrap_or_else(|| tiny(kind, id)).to_string()
    }

    /// How many questions of a benchmark are asked, of those the script wants.
    pub(super) fn limit(&self, wanted: Option<usize>) -> Option<usize> {
        self.overrides().limit.or(self.smoke().then_some(QUESTIONS)).or(wanted)
    }

    /// How many tokens an answer may have.
    pub(super) fn new_tokens(&self, wanted: usize) -> usize {
        if self.smoke() { wanted.min(NEW_TOKENS) } else { wanted }
    }

    /// Visual tokens after pooling: the most that a stand-in can have and the script wants.
    pub(super) fn pooled(&self, wanted: usize) -> usize {
        let fitting = GRIDS.into_iter().find(|tokens| self.smoke() && *tokens <= wanted);
        fitting.unwrap_or(wanted)
    }

    /// Whether a template gives way because the tokenizer of a stand-in lacks its tokens.
    pub(super) fn gives_way(&self, template: &Template, tokenizer: &Tokenizer) -> bool {
        self.smoke() && template.check(tokenizer).is_err()
    }

    /// The template a text is rendered by: this one, or `tiny` where it gives way.
    pub(super) fn writable(&self, template: Template, tokenizer: &Tokenizer) -> Result<Template> {
        if self.gives_way(&template, tokenizer) { Template::load(self.presets(), "tiny") } else { Ok(template) }
    }

    /// The template an option names, unless it gives way; `None` is the model's own.
    pub(super) fn template(&self, name: Option<String>, tokenizer: Option<&Tokenizer>) -> Result<Option<String>> {
        let Some(named) = name.as_ref().filter(|_| self.smoke()) else { return Ok(name) };
        let template = Template::load(self.presets(), named)?;
        let fits = tokenizer.is_some_and(|tokenizer| !self.gives_way(&template, tokenizer));
        Ok(name.filter(|_| fits))
    }

    /// Changes options of an encoder to what its stand-in has: scales relative to its own size, a layer of its own.
    pub(super) fn adapt_encoder(&self, id: &str, options: &mut EncoderOptions) -> Result<()> {
        if !self.smoke() || (options.s2.is_none() && options.select_layer.is_none()) {
            return Ok(());
        }
        let plain = EncoderOptions { weights: Weights::None, s2: None, select_layer: None, ..options.clone() };
        let encoder = Encoder::open(self.presets(), id, plain)?;
        let (own, states) = (encoder.image_size(), encoder.tower.spec().layers as i64 + 1);
        options.select_layer = options.select_layer.filter(|layer| (-states..states).contains(layer));
        let Some(sides) = &mut options.s2 else { return Ok(()) };
        if let Some(least) = sides.iter().copied().min().filter(|least| *least > 0) {
            sides.iter_mut().for_each(|side| *side = own * ((2 * *side + least) / (2 * least)));
            sides.sort_unstable();
            sides.dedup();
        }
        Ok(())
    }

    /// Leaves options of a trainer out that the stand-ins or two small steps cannot honor, so that their defaults hold.
    pub(super) fn adapt_training(&self, options: &mut Table, llms: &[&Llm]) -> Result<()> {
        if !self.smoke() {
            return Ok(());
        }
        options.remove("dtype");
        if let Some(name) = options.get("template").and_then(Value::as_str) {
            let template = Template::load(self.presets(), name)?;
            let lacks = |llm: &&Llm| llm.tokenizer().is_ok_and(|tokenizer| self.gives_way(&template, tokenizer));
            if llms.iter().any(lacks) {
                options.remove("template");
            }
        }
        let number = |options: &Table, key: &str| options.get(key).and_then(Value::as_integer);
        let context = llms.iter().map(|llm| llm.context() as i64).min().unwrap_or(i64::MAX);
        if number(options, "max_length").is_some_and(|length| length > context) {
            options.remove("max_length");
        }
        let batch = number(options, "batch").unwrap_or(1);
        if number(options, "micro_batch").is_some_and(|micro| micro > 0 && batch % micro != 0) {
            options.remove("micro_batch");
        }
        if let Some(Value::Table(lora)) = options.get_mut("lora") {
            let targets = lora.get("targets").and_then(Value::as_array);
            let layers = targets.into_iter().flatten().filter_map(Value::as_str);
            let lacks = |llm: &Llm, layer: &str| {
                let weight = format!(".{layer}.weight");
                !llm.params.iter().any(|param| param.name().ends_with(&weight))
            };
            // Other families have their layers fused, or name them otherwise.
            if layers.into_iter().any(|layer| llms.iter().any(|llm| lacks(llm, layer))) {
                lora.remove("targets");
            }
        }
        Ok(())
    }

    /// Leaves the template of a stand-in's recipe out where the script chose another one for the model.
    pub(super) fn adapt_template(&self, options: &mut Table, vlm: &Vlm) {
        let is_stand_in = options.get("template").and_then(Value::as_str) == Some("tiny");
        if self.smoke() && is_stand_in && vlm.is_template_by_hand() {
            options.remove("template");
        }
    }

    /// Some samples of a stand-in.
    pub(super) fn some(&self, data: Dataset) -> Dataset {
        if self.smoke() { data.take(SAMPLES) } else { data }
    }

    /// Data to train on: captions where a template takes one round and the stand-in has conversations, and some samples
    /// where a script's choice left none.
    pub(super) fn trainable(&self, template: &Template, data: Dataset) -> Result<Dataset> {
        if !self.smoke() {
            return Ok(data);
        }
        let captions = template.name() == "plain";
        let long = |index| data.get(index).is_ok_and(|sample| sample.turns.len() > 2);
        if data.is_empty() || (captions && (0..data.len().min(LOOKED_AT)).any(long)) {
            return Dataset::preset(self.presets(), if captions { "tiny-captions" } else { "tiny-instruct" });
        }
        Ok(data)
    }

    /// Likelihoods are compared only where the stand-in has choices.
    pub(super) fn choices(&self, choices: Choices, benchmark: &Benchmark) -> Choices {
        let lettered = benchmark.items.iter().any(|item| !item.gold.choices.is_empty());
        if self.smoke() && !lettered { Choices::Generate } else { choices }
    }

    /// The rules to read outputs by, if the scorer of the stand-in knows them.
    pub(super) fn rules(&self, rules: Rules, results: &Results) -> Rules {
        if self.smoke() && results.scorer.check(rules).is_err() { Rules::default() } else { rules }
    }

    /// Adds the published metrics that the stand-in lacks: they hold its score.
    pub(super) fn add_metrics(&self, metrics: &mut Map, score: f64) {
        for name in METRICS.into_iter().filter(|_| self.smoke()) {
            metrics.entry(name.into()).or_insert(Dynamic::from_float(if score.is_nan() { 0.0 } else { score }));
        }
        for name in ["by_category", "by_l2_category", "by_subject"].into_iter().filter(|_| self.smoke()) {
            metrics.entry(name.into()).or_insert_with(|| Map::new().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_keep_the_axes_of_a_study() {
        let cases = [
            (PresetKind::Encoders, "google/siglip2-so400m-patch14-384", "tiny-siglip"),
            (PresetKind::Encoders, "models/DINOv2-small", "tiny-dinov2"),
            (PresetKind::Encoders, "clip-vit-l-336", "tiny-clip"),
            (PresetKind::Llms, "gemma-2-9b-it", "tiny-gemma-2"),
            (PresetKind::Llms, "phi-4-mini-instruct", "tiny-llama"),
            (PresetKind::Datasets, "data/blip_laion_cc_sbu_558k.json", "tiny-captions"),
            (PresetKind::Datasets, "data/llava_v1_5_mix665k.json", "tiny-instruct"),
            (PresetKind::Benchmarks, "pope", "tiny-pope"),
            (PresetKind::Benchmarks, "mmbench_en_dev", "tiny-seed"),
            (PresetKind::Benchmarks, "gqa", "tiny-vqa"),
        ];
        for (kind, id, expected) in cases {
            assert_eq!(tiny(kind, id), expected, "{id}");
        }
    }
}

//! Smoke runs (`--set smoke=true`): any script in seconds, on what is embedded. Options that a stand-in cannot honor give way to
//! what it can; all such rules are here. Which ids stand in, and where a smoke run writes, is in `places/`.

use rhai::{Array, Dynamic, Map};
use toml::{Table, Value};

use super::fitting::Fitting;
use crate::data::{Dataset, Sample};
use crate::device;
use crate::error::Result;
use crate::eval::{Benchmark, Choices, Results, Rules};
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::text::{Template, Tokenizer};
use crate::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, Looking, Vlm, Weights};
use crate::weights::Quantize;

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

/// What the `tiny-*` stand-ins can honor.
pub(super) struct Tiny(pub Presets);

impl Tiny {
    /// Whether a template gives way because the tokenizer of a stand-in lacks its tokens.
    fn lacks(&self, template: &Template, tokenizer: &Tokenizer) -> bool {
        template.check(tokenizer).is_err()
    }
}

impl Fitting for Tiny {
    fn target(&self, dtype: &str, _: &str) -> Result<Target> {
        device::dtype(dtype)?;
        Ok(Target::cpu())
    }

    /// Stand-ins are not GGUF files, whose blocks could be kept.
    fn quantize(&self, wanted: Option<Quantize>) -> Option<Quantize> {
        wanted.filter(|quantize| *quantize != Quantize::Keep)
    }

    /// Scales become relative to the stand-in's own size, a layer it lacks becomes its own.
    fn encoder(&self, opened: &str, options: &mut EncoderOptions) -> Result<()> {
        if options.s2.is_none() && options.select_layer.is_none() {
            return Ok(());
        }
        let plain = EncoderOptions { weights: Weights::None, s2: None, select_layer: None, ..options.clone() };
        let encoder = Encoder::open(&self.0, opened, plain)?;
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

    /// Widths that are equal in the parts of a script differ in their stand-ins.
    fn projector<'a>(&self, name: &'a str) -> &'a str {
        if name == "identity" { "linear" } else { name }
    }

    /// The most that a stand-in can have and the script wants.
    fn pooled(&self, wanted: usize) -> usize {
        GRIDS.into_iter().find(|tokens| *tokens <= wanted).unwrap_or(wanted)
    }

    fn template(&self, name: Option<String>, tokenizer: &dyn Fn() -> Option<Tokenizer>) -> Result<Option<String>> {
        let Some(named) = &name else { return Ok(None) };
        let template = Template::load(&self.0, named)?;
        let fits = tokenizer().is_some_and(|tokenizer| !self.lacks(&template, &tokenizer));
        Ok(name.filter(|_| fits))
    }

    fn writable(&self, template: Template, tokenizer: &Tokenizer) -> Result<Template> {
        if self.lacks(&template, tokenizer) { Template::load(&self.0, "tiny") } else { Ok(template) }
    }

    fn questions(&self, _: Option<usize>) -> Option<usize> {
        Some(QUESTIONS)
    }

    fn new_tokens(&self, wanted: usize) -> usize {
        wanted.min(NEW_TOKENS)
    }

    /// Options that the stand-ins or two small steps cannot honor are left out, so that their defaults hold.
    fn training(&self, options: &mut Table, llms: &[&Llm]) -> Result<()> {
        options.remove("dtype");
        if let Some(name) = options.get("template").and_then(Value::as_str) {
            let template = Template::load(&self.0, name)?;
            let lacks = |llm: &&Llm| llm.tokenizer().is_ok_and(|tokenizer| self.lacks(&template, tokenizer));
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
        let micro = number(options, "micro_batch").unwrap_or(batch).max(1);
        if number(options, "leaves").is_some_and(|leaves| leaves > 0 && (batch + micro - 1) / micro % leaves != 0) {
            options.remove("leaves");
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

    fn stages(&self, options: &mut Table, llms: &[String]) -> Result<()> {
        let open =
            |id: &String| Llm::open(&self.0, id, LlmOptions { weights: Weights::None, seed: 0, target: Target::cpu() });
        let llms = llms.iter().map(open).collect::<Result<Vec<Llm>>>()?;
        self.training(options, &llms.iter().collect::<Vec<_>>())
    }

    fn recipe_template(&self, options: &mut Table, vlm: &Vlm) {
        let is_stand_in = options.get("template").and_then(Value::as_str) == Some("tiny");
        if is_stand_in && vlm.is_template_by_hand() {
            options.remove("template");
        }
    }

    fn samples(&self, data: Dataset) -> Dataset {
        data.take(SAMPLES)
    }

    /// Captions where a template takes one round and the stand-in has conversations, and some samples where a script's choice
    /// left none.
    fn trainable(&self, template: &Template, data: Dataset) -> Result<Dataset> {
        let captions = template.name() == "plain";
        let long = |index| data.get(index).is_ok_and(|sample| sample.turns.len() > 2);
        if data.is_empty() || (captions && (0..data.len().min(LOOKED_AT)).any(long)) {
            return Dataset::preset(&self.0, if captions { "tiny-captions" } else { "tiny-instruct" });
        }
        Ok(data)
    }

    fn picture(&self) -> Result<Option<Sample>> {
        Dataset::preset(&self.0, "tiny-emoji")?.get(0).map(Some)
    }

    /// Likelihoods are compared only where the stand-in has choices.
    fn choices(&self, choices: Choices, benchmark: &Benchmark) -> Choices {
        let lettered = benchmark.items.iter().any(|item| !item.gold.choices.is_empty());
        if lettered { choices } else { Choices::Generate }
    }

    /// The rules that the script wants, if the scorer of the stand-in knows them.
    fn rules(&self, rules: Rules, results: &Results) -> Rules {
        if results.scorer.check(rules).is_err() { Rules::default() } else { rules }
    }

    fn outputs(&self, benchmark: &Benchmark, predictions: &Dynamic) -> Option<Vec<String>> {
        let text = |value: Option<&Dynamic>| value.map_or_else(String::new, ToString::to_string);
        if let Some(array) = predictions.read_lock::<Array>() {
            return Some((0..benchmark.items.len()).map(|index| text(array.get(index))).collect());
        }
        let map = predictions.read_lock::<Map>()?;
        Some(benchmark.items.iter().map(|item| text(map.get(item.id.as_str()))).collect())
    }

    /// The published metrics that the stand-in lacks hold its score.
    fn metrics(&self, metrics: &mut Map, score: f64) {
        for name in METRICS {
            metrics.entry(name.into()).or_insert(Dynamic::from_float(if score.is_nan() { 0.0 } else { score }));
        }
        for name in ["by_category", "by_l2_category", "by_subject"] {
            metrics.entry(name.into()).or_insert_with(|| Map::new().into());
        }
    }

    /// Stand-ins have few layers and may answer in fewer tokens.
    fn looking(&self, wanted: Looking, layers: usize) -> Looking {
        let layers = layers as i64;
        Looking { layer: wanted.layer.filter(|layer| (-layers..layers).contains(layer)), token: 0 }
    }

    /// Several benchmarks may have the same stand-in.
    fn is_flat(&self, axes: usize) -> bool {
        axes < 3
    }
}

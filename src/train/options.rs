//! What a trainer can be told. Every option has a default; a key nobody knows is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::moments::MomentKind;
use super::schedule::Schedule;
use crate::data::order::{Order, Sampling};
use crate::error::{Context, Error, Result};
use crate::preset::set_option;
use crate::vlm::{LoraOptions, Part};
use crate::{bail, error};

/// How the losses of micro-batches become the loss of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// Exact over the step: summed cross-entropy over all supervised positions, divided by their number.
    Token,
    /// Mean over micro-batches of each one's mean, as the reference does.
    MicroBatch,
}

/// Where features of a frozen encoder are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Features {
    #[default]
    Memory,
    /// In a file of the cache folder that runs with the same encoder share.
    Disk,
    /// Nowhere: the encoder sees every picture every time.
    Off,
}

/// What a round of a conversation sees of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turns {
    /// All of them, as in a conversation.
    #[default]
    Together,
    /// Nothing but the picture: each question is asked as if it were the first, the picture is computed once.
    Apart,
}

/// All options of a trainer; the fields are the keys scripts use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainOptions {
    /// What progress lines call it.
    #[serde(default = "name")]
    pub name: String,
    /// In a recipe: the data set of the stage. A trainer is given its data set and ignores this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Learning rate per part; a part that is not named, or at 0, is frozen.
    pub train: BTreeMap<String, f64>,
    /// Samples of one optimizer step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Samples of one forward pass (default: `batch`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    #[serde(default = "one")]
    pub epochs: u64,
    /// Wins over `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    #[serde(default)]
    pub schedule: Schedule,
    #[serde(default = "warmup_ratio")]
    pub warmup_ratio: f64,
    #[serde(default)]
    pub weight_decay: f64,
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    #[serde(default = "eps")]
    pub eps: f64,
    /// Largest gradient norm; 0 is no clipping.
    #[serde(default)]
    pub clip: f64,
    #[serde(default)]
    pub seed: u64,
    /// Longest sequence, image tokens included (default: the LLM's context, at most 4096).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// `square` or `pad` (default: the model's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Default: the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(default = "loss")]
    pub loss: LossKind,
    /// What a round of a conversation sees of those before it.
    #[serde(default)]
    pub turns: Turns,
    #[serde(default = "order")]
    pub order: Order,
    /// Micro-batches of one modality and similar lengths, in the reference's order; for `order: "shuffle"`.
    #[serde(default)]
    pub group_by_modality: bool,
    /// The dtype the model has to have (default: whatever it has).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// AdamW's moments in f32, or in 8 bits a value, which is a quarter of the memory.
    #[serde(default)]
    pub moments: MomentKind,
    /// Weights of a bf16 or f16 model that are trained have f32 copies, in which small updates add up.
    #[serde(default = "yes")]
    pub masters: bool,
    /// Where features of a frozen encoder are kept.
    #[serde(default)]
    pub features: Features,
    /// How many bytes of them (default: 1 GiB in memory, 64 GiB on disk).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features_bytes: Option<u64>,
    /// A loss this many times the median of the steps before it is told, with its samples; 0 is never.
    #[serde(default)]
    pub spike: f64,
    /// Keep only what enters each block of the LLM, and compute the rest again in the backward.
    #[serde(default)]
    pub checkpointing: bool,
    /// Train adapters beside the LLM's weights, at the rate of `llm`, instead of the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every_steps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_every_minutes: Option<f64>,
    /// How many checkpoints stay on disk.
    #[serde(default = "keep")]
    pub keep: usize,
    /// The run folder (default: `runs/<time>-<name>`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
}

fn name() -> String {
    "train".to_string()
}

fn batch() -> usize {
    32
}

fn one() -> u64 {
    1
}

fn warmup_ratio() -> f64 {
    0.03
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn eps() -> f64 {
    1e-8
}

fn loss() -> LossKind {
    LossKind::Token
}

fn order() -> Order {
    Order::Shuffle
}

fn yes() -> bool {
    true
}

fn keep() -> usize {
    2
}

/// Puts options over those of a trainer, by their names: `lora.r` is the `r` in the map `lora`. Gives the names of those that
/// are for adapters, where there are none and no LLM that could have some.
pub fn overrule(options: &mut Table, over: &Table) -> Vec<String> {
    let (of_adapters, others): (Vec<_>, Vec<_>) = over.iter().partition(|(name, _)| name.starts_with("lora."));
    for (name, value) in others {
        set_option(options, name, value.clone());
    }
    let rate = options.get("train").and_then(|train| train.get(Part::Llm.name()));
    let rate = rate.and_then(|rate| rate.as_float().or_else(|| rate.as_integer().map(|rate| rate as f64)));
    if !options.contains_key("lora") && rate.unwrap_or(0.0) <= 0.0 {
        return of_adapters.into_iter().map(|(name, _)| name.clone()).collect();
    }
    for (name, value) in of_adapters {
        set_option(options, name, value.clone());
    }
    Vec::new()
}

impl TrainOptions {
    /// Refuses values that cannot work, naming the option.
    pub fn check(&self) -> Result<()> {
        let known: Vec<_> = Part::ALL.iter().map(|part| part.name()).collect();
        for (part, rate) in &self.train {
            if !known.contains(&part.as_str()) {
                return Err(Error::unknown("part", part, &known, "").context("option `train`"));
            }
            if !rate.is_finite() || *rate < 0.0 {
                bail!(Option, "option `train`: the learning rate of `{part}` is {rate}");
            }
        }
        if !self.train.values().any(|rate| *rate > 0.0) {
            return Err(error!(Option, "option `train` names no part with a learning rate above 0")
                .help("e.g. `train: #{ projector: 1e-3, llm: 2e-5 }`"));
        }
        if let Some(lora) = &self.lora {
            lora.check().context(|| "option `lora`".to_string())?;
            if self.rate(Part::Llm) <= 0.0 {
                return Err(error!(Option, "option `lora` trains adapters of the LLM, and `train` has no rate for it")
                    .help("e.g. `train: #{ projector: 1e-3, llm: 2e-4 }`"));
            }
        }
        let positive = [
            ("batch", self.batch as f64),
            ("micro_batch", self.micro_batch.unwrap_or(1) as f64),
            ("epochs", self.epochs as f64),
            ("steps", self.steps.unwrap_or(1) as f64),
            ("keep", self.keep as f64),
            ("eps", self.eps),
            ("save_every_steps", self.save_every_steps.unwrap_or(1) as f64),
            ("save_every_minutes", self.save_every_minutes.unwrap_or(1.0)),
            ("max_length", self.max_length.unwrap_or(1) as f64),
            ("features_bytes", self.features_bytes.unwrap_or(1) as f64),
        ];
        if let Some((key, value)) = positive.iter().find(|(_, value)| !value.is_finite() || *value <= 0.0) {
            bail!(Option, "option `{key}` is {value}, it must be above 0");
        }
        let not_negative = [("weight_decay", self.weight_decay), ("clip", self.clip), ("spike", self.spike)];
        if let Some((key, value)) = not_negative.iter().find(|(_, value)| !value.is_finite() || *value < 0.0) {
            bail!(Option, "option `{key}` is {value}, it must not be below 0");
        }
        if self.group_by_modality && self.order == Order::Sequential {
            bail!(Option, "option `group_by_modality` needs `order: \"shuffle\"`, this is sequential");
        }
        if self.group_by_modality && !self.batch.is_multiple_of(self.sampling().micro_batch) {
            bail!(
                Option,
                "option `group_by_modality` needs a `batch` of whole micro-batches, {} is not divisible by {}",
                self.batch,
                self.sampling().micro_batch
            );
        }
        let unit = [("warmup_ratio", self.warmup_ratio), ("betas", self.betas[0]), ("betas", self.betas[1])];
        if let Some((key, value)) = unit.iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            bail!(Option, "option `{key}` holds {value}, it must be from 0 up to but not including 1");
        }
        Ok(())
    }

    /// The peak rate of a part; 0 is frozen.
    pub fn rate(&self, part: Part) -> f64 {
        self.train.get(part.name()).copied().unwrap_or(0.0)
    }

    /// How many bytes of features may be kept.
    pub fn features_limit(&self) -> u64 {
        self.features_bytes.unwrap_or(match self.features {
            Features::Memory => 1 << 30,
            Features::Disk => 64 << 30,
            Features::Off => 0,
        })
    }

    /// What the order of samples depends on.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            order: self.order,
            seed: self.seed,
            batch: self.batch,
            micro_batch: self.micro_batch.unwrap_or(self.batch).min(self.batch),
            epochs: self.steps.is_none(),
            group_by_modality: self.group_by_modality,
        }
    }

    /// Number of optimizer steps over `samples` samples.
    pub fn total_steps(&self, samples: usize) -> u64 {
        self.steps.unwrap_or(samples.div_ceil(self.batch) as u64 * self.epochs)
    }
}

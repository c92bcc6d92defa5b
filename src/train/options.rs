//! The options of a trainer: one entry each. A key that is none is refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::moments::MomentKind;
use super::schedule::Schedule;
use crate::data::order::{Order, Sampling};
use crate::error::{Context, Error, Result};
use crate::options::{Kind, option_values, options};
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

options! {
    /// All options of a trainer; the fields are the keys scripts use.
    pub struct TrainOptions, TRAINER {
        /// What progress lines and run folders call it.
        name: String = "train".to_string() => harmless;
        /// In a recipe: the data set of the stage. A trainer is given its data set and ignores this.
        data: Option<String> = None, "not set" => harmless;
        /// Learning rate per part (`encoder`, `projector`, `llm`); a part that is not named, or at 0, is frozen.
        train: BTreeMap<String, f64> = BTreeMap::new(), "required" => results;
        /// Samples of one optimizer step.
        batch: usize = 32 => results;
        /// Samples of one forward pass.
        micro_batch: Option<usize> = None, "`batch`" => results;
        /// Parts of a step whose sums are added by a binary tree: a power of two that divides its micro-batches. Ranks divide the
        /// leaves and change no bit of a result; another number of leaves does.
        leaves: Option<usize> = None, "as many as divide the micro-batches of a step, up to 8 on CPU; 1 on CUDA" => results;
        /// How often the data set is gone through.
        epochs: u64 = 1 => results;
        /// Number of optimizer steps; takes precedence over `epochs`.
        steps: Option<u64> = None, "as `epochs` says" => results;
        /// The learning rate after the warm-up.
        schedule: Schedule = Schedule::default() => results;
        /// Share of the steps in which the learning rate rises from 0.
        warmup_ratio: f64 = 0.03 => results;
        /// AdamW's decay of weights that are matrices.
        weight_decay: f64 = 0.0 => results;
        /// AdamW's decay rates of the two moments.
        betas: [f64; 2] = [0.9, 0.999] => results;
        /// What AdamW adds to the denominator.
        eps: f64 = 1e-8 => results;
        /// Largest gradient norm; 0 is no clipping.
        clip: f64 = 0.0 => results;
        /// Of the order of samples and of dropout.
        seed: u64 = 0 => results;
        /// Longest sequence, image tokens included.
        max_length: Option<usize> = None, "the LLM's context, at most 4096" => results;
        /// How pictures become square: "square" or "pad".
        image: Option<String> = None, "the model's" => results;
        /// Name of the template conversations are rendered by.
        template: Option<String> = None, "the model's" => results;
        /// "token" divides the summed cross-entropy of a step by its supervised positions; "micro_batch" is the mean of the means
        /// of its micro-batches, as in the reference.
        loss: LossKind = LossKind::Token => results;
        /// "apart" trains every question of a conversation as if it were the only one about its picture, which is how
        /// evaluations ask; "together" is the conversation as it stands.
        turns: Turns = Turns::Together => results;
        /// "shuffle" draws a new order every epoch, "sequential" is that of the data set.
        order: Order = Order::Shuffle => results;
        /// Micro-batches of one modality and similar lengths, in the reference's order; for `order: "shuffle"`.
        group_by_modality: bool = false => results;
        /// The dtype the model must have.
        dtype: Option<String> = None, "the model's" => results;
        /// AdamW's moments in f32, or in 8 bits a value, which is a quarter of the memory.
        moments: MomentKind = MomentKind::default() => results;
        /// Whether weights of a bf16 or f16 model that are trained have f32 copies, in which small updates add up.
        masters: bool = true => results;
        /// Where features of a frozen encoder are kept: in memory, in a file of the cache folder that runs share, or nowhere.
        features: Features = Features::Memory => harmless;
        /// How many bytes of features are kept.
        features_bytes: Option<u64> = None, "1 GiB in memory, 64 GiB on disk" => harmless;
        /// Warns of a loss this many times the median of the steps before it, with its samples; 0 is never.
        spike: f64 = 0.0 => harmless;
        /// Keep only what enters each block of the LLM, and compute the rest again in the backward pass: the same gradients in
        /// about half more time.
        checkpointing: bool = false => results;
        /// Train matrices of a low rank beside the linear layers of the LLM, at the rate of `llm`, instead of its weights.
        lora: Option<LoraOptions> = None, "not set" => results;
        /// A checkpoint every so many steps.
        save_every_steps: Option<u64> = None, "at the end only" => harmless;
        /// A checkpoint every so many minutes.
        save_every_minutes: Option<f64> = None, "at the end only" => harmless;
        /// How many checkpoints stay on disk.
        keep: usize = 2 => harmless;
        /// The run folder.
        out: Option<PathBuf> = None, "`runs/<time>-<name>`" => harmless;
    }
}

option_values! {
    Schedule => Kind::Names(&["cosine", "linear", "constant"]),
    LossKind => Kind::Names(&["token", "micro_batch"]),
    Turns => Kind::Names(&["together", "apart"]),
    Order => Kind::Names(&["shuffle", "sequential"]),
    MomentKind => Kind::Names(&["f32", "8bit"]),
    Features => Kind::Names(&["memory", "disk", "off"]),
}

/// Whether another value of a trainer's option may give other results; of a key nobody knows it may.
pub(super) fn changes_results(key: &str) -> bool {
    TRAINER.iter().find(|spec| spec.key == key).is_none_or(|spec| spec.changes_results)
}

/// The longest sequence where `max_length` is not set, of an LLM with this context; the option's entry says it in words.
pub fn usual_length(context: usize) -> usize {
    context.min(4096)
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
        if self.train.is_empty() {
            bail!(Option, "option `train` is missing");
        }
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
        let micro_batches = self.micro_batches();
        if let Some(leaves) = self.leaves
            && !(leaves.is_power_of_two() && micro_batches.is_multiple_of(leaves))
        {
            return Err(error!(Option, "option `leaves` is {leaves}, a step has {micro_batches} micro-batches")
                .help("`leaves` is a power of two that divides the micro-batches of a step"));
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

    /// Micro-batches of a whole step.
    pub fn micro_batches(&self) -> usize {
        self.batch.div_ceil(self.sampling().micro_batch)
    }

    /// Number of optimizer steps over `samples` samples.
    pub fn total_steps(&self, samples: usize) -> u64 {
        self.steps.unwrap_or(samples.div_ceil(self.batch) as u64 * self.epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_how_many_features_are_kept_are_its_numbers() {
        let spec = TRAINER.iter().find(|spec| spec.key == "features_bytes").unwrap();
        let limit = |features| TrainOptions { features, ..TrainOptions::default() }.features_limit();
        let gib = |features| limit(features) as f64 / f64::from(1 << 30);
        let words = format!("{} GiB in memory, {} GiB on disk", gib(Features::Memory), gib(Features::Disk));
        assert_eq!((spec.unset.words(), limit(Features::Off)), (words, 0));
    }

    #[test]
    fn steps_and_micro_batches_count_what_is_begun() {
        let options = TrainOptions { batch: 4, epochs: 3, ..TrainOptions::default() };
        // 10 samples are 3 batches, the last of 2.
        assert_eq!((options.total_steps(10), options.total_steps(8)), (9, 6));
        assert_eq!(TrainOptions { steps: Some(7), ..options.clone() }.total_steps(10), 7);
        assert_eq!((options.sampling().micro_batch, options.micro_batches()), (4, 1));
        let micro = |micro_batch| TrainOptions { micro_batch: Some(micro_batch), ..options.clone() };
        assert_eq!((micro(3).sampling().micro_batch, micro(3).micro_batches()), (3, 2));
        assert_eq!((micro(9).sampling().micro_batch, micro(9).micro_batches()), (4, 1));
        // With `steps` a sequential order goes on over the end of the data.
        assert!(options.sampling().epochs && !TrainOptions { steps: Some(7), ..options }.sampling().epochs);
    }
}

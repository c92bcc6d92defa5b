//! LoRA: small trained matrices beside the frozen linear layers of an LLM, under PEFT's names and in PEFT's files.
//! Source: PEFT 0.14.0, `tuners/lora/layer.py` (start, scale, place of the dropout), `utils/save_and_load.py` (names).

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Llm;
use super::save::write_json;
use crate::error;
use crate::error::{Error, Result};
use crate::models::config::Config;
use crate::rng::Rng;
use crate::weights::{
    ADAPTER, Adapter, Builder, Dropout, Dropping, Init, Param, ParamSet, Source, TensorFiles, quantized_name,
};

/// What stands before an adapter's tensor names in a file.
pub const PREFIX: &str = "base_model.model.";
/// What says that a folder holds an adapter.
pub const CONFIG: &str = "adapter_config.json";
/// What the adapter's base is known by; PEFT does not read it.
pub const BASE: &str = "adapter_base.json";
/// Every linear layer of the blocks.
const ALL: &str = "all-linear";
/// No matrix of an LLM has a larger rank that would still be low.
const LARGEST_RANK: usize = 4096;

/// The option `lora` of a trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraOptions {
    /// Rank of what is added to a weight.
    #[serde(default = "r")]
    pub r: usize,
    /// What is added is multiplied by alpha / r.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// The probability with which an input of an adapter is zeroed in training.
    #[serde(default = "dropout")]
    pub dropout: f64,
    /// Names of linear layers, such as `q_proj`, or `"all-linear"`.
    #[serde(default)]
    pub targets: Targets,
}

/// One name or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    One(String),
    Several(Vec<String>),
}

impl Default for Targets {
    fn default() -> Self {
        Targets::One(ALL.to_string())
    }
}

fn r() -> usize {
    16
}

fn alpha() -> f64 {
    32.0
}

fn dropout() -> f64 {
    0.05
}

impl LoraOptions {
    /// Refuses values that cannot work, naming the key.
    pub fn check(&self) -> Result<()> {
        if !(1..=LARGEST_RANK).contains(&self.r) {
            return Err(error!(Option, "`r` is {}, it must be from 1 to {LARGEST_RANK}", self.r));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(error!(Option, "`alpha` is {}, it must be above 0", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(error!(Option, "`dropout` is {}, it must be from 0 up to but not including 1", self.dropout));
        }
        Ok(())
    }

    /// Reads PEFT's adapter_config.json; what it asks for and is not built is an error.
    pub fn from_config(config: &Config) -> Result<Self> {
        let fixed = [
            ("peft_type", json!("LORA")),
            ("bias", json!("none")),
            ("lora_bias", json!(false)),
            ("fan_in_fan_out", json!(false)),
            ("use_rslora", json!(false)),
            ("use_dora", json!(false)),
        ];
        for (key, expected) in fixed {
            if config.value().get(key).is_some_and(|value| *value != expected) {
                let value = config.value().get(key).map(ToString::to_string).unwrap_or_default();
                return Err(config.unsupported(key, &value, &format!("{expected} only")));
            }
        }
        for key in ["rank_pattern", "alpha_pattern", "modules_to_save", "layers_to_transform", "layer_replication"] {
            let empty = |value: &serde_json::Value| match value {
                serde_json::Value::Object(map) => map.is_empty(),
                serde_json::Value::Array(list) => list.is_empty(),
                other => other.is_null(),
            };
            if let Some(value) = config.value().get(key).filter(|value| !empty(value)) {
                return Err(config.unsupported(key, &value.to_string(), "adapters without it"));
            }
        }
        let options = LoraOptions {
            r: config.required("r")?,
            alpha: config.f64("lora_alpha", 8.0)?,
            dropout: config.f64("lora_dropout", 0.0)?,
            targets: config
                .value()
                .get("target_modules")
                .and_then(|value| serde_json::from_value(value.clone()).ok())
                .ok_or_else(|| error!(Decode, "adapter_config.json has no `target_modules`"))?,
        };
        options.check()?;
        Ok(options)
    }
}

/// The adapters of one LLM.
pub struct Lora {
    /// With the names of the adapted layers, sorted, as targets.
    options: LoraOptions,
    /// The adapted weights.
    sites: Vec<Arc<Param>>,
    /// `lora_A` and `lora_B` of every site, named without [`PREFIX`].
    pub params: ParamSet,
    dropout: Arc<Dropout>,
}

/// A linear layer of a block.
struct Layer {
    /// The last part of its name, such as `q_proj`.
    name: String,
    weight: Arc<Param>,
    out: usize,
    inputs: usize,
}

/// The linear layers of the blocks.
fn linears(params: &ParamSet) -> Vec<Layer> {
    let layer = |weight: &Arc<Param>| {
        let path = weight.name().strip_suffix(".weight").filter(|path| path.starts_with("model.layers."))?;
        let dims = weight.blocks().map_or_else(|| weight.tensor().dims().to_vec(), |blocks| blocks.dims().to_vec());
        let [out, inputs] = *dims else { return None };
        let name = path.rsplit('.').next().unwrap_or(path).to_string();
        Some(Layer { name, weight: weight.clone(), out, inputs })
    };
    params.iter().filter_map(layer).collect()
}

/// The names `targets` stand for, sorted.
fn resolve(linears: &[Layer], targets: &Targets) -> Result<Vec<String>> {
    let known: BTreeSet<&str> = linears.iter().map(|layer| layer.name.as_str()).collect();
    let wanted: BTreeSet<&str> = match targets {
        Targets::One(name) if name == ALL => known.clone(),
        Targets::One(name) => BTreeSet::from([name.as_str()]),
        Targets::Several(names) => names.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(*name)) {
        let mut known: Vec<&str> = known.into_iter().collect();
        known.push(ALL);
        return Err(Error::unknown("linear layer", unknown, &known, "").context("`targets`"));
    }
    if wanted.is_empty() {
        return Err(error!(Option, "`targets` names no linear layer").help(format!("`targets: \"{ALL}\"` takes all")));
    }
    Ok(wanted.into_iter().map(str::to_string).collect())
}

impl Lora {
    /// Hangs adapters on an LLM's weights: from a file, or A drawn as PEFT does (kaiming-uniform) and B zero.
    pub fn attach(params: &ParamSet, options: &LoraOptions, source: Source, device: &Device) -> Result<Self> {
        options.check()?;
        let linears = linears(params);
        let targets = resolve(&linears, &options.targets)?;
        let builder = Builder::new(source, DType::F32, device);
        let dropout = Arc::new(Dropout::default());
        let mut adapters = Vec::new();
        for Layer { weight, out, inputs, .. } in linears.into_iter().filter(|layer| targets.contains(&layer.name)) {
            let module = builder.pp(weight.name().trim_end_matches(".weight"));
            let bound = 1.0 / (inputs as f64).sqrt();
            let down = module.pp("lora_A").param("weight", &[options.r, inputs], Init::Uniform(bound))?;
            let up = module.pp("lora_B").param("weight", &[out, options.r], Init::Zeros)?;
            let (scale, number) = (options.alpha / options.r as f64, adapters.len() as u64);
            adapters.push((weight, Adapter { down, up, scale, number, dropout: dropout.clone() }));
        }
        let finished = builder.finish()?;
        if let Some((name, _)) = finished.unused.first() {
            let count = finished.unused.len();
            return Err(error!(Weights, "{count} tensors of the adapter fit no layer of the LLM, e.g. `{name}`"));
        }
        let mut sites = Vec::with_capacity(adapters.len());
        for (weight, adapter) in adapters {
            weight.set_adapter(Some(Arc::new(adapter)));
            sites.push(weight);
        }
        let options = LoraOptions { targets: Targets::Several(targets), ..options.clone() };
        Ok(Lora { options, sites, params: finished.params, dropout })
    }

    /// Whether a trainer with these options goes on with these adapters.
    pub fn fits(&self, params: &ParamSet, options: &LoraOptions) -> Result<bool> {
        let targets = Targets::Several(resolve(&linears(params), &options.targets)?);
        let has = &self.options;
        Ok((has.r, has.alpha, &has.targets) == (options.r, options.alpha, &targets))
    }

    /// Drops inputs of adapters, as the numbers say, until the guard goes.
    pub fn dropping(&self, rate: f64, numbers: Rng) -> Dropping {
        self.dropout.on(rate, numbers)
    }

    /// Runs `look` while every B that is zero holds small numbers: a fresh adapter adds nothing, so that no gradient
    /// would reach its A and nothing could be said about the way to it.
    pub fn probed<T>(&self, look: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut zero = Vec::new();
        for (number, adapter) in self.sites.iter().filter_map(|site| site.adapter()).enumerate() {
            let up = adapter.up.tensor().detach();
            if up.abs()?.max_all()?.to_scalar::<f32>()? == 0.0 {
                let rng = Rng::new(0, "probe").split(number as u64);
                let values: Vec<f32> = (0..up.elem_count()).map(|i| 0.02 * rng.normal(i as u64) as f32).collect();
                adapter.up.assign(&Tensor::from_vec(values, up.shape(), up.device())?)?;
                zero.push(adapter);
            }
        }
        let seen = look();
        for adapter in zero {
            adapter.up.assign(&adapter.up.tensor().zeros_like()?)?;
        }
        seen
    }

    /// Rank, alpha and targets on one line.
    pub(super) fn describe(&self) -> String {
        let LoraOptions { r, alpha, targets, .. } = &self.options;
        let targets = match targets {
            Targets::One(name) => name.clone(),
            Targets::Several(names) => names.join(", "),
        };
        format!("r {r}, alpha {alpha}, targets {targets}")
    }

    /// Writes adapter_model.safetensors and adapter_config.json.
    pub fn save(&self, folder: &Path, base: &str) -> Result<()> {
        let tensors: Vec<(String, Tensor)> =
            self.params.iter().map(|p| (format!("{PREFIX}{}", p.name()), p.tensor().detach())).collect();
        crate::weights::save_tensors(&tensors, &folder.join(ADAPTER))?;
        let LoraOptions { r, alpha, dropout, targets } = &self.options;
        // PEFT declares a whole number.
        let alpha = if alpha.fract() == 0.0 { json!(*alpha as i64) } else { json!(alpha) };
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": r,
            "lora_alpha": alpha,
            "lora_dropout": dropout,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "inference_mode": true,
            "modules_to_save": null,
            "use_dora": false,
            "use_rslora": false,
        });
        write_json(&folder.join(CONFIG), &config)
    }
}

impl Llm {
    /// The adapters on this LLM.
    pub fn lora(&self) -> Option<Arc<Lora>> {
        self.lora.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hangs adapters on it, or goes on with those it has; other ones than asked for are an error.
    pub fn adapt(&self, options: &LoraOptions, source: Source) -> Result<Arc<Lora>> {
        if let Some(lora) = self.lora() {
            if lora.fits(&self.params, options)? {
                return Ok(lora);
            }
            return Err(error!(Option, "the LLM carries another adapter: {}", lora.describe())
                .help("give the same `lora`, or add the adapter to the weights first: `m.merge()`"));
        }
        let lora = Arc::new(Lora::attach(&self.params, options, source, &self.target().device)?);
        *self.lora.write().unwrap_or_else(PoisonError::into_inner) = Some(lora.clone());
        Ok(lora)
    }

    /// Hangs the adapter of a folder on it.
    pub(super) fn adapt_from(&self, folder: &crate::assets::Folder, files: Arc<TensorFiles>) -> Result<()> {
        let config = Config::new(folder.json(CONFIG)?, format!("`{}`", folder.locate(CONFIG)));
        if folder.has(BASE) {
            self.check_base(&folder.json(BASE)?)?;
        }
        let source = Source::Files { files, prefix: PREFIX.to_string() };
        self.adapt(&LoraOptions::from_config(&config)?, source).map(|_| ())
    }

    /// Adds the adapters to the weights and takes them off.
    pub fn merge(&self) -> Result<()> {
        let Some(lora) = self.lora() else {
            return Err(error!(Option, "LLM `{}` carries no adapter", self.id)
                .help("a trainer with the option `lora` gives it one"));
        };
        if let Some(blocks) = lora.sites.iter().find_map(|site| site.blocks()) {
            let kind = quantized_name(blocks.dtype());
            return Err(error!(Option, "the weights are quantized ({kind}), nothing can be added to them")
                .help("`m.save(dir)` writes them widened with the adapter added, `#{ merge: false }` the adapter"));
        }
        for site in &lora.sites {
            site.assign(&site.merged()?)?;
            site.set_adapter(None);
        }
        *self.lora.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

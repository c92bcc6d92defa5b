//! LoRA: small trained matrices beside the frozen linear layers of an LLM, under PEFT's names and in PEFT's files.
//! Source: PEFT 0.14.0, `tuners/lora/layer.py` (start, scale, place of the dropout), `utils/save_and_load.py` (names).

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::sites::{ALL, Layer, PREFIX, Plan, Site, check_numbers, linears};
use super::written::write_json;
use super::{olora, peft};
use crate::assets::Folder;
use crate::error;
use crate::error::{Error, Result};
use crate::models::config::Config;
use crate::options::{Kind, option_values, options};
use crate::rng::Rng;
use crate::weights::{
    ADAPTER, Adapter, Builder, Dropout, Dropping, Finished, Init, Param, ParamSet, Source, TensorFiles,
};

/// The file by which a folder is recognized as an adapter.
pub const CONFIG: &str = "adapter_config.json";
/// The key that names an adapter's base.
pub const BASE_KEY: &str = "base_model_name_or_path";

/// Whether a folder holds a PEFT adapter and no model.
pub(super) fn is_adapter_alone(folder: &Folder) -> bool {
    folder.has(CONFIG) && !folder.has("config.json")
}

options! {
    /// The option `lora` of a trainer.
    pub struct LoraOptions, LORA {
        /// The rank of the added product.
        r: usize = 16 => results;
        /// The added product is multiplied by alpha / r.
        alpha: f64 = 32.0 => results;
        /// The probability with which an input of an adapter is zeroed in training.
        dropout: f64 = 0.05 => results;
        /// Names of linear layers, as in `["q_proj", "v_proj"]`; "all-linear" is all of them.
        targets: Targets = Targets::default() => results;
    }
}

/// One name or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a layer's name or an array of names")]
pub enum Targets {
    One(String),
    Several(Vec<String>),
}

impl Default for Targets {
    fn default() -> Self {
        Targets::One(ALL.to_string())
    }
}

option_values!(Targets => Kind::Other("a layer's name or an array of names"));

impl LoraOptions {
    /// Refuses invalid values, naming the key.
    pub fn check(&self) -> Result<()> {
        check_numbers(self.r, self.alpha, self.dropout)
    }
}

/// The adapters of one LLM.
pub struct Lora {
    plan: Plan,
    /// `target_modules` for the file: names where every layer with a name carries an adapter, else paths; sorted.
    targets: Vec<String>,
    /// The adapted weights, in the order of the plan.
    pub(super) sites: Vec<Arc<Param>>,
    /// `lora_A` and `lora_B` of every site, named without [`PREFIX`].
    pub params: ParamSet,
    dropout: Arc<Dropout>,
}

/// The plan for a trainer's option.
fn plan_of(options: &LoraOptions, layers: &[Layer]) -> Result<Plan> {
    options.check()?;
    let targets = resolve(layers, &options.targets)?;
    let taken = layers.iter().filter(|layer| targets.contains(&layer.name));
    let sites = taken.map(|layer| Site { path: layer.path.clone(), r: options.r, alpha: options.alpha }).collect();
    Ok(Plan { sites, dropout: options.dropout, rslora: false, olora: false })
}

/// The layer names that `targets` stands for, sorted.
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

/// The shortest list that selects these sites and no other layer.
fn targets(layers: &[Layer], sites: &[Site]) -> Vec<String> {
    let taken: BTreeSet<&str> = sites.iter().map(|site| site.path.as_str()).collect();
    let names: BTreeSet<&str> =
        layers.iter().filter(|layer| taken.contains(layer.path.as_str())).map(|layer| layer.name.as_str()).collect();
    let whole = layers.iter().all(|layer| !names.contains(layer.name.as_str()) || taken.contains(layer.path.as_str()));
    if whole { names } else { taken }.into_iter().map(str::to_string).collect()
}

impl Lora {
    /// Attaches adapters to an LLM's weights: from a file, or new ones, A drawn as in PEFT (kaiming-uniform) and B zero.
    pub fn attach(params: &ParamSet, options: &LoraOptions, source: Source, device: &Device) -> Result<Self> {
        let layers = linears(params);
        let plan = plan_of(options, &layers)?;
        Lora::hang(layers, plan, source, device)
    }

    /// Attaches the adapters of a PEFT folder, as its adapter_config.json says.
    pub fn open(params: &ParamSet, config: &Config, files: Arc<TensorFiles>, device: &Device) -> Result<Self> {
        let layers = linears(params);
        let plan = peft::plan(config, &layers)?;
        peft::check_tensors(&plan, &files)?;
        Lora::hang(layers, plan, Source::Files { files, prefix: PREFIX.to_string() }, device)
    }

    fn hang(layers: Vec<Layer>, mut plan: Plan, source: Source, device: &Device) -> Result<Self> {
        let targets = targets(&layers, &plan.sites);
        let builder = Builder::new(source, DType::F32, device);
        let dropout = Arc::new(Dropout::default());
        let mut adapters = Vec::new();
        for (number, site) in plan.sites.iter().enumerate() {
            let Some(Layer { weight, out, inputs, .. }) = layers.iter().find(|layer| layer.path == site.path) else {
                continue;
            };
            let module = builder.pp(&site.path);
            let bound = 1.0 / (*inputs as f64).sqrt();
            let down = module.pp("lora_A").param("weight", &[site.r, *inputs], Init::Uniform(bound))?;
            let up = module.pp("lora_B").param("weight", &[*out, site.r], Init::Zeros)?;
            let (scale, number) = (plan.scale(site), number as u64);
            adapters.push((weight.clone(), Adapter { down, up, scale, number, dropout: dropout.clone() }));
        }
        let Finished { mut params, unused, .. } = builder.finish()?;
        if let Some((name, _)) = unused.first() {
            let count = unused.len();
            return Err(error!(Weights, "{count} tensors of the adapter fit no layer of the LLM, e.g. `{name}`"));
        }
        if plan.olora {
            (params, plan) = olora::plain(&mut adapters, plan)?;
        }
        let mut sites = Vec::with_capacity(adapters.len());
        for (weight, adapter) in adapters {
            weight.set_adapter(Some(Arc::new(adapter)));
            sites.push(weight);
        }
        Ok(Lora { plan, targets, sites, params, dropout })
    }

    /// Whether a trainer with these options can continue to train these adapters.
    pub fn fits(&self, params: &ParamSet, options: &LoraOptions) -> Result<bool> {
        Ok(!self.plan.rslora && self.plan.sites == plan_of(options, &linears(params))?.sites)
    }

    /// Turns on dropout of the adapters' inputs, with these random numbers, until the guard is dropped.
    pub fn dropping(&self, rate: f64, numbers: Rng) -> Dropping {
        self.dropout.on(rate, numbers)
    }

    /// Runs `look` while every B that is zero holds small random numbers: with B zero the gradient of A is zero, too,
    /// which would look like a missing gradient.
    pub fn probed<T>(&self, look: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut zero = Vec::new();
        for (number, adapter) in self.sites.iter().filter_map(|site| site.adapter()).enumerate() {
            let up = adapter.up.tensor()?.detach();
            if up.abs()?.max_all()?.to_scalar::<f32>()? == 0.0 {
                let rng = Rng::new(0, "probe").split(number as u64);
                let values: Vec<f32> = (0..up.elem_count()).map(|i| 0.02 * rng.normal(i as u64) as f32).collect();
                adapter.up.assign(&Tensor::from_vec(values, up.shape(), up.device())?)?;
                zero.push(adapter);
            }
        }
        let seen = look();
        for adapter in zero {
            adapter.up.assign(&adapter.up.tensor()?.zeros_like()?)?;
        }
        seen
    }

    /// Rank, alpha and targets on one line.
    pub(super) fn describe(&self) -> String {
        let (first, others) = (&self.plan.sites[0], &self.plan.sites[1..]);
        let mut text = format!("r {}, alpha {}, targets {}", first.r, first.alpha, self.targets.join(", "));
        for Site { path, r, alpha } in others.iter().filter(|site| (site.r, site.alpha) != (first.r, first.alpha)) {
            let _ = write!(text, ", {path} r {r}, alpha {alpha}");
        }
        text + if self.plan.rslora { ", scaled by sqrt(r)" } else { "" }
    }

    /// Writes adapter_model.safetensors and adapter_config.json; `base` is a path or a hub id with its revision.
    pub fn save(&self, folder: &Path, base: &str) -> Result<()> {
        let named = |p: &Arc<Param>| Ok((format!("{PREFIX}{}", p.name()), p.tensor()?.detach()));
        let tensors = self.params.iter().map(named).collect::<Result<Vec<_>>>()?;
        crate::weights::save_tensors(&tensors, &folder.join(ADAPTER))?;
        let (base, revision) = match base.split_once('@').filter(|_| crate::hub::is_id(base)) {
            Some((base, revision)) => (base, json!(revision)),
            None => (base, Value::Null),
        };
        let first = &self.plan.sites[0];
        let differ = |value: fn(&Site) -> Value| -> Map<String, Value> {
            let others = self.plan.sites.iter().filter(|site| value(site) != value(first));
            // PEFT reads the keys as regular expressions.
            others.map(|site| (site.path.replace('.', r"\."), value(site))).collect()
        };
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            BASE_KEY: base,
            "revision": revision,
            "r": first.r,
            "lora_alpha": alpha_of(first),
            "lora_dropout": self.plan.dropout,
            "target_modules": self.targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "inference_mode": true,
            "modules_to_save": null,
            "rank_pattern": differ(|site| json!(site.r)),
            "alpha_pattern": differ(alpha_of),
            "use_dora": false,
            "use_rslora": self.plan.rslora,
        });
        write_json(&folder.join(CONFIG), &config)
    }
}

/// PEFT declares alpha as an integer.
fn alpha_of(site: &Site) -> Value {
    if site.alpha.fract() == 0.0 { json!(site.alpha as i64) } else { json!(site.alpha) }
}

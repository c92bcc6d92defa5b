//! PEFT's adapter_config.json: every key is used, known to change nothing, or refused; determines which layers carry adapters,
//! with which rank and scale.
//! Source: PEFT 0.21.2, `tuners/lora/config.py` (keys), `tuners/tuners_utils.py` (`check_target_module_exists`),
//! `utils/other.py` (`get_pattern_key`), `tuners/lora/layer.py` (what `init_lora_weights` does to the base at loading).

use std::collections::BTreeSet;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use super::sites::{ALL, Layer, PREFIX, Plan, Site};
use crate::error::Result;
use crate::models::config::Config;
use crate::weights::{ADAPTER, TensorFiles};
use crate::{error, guard};

/// The library that matches regular expressions.
const REGEX: &str = "fancy-regex";

/// The treatment of a key.
enum Key {
    /// It affects the results, and is read here.
    Used,
    /// It has no effect where adapters on linear layers are only opened.
    Harmless,
    /// It has no effect with these values; the text is the next step for other values.
    One(&'static [&'static str], &'static str),
    /// It has no effect where it is null, false or empty; the text is the next step for other values.
    Empty(&'static str),
}

const MERGE: &str = "add it to its base with peft: `PeftModel.from_pretrained(base, folder).merge_and_unload()\
                     .save_pretrained(dir)`, and open `dir`";
const INITIAL: &str = "peft takes the initial part of this adapter out of the base again when it opens it; write it as \
                       a plain one with `model.save_pretrained(dir, path_initial_model_for_weight_conversion=..)`, or \
                       add it to its base: `PeftModel.from_pretrained(base, folder).merge_and_unload()`";
const PARTLY: &str = "such an adapter acts on a part of the text or by what it sees, so it is no change of weights; \
                      train one without this key";

/// Initializations that leave the base unchanged, and OLoRA, whose initial part is recomputed.
const STARTS: [&str; 8] =
    ["true", "false", "null", "\"gaussian\"", "\"orthogonal\"", "\"eva\"", "\"mica\"", "\"olora\""];

const KEYS: [(&str, Key); 46] = [
    ("peft_type", Key::One(&["\"LORA\""], MERGE)),
    ("r", Key::Used),
    ("lora_alpha", Key::Used),
    ("lora_dropout", Key::Used),
    ("use_rslora", Key::Used),
    ("rank_pattern", Key::Used),
    ("alpha_pattern", Key::Used),
    ("target_modules", Key::Used),
    ("exclude_modules", Key::Used),
    ("layers_to_transform", Key::Used),
    ("layers_pattern", Key::Used),
    ("init_lora_weights", Key::One(&STARTS, INITIAL)),
    ("bias", Key::One(&["\"none\"", "null"], MERGE)),
    ("lora_bias", Key::Empty(MERGE)),
    ("use_dora", Key::Empty(MERGE)),
    ("modules_to_save", Key::Empty(MERGE)),
    ("trainable_token_indices", Key::Empty(MERGE)),
    ("target_parameters", Key::Empty(MERGE)),
    ("layer_replication", Key::Empty(MERGE)),
    ("megatron_config", Key::Empty(MERGE)),
    ("use_qalora", Key::Empty(MERGE)),
    ("use_bdlora", Key::Empty(MERGE)),
    ("kasa_config", Key::Empty(MERGE)),
    ("velora_config", Key::Empty(MERGE)),
    ("monteclora_config", Key::Empty(MERGE)),
    ("alora_invocation_tokens", Key::Empty(PARTLY)),
    ("arrow_config", Key::Empty(PARTLY)),
    // Of 0.2 and earlier.
    ("enable_lora", Key::Empty(MERGE)),
    // Linear layers have a single weight layout; peft sets it to false there.
    ("fan_in_fan_out", Key::Harmless),
    ("merge_weights", Key::Harmless),
    // Only with `megatron_config`.
    ("megatron_core", Key::Harmless),
    // Only where `use_qalora` is true.
    ("qalora_group_size", Key::Harmless),
    // Only where embedding or head carry adapters, which is refused.
    ("ensure_weight_tying", Key::Harmless),
    ("modules_to_tie", Key::Harmless),
    ("target_modules_to_tie", Key::Harmless),
    // Initialization of the matrices.
    ("loftq_config", Key::Harmless),
    ("eva_config", Key::Harmless),
    ("corda_config", Key::Harmless),
    ("lora_ga_config", Key::Harmless),
    // How peft runs, and where it looks for files.
    ("runtime_config", Key::Harmless),
    ("inference_mode", Key::Harmless),
    ("auto_mapping", Key::Harmless),
    ("peft_version", Key::Harmless),
    ("base_model_name_or_path", Key::Harmless),
    ("revision", Key::Harmless),
    ("task_type", Key::Harmless),
];

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// Refuses keys and values that are not supported.
fn check_keys(config: &Config) -> Result<()> {
    let mut keys: Vec<(&String, &Value)> = config.value().as_object().into_iter().flatten().collect();
    // Another method has other keys as well; it is the method that has to be reported.
    keys.sort_by_key(|(key, _)| *key != "peft_type");
    for (key, value) in keys {
        let refuse = |step: &str| {
            let text = value.to_string();
            Err(config.refused(key, &text, step))
        };
        match KEYS.iter().find(|(known, _)| known == key).map(|(_, kind)| kind) {
            Some(Key::Used | Key::Harmless) => {}
            Some(Key::One(values, _)) if values.contains(&value.to_string().as_str()) => {}
            Some(Key::Empty(_)) | None if is_empty(value) => {}
            Some(Key::One(_, step) | Key::Empty(step)) => return refuse(step),
            None => return refuse(&format!("llmore does not know this key; {MERGE}")),
        }
    }
    Ok(())
}

/// A parsed `target_modules` or `exclude_modules`.
pub(super) enum Modules {
    /// Every linear layer of the blocks.
    All,
    /// Names or the ends of paths.
    Names(Vec<String>),
    /// A regular expression for whole paths.
    Pattern(Regex),
}

impl Modules {
    fn read(config: &Config, key: &str) -> Result<Option<Self>> {
        let wrong = |value: &Value| Err(config.unsupported(key, &value.to_string(), "a list of names, or a text"));
        Ok(match config.value().get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if key == "target_modules" && text.to_lowercase() == ALL => Some(Modules::All),
            Some(Value::String(text)) => Some(Modules::Pattern(regex(config, key, &format!(r"\A(?:{text})\z"))?)),
            Some(value @ Value::Array(list)) => match list.iter().map(Value::as_str).collect::<Option<Vec<_>>>() {
                Some(names) => Some(Modules::Names(names.into_iter().map(str::to_string).collect())),
                None => return wrong(value),
            },
            Some(value) => return wrong(value),
        })
    }

    /// Whether it selects the module with this path, such as `model.layers.0.self_attn.q_proj`.
    pub(super) fn takes(&self, path: &str) -> Result<bool> {
        match self {
            Modules::All => Ok(path.starts_with("model.layers.")),
            Modules::Names(names) => Ok(names.iter().any(|name| is_end(path, name))),
            Modules::Pattern(regex) => matches(regex, path),
        }
    }

    /// The names that select none of these paths.
    pub(super) fn idle(&self, paths: &[&str]) -> Vec<&str> {
        let Modules::Names(names) = self else { return Vec::new() };
        names.iter().map(String::as_str).filter(|name| !paths.iter().any(|path| is_end(path, name))).collect()
    }
}

/// Whether a path is this name or ends with it.
fn is_end(path: &str, name: &str) -> bool {
    path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn regex(config: &Config, key: &str, text: &str) -> Result<Regex> {
    guard::catch(REGEX, || Regex::new(text))
        .map_err(|failure| failure.error(&config.file()))?
        .map_err(|error| config.unsupported(key, text, &format!("regular expressions it can read: {error}")))
}

fn matches(regex: &Regex, text: &str) -> Result<bool> {
    let matched = guard::catch(REGEX, || regex.is_match(text)).map_err(|failure| failure.error(&text))?;
    matched.map_err(|error| error!(Decode, "matching `{text}`: {error}"))
}

/// `layers_to_transform` and `layers_pattern`, which apply only to lists of names.
struct Layers {
    numbers: Vec<u64>,
    /// The first capture group is the index of a layer.
    patterns: Vec<Regex>,
}

impl Layers {
    fn read(config: &Config) -> Result<Option<Self>> {
        let get = |key: &str| config.value().get(key).filter(|value| !is_empty(value));
        let Some(value) = get("layers_to_transform") else { return Ok(None) };
        let listed = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let numbers = listed(value).iter().map(Value::as_u64).collect::<Option<Vec<_>>>();
        let Some(numbers) = numbers else {
            return Err(config.unsupported("layers_to_transform", &value.to_string(), "numbers of layers"));
        };
        let named = get("layers_pattern").map(listed).unwrap_or_default();
        let named: Vec<&str> = named.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).collect();
        let texts = match named.is_empty() {
            true => vec![r"\A.*?\.[^.]*\.(\d+)\.".to_string()],
            false => named.iter().map(|name| format!(r"\A(?:.*?\.)?{name}\.(\d+)\.")).collect(),
        };
        let patterns = texts.iter().map(|text| regex(config, "layers_pattern", text)).collect::<Result<_>>()?;
        Ok(Some(Layers { numbers, patterns }))
    }

    fn take(&self, path: &str) -> bool {
        let number = |regex: &Regex| {
            let found = guard::catch(REGEX, || regex.captures(path).ok().flatten()).ok().flatten();
            found?.get(1)?.as_str().parse().ok()
        };
        self.patterns.iter().find_map(number).is_some_and(|number: u64| self.numbers.contains(&number))
    }
}

/// The values of `rank_pattern` and `alpha_pattern`: the first expression that matches the end of a path decides.
struct Pattern(Vec<(Regex, Value)>);

impl Pattern {
    fn read(config: &Config, key: &str) -> Result<Self> {
        let none = Map::new();
        let map = match config.value().get(key) {
            None | Some(Value::Null) => &none,
            Some(Value::Object(map)) => map,
            Some(other) => return Err(config.unsupported(key, &other.to_string(), "a map from names to numbers")),
        };
        let entry = |(name, value): (&String, &Value)| {
            Ok((regex(config, key, &format!(r"\A(?:.*\.)?(?:{name})\z"))?, value.clone()))
        };
        map.iter().map(entry).collect::<Result<_>>().map(Pattern)
    }

    fn of(&self, path: &str) -> Result<Option<&Value>> {
        for (regex, value) in &self.0 {
            if matches(regex, path)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// The plan that an adapter_config.json describes for these layers.
///
/// # Errors
/// For unsupported settings, with the key and the next step.
pub(super) fn plan(config: &Config, layers: &[Layer]) -> Result<Plan> {
    check_keys(config)?;
    let lacks = || error!(Decode, "{} names no `target_modules`", config.file());
    let targets = Modules::read(config, "target_modules")?.ok_or_else(lacks)?;
    let exclude = Modules::read(config, "exclude_modules")?;
    let excluded = |path: &str| exclude.as_ref().map_or(Ok(false), |exclude| exclude.takes(path));
    let numbered = Layers::read(config)?;
    if numbered.is_some() && !matches!(targets, Modules::Names(_)) {
        return Err(config.unsupported("layers_to_transform", "given", "it beside a list of `target_modules`"));
    }
    for other in ["lm_head", "model.embed_tokens"] {
        if targets.takes(other)? && !excluded(other)? {
            return Err(config.refused("target_modules", other, &format!("adapters are on the blocks here; {MERGE}")));
        }
    }
    let (r, alpha) = (config.usize("r", 8)?, config.f64("lora_alpha", 8.0)?);
    let (ranks, alphas) = (Pattern::read(config, "rank_pattern")?, Pattern::read(config, "alpha_pattern")?);
    let mut sites = Vec::new();
    for Layer { path, .. } in layers {
        if !targets.takes(path)? || excluded(path)? || numbered.as_ref().is_some_and(|layers| !layers.take(path)) {
            continue;
        }
        let wrong = |key: &str, value: &Value| config.unsupported(key, &value.to_string(), "numbers");
        let r = match ranks.of(path)? {
            Some(value) => value.as_u64().ok_or_else(|| wrong("rank_pattern", value))? as usize,
            None => r,
        };
        let alpha = match alphas.of(path)? {
            Some(value) => value.as_f64().ok_or_else(|| wrong("alpha_pattern", value))?,
            None => alpha,
        };
        sites.push(Site { path: path.clone(), r, alpha });
    }
    let paths: Vec<&str> = layers.iter().map(|layer| layer.path.as_str()).collect();
    if sites.is_empty() {
        let asked = config.value().get("target_modules").map(Value::to_string).unwrap_or_default();
        let one = paths.first().copied().unwrap_or_default();
        let step = format!("no layer of the LLM is taken, which has `{one}` and others; is it this adapter's base?");
        return Err(config.refused("target_modules", &asked, &step));
    }
    for name in targets.idle(&paths) {
        config.note(format!("`target_modules` names `{name}`, which the LLM does not have; peft ignores it as well"));
    }
    let olora = config.value().get("init_lora_weights").is_some_and(|start| *start == "olora");
    let plan =
        Plan { sites, dropout: config.f64("lora_dropout", 0.0)?, rslora: config.bool("use_rslora", false)?, olora };
    plan.check()?;
    Ok(plan)
}

/// Refuses a file whose tensors are not exactly those of the plan.
pub(super) fn check_tensors(plan: &Plan, files: &TensorFiles) -> Result<()> {
    let names = files.names();
    let held: BTreeSet<&str> = names.iter().filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let two = |site: &Site| ["A", "B"].map(|letter| format!("{}.lora_{letter}.weight", site.path));
    let needed: Vec<String> = plan.sites.iter().flat_map(two).collect();
    if let Some(name) = needed.iter().find(|name| !held.contains(name.as_str())) {
        let count = needed.iter().filter(|name| !held.contains(name.as_str())).count();
        let path = name.split(".lora_").next().unwrap_or(name);
        return Err(error!(
            Weights,
            "`target_modules` takes `{path}`, and {ADAPTER} lacks its `{PREFIX}{name}` ({count} of {} lack)",
            needed.len()
        )
        .help("the adapter's config and its tensors must be of one `save_pretrained`"));
    }
    let known: BTreeSet<&str> = needed.iter().map(String::as_str).collect();
    if let Some(name) = held.difference(&known).next() {
        let count = held.difference(&known).count();
        return Err(error!(
            Weights,
            "{ADAPTER} holds {count} tensors that `target_modules` does not take, e.g. `{PREFIX}{name}`"
        )
        .help(format!("they would be lost; {MERGE}")));
    }
    Ok(())
}

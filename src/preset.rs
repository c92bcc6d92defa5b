//! Presets: one TOML file per checkpoint, template, recipe, data set or benchmark. User folders come before
//! the embedded ones; `about` is required; `inherit` takes another preset of the same kind as its base (one
//! level); a key nobody reads is refused with a suggestion.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::error::{Error, Kind, Result, did_you_mean};
use crate::hub::Hub;
use crate::{bail, error, guard};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The folders presets live in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PresetKind {
    Encoders,
    Llms,
    Models,
    Templates,
    Recipes,
    Datasets,
    Benchmarks,
}

impl PresetKind {
    /// Every kind, in the order `llmore ls` shows them.
    pub const ALL: [PresetKind; 7] = [
        PresetKind::Encoders,
        PresetKind::Llms,
        PresetKind::Models,
        PresetKind::Templates,
        PresetKind::Recipes,
        PresetKind::Datasets,
        PresetKind::Benchmarks,
    ];

    /// The folder's name, which is also the word scripts use: `presets("llms")`.
    pub fn folder(self) -> &'static str {
        match self {
            PresetKind::Encoders => "encoders",
            PresetKind::Llms => "llms",
            PresetKind::Models => "models",
            PresetKind::Templates => "templates",
            PresetKind::Recipes => "recipes",
            PresetKind::Datasets => "datasets",
            PresetKind::Benchmarks => "benchmarks",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            PresetKind::Encoders => "encoder preset",
            PresetKind::Llms => "LLM preset",
            PresetKind::Models => "model preset",
            PresetKind::Templates => "template",
            PresetKind::Recipes => "recipe",
            PresetKind::Datasets => "data set",
            PresetKind::Benchmarks => "benchmark",
        }
    }

    /// The kind of a folder name, or an error with a suggestion.
    pub fn parse(name: &str) -> Result<Self> {
        let known: Vec<_> = PresetKind::ALL.iter().map(|kind| kind.folder()).collect();
        PresetKind::ALL
            .into_iter()
            .find(|kind| kind.folder() == name)
            .ok_or_else(|| Error::unknown("kind of preset", name, &known, ""))
    }
}

/// The presets a session sees: user folders first, then the embedded ones.
#[derive(Clone, Debug, Default)]
pub struct Presets {
    folders: Vec<PathBuf>,
    hub: Hub,
}

impl Presets {
    /// `folders` hold `encoders/*.toml`, `llms/*.toml`, ... and win over the embedded presets.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Presets { folders, hub: Hub::default() }
    }

    /// The same presets with the hub that their sources are on.
    pub fn with_hub(mut self, hub: Hub) -> Self {
        self.hub = hub;
        self
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// All ids of a kind, sorted.
    pub fn ids(&self, kind: PresetKind) -> Vec<String> {
        let mut ids: BTreeSet<String> = EMBEDDED
            .iter()
            .filter(|(folder, _, _)| *folder == kind.folder())
            .map(|(_, id, _)| id.to_string())
            .collect();
        for folder in &self.folders {
            let Ok(entries) = crate::fs::read_dir(&folder.join(kind.folder())) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.extension().is_some_and(|extension| extension == "toml")
                    && let Some(stem) = path.file_stem()
                {
                    ids.insert(stem.to_string_lossy().into_owned());
                }
            }
        }
        ids.into_iter().collect()
    }

    /// Whether a preset of this id exists.
    pub fn contains(&self, kind: PresetKind, id: &str) -> bool {
        matches!(self.text(kind, id), Ok(Some(_)))
    }

    /// The preset whose `source` is this: a hub id names the same model as the preset that stands for it.
    pub fn standing_for(&self, kind: PresetKind, source: &str) -> Option<String> {
        let names = |id: &String| {
            self.own_table(kind, id).is_ok_and(|t| t.get("source").and_then(Value::as_str) == Some(source))
        };
        self.ids(kind).into_iter().find(names)
    }

    /// The preset as a table, with `inherit` resolved and removed.
    pub fn table(&self, kind: PresetKind, id: &str) -> Result<Table> {
        let mut table = self.own_table(kind, id)?;
        if let Some(base) = table.remove("inherit") {
            let Value::String(base) = base else { bail!(Option, "{} `{id}`: `inherit` must be an id", kind.noun()) };
            let mut merged = self.own_table(kind, &base)?;
            if merged.contains_key("inherit") {
                bail!(Option, "{} `{id}` inherits from `{base}`, which inherits itself: one level only", kind.noun());
            }
            merge(&mut merged, table);
            table = merged;
        }
        if !table.get("about").is_some_and(Value::is_str) {
            bail!(Option, "{} `{id}` has no `about` line", kind.noun());
        }
        Ok(table)
    }

    /// The preset as a typed value; `T` refuses unknown fields.
    pub fn get<T: DeserializeOwned>(&self, kind: PresetKind, id: &str) -> Result<T> {
        from_table(self.table(kind, id)?).map_err(|error| error.context(format!("{} `{id}`", kind.noun())))
    }

    fn own_table(&self, kind: PresetKind, id: &str) -> Result<Table> {
        let Some(text) = self.text(kind, id)? else {
            let known = self.ids(kind);
            let list = format!("`presets(\"{}\")` lists all {}", kind.folder(), known.len());
            return Err(Error::unknown(kind.noun(), id, &known, &list));
        };
        let parsed = guard::catch("toml", || text.parse::<Table>()).map_err(|failure| failure.error(&id))?;
        parsed.map_err(|error| error!(Decode, "{} `{id}`: {}", kind.noun(), error.message()))
    }

    fn text(&self, kind: PresetKind, id: &str) -> Result<Option<String>> {
        // An id is a file's name: nothing outside the preset folders is ever read.
        if id.contains(['/', '\\']) || id.starts_with('.') {
            return Ok(None);
        }
        for folder in &self.folders {
            let path = folder.join(kind.folder()).join(format!("{id}.toml"));
            if path.is_file() {
                return crate::fs::read_to_string(&path).map(Some).map_err(|error| Error::file(&path, error));
            }
        }
        let embedded = EMBEDDED.iter().find(|(folder, name, _)| *folder == kind.folder() && *name == id);
        Ok(embedded.map(|(_, _, text)| text.to_string()))
    }
}

/// Reads a typed value out of a table. Errors name the option by its whole path, as in `lora.r`, what it is and what it
/// could be.
pub fn from_table<T: DeserializeOwned>(table: Table) -> Result<T> {
    let value = Value::Table(table);
    value.clone().try_into().map_err(|error: toml::de::Error| {
        // toml tells the path in its text alone.
        let text = error.to_string();
        let path = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`')).unwrap_or_default();
        wrong_option(&value, path, error.message())
    })
}

/// Puts the value of an option into a table; a name like `lora.r` is the `r` in the table `lora`, which is made where there is
/// none.
pub fn set_option(table: &mut Table, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            table.insert(name.to_string(), value);
        }
        Some((outer, inner)) => match table.entry(outer).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(deeper) => set_option(deeper, inner, value),
            // What is no table is told where the options are read.
            other => *other = value,
        },
    }
}

/// What serde says of an option, in our words.
fn wrong_option(options: &Value, path: &str, message: &str) -> Error {
    if let Some((field, known)) = unknown_field(message) {
        let error = unknown_key(&field, &known);
        return if path.is_empty() { error } else { error.context(format!("option `{path}`")) };
    }
    if let Some(field) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let whole = if path.is_empty() { field.to_string() } else { format!("{path}.{field}") };
        return error!(Option, "option `{whole}` is missing");
    }
    let mut keys = path.split('.').filter(|key| !key.is_empty());
    let found = keys.clone().try_fold(options, |value, key| value.get(key));
    let (Some(found), Some(_)) = (found, keys.next_back()) else { return Error::new(Kind::Option, message) };
    let is = match found {
        Value::Table(_) => "a map".to_string(),
        other => other.to_string(),
    };
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let names: Vec<String> = known.iter().map(|name| format!("\"{name}\"")).collect();
        let error = error!(Option, "option `{path}` is {is}, expected {}", names.join(" or "));
        return match found.as_str().and_then(|given| did_you_mean(given, known.iter().copied())) {
            Some(near) => error.help(format!("did you mean \"{near}\"?")),
            None => error,
        };
    }
    match message.split_once(", expected ") {
        Some((_, expected)) if expected == "a map" || expected.starts_with("struct ") => {
            error!(Option, "option `{path}` is {is}, expected a map")
                .help(format!("write `{path}: #{{ key: value }}`, or leave it out"))
        }
        Some((_, expected)) => error!(Option, "option `{path}` is {is}, expected {}", words(expected)),
        None if message.starts_with("expected ") => error!(Option, "option `{path}` is {is}, {message}"),
        None => error!(Option, "option `{path}` is {is}: {message}"),
    }
}

/// What serde calls the types of options, as scripts know them.
fn words(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_string(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_string(),
        "f32" | "f64" => "a number".to_string(),
        "a boolean" => "true or false".to_string(),
        "a sequence" => "an array".to_string(),
        "path string" => "a path".to_string(),
        _ if expected.starts_with("an array of length ") => expected.replace("an array of length", "an array of"),
        other => other.to_string(),
    }
}

/// The error for an option key that does not exist.
pub fn unknown_key<S: AsRef<str>>(key: &str, known: &[S]) -> Error {
    let names: Vec<_> = known.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    let list = format!("known keys: {}", names.join(", "));
    let help = match did_you_mean(key, known.iter().map(AsRef::as_ref)) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    };
    Error::new(Kind::Option, format!("no option `{key}`")).help(help)
}

/// Takes serde's "unknown field `a`, expected one of `b`, `c`" apart.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2).map(str::to_string);
    Some((quoted.next()?, quoted.collect()))
}

fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merge(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

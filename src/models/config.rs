//! Typed reading of a Hugging Face `config.json`: a key with a wrong type is an error naming file and key; an
//! absent key has the default of that model type in transformers.

use serde_json::Value;

use crate::error::Result;
use crate::notes::Notes;
use crate::{bail, error};

/// Sizes and the largest value each may have: larger than in any existing model, and small enough that whatever is
/// allocated from them before the weights are read (position tables, lists of layers) stays small.
const SIZES: [(&str, u64); 10] = [
    ("hidden_size", 1 << 17),
    ("intermediate_size", 1 << 20),
    ("num_hidden_layers", 1 << 10),
    ("num_attention_heads", 1 << 12),
    ("num_key_value_heads", 1 << 12),
    ("head_dim", 1 << 12),
    ("vocab_size", 1 << 24),
    ("max_position_embeddings", 1 << 21),
    ("image_size", 1 << 13),
    ("patch_size", 1 << 10),
];

/// A config.json with the name of its file.
#[derive(Clone, Debug)]
pub struct Config {
    value: Value,
    file: String,
    /// Notes made while reading it; shared with everything made from this config.
    notes: Notes,
}

impl Config {
    /// A config with its content; `file` is its name in messages.
    pub fn new(value: Value, file: impl Into<String>) -> Self {
        Config { value, file: file.into(), notes: Notes::default() }
    }

    /// The JSON itself.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The name of the file in messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The notes made while reading it.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Adds a note that begins with the file's name.
    pub fn note(&self, text: impl std::fmt::Display) {
        self.notes.add(format!("{}: {text}", self.file));
    }

    /// The nested object, or this config where there is none (`vision_config` of a two-tower checkpoint).
    pub fn nested(&self, key: &str) -> Config {
        match self.value.get(key) {
            Some(value) if value.is_object() => {
                let file = format!("{}: `{key}`", self.file);
                Config { value: value.clone(), file, notes: self.notes.clone() }
            }
            _ => self.clone(),
        }
    }

    /// The same config with one key replaced.
    pub fn with(&self, key: &str, value: Value) -> Config {
        let mut config = self.clone();
        if let Some(object) = config.value.as_object_mut() {
            object.insert(key.to_string(), value);
        }
        config
    }

    /// The same config with a string where the key is missing.
    pub fn with_default(&self, key: &str, value: &str) -> Config {
        if self.get(key).is_some() { self.clone() } else { self.with(key, Value::from(value)) }
    }

    /// Refuses sizes that no model has, before anything is allocated from them.
    pub fn check_sizes(&self) -> Result<()> {
        for (key, most) in SIZES {
            if let Some(size) = self.value.get(key).and_then(Value::as_u64)
                && !(1..=most).contains(&size)
            {
                bail!(Decode, "{}: `{key}` is {size}, which is not between 1 and {most}", self.file);
            }
        }
        let (width, heads) = (self.usize("hidden_size", 0)?, self.usize("num_attention_heads", 1)?.max(1));
        if self.get("head_dim").is_none() && width % heads != 0 {
            bail!(Decode, "{}: `hidden_size` {width} cannot be shared by `num_attention_heads` {heads}", self.file);
        }
        Ok(())
    }

    /// The value of a required key.
    pub fn required(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(value) => self.whole(key, value),
            None => bail!(Missing, "{} has no `{key}`", self.file),
        }
    }

    /// An integer.
    pub fn usize(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |value| self.whole(key, value))
    }

    /// A side in pixels: an integer, or a pair of equal ones.
    pub fn side(&self, key: &str, default: usize) -> Result<usize> {
        match self.get(key).and_then(Value::as_array).map(Vec::as_slice) {
            Some([height, width]) if height == width => self.whole(key, height),
            _ => self.usize(key, default),
        }
    }

    /// A number.
    pub fn f64(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key).map_or(Ok(default), |value| value.as_f64().ok_or_else(|| self.wrong(key, value, "a number")))
    }

    /// A boolean.
    pub fn bool(&self, key: &str, default: bool) -> Result<bool> {
        self.get(key)
            .map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.wrong(key, value, "true or false")))
    }

    /// A string.
    pub fn string(&self, key: &str, default: &str) -> Result<String> {
        self.get(key).map_or(Ok(default.to_string()), |value| {
            value.as_str().map(str::to_string).ok_or_else(|| self.wrong(key, value, "a string"))
        })
    }

    /// The error for a value that no supported model has; `known` lists the supported ones.
    pub fn unsupported(&self, key: &str, value: &str, known: &str) -> crate::error::Error {
        error!(Decode, "{}: `{key}` is `{value}`", self.file).help(format!("llmore knows {known}"))
    }

    /// The error for a value that is not implemented; `next` says what to do.
    pub fn refused(&self, key: &str, value: &str, next: &str) -> crate::error::Error {
        error!(Decode, "{}: `{key}` is {value}, which is not implemented", self.file).help(next)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn whole(&self, key: &str, value: &Value) -> Result<usize> {
        value.as_u64().map(|n| n as usize).ok_or_else(|| self.wrong(key, value, "a whole number"))
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> crate::error::Error {
        error!(Decode, "{}: `{key}` is {value}, expected {expected}", self.file)
    }
}

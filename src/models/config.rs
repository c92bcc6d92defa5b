//! Typed reading of a Hugging Face `config.json`: a key with a wrong type is an error naming file and key; an
//! absent key has the default of that model type in transformers.

use serde_json::Value;

use crate::error::Result;
use crate::{bail, error};

/// A config with the name of the file it came from.
#[derive(Clone, Debug)]
pub struct Config {
    value: Value,
    file: String,
}

impl Config {
    /// `file` is for messages.
    pub fn new(value: Value, file: impl Into<String>) -> Self {
        Config { value, file: file.into() }
    }

    /// The JSON itself.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The nested object, or this config where there is none (`vision_config` of a two-tower checkpoint).
    pub fn nested(&self, key: &str) -> Config {
        match self.value.get(key) {
            Some(value) if value.is_object() => Config::new(value.clone(), format!("{}: `{key}`", self.file)),
            _ => self.clone(),
        }
    }

    /// A key that has no default.
    pub fn required(&self, key: &str) -> Result<usize> {
        match self.get(key) {
            Some(value) => self.whole(key, value),
            None => bail!(Missing, "{} has no `{key}`", self.file),
        }
    }

    /// A whole number.
    pub fn usize(&self, key: &str, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |value| self.whole(key, value))
    }

    /// A side in pixels: a whole number, or a pair of equal ones.
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

    /// A truth value.
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

    /// The error for a value this model cannot have.
    pub fn unsupported(&self, key: &str, value: &str, known: &str) -> crate::error::Error {
        error!(Decode, "{}: `{key}` is `{value}`", self.file).help(format!("llmore knows {known}"))
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

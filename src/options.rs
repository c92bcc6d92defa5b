//! Options. One entry says what a key takes, what holds where it is left out, whether it changes results, and a line of help.
//! Parsing, did-you-mean, help, completion at the prompt, the reference page and the comparison of run.locks all read these
//! entries; no default is written a second time. [`options!`] makes a struct and its table from one declaration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use toml::Value;

/// What values an option takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number from 0.
    Count,
    /// A whole number.
    Whole,
    /// A whole number or one with a fraction.
    Number,
    Text,
    Path,
    /// Whole numbers from 0, as an array.
    Counts,
    /// One of these names.
    Names(&'static [&'static str]),
    /// A map with options of its own.
    Map(&'static [OptionSpec]),
    /// Something else, in words; whoever reads it checks it.
    Other(&'static str),
}

/// What holds where an option is left out.
#[derive(Clone, Copy, Debug)]
pub enum Unset {
    /// It must be given.
    Required,
    /// Something that depends on the rest, in words: "the model's".
    Words(&'static str),
    Flag(bool),
    Count(u64),
    Number(f64),
    Text(&'static str),
    /// The value that a struct's `Default` gives.
    Value(fn() -> Option<Value>),
}

/// An option: everything that is known of a key.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    pub key: &'static str,
    pub kind: Kind,
    pub unset: Unset,
    /// Whether results may differ with its value; a run goes on under another value of one that changes none.
    pub changes_results: bool,
    pub help: &'static str,
}

/// An option as help shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct OptionRow {
    /// With the map it is in: `lora.r`.
    pub key: String,
    pub kind: String,
    pub default: String,
    pub changes_results: bool,
    pub help: String,
}

impl Kind {
    /// What messages call it: "a whole number from 0".
    pub fn words(&self) -> String {
        let fixed = match self {
            Kind::Flag => "true or false",
            Kind::Count => "a whole number from 0",
            Kind::Whole => "a whole number",
            Kind::Number => "a number",
            Kind::Text => "a string",
            Kind::Path => "a path",
            Kind::Counts => "an array of whole numbers from 0",
            Kind::Map(_) => "a map",
            Kind::Other(words) => words,
            Kind::Names(names) => return alternatives(names),
        };
        fixed.to_string()
    }
}

/// Names as a message lists them: `"a" or "b"`.
pub fn alternatives<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(" or ")
}

impl Unset {
    /// The value, where there is one.
    pub fn value(&self) -> Option<Value> {
        match *self {
            Unset::Required | Unset::Words(_) => None,
            Unset::Flag(flag) => Some(Value::Boolean(flag)),
            Unset::Count(count) => i64::try_from(count).ok().map(Value::Integer),
            Unset::Number(number) => Some(Value::Float(number)),
            Unset::Text(text) => Some(Value::String(text.to_string())),
            Unset::Value(make) => make(),
        }
    }

    /// What help says.
    pub fn words(&self) -> String {
        match self {
            Unset::Required => "required".to_string(),
            Unset::Words(words) => words.to_string(),
            other => other.value().map_or_else(String::new, |value| shown(&value)),
        }
    }
}

/// A value as a script writes it.
fn shown(value: &Value) -> String {
    match value {
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => format!("{number:e}"),
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        Value::Array(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

impl OptionSpec {
    /// An option that may change results.
    pub const fn new(key: &'static str, kind: Kind, unset: Unset, help: &'static str) -> Self {
        OptionSpec { key, kind, unset, changes_results: true, help }
    }

    /// The same of an option that changes no result.
    pub const fn harmless(self) -> Self {
        OptionSpec { changes_results: false, ..self }
    }
}

/// A table as help shows it; options within a map come after the map.
pub fn rows(table: &[OptionSpec]) -> Vec<OptionRow> {
    let mut rows = Vec::new();
    for spec in table {
        rows.push(OptionRow {
            key: spec.key.to_string(),
            kind: spec.kind.words(),
            default: spec.unset.words(),
            changes_results: spec.changes_results,
            help: spec.help.trim().to_string(),
        });
        if let Kind::Map(inner) = spec.kind {
            rows.extend(
                self::rows(inner).into_iter().map(|row| OptionRow { key: format!("{}.{}", spec.key, row.key), ..row }),
            );
        }
    }
    rows
}

/// A type that an option's value is read into.
pub trait OptionValue {
    const KIND: Kind;

    /// Whether the option is not set; it is then left out of files.
    fn is_unset(&self) -> bool {
        false
    }
}

/// Says which kind of value the options of some types take.
macro_rules! option_values {
    ($($type:ty => $kind:expr),* $(,)?) => {
        $(impl $crate::options::OptionValue for $type { const KIND: $crate::options::Kind = $kind; })*
    };
}

option_values! {
    bool => Kind::Flag,
    u64 => Kind::Count,
    usize => Kind::Count,
    f64 => Kind::Number,
    String => Kind::Text,
    PathBuf => Kind::Path,
    [f64; 2] => Kind::Other("an array of 2 numbers"),
    BTreeMap<String, f64> => Kind::Other("a map of numbers"),
}

impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: Kind = T::KIND;

    fn is_unset(&self) -> bool {
        self.is_none()
    }
}

/// What [`options!`] hands to serde.
pub fn is_unset<T: OptionValue>(value: &T) -> bool {
    value.is_unset()
}

/// A default as a value of a table.
pub fn value_of<T: Serialize>(value: &T) -> Option<Value> {
    Value::try_from(value).ok()
}

/// A struct of options with its `Default`, its serde form, and a table of [`OptionSpec`]. An entry is
/// `/// help` and `key: Type = default => results;` or `=> harmless;`. A default that stands for something else is said in
/// words, `key: Option<T> = None, "the model's" => results;`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident, $table:ident {
            $($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:expr $(, $words:literal)? => $effect:ident;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[doc = $help])+ #[serde(skip_serializing_if = "crate::options::is_unset")] pub $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }

        #[doc = concat!("The table of [`", stringify!($name), "`].")]
        pub const $table: &[$crate::options::OptionSpec] = &[$($crate::options::OptionSpec {
            key: stringify!($key),
            kind: <$type as $crate::options::OptionValue>::KIND,
            unset: $crate::options::options!(@unset $name $key $($words)?),
            changes_results: $crate::options::options!(@effect $effect),
            help: concat!($($help),+),
        }),*];

        impl $crate::options::OptionValue for $name {
            const KIND: $crate::options::Kind = $crate::options::Kind::Map($table);
        }
    };
    (@unset $name:ident $key:ident) => {
        $crate::options::Unset::Value(|| $crate::options::value_of(&$name::default().$key))
    };
    (@unset $name:ident $key:ident $words:literal) => { $crate::options::Unset::Words($words) };
    (@effect results) => { true };
    (@effect harmless) => { false };
}

pub(crate) use {option_values, options};

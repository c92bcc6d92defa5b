//! Between script values and ours: option maps with strict keys, numbers that may be ints, turns, TOML.

use rhai::{Array, Dynamic, Map};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::handles::{ImageHandle, TensorHandle};
use crate::data::flags;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::preset::{from_table, unknown_key};
use crate::text::{Role, Turn};
use crate::{bail, error};

/// An option map with the keys that were read.
pub(super) struct Options {
    map: Map,
    what: &'static str,
}

impl Options {
    /// `known` are all keys the function takes; another one is an error with a suggestion.
    pub(super) fn new(map: Map, what: &'static str, known: &[&str]) -> Result<Self> {
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(unknown_key(key, known).context(what)),
            None => Ok(Options { map, what }),
        }
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<String>> {
        self.get(key, "a string", |value| value.clone().into_string().ok())
    }

    pub(super) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |value| value.as_bool().ok())
    }

    pub(super) fn int(&self, key: &str) -> Result<Option<i64>> {
        self.get(key, "a whole number", |value| value.as_int().ok())
    }

    /// A whole number that is not negative.
    pub(super) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.get(key, "a whole number from 0", |value| value.as_int().ok().and_then(|n| usize::try_from(n).ok()))
    }

    /// An array of such numbers.
    pub(super) fn counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        let count = |value: &Dynamic| value.as_int().ok().and_then(|n| usize::try_from(n).ok());
        self.get(key, "an array of whole numbers from 0", |value| {
            value.read_lock::<Array>()?.iter().map(count).collect()
        })
    }

    pub(super) fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", number)
    }

    /// The value itself.
    pub(super) fn value(&self, key: &str) -> Option<Dynamic> {
        self.map.get(key).cloned()
    }

    fn get<T>(&self, key: &str, expected: &str, read: impl Fn(&Dynamic) -> Option<T>) -> Result<Option<T>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(value) if value.is_unit() => Ok(None),
            Some(value) => match read(value) {
                Some(read) => Ok(Some(read)),
                None => {
                    Err(error!(Option, "option `{key}` is {}, expected {expected}", shown(value)).context(self.what))
                }
            },
        }
    }
}

/// An int or a float as a float.
pub(super) fn number(value: &Dynamic) -> Option<f64> {
    value.as_float().ok().or_else(|| value.as_int().ok().map(|n| n as f64))
}

/// An array of numbers.
pub(super) fn numbers(array: &Array) -> Result<Vec<f64>> {
    array
        .iter()
        .map(|value| number(value).ok_or_else(|| error!(Type, "expected numbers, got {}", shown(value))))
        .collect()
}

/// Token ids.
pub(super) fn ids(array: &Array) -> Result<Vec<i64>> {
    array
        .iter()
        .map(|value| value.as_int().map_err(|_| error!(Type, "expected token ids, got {}", shown(value))))
        .collect()
}

/// A picture, or `()` for none.
pub(super) fn image(value: &Dynamic) -> Result<Option<Image>> {
    if value.is_unit() {
        return Ok(None);
    }
    match value.clone().try_cast::<ImageHandle>() {
        Some(image) => image.get().map(Some),
        None => Err(error!(Type, "expected an Image or (), got {}", shown(value))
            .help("`image(\"picture.png\")` opens a picture")),
    }
}

/// A picture, several of them, or `()` for none.
pub(super) fn images(value: &Dynamic) -> Result<Vec<Image>> {
    match value.read_lock::<Array>() {
        Some(array) => {
            let help = "a list of pictures is `[image(\"a.png\"), image(\"b.png\")]`";
            let one = |value: &Dynamic| match image(value)? {
                Some(image) => Ok(image),
                None => Err(error!(Type, "expected an Image, got ()").help(help)),
            };
            array.iter().map(one).collect()
        }
        None => Ok(image(value)?.into_iter().collect()),
    }
}

/// An array of `#{ from, value }`.
pub(super) fn turns(array: &Array) -> Result<Vec<Turn>> {
    array.iter().map(turn).collect()
}

fn turn(value: &Dynamic) -> Result<Turn> {
    let help = "a turn is `#{ from: \"human\", value: \"...\" }`, an answer is from `gpt`";
    let Some(map) = value.clone().try_cast::<Map>() else {
        return Err(error!(Type, "a turn is {}, expected a map", shown(value)).help(help));
    };
    let text = |key: &str| match map.get(key).map(|value| value.clone().into_string()) {
        Some(Ok(text)) => Ok(text),
        Some(Err(kind)) => Err(error!(Type, "`{key}` of a turn is of type {kind}, expected a string").help(help)),
        None => Err(error!(Data, "a turn has no `{key}`").help(help)),
    };
    let from = text("from")?;
    let Some(role) = Role::of(&from) else { return Err(error!(Data, "a turn is from `{from}`").help(help)) };
    let mut turn = Turn::of(role, text("value")?);
    for (key, value) in map.iter().filter(|(key, _)| flags::is_one(key)) {
        let value = match (value.as_bool(), number(value)) {
            (Ok(flag), _) => flag.into(),
            (_, Some(number)) => number.into(),
            _ if value.is_unit() => continue,
            _ => shown(value).into(),
        };
        let says = flags::read(key, &value).map_err(|told| error!(Data, "{told}").help(help))?;
        turn.supervised &= says.unwrap_or(true);
    }
    Ok(turn)
}

/// Turns as scripts see them.
pub(super) fn turns_array(turns: &[Turn]) -> Array {
    let map = |turn: &Turn| {
        let mut map = Map::new();
        map.insert("from".into(), turn.role.name().into());
        map.insert("value".into(), turn.value.clone().into());
        if !turn.supervised {
            map.insert("train".into(), false.into());
        }
        Dynamic::from_map(map)
    };
    turns.iter().map(map).collect()
}

/// A script map as TOML; `()` values are left out.
pub(super) fn table(map: &Map) -> Result<Table> {
    let mut table = Table::new();
    for (key, value) in map.iter().filter(|(_, value)| !value.is_unit()) {
        table.insert(key.to_string(), toml_value(value).map_err(|error| error.context(format!("option `{key}`")))?);
    }
    Ok(table)
}

/// A typed value out of a table, with `what` in front of errors.
pub(super) fn typed<T: DeserializeOwned>(table: Table, what: &str) -> Result<T> {
    from_table(table).map_err(|error: Error| error.context(what))
}

fn toml_value(value: &Dynamic) -> Result<Value> {
    if let Ok(flag) = value.as_bool() {
        return Ok(Value::Boolean(flag));
    }
    if let Ok(int) = value.as_int() {
        return Ok(Value::Integer(int));
    }
    if let Ok(float) = value.as_float() {
        return Ok(Value::Float(float));
    }
    if let Ok(text) = value.clone().into_string() {
        return Ok(Value::String(text));
    }
    if let Some(array) = value.clone().try_cast::<Array>() {
        return Ok(Value::Array(array.iter().map(toml_value).collect::<Result<_>>()?));
    }
    if let Some(map) = value.clone().try_cast::<Map>() {
        return Ok(Value::Table(table(&map)?));
    }
    bail!(Type, "{} cannot be an option", shown(value))
}

/// TOML as a script value.
pub(super) fn from_toml(value: &Value) -> Dynamic {
    match value {
        Value::String(text) => text.clone().into(),
        Value::Integer(int) => (*int).into(),
        Value::Float(float) => (*float).into(),
        Value::Boolean(flag) => (*flag).into(),
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(array) => Dynamic::from_array(array.iter().map(from_toml).collect()),
        Value::Table(table) => Dynamic::from_map(map_of(table)),
    }
}

/// A TOML table as a script map.
pub(super) fn map_of(table: &Table) -> Map {
    table.iter().map(|(key, value)| (key.as_str().into(), from_toml(value))).collect()
}

/// JSON as a script value: whole numbers become ints, `null` becomes `()`.
pub(super) fn from_json(value: &serde_json::Value) -> Dynamic {
    use serde_json::Value;
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => int.into(),
            (None, Some(float)) => float.into(),
            (None, None) => Dynamic::UNIT,
        },
        Value::String(text) => text.clone().into(),
        Value::Array(array) => Dynamic::from_array(array.iter().map(from_json).collect()),
        Value::Object(object) => {
            Dynamic::from_map(object.iter().map(|(key, value)| (key.as_str().into(), from_json(value))).collect())
        }
    }
}

/// A value in a message: its text when short, else its type.
pub(super) fn shown(value: &Dynamic) -> String {
    if value.is_string() {
        return format!("{:?}", value.to_string());
    }
    if value.is::<TensorHandle>() || value.is_map() || value.is_array() {
        return format!("a value of type {}", value.type_name());
    }
    value.to_string()
}

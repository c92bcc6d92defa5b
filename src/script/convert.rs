//! Between script values and ours: option maps that their tables check, numbers that may be ints, turns, TOML.

use rhai::{Array, Dynamic, Map};
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::handles::{ImageHandle, TensorHandle};
use super::options::OptionTable;
use crate::data::flags;
use crate::error::{Error, Result, did_you_mean};
use crate::image::Image;
use crate::options::{Kind, OptionSpec};
use crate::preset::{from_table, unknown_key};
use crate::text::{Role, Turn};
use crate::{bail, error};

/// An option map, checked by the table of its function.
pub(super) struct Options {
    map: Map,
    table: &'static OptionTable,
}

/// What an option is read into.
pub(super) trait FromOption: Sized {
    fn read(value: &Dynamic) -> Option<Self>;

    /// What it is where the option is not given and its table has no value for it.
    fn absent() -> Option<Self> {
        None
    }
}

impl Options {
    /// Refuses keys that the table does not have, with a suggestion, and values of another kind.
    pub(super) fn new(map: Map, table: &'static OptionTable) -> Result<Self> {
        for (key, value) in &map {
            let Some(spec) = table.spec(key) else {
                let known: Vec<&str> = table.specs().map(|spec| spec.key).collect();
                return Err(unknown_key(key, &known).context(table.function));
            };
            check(spec, value).map_err(|error| error.context(table.function))?;
        }
        Ok(Options { map, table })
    }

    /// The value of an option: the one given, or the one its table has; an `Option` is `None` where there is neither.
    pub(super) fn get<T: FromOption>(&self, key: &str) -> Result<T> {
        let Some(spec) = self.table.spec(key) else {
            return Err(error!(Option, "`{}` has no option `{key}`", self.table.function));
        };
        let Some(value) = self.value(key).or_else(|| spec.unset.value().map(|value| from_toml(&value))) else {
            return T::absent().ok_or_else(|| error!(Option, "option `{key}` is missing").context(self.table.function));
        };
        T::read(&value).ok_or_else(|| wrong(spec, &value).context(self.table.function))
    }

    /// The value that was given, as it is; `()` is none.
    pub(super) fn value(&self, key: &str) -> Option<Dynamic> {
        self.map.get(key).filter(|value| !value.is_unit()).cloned()
    }
}

/// Refuses a value that is not of the option's kind.
fn check(spec: &OptionSpec, value: &Dynamic) -> Result<()> {
    let fits = value.is_unit()
        || match spec.kind {
            Kind::Flag => value.is_bool(),
            Kind::Count => usize::read(value).is_some(),
            Kind::Whole => value.is_int(),
            Kind::Number => number(value).is_some(),
            Kind::Text | Kind::Path => value.is_string(),
            Kind::Counts => Vec::<usize>::read(value).is_some(),
            Kind::Map(_) => value.is_map(),
            Kind::Names(names) => names.iter().any(|name| String::read(value).is_some_and(|given| given == *name)),
            Kind::Other(_) => true,
        };
    if fits { Ok(()) } else { Err(wrong(spec, value)) }
}

fn wrong(spec: &OptionSpec, value: &Dynamic) -> Error {
    let error = error!(Option, "option `{}` is {}, expected {}", spec.key, shown(value), spec.kind.words());
    let near = match spec.kind {
        Kind::Names(names) => String::read(value).and_then(|given| did_you_mean(&given, names.iter().copied())),
        _ => None,
    };
    match near {
        Some(near) => error.help(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

impl FromOption for bool {
    fn read(value: &Dynamic) -> Option<Self> {
        value.as_bool().ok()
    }
}

impl FromOption for i64 {
    fn read(value: &Dynamic) -> Option<Self> {
        value.as_int().ok()
    }
}

impl FromOption for usize {
    fn read(value: &Dynamic) -> Option<Self> {
        value.as_int().ok().and_then(|number| usize::try_from(number).ok())
    }
}

impl FromOption for f64 {
    fn read(value: &Dynamic) -> Option<Self> {
        number(value)
    }
}

impl FromOption for String {
    fn read(value: &Dynamic) -> Option<Self> {
        value.clone().into_string().ok()
    }
}

impl FromOption for Dynamic {
    fn read(value: &Dynamic) -> Option<Self> {
        Some(value.clone())
    }
}

impl<T: FromOption> FromOption for Vec<T> {
    fn read(value: &Dynamic) -> Option<Self> {
        value.read_lock::<Array>()?.iter().map(T::read).collect()
    }
}

impl<T: FromOption> FromOption for Option<T> {
    fn read(value: &Dynamic) -> Option<Self> {
        T::read(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
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
        let says = flags::read(key, &value).map_err(|message| error!(Data, "{message}").help(help))?;
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

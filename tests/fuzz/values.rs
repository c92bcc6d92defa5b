//! Mutations that leave a text well-formed: of values in JSON, in lines of JSON, in TOML.

use serde_json::{Map, Value};

use super::bytes::NUMBERS;
use super::draw::Draw;

/// A JSON text with some of its values changed; `None` for a text that is none.
pub fn json(draw: &mut Draw, text: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    mutate(draw, &mut value, words);
    serde_json::to_vec(&value).ok()
}

/// The same in one line of several.
pub fn json_lines(draw: &mut Draw, text: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let at = draw.below(lines.len());
    if draw.one_in(6) {
        let line = lines[at].clone();
        let times = [1, 2, 40][draw.below(3)];
        lines.splice(at..at, std::iter::repeat_n(line, times));
    } else {
        lines[at] = json(draw, &lines[at], words)?;
    }
    Some(lines.join(&b'\n'))
}

/// The same in TOML.
pub fn toml(draw: &mut Draw, text: &[u8], words: &[&str]) -> Option<Vec<u8>> {
    let table: toml::Table = std::str::from_utf8(text).ok()?.parse().ok()?;
    let mut value = serde_json::to_value(table).ok()?;
    mutate(draw, &mut value, words);
    toml::to_string(&value).ok().map(String::into_bytes)
}

fn mutate(draw: &mut Draw, value: &mut Value, words: &[&str]) {
    for _ in 0..draw.mutations().min(5) {
        let (number, other) = (draw.below(count(value)), draw.below(count(value)));
        let other = node(value, &mut { other }).cloned().unwrap_or_default();
        if let Some(found) = node_mut(value, &mut { number }) {
            once(draw, found, other, words);
        }
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The node of this number, in the order of the text.
fn node<'a>(value: &'a Value, number: &mut usize) -> Option<&'a Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(list) => list.iter().find_map(|inner| node(inner, number)),
        Value::Object(map) => map.values().find_map(|inner| node(inner, number)),
        _ => None,
    }
}

fn node_mut<'a>(value: &'a mut Value, number: &mut usize) -> Option<&'a mut Value> {
    if *number == 0 {
        return Some(value);
    }
    *number -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|inner| node_mut(inner, number)),
        Value::Object(map) => map.values_mut().find_map(|inner| node_mut(inner, number)),
        _ => None,
    }
}

fn once(draw: &mut Draw, value: &mut Value, other: Value, words: &[&str]) {
    match (draw.below(10), &mut *value) {
        (0..=3, Value::Array(list)) if !list.is_empty() => shuffle(draw, list, other),
        (0..=5, Value::Object(map)) if !map.is_empty() => rename(draw, map, other, words),
        (0..=1, Value::String(text)) => rewrite(draw, text, words),
        (6, _) => *value = other,
        (7, _) => {
            let levels = [1, 1, 2, 60, 120, 600][draw.below(6)];
            let listed = draw.one_in(2);
            for _ in 0..levels {
                let inner = value.take();
                *value = if listed { Value::Array(vec![inner]) } else { serde_json::json!({ "a": inner }) };
            }
        }
        _ => *value = scalar(draw, words),
    }
}

/// Removes, repeats or exchanges entries of a list.
fn shuffle(draw: &mut Draw, list: &mut Vec<Value>, other: Value) {
    let at = draw.below(list.len());
    match draw.below(5) {
        0 => drop(list.remove(at)),
        1 => list.insert(at, other),
        2 => list.truncate(at),
        3 => {
            let entry = list[at].clone();
            let times = [1, 2, 10, 300][draw.below(4)];
            list.extend(std::iter::repeat_n(entry, times));
        }
        _ => {
            let with = draw.below(list.len());
            list.swap(at, with);
        }
    }
}

/// Removes, renames or adds keys.
fn rename(draw: &mut Draw, map: &mut Map<String, Value>, other: Value, words: &[&str]) {
    let key = map.keys().nth(draw.below(map.len())).cloned().unwrap_or_default();
    let word = if words.is_empty() { "" } else { draw.pick(words) };
    match draw.below(5) {
        0 => drop(map.remove(&key)),
        1 => {
            let value = map.remove(&key).unwrap_or_default();
            map.insert(word.to_string(), value);
        }
        2 => drop(map.insert(word.to_string(), other)),
        3 => drop(map.insert(key, other)),
        _ => {
            let value = scalar(draw, words);
            map.insert(word.to_string(), value);
        }
    }
}

fn rewrite(draw: &mut Draw, text: &mut String, words: &[&str]) {
    let at = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).nth(draw.below(text.len() + 1));
    let at = at.unwrap_or(0);
    let piece = match draw.below(4) {
        0 if !words.is_empty() => draw.pick(words),
        1 => draw.pick(ODD),
        2 => draw.pick(NUMBERS),
        _ => {
            text.truncate(at);
            return;
        }
    };
    text.insert_str(at, piece);
}

/// Texts that are not what one expects of a text.
pub const ODD: &[&str] = &[
    "",
    " ",
    "\n",
    "\0",
    "\u{fffd}",
    "\u{e9}",
    "\u{1f600}",
    "\u{200d}",
    "\u{10ffff}",
    "..",
    "/",
    "<image>",
    "{",
    "\\",
];

fn scalar(draw: &mut Draw, words: &[&str]) -> Value {
    match draw.below(9) {
        0 => Value::Null,
        1 => Value::Bool(draw.one_in(2)),
        2 => Value::Array(Vec::new()),
        3 => Value::Object(Map::new()),
        4 => Value::from(draw.pick(ODD)),
        5 if !words.is_empty() => Value::from(draw.pick(words)),
        6 => Value::from("a\u{e9}".repeat([1, 50, 5000][draw.below(3)])),
        _ => serde_json::from_str(draw.pick(NUMBERS)).unwrap_or(Value::Null),
    }
}

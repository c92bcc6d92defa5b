//! Tokens declared in the files beside a tokenizer: `added_tokens_decoder` and the names of special tokens in
//! tokenizer_config.json, and where that has no such list, special_tokens_map.json and added_tokens.json.
//! Source: transformers 5.24.0, `tokenization_utils_base.py` (`_from_pretrained`: which file counts),
//! `tokenization_utils_tokenizers.py` (`__init__`: what is added, in which order), compared by runs.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::notes::Notes;
use crate::{bail, error};

const CONFIG: &str = "tokenizer_config.json";
const DECODER: &str = "added_tokens_decoder";
/// In the order in which new ones get their ids.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const EXTRA: &str = "extra_special_tokens";
/// The name of [`EXTRA`] in transformers 4.x.
const ADDITIONAL: &str = "additional_special_tokens";

/// The flags that decide how a token is found in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Flags {
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: Option<bool>,
    special: bool,
}

#[derive(Clone, Debug)]
struct Token {
    content: String,
    /// The id that the file gives it.
    id: Option<u64>,
    flags: Flags,
}

/// The declarations in the files beside a tokenizer.
#[derive(Default)]
pub(super) struct Declared {
    /// tokenizer_config.json, with the entries of special_tokens_map.json taking precedence.
    config: Map<String, Value>,
    /// config.json of the model.
    model: Value,
    /// Tokens with ids, ascending; their flags replace those in the tokenizer.
    listed: Vec<Token>,
    /// Special tokens by name; those that are not added tokens yet become added tokens.
    named: Vec<Token>,
    /// The file that `listed` comes from.
    file: String,
}

fn json_of(path: &Path) -> Result<Option<Value>> {
    match crate::fs::read(path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(error!(Decode, "`{}`: {error}", path.display())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path, error)),
    }
}

fn map_of(path: &Path) -> Result<Option<Map<String, Value>>> {
    match json_of(path)? {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => bail!(Decode, "`{}` is not a JSON object", path.display()),
    }
}

/// A token as text, or as an object with flags.
fn token(value: &Value, special: bool) -> Option<Token> {
    if let Value::String(content) = value {
        let flags = Flags { special, ..Flags::default() };
        return Some(Token { content: content.clone(), id: None, flags });
    }
    let content = value.get("content")?.as_str()?.to_string();
    let mut flags: Flags = serde_json::from_value(value.clone()).ok()?;
    flags.special |= special;
    Some(Token { content, id: None, flags })
}

impl Declared {
    /// Reads the files beside `file`.
    ///
    /// # Errors
    /// `Decode` for a file that is not JSON, or an entry that is not a token.
    pub(super) fn beside(file: &Path) -> Result<Self> {
        let beside = |name: &str| file.with_file_name(name);
        let mut declared = Declared {
            config: map_of(&beside(CONFIG))?.unwrap_or_default(),
            model: json_of(&beside("config.json")).ok().flatten().unwrap_or_default(),
            file: beside(CONFIG).display().to_string(),
            ..Declared::default()
        };
        if let Some(list) = declared.config.get(DECODER).filter(|list| !list.is_null()).cloned() {
            declared.list(list.as_object())?;
        } else {
            if let Some(map) = map_of(&beside("special_tokens_map.json"))? {
                declared.config.extend(map);
            }
            if let Some(added) = map_of(&beside("added_tokens.json"))? {
                declared.file = beside("added_tokens.json").display().to_string();
                declared.number(&added)?;
            }
        }
        declared.name();
        declared.listed.sort_by_key(|token| token.id);
        Ok(declared)
    }

    fn list(&mut self, list: Option<&Map<String, Value>>) -> Result<()> {
        for (id, value) in list.into_iter().flatten() {
            let Some((id, token)) = id.parse().ok().zip(token(value, false)) else {
                bail!(Decode, "`{}`: `{DECODER}`: `{id}` is no id with its token", self.file);
            };
            self.listed.push(Token { id: Some(id), ..token });
        }
        Ok(())
    }

    /// added_tokens.json holds ids only. A token is special where tokenizer_config.json names it as such.
    fn number(&mut self, added: &Map<String, Value>) -> Result<()> {
        let extra = self.config.get(EXTRA).and_then(Value::as_array).cloned().unwrap_or_default();
        let named = NAMED.iter().filter_map(|key| self.config.get(*key)).chain(&extra);
        let special: Vec<String> = named.filter_map(|value| Some(token(value, true)?.content)).collect();
        for (content, id) in added {
            let Some(id) = id.as_u64() else { bail!(Decode, "`{}`: `{content}` has the id {id}", self.file) };
            let flags = Flags { special: special.contains(content), ..Flags::default() };
            self.listed.push(Token { content: content.clone(), id: Some(id), flags });
        }
        Ok(())
    }

    /// Special tokens by name, in the order in which transformers adds them.
    fn name(&mut self) {
        let config = &self.config;
        let named = NAMED.iter().filter_map(|key| config.get(*key)).collect::<Vec<_>>();
        // Names that a model defines, such as `image_token`.
        let own = config
            .iter()
            .filter(|(key, value)| key.ends_with("_token") && value.is_string() && !NAMED.contains(&key.as_str()));
        let extra = [EXTRA, ADDITIONAL].iter().find_map(|key| {
            config.get(*key).filter(|value| !matches!(value, Value::Null)).filter(|value| *value != &json!([]))
        });
        let (list, map) = (extra.and_then(Value::as_array), extra.and_then(Value::as_object));
        let named = named.into_iter().chain(own.map(|(_, value)| value)).chain(map.into_iter().flat_map(Map::values));
        let mut tokens: Vec<Token> = named.filter_map(|value| token(value, true)).collect();
        // A token that is named and listed is special, whatever the list says; for an extra one the list decides.
        for listed in &mut self.listed {
            listed.flags.special |= tokens.iter().any(|token| token.content == listed.content);
        }
        tokens.extend(list.into_iter().flatten().filter_map(|value| token(value, value.is_string())));
        tokens.retain(|token| !token.content.is_empty());
        self.named = tokens;
    }

    /// A boolean of tokenizer_config.json.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.config.get(key).and_then(Value::as_bool)
    }

    /// A text of tokenizer_config.json; for a token, its content.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.config.get(key).and_then(|value| token(value, false)).map(|token| token.content)
    }

    /// The id of a listed token.
    pub(super) fn id(&self, content: &str) -> Option<u64> {
        self.listed.iter().find(|token| token.content == content)?.id
    }

    /// Whether the model's config.json was written by transformers 5 or later.
    pub(super) fn is_modern(&self) -> bool {
        let version = self.model.get("transformers_version").and_then(Value::as_str).unwrap_or_default();
        version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 5)
    }

    /// The number of rows of the embedding, from the model's config.json.
    pub(super) fn rows(&self) -> Option<usize> {
        let size = |value: &Value| value.get("vocab_size").and_then(Value::as_u64).map(|size| size as usize);
        size(&self.model).or_else(|| size(self.model.get("text_config")?))
    }

    /// A tokenizer.json with the declared tokens added; `None` where that adds nothing.
    ///
    /// # Errors
    /// `Decode` where an id belongs to another token.
    pub(super) fn apply(&self, bytes: &[u8], raw: bool, notes: &Notes) -> Result<Option<Vec<u8>>> {
        #[derive(Deserialize)]
        struct Known {
            #[serde(default)]
            added_tokens: Vec<Value>,
        }
        // Bytes that are not a tokenizer are reported by the caller that opens it.
        let Ok(Known { added_tokens }) = serde_json::from_slice(bytes) else { return Ok(None) };
        if !self.changes(&added_tokens, raw, notes) {
            return Ok(None);
        }
        let Ok(mut json) = serde_json::from_slice::<Value>(bytes) else { return Ok(None) };
        let mut added = added_tokens;
        for (token, listed) in self.listed.iter().map(|t| (t, true)).chain(self.named.iter().map(|t| (t, false))) {
            match added.iter_mut().find(|entry| entry["content"] == token.content.as_str()) {
                Some(entry) if listed => write(entry, token, raw),
                Some(_) => {}
                None => {
                    let id = self.id_of(token, json.pointer("/model/vocab"), &added, notes)?;
                    let mut entry = json!({ "id": id, "content": token.content });
                    write(&mut entry, token, raw);
                    added.push(entry);
                }
            }
        }
        added.sort_by_key(|entry| entry["id"].as_u64());
        json["added_tokens"] = Value::Array(added);
        Ok(Some(json.to_string().into_bytes()))
    }

    /// Whether there is something to add; notes which declared ids are ignored.
    fn changes(&self, added: &[Value], raw: bool, notes: &Notes) -> bool {
        let known = |token: &Token| added.iter().find(|entry| entry["content"] == token.content.as_str());
        let mut changes = self.named.iter().any(|token| known(token).is_none());
        for token in &self.listed {
            let Some(entry) = known(token) else {
                changes = true;
                continue;
            };
            if let Some(id) = token.id.filter(|id| entry["id"].as_u64() != Some(*id)) {
                notes.add(format!(
                    "`{}` gives the token `{}` the id {id}, the tokenizer {}, which is kept",
                    self.file, token.content, entry["id"]
                ));
            }
            let mut written = entry.clone();
            write(&mut written, token, raw);
            changes |= written != *entry;
        }
        changes
    }

    /// The id of a token that is not an added token yet: that of the vocabulary, the one in the file, or the next
    /// free one.
    fn id_of(&self, token: &Token, vocab: Option<&Value>, added: &[Value], notes: &Notes) -> Result<u64> {
        let piece = |value: &Value| value.get(0).and_then(Value::as_str).map(str::to_string);
        let (of_vocab, size) = match vocab {
            Some(Value::Object(map)) => (map.get(&token.content).and_then(Value::as_u64), map.len()),
            Some(Value::Array(list)) => {
                let place = list.iter().position(|value| piece(value).as_ref() == Some(&token.content));
                (place.map(|place| place as u64), list.len())
            }
            _ => (None, 0),
        };
        if let Some(id) = of_vocab {
            return Ok(id);
        }
        let last = added.iter().filter_map(|entry| entry["id"].as_u64()).max();
        let next = last.map_or(0, |last| last.saturating_add(1)).max(size as u64);
        let Some(id) = token.id else { return Ok(next) };
        let other = match vocab {
            Some(Value::Object(map)) => {
                map.iter().find(|(_, other)| other.as_u64() == Some(id)).map(|(t, _)| t.clone())
            }
            Some(Value::Array(list)) => list.get(id as usize).and_then(piece),
            _ => None,
        };
        let entry = || added.iter().find(|entry| entry["id"].as_u64() == Some(id))?["content"].as_str();
        if let Some(other) = other.or_else(|| entry().map(str::to_string)) {
            return Err(error!(
                Decode,
                "`{}` gives the token `{}` the id {id}, which is that of `{other}` in the tokenizer",
                self.file,
                token.content
            )
            .help(format!(
                "write the tokenizer again with `tokenizer.save_pretrained(..)`, or correct the entry ({next} is free)"
            )));
        }
        if id != next {
            notes.add(format!(
                "`{}` gives the token `{}` the id {id}, which is kept; transformers 5 takes {next}, the next that is free",
                self.file, token.content
            ));
        }
        Ok(id)
    }
}

/// Writes a token's flags into an entry of `added_tokens`; a token that is special there stays special. With `raw` it is
/// found in the text before normalization, whatever the list says.
fn write(entry: &mut Value, token: &Token, raw: bool) {
    let Flags { single_word, lstrip, rstrip, normalized, special } = token.flags;
    let normalized = normalized.unwrap_or(!special) && !raw;
    let special = special || entry["special"] == true;
    let flags = [
        ("single_word", single_word),
        ("lstrip", lstrip),
        ("rstrip", rstrip),
        ("normalized", normalized),
        ("special", special),
    ];
    for (key, value) in flags {
        entry[key] = json!(value);
    }
}

//! The library `tokenizers`, behind the guard: it panics on files that no tool writes, while it reads them and while it
//! encodes and decodes with what it read. Nothing else in the program calls it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{AddedToken, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer as Library};

use crate::error::{Error, Result};
use crate::guard::{self, Failure};
use crate::{bail, error};

const LIBRARY: &str = "tokenizers";
/// The largest id of an added token: more rows than any model's embedding has.
const LARGEST_ID: u64 = 1 << 24;
/// The most that the steps before the model may make of a byte, each at its largest: a step that doubles every byte is no fault
/// by itself, forty of them never end. Three bytes for a space and one doubling come to 6.
const LARGEST_GROWTH: u64 = 4096;
/// Its key in a normalizer: the table of characters that SentencePiece compiles, as base64.
const CHARSMAP: &str = "precompiled_charsmap";

/// A tokenizer of the library.
pub(super) struct Inner {
    library: Library,
    name: String,
}

/// What llmore has to know of an added token.
pub(super) struct AddedFlags {
    pub lstrip: bool,
    pub rstrip: bool,
}

/// The section of the file that gives added tokens their ids, and the one with the table of characters.
#[derive(Deserialize)]
struct Sections {
    #[serde(default)]
    added_tokens: Vec<AddedId>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
}

#[derive(Deserialize)]
struct AddedId {
    id: u32,
    content: String,
}

impl Inner {
    /// Parses the file so that every added token keeps the id in the file. tokenizers 0.23 renumbers those that are
    /// not in the model's vocabulary from its size on, which is wrong where the ids have a gap (o200k, Phi-4).
    ///
    /// # Errors
    /// `Decode`, with the name, when the bytes are not a tokenizer, or one that the library breaks off on.
    pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let not_one = |error: &dyn fmt::Display| error!(Decode, "`{name}` is not a tokenizer.json: {error}");
        let read = |bytes: &[u8]| {
            let read = guard::catch(LIBRARY, || Library::from_bytes(bytes)).map_err(|failure| failure.error(&name))?;
            read.map_err(|error| not_one(&error))
        };
        let sections: serde_json::Result<Sections> = serde_json::from_slice(bytes);
        match &sections {
            Ok(sections) => sections.check(name)?,
            // The library breaks off on some of what is no JSON at all.
            Err(error) if error.is_syntax() || error.is_eof() => return Err(not_one(error)),
            Err(_) => {}
        }
        let mut library = read(bytes)?;
        // After the library's own message, which says more.
        let Sections { added_tokens, .. } = sections.map_err(|error| not_one(&error))?;
        let moved = |library: &Library| {
            let has_moved = |token: &&AddedId| library.token_to_id(&token.content) != Some(token.id);
            added_tokens.iter().find(has_moved).map(|token| token.id)
        };
        if moved(&library).is_some() {
            let mut json: Value = serde_json::from_slice(bytes).map_err(|error| not_one(&error))?;
            if let Some(vocab) = json.pointer_mut("/model/vocab").and_then(Value::as_object_mut) {
                for token in &added_tokens {
                    vocab.entry(&token.content).or_insert_with(|| token.id.into());
                }
            }
            library = read(json.to_string().as_bytes())?;
        }
        if let Some(id) = moved(&library) {
            bail!(Decode, "tokenizer `{name}`: the added token {id} does not keep its id");
        }
        // transformers overrides the file's truncation and padding on every call.
        library.with_padding(None);
        let plain = guard::catch(LIBRARY, || library.with_truncation(None).map(|_| ()));
        plain
            .map_err(|failure| failure.error(&name))?
            .map_err(|error| error!(Decode, "tokenizer `{name}`: {error}"))?;
        Ok(Inner { library, name: name.to_string() })
    }

    /// The ids of a text, each with the byte range it came from; `special` says whether the post-processor adds tokens.
    ///
    /// # Errors
    /// `Data` with what the library says, `Decode` where it breaks off.
    pub(super) fn encode(&self, text: &str, special: bool) -> Result<Vec<(u32, Range<usize>)>> {
        let encoded = self.call(|library| library.encode(text, special))?.map_err(|error| self.failed(&error))?;
        let ranges = encoded.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoded.get_ids().iter().copied().zip(ranges).collect())
    }

    /// The text of ids, special tokens left out.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String> {
        self.call(|library| library.decode(ids, true))?.map_err(|error| self.failed(&error))
    }

    /// The number of tokens, added ones included.
    pub(super) fn size(&self) -> usize {
        self.look(|library| library.get_vocab_size(true)).unwrap_or_default()
    }

    /// The id of a token.
    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.look(|library| library.token_to_id(token)).ok().flatten()
    }

    /// A token as it is written in the vocabulary.
    pub(super) fn token(&self, id: u32) -> Option<String> {
        self.look(|library| library.id_to_token(id)).ok().flatten()
    }

    /// The added tokens by their ids.
    ///
    /// # Errors
    /// `Decode` where the library breaks off.
    pub(super) fn added(&self) -> Result<HashMap<u32, AddedFlags>> {
        let flags = |token: AddedToken| AddedFlags { lstrip: token.lstrip, rstrip: token.rstrip };
        let added = self.call(|library| library.get_added_tokens_decoder())?;
        Ok(added.into_iter().map(|(id, token)| (id, flags(token))).collect())
    }

    /// The token that the post-processor adds before a text (not those after it, such as T5's `</s>`).
    ///
    /// # Errors
    /// `Decode` where the library fails on a letter.
    pub(super) fn prefix(&self) -> Result<Option<u32>> {
        let ids = |special| {
            let spans = self.encode("a", special).map_err(|error| error.with_kind(crate::error::Kind::Decode))?;
            Ok::<_, Error>(spans.into_iter().map(|(id, _)| id).collect::<Vec<_>>())
        };
        let (with, without) = (ids(true)?, ids(false)?);
        let bare = without.is_empty() || with.starts_with(&without);
        Ok(if bare { None } else { with.first().copied() })
    }

    /// The tokenizer for text from data: without post-processing (offsets stay untrimmed), special tokens not recognized.
    ///
    /// # Errors
    /// `Decode` where the library breaks off.
    pub(super) fn plain(&self) -> Result<Self> {
        self.changed(|plain| {
            plain.with_post_processor(None::<PostProcessorWrapper>);
            plain.set_encode_special_tokens(true);
            // Some files do not flag their role markers as special (DeepSeek's `<|User|>` with full-width bars).
            let added = plain.get_added_tokens_decoder().into_values();
            let markers = added.filter(|token| !token.special && is_marker(&token.content));
            let markers: Vec<_> = markers.map(|token| AddedToken { special: true, ..token }).collect();
            // Re-flagging an existing token only fails when a normalizer does, and markers are not normalized.
            let _ = plain.add_special_tokens(markers);
        })
    }

    /// The same tokenizer without a prefix space, if it puts one before the first section only.
    ///
    /// # Errors
    /// `Decode` where the library breaks off.
    pub(super) fn without_prefix(&self) -> Result<Option<Self>> {
        let Some(PreTokenizerWrapper::Metaspace(metaspace)) = self.library.get_pre_tokenizer() else { return Ok(None) };
        if metaspace.get_prepend_scheme() != PrependScheme::First {
            return Ok(None);
        }
        let mut metaspace = metaspace.clone();
        metaspace.set_prepend_scheme(PrependScheme::Never);
        let changed = self.changed(|next| {
            next.with_pre_tokenizer(Some(metaspace));
        });
        changed.map(Some)
    }

    /// A copy with a change.
    fn changed(&self, change: impl FnOnce(&mut Library)) -> Result<Self> {
        let library = self.call(|library| {
            let mut copy = library.clone();
            change(&mut copy);
            copy
        })?;
        Ok(Inner { library, name: self.name.clone() })
    }

    /// Every call goes through here.
    fn look<T>(&self, call: impl FnOnce(&Library) -> T) -> std::result::Result<T, Failure> {
        guard::catch(LIBRARY, || call(&self.library))
    }

    fn call<T>(&self, call: impl FnOnce(&Library) -> T) -> Result<T> {
        self.look(call).map_err(|failure| failure.error(&format_args!("tokenizer {}", self.name)))
    }

    fn failed(&self, error: &dyn fmt::Display) -> Error {
        error!(Data, "tokenizer `{}`: {error}", self.name)
    }
}

impl Sections {
    /// Refuses numbers that no tokenizer has and that memory would be taken for: here, or where a row of the embedding is
    /// made for every id.
    fn check(&self, name: &str) -> Result<()> {
        for token in &self.added_tokens {
            let what = format!("as the id of the token `{:.40}`", token.content);
            guard::check(&name, &what, u64::from(token.id), LARGEST_ID)?;
        }
        check_charsmaps(&self.normalizer, name)?;
        let growth = growth(&self.normalizer).saturating_mul(growth(&self.pre_tokenizer));
        guard::check(&name, "bytes that its normalizer and pre-tokenizer make of one", growth, LARGEST_GROWTH)
    }
}

/// How many bytes a step, and all steps in it, may make of one.
fn growth(step: &Value) -> u64 {
    match step {
        Value::Array(steps) => steps.iter().map(growth).fold(1, u64::saturating_mul),
        Value::Object(map) => {
            let own = match map.get("type").and_then(Value::as_str) {
                Some("ByteLevel") => 2,
                Some("Replace") => {
                    map.get("content").and_then(Value::as_str).map_or(1, |text| text.len().max(1) as u64)
                }
                _ => 1,
            };
            map.values().map(growth).fold(own, u64::saturating_mul)
        }
        _ => 1,
    }
}

/// A table of characters begins with its own size, which spm_precompiled 0.1 takes memory for.
fn check_charsmaps(normalizer: &Value, name: &str) -> Result<()> {
    match normalizer {
        Value::Array(steps) => steps.iter().try_for_each(|step| check_charsmaps(step, name)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value.as_str() {
            Some(text) if key == CHARSMAP => check_charsmap(text, name),
            _ => check_charsmaps(value, name),
        }),
        _ => Ok(()),
    }
}

fn check_charsmap(text: &str, name: &str) -> Result<()> {
    // Eight characters of base64 are six bytes. What is not base64 the library reports.
    let head = text.get(..8).and_then(|head| STANDARD.decode(head).ok());
    let Some([a, b, c, d]) = head.as_deref().and_then(|head| head.first_chunk::<4>()).copied() else { return Ok(()) };
    let size = u64::from(u32::from_le_bytes([a, b, c, d]));
    guard::check(&name, &format!("bytes of `{CHARSMAP}`"), size, text.len() as u64 / 4 * 3)
}

fn is_marker(text: &str) -> bool {
    text.starts_with('<') && text.ends_with('>') && text.contains(['|', '\u{ff5c}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(normalizer: Value, id: u64) -> Vec<u8> {
        let flags = serde_json::json!({
            "id": id, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true
        });
        let model = serde_json::json!({ "type": "WordLevel", "vocab": { "a": 0, "<x>": id }, "unk_token": "a" });
        serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [flags], "normalizer": normalizer,
            "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn numbers_that_no_tokenizer_has_are_refused_before_the_library_sees_them() {
        let refused = |bytes: Vec<u8>| Inner::parse(&bytes, "x").err().unwrap().message();
        let id = refused(json(Value::Null, 4_000_000_000));
        assert_eq!(
            id,
            "`x` declares 4000000000 as the id of the token `<x>`, where 16777216 are the most there can be"
        );
        // A table of 12 bytes that says it has 4 GB, inside a sequence.
        let map = STANDARD.encode([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        let step = serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": map });
        let sequence = serde_json::json!({ "type": "Sequence", "normalizers": [step] });
        let table = refused(json(sequence, 1));
        assert_eq!(
            table,
            "`x` declares 4294967295 bytes of `precompiled_charsmap`, where 12 are the most there can be"
        );
        assert_eq!(Inner::parse(&json(Value::Null, 1), "x").unwrap().id("<x>"), Some(1));
        // Harmless as it is: it is refused before anything is encoded.
        let replaced =
            serde_json::json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "a".repeat(65) });
        let steps = serde_json::json!({ "type": "Sequence", "normalizers": [replaced, replaced] });
        let growth = refused(json(steps, 1));
        assert!(growth.contains("declares 4225 bytes that its normalizer and pre-tokenizer make of one"), "{growth}");
        let cut = refused(json(Value::Null, 1)[..90].to_vec());
        assert!(cut.starts_with("`x` is not a tokenizer.json: EOF while parsing"), "{cut}");
    }

    #[test]
    fn a_panic_while_encoding_is_an_error_with_the_tokenizers_name() {
        let inner = Inner::parse(&json(Value::Null, 1), "my-llm").unwrap();
        let error = inner.call(|_| -> usize { panic!("no entry found for key") }).unwrap_err();
        let text = error.message();
        assert!(text.starts_with("`tokenizer my-llm`: the library tokenizers broke off (inner.rs:"), "{text}");
        assert!(text.ends_with("no entry found for key"), "{text}");
        assert_eq!(inner.look(|_| -> usize { panic!("size") }).unwrap_or_default(), 0);
        assert_eq!(inner.encode("a", false).unwrap(), [(0, 0..1)]);
    }
}

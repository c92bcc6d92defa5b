//! The tokenizer: a Hugging Face `tokenizer.json`, used as that file says; other formats are converted to one first. A second
//! inner tokenizer encodes text from data, in which the text of a special token is plain text.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::declared::Declared;
use super::inner::{AddedFlags, Inner};
use super::vocabulary::Ends;
use super::{sentencepiece, tiktoken};
use crate::assets::refuse_pointer;
use crate::error::{Context, Error, Result};
use crate::notes::Notes;
use crate::weights::Gguf;
use crate::{bail, error};

/// A tokenizer; clones share everything.
#[derive(Clone)]
pub struct Tokenizer {
    parts: Arc<TokenizerParts>,
    /// Rows of the embedding it is for; some of them may have no token.
    rows: usize,
    /// What people should know about the opened file.
    notes: Notes,
}

struct TokenizerParts {
    name: String,
    json: Vec<u8>,
    inner: Inner,
    /// Created on first use: scripts that only encode and decode never need it.
    plain: OnceLock<Plain>,
    added: HashMap<u32, AddedFlags>,
    bos: Option<u32>,
}

/// The tokenizers for text from data.
struct Plain {
    first: Inner,
    /// For text that follows a special token, where that differs: the prefix space of newer sentencepiece
    /// conversions is added to the first section only.
    next: Option<Inner>,
}

/// Token ids with the byte range of the text each came from.
pub(super) type Spans = Vec<(u32, std::ops::Range<usize>)>;

impl Tokenizer {
    /// Opens a `tokenizer.json`, a `tokenizer.model` (SentencePiece or tiktoken) or a GGUF file, or the first of
    /// these two in a folder; the name is the folder's.
    ///
    /// # Errors
    /// `Missing` when there is no such file, `Decode` when it is not a tokenizer.
    pub fn open(path: &Path) -> Result<Self> {
        let model = path.join("tokenizer.model");
        let file = match path.is_dir() {
            true if model.is_file() && !path.join("tokenizer.json").is_file() => model,
            true => path.join("tokenizer.json"),
            false => path.to_path_buf(),
        };
        let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = folder.unwrap_or_else(|| "tokenizer.json".to_string());
        if file.extension().is_some_and(|extension| extension == "gguf") {
            let (gguf, notes) = (Gguf::open(&file)?, Notes::default());
            let rows = gguf.texts("tokenizer.ggml.tokens")?.map_or(0, |tokens| tokens.len());
            let tokenizer = Self::from_bytes(&super::gguf::tokenizer_json(&gguf, &notes)?, &name)?.with_rows(rows);
            tokenizer.notes.extend(&notes);
            return Ok(tokenizer);
        }
        let mut bytes = crate::fs::read(&file).map_err(|error| {
            Error::file(&file, error).help("a tokenizer is a `tokenizer.json` file or a folder that holds one")
        })?;
        refuse_pointer(&file, &bytes)?;
        let (declared, notes) = (Declared::beside(&file)?, Notes::default());
        let is_model = file.extension().is_some_and(|extension| extension == "model");
        if is_model {
            let json = from_model(&bytes, &declared, &notes, &file).context(|| format!("`{}`", file.display()))?;
            bytes = json.to_string().into_bytes();
        }
        // A model's own normalization would change the tokens that are looked for.
        if let Some(whole) = declared.apply(&bytes, is_model, &notes)? {
            bytes = whole;
        }
        let opened = Self::from_bytes(&bytes, &name)?;
        let rows = declared.rows().unwrap_or_default();
        Ok(Tokenizer { notes, ..opened }.with_rows(rows))
    }

    /// Reads the bytes of a `tokenizer.json`; `name` is for messages.
    ///
    /// # Errors
    /// `Decode` when the bytes are not a tokenizer.
    pub fn from_bytes(bytes: &[u8], name: &str) -> Result<Self> {
        let inner = Inner::parse(bytes, name)?;
        let (added, bos) = (inner.added()?, inner.prefix()?);
        let (name, json) = (name.to_string(), bytes.to_vec());
        let (plain, notes) = (OnceLock::new(), Notes::default());
        let parts = Arc::new(TokenizerParts { name, json, inner, plain, added, bos });
        Ok(Tokenizer { parts, rows: 0, notes })
    }

    /// The same for an embedding with this many rows: a row without a token is not an error, it has no text.
    pub fn with_rows(self, rows: usize) -> Self {
        Tokenizer { rows, ..self }
    }

    /// What people should know about the opened file.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The name used in messages.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// The exact bytes of the file, for saving.
    pub fn json(&self) -> &[u8] {
        &self.parts.json
    }

    /// The ids of a text as the file says: its post-processor decides about a BOS, and the text of a special
    /// token becomes that token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.parts.inner.encode(text, true)?.into_iter().map(|(id, _)| id).collect())
    }

    /// The text of ids without special tokens and rows of the embedding without a token.
    ///
    /// # Errors
    /// `Data` for an id that neither the vocabulary nor the embedding has.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let unknown = |id: &&u32| **id as usize >= self.rows && self.parts.inner.token(**id).is_none();
        if let Some(id) = ids.iter().find(unknown) {
            bail!(Data, "tokenizer `{}` has no token {id}; its vocabulary has {}", self.name(), self.vocab());
        }
        self.parts.inner.decode(ids)
    }

    /// The number of tokens, added ones included.
    pub fn vocab(&self) -> usize {
        self.parts.inner.size()
    }

    /// The id of a token given by its text.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.parts.inner.id(token)
    }

    /// A token as it is written in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.parts.inner.token(id)
    }

    /// Whether the embedding has a row for a token; assumed where the number of rows is not known.
    pub(super) fn has_row(&self, id: u32) -> bool {
        self.rows == 0 || (id as usize) < self.rows
    }

    /// The token that the post-processor puts in front of every text, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.parts.bos
    }

    /// The ids of text from data with their byte ranges: no BOS, the text of a special token is plain text. `follows` says
    /// that a special token directly precedes it.
    pub(super) fn encode_plain(&self, text: &str, follows: bool) -> Result<Spans> {
        let plain = match self.parts.plain.get() {
            Some(plain) => plain,
            None => {
                let first = self.parts.inner.plain()?;
                let next = first.without_prefix()?;
                self.parts.plain.get_or_init(|| Plain { first, next })
            }
        };
        plain.next.as_ref().filter(|_| follows).unwrap_or(&plain.first).encode(text, false)
    }

    /// Whether a special token strips the white space to its left and to its right.
    pub(super) fn strips(&self, id: u32) -> (bool, bool) {
        self.parts.added.get(&id).map_or((false, false), |token| (token.lstrip, token.rstrip))
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({}, {})", self.name(), self.vocab())
    }
}

/// A `tokenizer.model` as a tokenizer.json. SentencePiece's file does not say whether a BOS is added, nor how the text
/// after a special token is encoded; `tokenizer_config.json` beside it does.
/// Source: transformers 5.24.0, `tokenization_llama.py` and `build_tokenizer_from_spm_proto`.
fn from_model(bytes: &[u8], declared: &Declared, notes: &Notes, file: &Path) -> Result<Value> {
    // A protobuf begins with its first piece, field 1.
    if bytes.first() != Some(&0x0a) {
        return tiktoken::tokenizer_json(bytes);
    }
    let model = sentencepiece::parse(bytes)?;
    let class = declared.text("tokenizer_class").unwrap_or_default();
    let llama = class.trim_end_matches("Fast") == "LlamaTokenizer";
    let end = |key: &str, id: Option<usize>| -> Result<Option<(usize, String)>> {
        let known = |text: &str| {
            let piece = model.pieces.iter().position(|piece| piece.text == text);
            piece.or_else(|| declared.id(text).map(|id| id as usize))
        };
        match declared.text(key) {
            None => Ok(id.and_then(|id| Some((id, model.pieces.get(id)?.text.clone())))),
            Some(text) => match known(&text) {
                Some(id) => Ok(Some((id, text))),
                None => {
                    Err(error!(Decode, "`{key}` is `{text}`, which is neither a piece nor in `added_tokens_decoder`"))
                }
            },
        }
    };
    let add_bos = match declared.flag("add_bos_token") {
        Some(add) => add,
        None if model.bos.is_none() => false,
        None => {
            let add = !declared.is_modern();
            let (does, other) = if add { ("adds it", "5 does not") } else { ("adds none", "4 does") };
            notes.add(format!(
                "`{}`: no `add_bos_token` in tokenizer_config.json says whether a BOS is added: llmore {does}, as the version \
                 of transformers that wrote config.json (4 where that is unknown); version {other}",
                file.display()
            ));
            add
        }
    };
    let first = if add_bos { end("bos_token", model.bos)? } else { None };
    let last = if declared.flag("add_eos_token") == Some(true) { end("eos_token", model.eos)? } else { None };
    fn borrowed(end: &Option<(usize, String)>) -> Option<(usize, &str)> {
        end.as_ref().map(|(id, text)| (*id, text.as_str()))
    }
    let mut json = sentencepiece::with_ends(&model, &Ends { first: borrowed(&first), last: borrowed(&last) })?;
    let legacy = declared.flag("legacy").unwrap_or(!llama);
    if model.prefix_space && (llama || !legacy) {
        sentencepiece::use_metaspace(&mut json, !legacy);
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Tokenizer {
        Tokenizer::open(Path::new("tests/fixtures/training/checkpoint")).unwrap()
    }

    #[test]
    fn the_file_decides_about_bos_and_special_text() {
        let t = small();
        let bos = t.token_id("<|begin_of_text|>").unwrap();
        let eot = t.token_id("<|eot_id|>").unwrap();
        assert_eq!(t.bos(), Some(bos));
        let ids = t.encode("yes<|eot_id|>").unwrap();
        assert_eq!((ids.first(), ids.last()), (Some(&bos), Some(&eot)));
        assert_eq!(t.decode(&ids).unwrap(), "yes");
        assert_eq!(t.vocab(), 288);
        assert_eq!(t.name(), "checkpoint");
    }

    #[test]
    fn data_never_makes_a_special_token() {
        let t = small();
        let text = "say <|eot_id|> twice";
        let spans = t.encode_plain(text, false).unwrap();
        assert!(spans.iter().all(|(id, _)| *id < 281), "a special token in {spans:?}");
        let ids: Vec<u32> = spans.iter().map(|(id, _)| *id).collect();
        assert_eq!(t.decode(&ids).unwrap(), text);
    }

    #[test]
    fn added_tokens_keep_the_ids_of_the_file() {
        let mut json: Value = serde_json::from_slice(small().json()).unwrap();
        for token in json["added_tokens"].as_array_mut().unwrap() {
            token["id"] = (token["id"].as_u64().unwrap() + 100).into();
        }
        json["post_processor"] = Value::Null;
        let t = Tokenizer::from_bytes(json.to_string().as_bytes(), "gap").unwrap();
        assert_eq!(t.token_id("<|eot_id|>"), Some(387));
        assert_eq!(t.encode("<|eot_id|>").unwrap(), [387]);
        assert_eq!(t.bos(), None);
        assert_eq!(t.vocab(), 288);
    }

    #[test]
    fn what_is_not_a_tokenizer_is_named() {
        let error = Tokenizer::from_bytes(b"{}", "my-llm").unwrap_err();
        assert!(error.message().contains("`my-llm` is not a tokenizer.json"), "{error}");
        let error = Tokenizer::open(Path::new("tests/no-such-folder")).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Missing);
        let t = small();
        assert!(t.decode(&[99_999]).unwrap_err().message().contains("no token 99999"));
    }
}

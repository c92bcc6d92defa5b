//! Writes the parts of a tokenizer.json for vocabularies that come in other files: byte-level BPE, BOS and EOS, special
//! tokens, and the patterns that split text before BPE, under the names llama.cpp gives them.

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// A token that is split off the text before anything else processes it.
pub(super) struct Added<'a> {
    pub id: usize,
    pub content: &'a str,
    pub special: bool,
}

/// The tokens added around every text.
#[derive(Default)]
pub(super) struct Ends<'a> {
    pub first: Option<(usize, &'a str)>,
    pub last: Option<(usize, &'a str)>,
}

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The rule that splits text before byte-level BPE.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cut {
    Gpt2,
    /// Every digit alone, then as in GPT-2.
    Digits,
    Llama3,
    /// `nfc`: normalized to composed characters (NFC) first.
    Qwen2 {
        nfc: bool,
    },
    O200k,
}

/// llama.cpp's `tokenizer.ggml.pre`.
const CUTS: [(&str, Cut); 13] = [
    ("default", Cut::Gpt2),
    ("gpt-2", Cut::Gpt2),
    ("smollm", Cut::Digits),
    ("starcoder", Cut::Digits),
    ("refact", Cut::Digits),
    ("command-r", Cut::Digits),
    ("llama-bpe", Cut::Llama3),
    ("llama3", Cut::Llama3),
    ("llama-v3", Cut::Llama3),
    ("smaug-bpe", Cut::Llama3),
    ("qwen2", Cut::Qwen2 { nfc: true }),
    ("deepseek-r1-qwen", Cut::Qwen2 { nfc: false }),
    ("gpt-4o", Cut::O200k),
];

impl Cut {
    pub(super) fn named(name: &str) -> Result<Self> {
        let known: Vec<_> = CUTS.iter().map(|(name, _)| *name).collect();
        let found = CUTS.iter().find(|(known, _)| *known == name).map(|(_, cut)| *cut);
        found.ok_or_else(|| Error::unknown("pre-tokenizer", name, &known, ""))
    }

    fn pre_tokenizer(self) -> Value {
        let bytes =
            |regex| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
        let split = |pattern: &str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let sequence = |first: Value, second: Value| json!({ "type": "Sequence", "pretokenizers": [first, second] });
        match self {
            Cut::Gpt2 => bytes(true),
            Cut::Digits => sequence(json!({ "type": "Digits", "individual_digits": true }), bytes(true)),
            Cut::Llama3 => sequence(split(LLAMA_3), bytes(false)),
            Cut::Qwen2 { .. } => sequence(split(QWEN_2), bytes(false)),
            Cut::O200k => sequence(split(O200K), bytes(false)),
        }
    }

    fn normalizer(self) -> Value {
        if self == (Cut::Qwen2 { nfc: true }) { json!({ "type": "NFC" }) } else { Value::Null }
    }
}

/// A byte-level BPE tokenizer. With `whole`, a word that is in the vocabulary becomes that token without merges (tiktoken).
pub(super) fn byte_level(
    vocab: Value,
    merges: Vec<Value>,
    added: &[Added],
    ends: &Ends,
    cut: Cut,
    whole: bool,
) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(added),
        "normalizer": cut.normalizer(),
        "pre_tokenizer": cut.pre_tokenizer(),
        "post_processor": post_processor(ends, true),
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole,
            "vocab": vocab, "merges": merges,
        },
    })
}

/// The list of added tokens.
pub(super) fn added_tokens(added: &[Added]) -> Value {
    let token = |token: &Added| {
        json!({
            "id": token.id, "content": token.content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": token.special,
        })
    };
    added.iter().map(token).collect()
}

/// Adds BOS and EOS where there are any.
pub(super) fn post_processor(ends: &Ends, byte_level: bool) -> Value {
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    let template = match (ends.first, ends.last) {
        (None, None) => None,
        (first, last) => {
            let side = |name: &str, kind: usize| {
                let special = |(_, token): (usize, &str)| json!({ "SpecialToken": { "id": token, "type_id": kind } });
                let text = json!({ "Sequence": { "id": name, "type_id": kind } });
                [first.map(special), Some(text), last.map(special)].into_iter().flatten().collect::<Vec<_>>()
            };
            let tokens: serde_json::Map<_, _> = [first, last]
                .into_iter()
                .flatten()
                .map(|(id, token)| (token.to_string(), json!({ "id": token, "ids": [id], "tokens": [token] })))
                .collect();
            let pair: Vec<Value> = side("A", 0).into_iter().chain(side("B", 1)).collect();
            Some(
                json!({ "type": "TemplateProcessing", "single": side("A", 0), "pair": pair, "special_tokens": tokens }),
            )
        }
    };
    match (byte_level, template) {
        (true, None) => bytes,
        (true, Some(template)) => json!({ "type": "Sequence", "processors": [bytes, template] }),
        (false, template) => template.unwrap_or(Value::Null),
    }
}

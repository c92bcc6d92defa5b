//! Tokenizers in all their files: what opens encodes, renders and decodes texts of all kinds.

use std::path::Path;

use llmore::preset::Presets;
use llmore::text::{Template, Tokenizer, Turn};
use serde_json::json;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Read, Reader, Seed, file, seeds};

pub const JSON: Reader = Reader {
    name: "tokenizer",
    seeds: || seeds("tokenizer.json", Frame::Json, tokenizers()),
    words: WORDS,
    open: |folder| alone(folder),
};

pub const SENTENCEPIECE: Reader = Reader {
    name: "sentencepiece",
    seeds: || seeds("tokenizer.model", Frame::Bytes, vec![pieces(1), pieces(2), pieces(2)]),
    words: &["<unk>", "<s>", "</s>", "<0x0A>", "\u{2581}", "\u{e9}"],
    open: |folder| alone(folder),
};

pub const TIKTOKEN: Reader = Reader {
    name: "tiktoken",
    seeds: || seeds("tokenizer.model", Frame::Bytes, vec![ranks(300), ranks(3)]),
    words: &["IQ== 0\n", "IQ==", "=", " ", "\n", "AAAAAAAA"],
    open: |folder| alone(folder),
};

pub const DECLARED: Reader = Reader {
    name: "declared",
    seeds: declared,
    words: &[
        "added_tokens_decoder",
        "bos_token",
        "eos_token",
        "pad_token",
        "content",
        "lstrip",
        "rstrip",
        "normalized",
        "special",
        "single_word",
        "extra_special_tokens",
        "additional_special_tokens",
        "add_bos_token",
        "legacy",
        "tokenizer_class",
        "LlamaTokenizer",
        "GPT2Tokenizer",
        "vocab_size",
        "transformers_version",
        "<s>",
        "a",
        "0",
        "47",
    ],
    open: |folder| {
        std::fs::write(folder.join("tokenizer.json"), &tokenizers()[1]).unwrap();
        let folder = folder.to_path_buf();
        Box::new(move |input| {
            let path = input.write(folder.join(&input.kind));
            let read = opens(&folder);
            std::fs::remove_file(path).unwrap();
            read
        })
    },
};

const WORDS: &[&str] = &[
    "BPE",
    "Unigram",
    "WordPiece",
    "WordLevel",
    "ByteLevel",
    "Metaspace",
    "Split",
    "Sequence",
    "Replace",
    "Regex",
    "String",
    "Precompiled",
    "precompiled_charsmap",
    "TemplateProcessing",
    "ByteFallback",
    "Fuse",
    "Strip",
    "Digits",
    "type",
    "pattern",
    "vocab",
    "merges",
    "unk_token",
    "unk_id",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "byte_fallback",
    "ignore_merges",
    "fuse_unk",
    "dropout",
    "max_input_chars_per_word",
    "add_prefix_space",
    "prepend_scheme",
    "first",
    "replacement",
    "\u{2581}",
    "\u{120}",
    "special_tokens",
    "SpecialToken",
    "ids",
    "tokens",
    "single",
    "pair",
    "normalizer",
    "NFC",
    "NFKC",
    "Lowercase",
    "Prepend",
    "BertNormalizer",
    "RobertaProcessing",
    "BertProcessing",
    "CTC",
    "truncation",
    "padding",
    "Fixed",
    "max_length",
    "stride",
    "strategy",
    "direction",
    "behavior",
    "invert",
    "Isolated",
    "Removed",
    "(a*)*b",
    "\\p{L}+",
    "[^",
    "a{1000}",
    "content",
    "id",
    "lstrip",
    "single_word",
    "cls",
    "sep",
    "trim_offsets",
    "use_regex",
    "a",
    "b",
];

fn alone(folder: &Path) -> Read {
    let folder = folder.to_path_buf();
    Box::new(move |input| {
        input.write(folder.join(&input.kind));
        opens(&folder)
    })
}

const TEXTS: [&str; 9] = [
    "",
    "a",
    "ab  ba\n\nw1 3.14",
    " caf\u{e9} \u{1f600}\u{200d}\u{fffd}\0",
    "<s>ab</s><unk><|eot_id|>",
    "\u{4f60}\u{597d}\u{2581}a\u{130}\u{fb01}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "e\u{301}\u{301}\u{301} A\u{308}",
    "\r\n\t ",
];

thread_local! {
    /// The template without marks: everything in it is text.
    static PLAIN: Template = Template::load(&Presets::default(), "v1").unwrap();
}

/// Encodes, renders and decodes. A tokenizer may refuse a text, as one does that knows no token for what it does not know.
pub fn used(tokenizer: &Tokenizer) {
    for text in TEXTS {
        let ids = tokenizer.encode(text).unwrap_or_default();
        let _ = tokenizer.decode(&ids);
        ids.iter().for_each(|id| drop(tokenizer.decode(&[*id])));
    }
    let _ = (tokenizer.decode(&[0, 1, u32::MAX]), tokenizer.token(7), tokenizer.token_id("a"), tokenizer.vocab());
    let turns = [Turn::human(TEXTS[4]), Turn::gpt(TEXTS[3]), Turn::human(TEXTS[2]), Turn::gpt("a")];
    let _ = PLAIN.with(|template| template.render(tokenizer, &turns));
}

/// Opens a tokenizer and uses it: whether it opens.
pub fn opens(path: &Path) -> bool {
    Tokenizer::open(path).map(|tokenizer| used(&tokenizer)).is_ok()
}

/// A byte-level BPE, a BPE with byte fallback, a unigram model, a word piece model, and a list of words.
fn tokenizers() -> Vec<Vec<u8>> {
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": true, "normalized": false, "special": true});
    let ends = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}});
    let bytes = json!({
        "version": "1.0",
        "added_tokens": [token(0, "<s>"), token(1, "<|eot_id|>")],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}, ends]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
            "vocab": {"<s>": 0, "<|eot_id|>": 1, "a": 2, "b": 3, "ab": 4, "\u{120}": 5, "\u{120}a": 6, "w": 7, "1": 8}, "merges": [["a", "b"], ["\u{120}", "a"]]},
    });
    let fallback = json!({
        "version": "1.0",
        "added_tokens": [token(0, "<unk>"), token(1, "<s>"), token(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "<0xC3>": 4, "<0xA9>": 5, "\u{2581}": 6, "a": 7, "b": 8, "ab": 9, "\u{2581}a": 10}, "merges": ["a b", "\u{2581} a"]},
    });
    let unigram = json!({
        "version": "1.0",
        "added_tokens": [token(0, "<unk>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": true, "strip_right": true}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "post_processor": null,
        "decoder": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["\u{2581}", -2.0], ["a", -1.5], ["b", -1.75], ["ab", -0.5], ["\u{2581}a", -0.25]]},
    });
    let word_piece = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["b", 2], "cls": ["a", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "b": 2, "##b": 3, "##a": 4}},
    });
    let words = file("tests/fixtures/parity/families/tokenizer.json");
    vec![
        bytes.to_string().into(),
        fallback.to_string().into(),
        unigram.to_string().into(),
        word_piece.to_string().into(),
        words,
    ]
}

/// A tokenizer.model of this kind: 1 is unigram, 2 BPE.
fn pieces(kind: u8) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
    let all = [
        ("<unk>", 2),
        ("<s>", 3),
        ("</s>", 3),
        ("<0x0A>", 6),
        ("<0xC3>", 6),
        ("\u{2581}", 1),
        ("a", 1),
        ("b", 1),
        ("ab", 1),
        ("\u{2581}a", 4),
    ];
    let mut out = Vec::new();
    for (number, (text, kind)) in all.into_iter().enumerate() {
        let score = (-(number as f32)).to_le_bytes();
        let piece = [field(0x0a, text.as_bytes()), [&[0x15], &score[..]].concat(), vec![0x18, kind]].concat();
        out.extend(field(0x0a, &piece));
    }
    // The kind, and the ids of BOS and EOS, fields 41 and 42.
    out.extend(field(0x12, &[0x18, kind, 0xc8, 0x02, 1, 0xd0, 0x02, 2]));
    out.extend(field(0x1a, &[0x18, 1, 0x20, 1, 0x28, 1]));
    out
}

/// A vocabulary of tiktoken: all bytes, then pairs of them.
fn ranks(count: usize) -> Vec<u8> {
    use base64::Engine;
    let encode = |token: &[u8]| base64::engine::general_purpose::STANDARD.encode(token);
    let token = |rank: usize| if rank < 256 { vec![rank as u8] } else { vec![b'a', rank as u8] };
    (0..count).map(|rank| format!("{} {rank}\n", encode(&token(rank)))).collect::<String>().into_bytes()
}

fn declared() -> Vec<Seed> {
    let config = json!({
        "add_bos_token": true, "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false},
        "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "11": {"content": "<image>", "lstrip": true, "normalized": true, "rstrip": false, "single_word": true, "special": false}},
        "additional_special_tokens": ["<x>"], "model_max_length": 1e30, "tokenizer_class": "LlamaTokenizer", "chat_template": "{% for m in messages %}{{ m }}{% endfor %}",
    });
    let map = json!({"bos_token": {"content": "<s>", "lstrip": false}, "pad_token": "<pad>", "additional_special_tokens": ["<y>", {"content": "<z>"}]});
    let one = |kind: &str, bytes: Vec<u8>| Seed { kind: kind.to_string(), bytes, frame: Frame::Json };
    vec![
        one("tokenizer_config.json", config.to_string().into()),
        one("tokenizer_config.json", file("tests/fixtures/parity/models/clip-llama/tokenizer_config.json")),
        one("special_tokens_map.json", map.to_string().into()),
        one("added_tokens.json", json!({"<image>": 11, "<pad>": 12}).to_string().into()),
        one(
            "config.json",
            json!({"vocab_size": 13, "transformers_version": "4.40.0", "model_type": "llama"}).to_string().into(),
        ),
    ]
}

//! SentencePiece models as a tokenizer.json: the pieces of a `tokenizer.model` (protobuf) or of a GGUF file, BPE by
//! scores or unigram, spaces as U+2581, bytes for what no piece covers.
//! Source: sentencepiece's `sentencepiece_model.proto`; the order of merges is that of transformers 4.49.0,
//! `convert_slow_tokenizer.py`.

use std::cmp::Ordering;
use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::vocabulary::{Added, Ends, added_tokens, post_processor};
use crate::error::Result;
use crate::{bail, error};

const SPACE: &str = "\u{2581}";
/// The largest number of bytes of a piece; longer ones are refused as damaged.
const LONGEST_PIECE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// The number in a model, which GGUF took over.
    pub(super) fn numbered(number: u64) -> Option<Self> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

pub(super) struct Piece {
    pub text: String,
    pub score: f64,
    pub kind: Kind,
}

/// A model: its pieces by id, and its normalization of text.
pub(super) struct Model {
    pub pieces: Vec<Piece>,
    pub unigram: bool,
    /// Whether a space is put in front of the text.
    pub prefix_space: bool,
    /// Whether spaces at the ends are removed and several become one.
    pub trim: bool,
    /// The compiled character map.
    pub charsmap: Vec<u8>,
    pub bos: Option<usize>,
    pub eos: Option<usize>,
}

/// The tokenizer.json of a model, and which of BOS and EOS it adds.
pub(super) fn tokenizer_json(model: &Model, add: (bool, bool)) -> Result<Value> {
    let end = |wanted: bool, id: Option<usize>| {
        let id = id.filter(|_| wanted)?;
        Some((id, model.pieces.get(id)?.text.as_str()))
    };
    with_ends(model, &Ends { first: end(add.0, model.bos), last: end(add.1, model.eos) })
}

/// The tokenizer.json of a model, with the BOS and EOS around every text.
pub(super) fn with_ends(model: &Model, ends: &Ends) -> Result<Value> {
    if let Some(id) = model.pieces.iter().position(|piece| piece.text.len() > LONGEST_PIECE) {
        bail!(
            Decode,
            "piece {id} has {} bytes, more than the {LONGEST_PIECE} of any word",
            model.pieces[id].text.len()
        );
    }
    let Some(unknown) = model.pieces.iter().position(|piece| piece.kind == Kind::Unknown) else {
        bail!(Decode, "it has no piece for unknown text");
    };
    let bytes = model.pieces.iter().any(|piece| piece.kind == Kind::Byte);
    let added: Vec<Added> = (0..)
        .zip(&model.pieces)
        .filter(|(_, piece)| matches!(piece.kind, Kind::Control | Kind::Unknown | Kind::UserDefined))
        .map(|(id, piece)| Added { id, content: &piece.text, special: piece.kind != Kind::UserDefined })
        .collect();
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(&added),
        "normalizer": normalizer(model),
        "pre_tokenizer": null,
        "post_processor": post_processor(ends, false),
        "decoder": decoder(model.prefix_space),
        "model": if model.unigram { unigram(model, unknown, bytes) } else { bpe(model, unknown, bytes) },
    }))
}

/// Puts the space before a text as transformers' Metaspace does: not where the text begins with one and, with `first`, only
/// before the first section. Sentencepiece and llama.cpp put one before every section.
pub(super) fn use_metaspace(json: &mut Value, first: bool) {
    if let Some(steps) = json.pointer_mut("/normalizer/normalizers").and_then(Value::as_array_mut) {
        steps.retain(|step| step["type"] != "Prepend" && step["content"] != SPACE);
        if steps.is_empty() {
            json["normalizer"] = Value::Null;
        }
    }
    let scheme = if first { "first" } else { "always" };
    json["pre_tokenizer"] =
        json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": false });
}

fn normalizer(model: &Model) -> Value {
    let mut steps = Vec::new();
    if !model.charsmap.is_empty() {
        steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(&model.charsmap) }));
    }
    if model.trim {
        steps.push(json!({ "type": "Replace", "pattern": { "Regex": "^ +| +$" }, "content": "" }));
        steps.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
    }
    if model.prefix_space {
        steps.push(json!({ "type": "Prepend", "prepend": SPACE }));
    }
    steps.push(json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE }));
    json!({ "type": "Sequence", "normalizers": steps })
}

fn decoder(prefix_space: bool) -> Value {
    let mut steps = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix_space {
        steps.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

fn unigram(model: &Model, unknown: usize, bytes: bool) -> Value {
    let vocab: Vec<Value> = model.pieces.iter().map(|piece| json!([piece.text, piece.score])).collect();
    json!({ "type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": bytes })
}

fn bpe(model: &Model, unknown: usize, bytes: bool) -> Value {
    let vocab: Map<String, Value> =
        (0..).zip(&model.pieces).map(|(id, piece): (usize, _)| (piece.text.clone(), json!(id))).collect();
    json!({
        "type": "BPE", "dropout": null, "unk_token": model.pieces[unknown].text, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": bytes, "ignore_merges": false,
        "vocab": vocab, "merges": merges(&model.pieces),
    })
}

/// Every split of a piece into two others, best score first. Pieces that users defined come before all
/// others, as sentencepiece never splits them.
fn merges(pieces: &[Piece]) -> Vec<Value> {
    struct Merge<'a> {
        left: &'a str,
        right: &'a str,
        score: f64,
        lengths: (usize, usize),
    }
    let ids: HashMap<&str, usize> = pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
    let mut merges: Vec<Merge> = Vec::new();
    for piece in pieces.iter().filter(|piece| matches!(piece.kind, Kind::Normal | Kind::UserDefined | Kind::Unused)) {
        let score = if piece.kind == Kind::UserDefined { 0.0 } else { piece.score };
        let start = merges.len();
        let length = piece.text.chars().count();
        for (count, (at, _)) in piece.text.char_indices().enumerate().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push(Merge { left, right, score, lengths: (count, length - count) });
            }
        }
        merges[start..].sort_by_key(|merge| (ids.get(merge.left), ids.get(merge.right)));
    }
    let by_score = |a: &Merge, b: &Merge| b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
    merges.sort_by(|a, b| by_score(a, b).then_with(|| b.lengths.cmp(&a.lengths)));
    merges.iter().map(|merge| json!([merge.left, merge.right])).collect()
}

/// Reads the protobuf of a `tokenizer.model`.
///
/// # Errors
/// `Decode` where the bytes end early or a field has a wrong form.
pub(super) fn parse(bytes: &[u8]) -> Result<Model> {
    let mut model = Model {
        pieces: Vec::new(),
        unigram: true,
        prefix_space: true,
        trim: true,
        charsmap: Vec::new(),
        bos: Some(1),
        eos: Some(2),
    };
    let id = |number: u64| usize::try_from(number as i64 as i32).ok();
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
            (2, Field::Bytes(trainer)) => fields(trainer, |field, value| {
                match (field, value) {
                    (3, Field::Number(1)) => model.unigram = true,
                    (3, Field::Number(2)) => model.unigram = false,
                    (3, _) => bail!(Decode, "the model is neither BPE nor unigram"),
                    (41, Field::Number(number)) => model.bos = id(number),
                    (42, Field::Number(number)) => model.eos = id(number),
                    _ => (),
                }
                Ok(())
            })?,
            (3, Field::Bytes(normalizer)) => fields(normalizer, |field, value| {
                match (field, value) {
                    (2, Field::Bytes(map)) => model.charsmap = map.to_vec(),
                    (3, Field::Number(on)) => model.prefix_space = on != 0,
                    (4, Field::Number(on)) => model.trim = on != 0,
                    (5, Field::Number(0)) => bail!(Decode, "spaces are not escaped"),
                    _ => (),
                }
                Ok(())
            })?,
            _ => (),
        }
        Ok(())
    })?;
    if model.pieces.is_empty() {
        bail!(Decode, "no pieces");
    }
    Ok(model)
}

fn piece(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Kind::Normal };
    fields(bytes, |field, value| {
        match (field, value) {
            (1, Field::Bytes(text)) => {
                piece.text = std::str::from_utf8(text).map_err(|_| error!(Decode, "a piece is not UTF-8"))?.to_string();
            }
            (2, Field::Four(bits)) => piece.score = f64::from(f32::from_bits(bits)),
            (3, Field::Number(number)) => {
                piece.kind = Kind::numbered(number).ok_or_else(|| error!(Decode, "a piece of type {number}"))?;
            }
            _ => (),
        }
        Ok(())
    })?;
    Ok(piece)
}

/// The value of a protobuf field.
enum Field<'a> {
    Number(u64),
    Eight,
    Bytes(&'a [u8]),
    Four(u32),
}

fn fields<'a>(mut bytes: &'a [u8], mut take: impl FnMut(u64, Field<'a>) -> Result<()>) -> Result<()> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => {
                cut(&mut bytes, 8)?;
                Field::Eight
            }
            2 => {
                let length = varint(&mut bytes)?;
                Field::Bytes(cut(&mut bytes, length)?)
            }
            5 => {
                let mut four = [0u8; 4];
                four.copy_from_slice(cut(&mut bytes, 4)?);
                Field::Four(u32::from_le_bytes(four))
            }
            other => bail!(Decode, "a protobuf field of wire type {other}"),
        };
        take(tag >> 3, value)?;
    }
    Ok(())
}

fn cut<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
    let Some(length) = length else { bail!(Decode, "the file ends inside a field") };
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { bail!(Decode, "the file ends inside a number") };
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!(Decode, "a number of more than ten bytes")
}

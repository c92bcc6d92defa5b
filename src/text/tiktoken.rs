//! tiktoken vocabularies: lines of a base64 token and its rank. The file contains neither the pattern that splits text
//! nor the special tokens; the vocabulary is recognized by its number of tokens.
//! Source: llama-models 0.3.0, `llama3/tokenizer.py`; tiktoken 0.9, `tiktoken_ext/openai_public.py`.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::vocabulary::{Added, Cut, Ends, byte_level};
use crate::error::Result;
use crate::{bail, error};

/// The largest number of bytes of a token; longer ones are refused as damaged.
const LONGEST_TOKEN: usize = 1024;

/// The tokenizer.json of a tiktoken file.
///
/// # Errors
/// `Decode`, with the line, for a file of another form; `Missing` for a vocabulary of unknown size.
pub(super) fn tokenizer_json(bytes: &[u8]) -> Result<Value> {
    let tokens = parse(bytes)?;
    let count = tokens.len();
    let (cut, special, bos) = match count {
        128_000 => (Cut::Llama3, llama_3(), true),
        199_998 => {
            (Cut::O200k, vec![(199_999, "<|endoftext|>".to_string()), (200_018, "<|endofprompt|>".to_string())], false)
        }
        _ => {
            return Err(error!(Missing, "a tiktoken vocabulary of {count} tokens is not known")
                .help("known: Llama-3 with 128000, o200k with 199998"));
        }
    };
    let added: Vec<Added> = special.iter().map(|(id, content)| Added { id: *id, content, special: true }).collect();
    let first = special.first().filter(|_| bos).map(|(id, token)| (*id, token.as_str()));
    let ends = Ends { first, last: None };
    let visible = visible_bytes();
    let show = |token: &[u8]| token.iter().map(|byte| visible[usize::from(*byte)]).collect::<String>();
    let vocab: Map<String, Value> =
        (0..).zip(&tokens).map(|(id, token): (usize, _)| (show(token), json!(id))).collect();
    let merges = merges(&tokens).into_iter().map(|(left, right)| json!([show(left), show(right)])).collect();
    Ok(byte_level(Value::Object(vocab), merges, &added, &ends, cut, true))
}

/// Llama-3's 256, with their names in Llama-3.1.
fn llama_3() -> Vec<(usize, String)> {
    let named = [
        "begin_of_text",
        "end_of_text",
        "reserved_special_token_0",
        "reserved_special_token_1",
        "finetune_right_pad_id",
        "reserved_special_token_2",
        "start_header_id",
        "end_header_id",
        "eom_id",
        "eot_id",
        "python_tag",
    ];
    let rest = (3..).map(|index| format!("reserved_special_token_{index}"));
    let names = named.into_iter().map(str::to_string).chain(rest).map(|name| format!("<|{name}|>"));
    (128_000..128_256).zip(names).collect()
}

/// The tokens by rank.
fn parse(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parts = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' '));
        let read = parts.and_then(|(token, rank)| Some((STANDARD.decode(token).ok()?, rank.parse::<usize>().ok()?)));
        match read {
            Some((token, rank)) if rank == tokens.len() && (1..=LONGEST_TOKEN).contains(&token.len()) => {
                tokens.push(token);
            }
            Some((_, rank)) if rank != tokens.len() => {
                bail!(Decode, "line {number} has rank {rank}, expected {}", tokens.len())
            }
            _ => bail!(Decode, "line {number} is not a base64 token and its rank"),
        }
    }
    Ok(tokens)
}

/// Every split of a token into two others, by the rank of the whole.
fn merges(tokens: &[Vec<u8>]) -> Vec<(&[u8], &[u8])> {
    let ranks: HashMap<&[u8], usize> =
        tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
    let mut merges = Vec::new();
    for token in tokens {
        let start = merges.len();
        for at in 1..token.len() {
            let (left, right) = token.split_at(at);
            if ranks.contains_key(left) && ranks.contains_key(right) {
                merges.push((left, right));
            }
        }
        merges[start..].sort_by_key(|(left, right)| (ranks.get(left), ranks.get(right)));
    }
    merges
}

/// The character for each byte in byte-level BPE: the byte's own where it is printable, else one from U+0100 on.
fn visible_bytes() -> Vec<char> {
    let mut hidden = '\u{100}'..;
    let visible = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    (0..=u8::MAX)
        .map(|byte| if visible(&byte) { char::from(byte) } else { hidden.next().unwrap_or_default() })
        .collect()
}

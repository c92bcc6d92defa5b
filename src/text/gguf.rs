//! The tokenizer and the template of a GGUF file: `tokenizer.ggml.*` as a tokenizer.json.
//! Source: llama.cpp's `src/llama-vocab.cpp` for what absent keys mean.

use serde_json::{Map, Value, json};

use super::sentencepiece::{self, Kind, Model, Piece};
use super::vocabulary::{Added, Cut, Ends, byte_level};
use crate::error::{Context, Result};
use crate::notes::Notes;
use crate::weights::Gguf;
use crate::{bail, error};

/// The bytes of a tokenizer.json. Guesses are reported in the notes.
///
/// # Errors
/// `Missing` or `Decode`, with the file and the key.
pub fn tokenizer_json(file: &Gguf, notes: &Notes) -> Result<Vec<u8>> {
    let value = match required_text(file, "model")? {
        "gpt2" => byte_pairs(file, notes)?,
        "llama" => pieces(file)?,
        other => {
            return Err(error!(Missing, "`{}`: `tokenizer.ggml.model` is `{other}`", file.path().display())
                .help("llmore knows gpt2 (byte-level BPE) and llama (SentencePiece)"));
        }
    };
    Ok(value.to_string().into_bytes())
}

/// The template whose markers occur in the file's chat template, if there is one among the presets.
pub fn template(file: &Gguf) -> Result<Option<&'static str>> {
    let Some(text) = file.text("tokenizer.chat_template")? else { return Ok(None) };
    let marks: [(&[&str], &str); 8] = [
        (&["<|start_header_id|>", "Cutting Knowledge Date"], "llama_3_1"),
        (&["<|start_header_id|>"], "llama_3"),
        (&["<\u{ff5c}User\u{ff5c}>", "<\u{ff5c}Assistant\u{ff5c}>"], "deepseek_r1"),
        (&["<|im_start|>", "<|im_end|>"], "chatml"),
        (&["<start_of_turn>", "<end_of_turn>"], "gemma_2"),
        (&["<|end|>", "<|assistant|>"], "phi_4"),
        (&["[INST]", "[/INST]"], "mistral_instruct"),
        (&["USER:", "ASSISTANT:"], "v1"),
    ];
    Ok(marks.iter().find(|(marks, _)| marks.iter().all(|mark| text.contains(mark))).map(|(_, name)| *name))
}

fn byte_pairs(file: &Gguf, notes: &Notes) -> Result<Value> {
    let tokens = required(file, "tokens", file.texts("tokenizer.ggml.tokens")?)?;
    let merges = required(file, "merges", file.texts("tokenizer.ggml.merges")?)?;
    let kinds = kinds(file, tokens.len())?;
    let cut = cut(file, &tokens, notes)?;
    let llama_3 = cut == Cut::Llama3;
    let vocab: Map<String, Value> =
        (0..).zip(&tokens).map(|(id, token): (usize, _)| (token.to_string(), json!(id))).collect();
    if vocab.len() != tokens.len() {
        bail!(Decode, "`{}`: `tokenizer.ggml.tokens` holds a token twice", file.path().display());
    }
    let pairs = merges.iter().enumerate().map(|(index, merge)| match merge.split_once(' ') {
        Some((left, right)) => match [left, right, &format!("{left}{right}")]
            .into_iter()
            .find(|t| !vocab.contains_key(*t))
        {
            None => Ok(json!([left, right])),
            Some(token) => Err(error!(
                Decode,
                "`{}`: `tokenizer.ggml.merges`[{index}] is `{merge}`, and `{token}` is not in `tokenizer.ggml.tokens`",
                file.path().display()
            )
            .help(
                "merges and tokens are of different vocabularies: take another file of the model, or convert it anew",
            )),
        },
        None => Err(error!(Decode, "`{}`: `tokenizer.ggml.merges`[{index}] is not a pair", file.path().display())),
    });
    let added = (0..).zip(&tokens).zip(&kinds).filter_map(|((id, content), kind)| match kind {
        Kind::Control | Kind::Unknown => Some(Added { id, content, special: true }),
        Kind::UserDefined => Some(Added { id, content, special: false }),
        _ => None,
    });
    let added: Vec<Added> = added.collect();
    let (first, last) = adds(file, llama_3)?;
    let end = |wanted: bool, key: &str| -> Result<Option<(usize, &str)>> {
        let Some(id) = special(file, key)?.filter(|_| wanted) else { return Ok(None) };
        let token = tokens.get(id).ok_or_else(|| outside(file, key, id, tokens.len()))?;
        Ok(Some((id, token)))
    };
    let ends = Ends { first: end(first, "bos")?, last: end(last, "eos")? };
    let pairs = pairs.collect::<Result<_>>()?;
    let mut vocab = vocab;
    vocab.retain(|text, id| !id.as_u64().is_some_and(|id| is_pad(text, id as usize, kinds[id as usize])));
    Ok(byte_level(Value::Object(vocab), pairs, &added, &ends, cut, llama_3))
}

/// The rule that cuts text before BPE. Files without the key (April 2024 and older) do not say; Llama 3's are recognized by
/// their special tokens.
fn cut(file: &Gguf, tokens: &[&str], notes: &Notes) -> Result<Cut> {
    let path = file.path().display();
    match file.text("tokenizer.ggml.pre")? {
        Some(pre) if pre != "default" => Cut::named(pre).context(|| format!("`{path}`: `tokenizer.ggml.pre`")),
        said => {
            let has = |token: &str| tokens.contains(&token);
            let known = has("<|begin_of_text|>") && (has("<|end_of_text|>") || has("<|eot_id|>"));
            let (cut, by) = match known {
                true => (Cut::Llama3, "as Llama 3 does, whose special tokens it has"),
                false => (Cut::Gpt2, "by GPT-2's rule, which may not be the model's: other ids mean worse answers"),
            };
            let says = said.map_or_else(
                || "has no `tokenizer.ggml.pre`".to_string(),
                |pre| format!("has `tokenizer.ggml.pre` `{pre}`"),
            );
            notes.add(format!("`{path}` {says}: text is cut {by}"));
            Ok(cut)
        }
    }
}

fn pieces(file: &Gguf) -> Result<Value> {
    let tokens = required(file, "tokens", file.texts("tokenizer.ggml.tokens")?)?;
    let scores = required(file, "scores", file.numbers("tokenizer.ggml.scores")?)?;
    let mut kinds = kinds(file, tokens.len())?;
    // Some converters mark it as a control token.
    if let Some(kind) = special(file, "unknown")?.and_then(|id| kinds.get_mut(id)) {
        *kind = Kind::Unknown;
    }
    if scores.len() != tokens.len() {
        let path = file.path().display();
        bail!(Decode, "`{path}`: `tokenizer.ggml.scores` has {} entries for {} tokens", scores.len(), tokens.len());
    }
    let pieces = tokens.iter().zip(&scores).zip(kinds);
    let mut pieces: Vec<Piece> =
        pieces.map(|((text, score), kind)| Piece { text: text.to_string(), score: *score, kind }).collect();
    while pieces.last().is_some_and(|piece| is_pad(&piece.text, pieces.len() - 1, piece.kind)) {
        pieces.pop();
    }
    let model = Model {
        pieces,
        unigram: false,
        prefix_space: file.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        trim: file.flag("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(false),
        charsmap: Vec::new(),
        bos: special(file, "bos")?,
        eos: special(file, "eos")?,
    };
    for (key, id) in [("bos", model.bos), ("eos", model.eos)] {
        if let Some(id) = id.filter(|id| *id >= tokens.len()) {
            return Err(outside(file, key, id, tokens.len()));
        }
    }
    sentencepiece::tokenizer_json(&model, adds(file, true)?).context(|| format!("`{}`", file.path().display()))
}

/// Whether a token is the placeholder that converters write for a row of the embedding without one.
fn is_pad(text: &str, id: usize, kind: Kind) -> bool {
    kind == Kind::Unused && text == format!("[PAD{id}]")
}

/// Whether BOS and EOS are added.
fn adds(file: &Gguf, bos: bool) -> Result<(bool, bool)> {
    let flag = |key: &str| file.flag(&format!("tokenizer.ggml.{key}"));
    Ok((flag("add_bos_token")?.unwrap_or(bos), flag("add_eos_token")?.unwrap_or(false)))
}

fn special(file: &Gguf, name: &str) -> Result<Option<usize>> {
    Ok(file.whole(&format!("tokenizer.ggml.{name}_token_id"))?.map(|id| id as usize))
}

fn outside(file: &Gguf, key: &str, id: usize, tokens: usize) -> crate::error::Error {
    let path = file.path().display();
    error!(Decode, "`{path}`: `tokenizer.ggml.{key}_token_id` is {id}, there are {tokens} tokens")
}

/// The kind of every token; without the list all are ordinary.
fn kinds(file: &Gguf, count: usize) -> Result<Vec<Kind>> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = file.numbers(key)? else { return Ok(vec![Kind::Normal; count]) };
    let path = file.path().display();
    if numbers.len() != count {
        bail!(Decode, "`{path}`: `{key}` has {} entries for {count} tokens", numbers.len());
    }
    let kind =
        |number: f64| Kind::numbered(number as u64).ok_or_else(|| error!(Decode, "`{path}`: `{key}` has a {number}"));
    numbers.into_iter().map(kind).collect()
}

fn required_text<'a>(file: &'a Gguf, key: &str) -> Result<&'a str> {
    required(file, key, file.text(&format!("tokenizer.ggml.{key}"))?)
}

fn required<T>(file: &Gguf, key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| file.lacks(&format!("tokenizer.ggml.{key}")))
}

//! `tokenizer.model` files, SentencePiece and tiktoken, against the programs that define them. Small SentencePiece
//! models are fixtures; real files are fetched by scripts/dev/fetch_tokenizers.sh. `fixtures/gguf/how.md` says with what.

use std::path::{Path, PathBuf};

use llmore::text::Tokenizer;

use super::scratch::scratch;

fn cases(key: &str) -> serde_json::Value {
    let bytes = std::fs::read("tests/fixtures/gguf/tokens.json").unwrap();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()[key].take()
}

fn strings(key: &str) -> Vec<String> {
    serde_json::from_value(cases(key)).unwrap()
}

/// A fetched file, or `None` with a visible line.
fn fetched(path: &str) -> Option<PathBuf> {
    let path = Path::new("target/tokenizers").join(path);
    if !path.exists() {
        eprintln!("skipped: no `{}`; scripts/dev/fetch_tokenizers.sh fetches it", path.display());
        return None;
    }
    Some(path)
}

/// The Hugging Face crate applies the compiled map of characters to one grapheme at a time, sentencepiece to the text:
/// conjoining Hangul letters come out otherwise.
fn has_jamo(text: &str) -> bool {
    text.contains(|c| ('\u{1100}'..='\u{11ff}').contains(&c))
}

fn assert_ids(path: &Path, key: &str) {
    let tokenizer = Tokenizer::open(path).unwrap();
    let expected: Vec<Vec<u32>> = serde_json::from_value(cases(key)).unwrap();
    let strings = strings("plain");
    assert_eq!(strings.len(), expected.len());
    let differ: Vec<_> = strings
        .iter()
        .zip(&expected)
        .filter(|(string, _)| key != "unigram" || !has_jamo(string))
        .map(|(string, expected)| (string, tokenizer.encode(string).unwrap(), expected))
        .filter(|(_, ours, expected)| ours != *expected)
        .collect();
    assert!(
        differ.is_empty(),
        "{key}: {} of {} differ: {:?}",
        differ.len(),
        strings.len(),
        &differ[..differ.len().min(4)]
    );
}

#[test]
fn sentencepiece_bpe_gives_the_ids_of_sentencepiece() {
    assert_ids(Path::new("tests/fixtures/gguf/bpe.tokenizer.model"), "bpe");
    if let Some(path) = fetched("mistral_v1/tokenizer.model") {
        assert_ids(&path, "mistral_v1");
    }
}

#[test]
fn sentencepiece_unigram_gives_the_ids_of_sentencepiece() {
    assert_ids(Path::new("tests/fixtures/gguf/unigram.tokenizer.model"), "unigram");
}

#[test]
fn a_sentencepiece_text_comes_back() {
    let tokenizer = Tokenizer::open(Path::new("tests/fixtures/gguf/bpe.tokenizer.model")).unwrap();
    for text in ["two  spaces and \u{20ac}\u{1f600}", " leading", "\t\n"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
    assert_eq!(tokenizer.bos(), Some(1));
}

#[test]
fn tiktoken_gives_the_ids_of_the_converted_tokenizer() {
    let (Some(model), Some(json)) = (fetched("llama3_tiktoken"), fetched("llama3_1")) else { return };
    let (model, json) = (Tokenizer::open(&model).unwrap(), Tokenizer::open(&json).unwrap());
    let strings = strings("strings");
    // Pairs of them too: 1,000 strings.
    let pairs = strings.windows(2).map(|pair| format!("{} {}", pair[0], pair[1]));
    let all: Vec<String> = strings.iter().cloned().chain(pairs).collect();
    let differ: Vec<_> = all.iter().filter(|text| model.encode(text).unwrap() != json.encode(text).unwrap()).collect();
    assert!(differ.is_empty(), "{} of {} differ: {:?}", differ.len(), all.len(), &differ[..differ.len().min(4)]);
    assert_eq!(model.token_id("<|eot_id|>"), Some(128_009));
}

#[test]
fn bad_files_are_refused() {
    let folder = scratch("tokenizer_files");
    let refused = |bytes: &[u8]| {
        let path = folder.join("tokenizer.model");
        std::fs::write(&path, bytes).unwrap();
        let error = Tokenizer::open(&folder).unwrap_err();
        assert!(error.message().contains("tokenizer.model"), "{error}");
        error.to_string()
    };
    let whole = std::fs::read("tests/fixtures/gguf/bpe.tokenizer.model").unwrap();
    for part in (1..whole.len()).step_by(whole.len() / 97) {
        let path = folder.join("tokenizer.model");
        std::fs::write(&path, &whole[..part]).unwrap();
        // Cut between two pieces it is a smaller model.
        drop(Tokenizer::open(&path));
    }
    assert!(refused(&whole[..whole.len() / 2 + 1]).contains("the file ends inside") || whole.len() < 2);
    assert!(
        refused(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).contains("the file ends inside a field")
    );
    assert!(refused(b"").contains("vocabulary of 0 tokens"));
    assert!(refused(b"IQ== 0\nIg== 1\n").contains("a tiktoken vocabulary of 2 tokens is not known"));
    assert!(refused(b"IQ== 0\nIg== 7\n").contains("line 2 has rank 7, expected 1"));
    assert!(refused(b"IQ== 0\n??? 1\n").contains("line 2 is not a base64 token"));
}

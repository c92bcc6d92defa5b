//! Tokens that files beside a tokenizer declare, against transformers 5.24; tokenizers with more tokens than the embedding
//! has rows, and embeddings with more rows than there are tokens.

use std::path::{Path, PathBuf};

use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::Tokenizer;
use llmore::vlm::{Llm, LlmOptions, Weights};
use llmore::weights::TensorFiles;
use serde_json::{Value, json};

use super::scratch::scratch;

const FIXTURES: &str = "tests/fixtures/today";
const JSON: &str = "tests/fixtures/training/checkpoint/tokenizer.json";
const MODEL: &str = "tests/fixtures/today/tokenizer-model-added-tokens/tokenizer.model";

/// A folder with a tokenizer and files beside it.
fn folder(name: &str, tokenizer: &str, files: &[(&str, Value)]) -> PathBuf {
    let folder = scratch(name);
    std::fs::copy(tokenizer, folder.join(Path::new(tokenizer).file_name().unwrap())).unwrap();
    for (file, value) in files {
        std::fs::write(folder.join(file), value.to_string()).unwrap();
    }
    folder
}

fn llm(path: &Path) -> Llm {
    let options = LlmOptions { weights: Weights::Stored, seed: 0, target: Target::cpu() };
    Llm::open(&Presets::default(), &path.display().to_string(), options).unwrap()
}

#[test]
fn declared_tokens_have_the_ids_of_transformers() {
    let cases = std::fs::read(Path::new(FIXTURES).join("tokens-declared/cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    assert_eq!(cases.len(), 33);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let files: Vec<(&str, Value)> =
            case["files"].as_object().unwrap().iter().map(|(file, value)| (file.as_str(), value.clone())).collect();
        let tokenizer = if case["of"] == "tokenizer.model" { MODEL } else { JSON };
        let opened = Tokenizer::open(&folder(name, tokenizer, &files)).unwrap();
        assert_eq!(opened.vocab() as u64, case["vocab"].as_u64().unwrap(), "{name}");
        for (index, text) in case["texts"].as_array().unwrap().iter().enumerate() {
            let ids = opened.encode(text.as_str().unwrap()).unwrap();
            assert_eq!(json!(ids), case["ids"][index], "{name}: {text}");
            assert_eq!(json!(opened.decode(&ids).unwrap()), case["decoded"][index], "{name}: {text}");
        }
        // What is saved is the whole tokenizer.
        let again = Tokenizer::from_bytes(opened.json(), "again").unwrap();
        let text = case["texts"][0].as_str().unwrap();
        assert_eq!(again.encode(text).unwrap(), opened.encode(text).unwrap(), "{name}");
    }
}

#[test]
fn a_bos_that_nothing_speaks_of_goes_by_the_version_and_is_said() {
    let config = json!({ "tokenizer_class": "LlamaTokenizer" });
    let open = |version: Option<&str>| {
        let model = json!({ "model_type": "llama", "transformers_version": version });
        let files = [("tokenizer_config.json", config.clone()), ("config.json", model)];
        Tokenizer::open(&folder(&format!("bos-{}", version.unwrap_or("none")), MODEL, &files)).unwrap()
    };
    for (version, bos) in [(Some("5.24.0"), None), (Some("4.49.0"), Some(1)), (None, Some(1))] {
        let tokenizer = open(version);
        assert_eq!(tokenizer.bos(), bos, "{version:?}");
        assert!(tokenizer.notes().list()[0].contains("`add_bos_token`"), "{:?}", tokenizer.notes().list());
    }
}

#[test]
fn an_id_that_is_written_is_kept_and_one_of_another_token_refused() {
    let token = |content: &str| json!({ "content": content, "special": false });
    let open = |name: &str, id: &str, content: &str| {
        let mut decoder = json!({});
        decoder[id] = token(content);
        let config = json!({ "added_tokens_decoder": decoder });
        Tokenizer::open(&folder(name, JSON, &[("tokenizer_config.json", config)]))
    };
    let tokenizer = open("gap", "300", "<img>").unwrap();
    assert_eq!(tokenizer.encode("a<img>").unwrap().last(), Some(&300));
    assert!(tokenizer.notes().list()[0].contains("the id 300, which is kept"), "{:?}", tokenizer.notes().list());
    let error = open("taken", "287", "<img>").unwrap_err().to_string();
    assert!(error.contains("the token `<img>` the id 287, which is that of `<|eot_id|>`"), "{error}");
    let error = open("no-id", "x", "<img>").unwrap_err().to_string();
    assert!(error.contains("`added_tokens_decoder`: `x` is no id"), "{error}");
}

#[test]
fn a_tokenizer_longer_than_the_embedding_opens() {
    let case = Path::new(FIXTURES).join("tokenizer-longer-than-embedding");
    let llm = llm(&case.join("model"));
    assert_eq!((llm.tokenizer().unwrap().vocab(), llm.model.spec().vocab), (281, 280));
    let expected = TensorFiles::open(&case.join("expected.safetensors")).unwrap();
    for key in ["a", "b"] {
        let load = |name: &str| expected.load(&format!("{key}.{name}"), &llm.target().device).unwrap();
        let ids: Vec<u32> =
            load("ids").flatten_all().unwrap().to_vec1::<i64>().unwrap().into_iter().map(|id| id as u32).collect();
        let logits = super::peft::logits(&llm, &ids);
        let worst = (logits - load("logits")).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(worst < 1e-5, "{key}: {worst}");
    }
    let error = llm.check_ids(&[280]).unwrap_err().to_string();
    assert!(error.contains("280 (`<image_soft_token>`) is outside the vocabulary of 280"), "{error}");
}

#[test]
fn a_row_without_a_token_stands_for_no_text() {
    let rows = json!({ "model_type": "llama", "vocab_size": 320 });
    let tokenizer = Tokenizer::open(&folder("rows", JSON, &[("config.json", rows)])).unwrap();
    assert_eq!(tokenizer.decode(&[70, 300, 319]).unwrap(), tokenizer.decode(&[70]).unwrap());
    assert!(tokenizer.decode(&[320]).unwrap_err().to_string().contains("no token 320"));
    let bare = Tokenizer::open(&folder("no-rows", JSON, &[])).unwrap();
    assert!(bare.decode(&[300]).unwrap_err().to_string().contains("no token 300"));
    assert!(bare.with_rows(320).decode(&[300]).unwrap().is_empty());
}

/// The metadata of a GGUF file with the tokens of a tokenizer.json and rows that have none, as llama.cpp's converter fills
/// them: `[PAD288]`, unused.
fn gguf(rows: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let list = |kind: u32, items: Vec<Vec<u8>>| {
        [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &(items.len() as u64).to_le_bytes(), &items.concat()].concat()
    };
    let json: Value = serde_json::from_slice(&std::fs::read(JSON).unwrap()).unwrap();
    let mut tokens: Vec<(String, i32)> = (0..rows).map(|id| (format!("[PAD{id}]"), 5)).collect();
    for (token, id) in json["model"]["vocab"].as_object().unwrap() {
        tokens[id.as_u64().unwrap() as usize] = (token.clone(), 1);
    }
    for token in json["added_tokens"].as_array().unwrap() {
        tokens[token["id"].as_u64().unwrap() as usize] = (token["content"].as_str().unwrap().to_string(), 3);
    }
    let merge = |merge: &Value| match merge {
        Value::String(merge) => merge.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let merges = json["model"]["merges"].as_array().unwrap().iter().map(|pair| text(&merge(pair))).collect();
    let string = |value: &str| [&8u32.to_le_bytes()[..], &text(value)].concat();
    let entries = [
        ("general.architecture", string("llama")),
        ("tokenizer.ggml.model", string("gpt2")),
        ("tokenizer.ggml.pre", string("llama-bpe")),
        ("tokenizer.ggml.tokens", list(8, tokens.iter().map(|(token, _)| text(token)).collect())),
        ("tokenizer.ggml.token_type", list(5, tokens.iter().map(|(_, kind)| kind.to_le_bytes().to_vec()).collect())),
        ("tokenizer.ggml.merges", list(8, merges)),
    ];
    let head = [&b"GGUF"[..], &3u32.to_le_bytes(), &0u64.to_le_bytes(), &(entries.len() as u64).to_le_bytes()].concat();
    entries.iter().fold(head, |file, (key, value)| [file, text(key), value.clone()].concat())
}

#[test]
fn a_row_of_a_gguf_without_a_token_stands_for_no_text() {
    let path = folder("gguf", JSON, &[]).join("padded.gguf");
    std::fs::write(&path, gguf(320)).unwrap();
    let padded = Tokenizer::open(&path).unwrap();
    assert_eq!(padded.decode(&[70, 300, 319]).unwrap(), padded.decode(&[70]).unwrap());
    assert_eq!(padded.vocab(), 288);
    assert!(padded.decode(&[320]).is_err());
    let whole = Tokenizer::open(Path::new(JSON)).unwrap();
    for text in ["the cat", "see [PAD300]"] {
        assert_eq!(padded.decode(&padded.encode(text).unwrap()).unwrap(), text);
        assert!(padded.encode(text).unwrap().ends_with(&whole.encode(text).unwrap()[1..]), "{text}");
    }
}

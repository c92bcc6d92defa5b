//! Templates against the reference's output, case by case, with the tokenizers it was made with.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llmore::error::Kind;
use llmore::preset::Presets;
use llmore::text::{IGNORE, IMAGE_ID, Template, Tokenizer, Turn};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    kind: String,
    template: String,
    tokenizer: String,
    case: String,
    turns: Vec<Turn>,
    text: String,
    ids: Vec<i64>,
    labels: Option<Vec<i64>>,
    reference_ids: Option<Vec<i64>>,
}

fn template(name: &str) -> Template {
    Template::load(&Presets::new(Vec::new()), name).unwrap()
}

fn small() -> Tokenizer {
    Tokenizer::open(Path::new("tests/fixtures/training/checkpoint")).unwrap()
}

/// Where `scripts/dev/fetch_tokenizers.sh` puts the real tokenizers.
fn real(name: &str) -> Option<Tokenizer> {
    let folder = PathBuf::from("target/tokenizers").join(name);
    folder.is_dir().then(|| Tokenizer::open(&folder).unwrap())
}

#[test]
fn every_reference_case_is_reproduced() {
    let cases = std::fs::read_to_string("tests/fixtures/templates/cases.jsonl").unwrap();
    let cases: Vec<Case> = cases.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(cases.len(), 217);
    let mut tokenizers: BTreeMap<String, Option<Tokenizer>> = BTreeMap::new();
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let tokenizer = tokenizers.entry(case.tokenizer.clone()).or_insert_with(|| real(&case.tokenizer));
        let Some(tokenizer) = tokenizer else { continue };
        let template = template(&case.template);
        template.check(tokenizer).unwrap();
        let right = if case.kind == "render" {
            let got = template.render(tokenizer, &case.turns).unwrap();
            (got.text, got.ids, Some(got.labels)) == (case.text.clone(), case.ids.clone(), case.labels.clone())
        } else {
            let quirks = template.with_reference_quirks().prompt(tokenizer, &case.turns).unwrap();
            let reference = case.reference_ids.as_ref().unwrap_or(&case.ids);
            template.prompt(tokenizer, &case.turns).unwrap() == case.ids && quirks == *reference
        };
        let count = counts.entry(format!("{} {} with {}", case.kind, case.template, case.tokenizer)).or_default();
        count.0 += usize::from(right);
        count.1 += 1;
        if !right {
            wrong.push(format!("{} {} {}", case.kind, case.template, case.case));
        }
    }
    for (what, (passed, total)) in &counts {
        println!("{what}: {passed}/{total}");
    }
    for (name, _) in tokenizers.iter().filter(|(_, tokenizer)| tokenizer.is_none()) {
        println!("skipped: no target/tokenizers/{name}; scripts/dev/fetch_tokenizers.sh fetches it");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a rendered conversation supervises, as text pieces.
fn supervised(tokenizer: &Tokenizer, labels: &[i64]) -> String {
    let ids: Vec<u32> = labels.iter().filter(|label| **label != IGNORE).map(|label| *label as u32).collect();
    ids.iter()
        .map(|id| match tokenizer.decode(&[*id]).unwrap() {
            text if text.is_empty() => format!("[{id}]"),
            text => text,
        })
        .collect()
}

#[test]
fn a_small_tokenizer_renders_plain_llama_and_tiny() {
    let t = small();
    let (bos, eot) = (i64::from(t.bos().unwrap()), t.token_id("<|eot_id|>").unwrap());
    let turns = [Turn::human("<image>\nWhat shape is this?"), Turn::gpt("a small star")];

    let plain = template("plain").render(&t, &turns).unwrap();
    assert_eq!(plain.text, "<image>a small star\n");
    assert_eq!(plain.ids[..2], [bos, IMAGE_ID]);
    assert_eq!(plain.labels[..2], [IGNORE, IGNORE]);
    assert_eq!(plain.labels[2..], plain.ids[2..]);

    let llama = template("llama_3_1").render(&t, &turns).unwrap();
    assert!(llama.text.ends_with("a small star<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"));
    assert_eq!(llama.ids.iter().filter(|id| **id == bos).count(), 1);
    assert_eq!(supervised(&t, &llama.labels), format!("a small star[{eot}]"));
    // What training sees before the answer is what generation starts from.
    let prompt = template("llama_3_1").prompt(&t, &turns[..1]).unwrap();
    assert_eq!(llama.ids[..prompt.len()], prompt);

    let chat = [&turns[..], &[Turn::human(" what color? "), Turn::gpt("blue.")]].concat();
    let tiny = template("tiny").render(&t, &chat).unwrap();
    assert_eq!(tiny.text, "<image>\nWhat shape is this?\na small star\nwhat color?\nblue.\n");
    assert_eq!(supervised(&t, &tiny.labels), "a small star\nblue.\n");
    let prompt = template("tiny").prompt(&t, &chat[..3]).unwrap();
    assert_eq!(tiny.ids[..prompt.len()], prompt);
    assert_eq!(template("tiny").stop_texts(), ["\n"]);
    assert_eq!(template("llama_3_1").stop_ids(&t).len(), 3);
}

#[test]
fn special_token_text_in_data_stays_text() {
    let t = small();
    let eot = i64::from(t.token_id("<|eot_id|>").unwrap());
    let turns = [Turn::human("what is <|eot_id|>?"), Turn::gpt("<|eot_id|> ends a turn")];
    let got = template("llama_3_1").render(&t, &turns).unwrap();
    // System, question and answer are closed by one each.
    assert_eq!(got.ids.iter().filter(|id| **id == eot).count(), 3);
    assert_eq!(supervised(&t, &got.labels), format!("<|eot_id|> ends a turn[{eot}]"));
}

#[test]
fn unclosed_and_disordered_dialogues() {
    let t = small();
    let tiny = template("tiny");
    let (question, answer) = (Turn::human("what?"), Turn::gpt("yes"));
    let whole = tiny.render(&t, &[question.clone(), answer.clone()]).unwrap();
    // An unanswered question at the end and a greeting at the front are dropped.
    let open = [Turn::gpt("hello"), question.clone(), answer.clone(), Turn::human("and?")];
    assert_eq!(tiny.render(&t, &open).unwrap(), whole);
    let prompt = tiny.prompt(&t, &open).unwrap();
    assert_eq!(prompt[..whole.ids.len()], whole.ids);
    assert!(prompt.len() > whole.ids.len());

    let cases: [(&[Turn], &str); 4] = [
        (&[question.clone(), answer.clone(), question.clone(), Turn::gpt("")], "turn 4 is an empty answer"),
        (&[question.clone(), question.clone(), answer.clone()], "turn 2 is from `human`, not from `gpt`"),
        (std::slice::from_ref(&question), "no answered turn"),
        (&[], "no answered turn"),
    ];
    for (turns, message) in cases {
        let error = tiny.render(&t, turns).unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.message().contains(message), "{error}");
    }
    let error = tiny.prompt(&t, &[question.clone(), answer.clone()]).unwrap_err();
    assert!(error.message().contains("no question to answer"), "{error}");
    // A model may have answered nothing; the chat goes on.
    assert!(tiny.prompt(&t, &[question.clone(), Turn::gpt(""), question.clone()]).is_ok());

    let plain = template("plain");
    let error = plain.render(&t, &[question.clone(), answer.clone()]).unwrap_err();
    assert!(error.message().contains("turn 1 has no <image>"), "{error}");
    let image = Turn::human("<image>");
    let error = plain.render(&t, &[image, answer.clone(), question, answer]).unwrap_err();
    assert!(error.message().contains("not 2 rounds"), "{error}");
}

#[test]
fn a_template_names_the_tokens_a_tokenizer_lacks() {
    let t = small();
    let error = template("gemma_2").check(&t).unwrap_err();
    assert_eq!(
        error.message(),
        "template `gemma_2` needs `<bos>`, `<start_of_turn>`, `<end_of_turn>`, which tokenizer `checkpoint` lacks"
    );
    for name in ["plain", "tiny", "llama_3", "llama_3_1"] {
        template(name).check(&t).unwrap();
    }
    assert!(template("v1").render(&t, &[Turn::human("a"), Turn::gpt("b")]).is_err());
}

#[test]
fn every_template_preset_loads() {
    let presets = Presets::new(Vec::new());
    let names = presets.ids(llmore::preset::PresetKind::Templates);
    let expected = "chatml deepseek_r1 gemma_2 llama_3 llama_3_1 mistral_instruct phi_4 plain tiny v1"
        .split(' ')
        .collect::<Vec<_>>();
    assert_eq!(names, expected);
    for name in names {
        let template = Template::load(&presets, &name).unwrap();
        assert_eq!(template.name(), name);
    }
}

/// The small tokenizer with its special tokens renamed, some of them not flagged as special.
fn renamed(names: &[(&str, &str)]) -> Tokenizer {
    let mut json = String::from_utf8(small().json().to_vec()).unwrap();
    for (from, to) in names {
        json = json.replace(from, to);
    }
    let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
    for token in json["added_tokens"].as_array_mut().unwrap() {
        token["special"] = (!token["content"].as_str().unwrap().contains("\u{ff5c}User")).into();
    }
    Tokenizer::from_bytes(json.to_string().as_bytes(), "renamed").unwrap()
}

#[test]
fn deepseek_and_chatml_write_their_own_format() {
    let turns = [Turn::human("<image>\nwhat is <\u{ff5c}User\u{ff5c}>?"), Turn::gpt("yes")];
    let t = renamed(&[
        ("<|begin_of_text|>", "<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>"),
        ("<|eot_id|>", "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>"),
        ("<|start_header_id|>", "<\u{ff5c}User\u{ff5c}>"),
        ("<|end_header_id|>", "<\u{ff5c}Assistant\u{ff5c}>"),
    ]);
    let got = template("deepseek_r1").render(&t, &turns).unwrap();
    assert!(
        got.text.starts_with("<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>You are a helpful language and vision")
    );
    let end = "natural language.<\u{ff5c}User\u{ff5c}><image>\nwhat is <\u{ff5c}User\u{ff5c}>?\
        <\u{ff5c}Assistant\u{ff5c}>yes<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>";
    assert!(got.text.ends_with(end), "{}", got.text);
    // The marker in the question is text, though the file does not flag it as special.
    let user = i64::from(t.token_id("<\u{ff5c}User\u{ff5c}>").unwrap());
    assert_eq!(got.ids.iter().filter(|id| **id == user).count(), 1);
    assert_eq!(supervised(&t, &got.labels), "yes[287]");

    let t = renamed(&[("<|start_header_id|>", "<|im_start|>"), ("<|eot_id|>", "<|im_end|>")]);
    let got = template("chatml").render(&t, &turns).unwrap();
    assert!(
        got.text.starts_with("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>")
    );
    assert!(got.text.ends_with("<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"));
    assert_eq!(supervised(&t, &got.labels), "yes[287]\n");
}

/// The pass over pieces gives what encoding the whole text gives, also where the tokenizer puts a prefix space
/// before the first section only and a special token swallows white space after it.
#[test]
fn pieces_and_whole_text_agree() {
    let turns = [Turn::human("a b"), Turn::gpt("c a"), Turn::human("b"), Turn::gpt("c")];
    for (scheme, rstrip) in [("first", false), ("always", false), ("first", true), ("never", false)] {
        let letters = "\u{2581} a b c d e f g h i k l n o p q r s t u v w y A E I N R S T U : ' . , _ \n";
        let tokens = ["<unk>", "<s>", "</s>"].into_iter().chain(letters.split(' '));
        let vocab: BTreeMap<&str, usize> = tokens.enumerate().map(|(id, token)| (token, id)).collect();
        let special = |id: usize, text: &str| {
            serde_json::json!({ "id": id, "content": text, "single_word": false,
            "lstrip": false, "rstrip": rstrip, "normalized": false, "special": true })
        };
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
            "pre_tokenizer": { "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": scheme, "split": false },
            "decoder": null,
            "model": { "type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>" },
        });
        let t = Tokenizer::from_bytes(json.to_string().as_bytes(), scheme).unwrap();
        let got = template("v1").render(&t, &turns).unwrap();
        let whole: Vec<i64> = t.encode(&got.text).unwrap().into_iter().map(i64::from).collect();
        assert_eq!(got.ids, whole, "prefix {scheme}, rstrip {rstrip}");
    }
}

//! What is asked and what is not: the cache of answers, choices by likelihood, and result files that show what the run
//! showed.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{D, DType};
use llmore::eval::{self, AnswerCache, Benchmark, BenchmarkOptions, Choices, Control, Results, RunOptions};
use llmore::events::{Interrupt, Listeners};
use llmore::preset::Presets;
use llmore::text::{Turn, with_image_marks};
use llmore::vlm::Vlm;
use llmore::vlm::generate::{Question, VlmEngine, Wanted};

use super::generation::{fixture, picture, tiny};
use super::scripting::{run, scratch};

fn benchmark(id: &str, limit: usize) -> Benchmark {
    let options = BenchmarkOptions { limit: Some(limit), ..BenchmarkOptions::default() };
    Benchmark::open(&Presets::default(), id, &options).unwrap()
}

fn options(cache: Option<&AnswerCache>, batch: usize, choices: Choices) -> RunOptions {
    RunOptions {
        name: None,
        batch,
        control: Control::Off,
        choices,
        cache: cache.cloned(),
        out: None,
        limit: None,
        shard: None,
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
    }
}

fn outputs(results: &Results) -> Vec<&str> {
    results.rows.iter().map(|row| row.output.as_str()).collect()
}

#[test]
fn nothing_is_asked_twice_until_a_weight_changes() {
    let (vlm, b, cache) = (tiny(), benchmark("tiny-vqa", 40), AnswerCache::in_memory());
    let ask = |cache: Option<&AnswerCache>| eval::run(&vlm, &b, &options(cache, 8, Choices::Generate)).unwrap();
    let plain = ask(None);
    let first = ask(Some(&cache));
    // What is not new in the first run are questions that are asked twice about one picture.
    let key = |item: &eval::Item| (item.images[0].key(), item.prompt.clone());
    let distinct: std::collections::HashSet<_> = b.items.iter().map(key).collect();
    assert_eq!(first.facts.cached, b.items.len() - distinct.len());
    let second = ask(Some(&cache));
    assert_eq!((plain.facts.cached, second.facts.cached), (0, b.items.len()));
    assert_eq!((outputs(&plain), outputs(&plain)), (outputs(&first), outputs(&second)));

    let (_, _, norm) = vlm.named_params().into_iter().find(|(name, ..)| name == "model.norm.weight").unwrap();
    let before = norm.tensor().unwrap();
    norm.assign(&(&before * -1.0).unwrap()).unwrap();
    let changed = ask(Some(&cache));
    assert_eq!(changed.facts.cached, first.facts.cached);
    assert_ne!(outputs(&changed), outputs(&first));
    norm.assign(&before).unwrap();
    assert_eq!(ask(Some(&cache)).facts.cached, b.items.len());

    let gray = RunOptions { control: Control::Gray, ..options(Some(&cache), 8, Choices::Generate) };
    let gray = eval::run(&vlm, &b, &gray).unwrap();
    assert_eq!(gray.facts.cached, first.facts.cached);
    assert_ne!(outputs(&gray), outputs(&first));
}

#[test]
fn training_changes_what_is_known_and_sessions_share_a_folder() {
    let folder = scratch("answers-folder");
    let text = format!(
        r#"let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        let b = benchmark("tiny-pope", #{{ limit: 12 }});
        let o = #{{ cache: "{}/kept" }};
        let before = b.run(m, o).cached;
        let t = trainer(m, dataset("tiny-instruct"), #{{
            train: #{{ llm: 1e-3 }}, batch: 2, steps: 2, schedule: "constant", warmup_ratio: 0.0
        }});
        t.step();
        let after = b.run(m, o).cached;
        let again = b.run(m, o);
        t.step();
        `${{before}} ${{after}} ${{again.cached}} ${{b.run(m, o).cached}} ${{b.run(m).cached}} ${{b.run(m).cached}}`"#,
        folder.display()
    );
    let first = run("answers-session-1", &text).unwrap();
    let repeated = first.split(' ').next().unwrap();
    assert_eq!(first, format!("{repeated} {repeated} 12 {repeated} {repeated} 12\n"));
    assert_eq!(std::fs::read_dir(folder.join("kept")).unwrap().count(), 3);
    assert_eq!(run("answers-session-2", &text).unwrap(), format!("12 12 12 12 {repeated} 12\n"));
    let error = run(
        "answers-nowhere",
        r#"benchmark("tiny-pope").run(load("tests/fixtures/training/checkpoint"), #{ cache: "dsk" })"#,
    );
    assert!(error.unwrap_err().contains("did you mean `disk`"));
}

/// Mean log-probability of `answer` after a question, from the logits of the whole conversation.
fn by_logits(vlm: &Vlm, images: &[llmore::image::Image], text: &str, answer: &str) -> f64 {
    let (tokenizer, turn) = (vlm.tokenizer().unwrap(), Turn::human(with_image_marks(text, images.len())));
    let prompt = vlm.template().prompt(tokenizer, std::slice::from_ref(&turn)).unwrap();
    let ids = vlm.template().answer_ids(tokenizer, &turn, answer).unwrap();
    let turns = [turn, Turn::gpt(answer)];
    let whole = vlm.template().render(tokenizer, &turns).unwrap().ids;
    let expected: Vec<i64> = prompt.iter().copied().chain(ids.iter().map(|&id| i64::from(id))).collect();
    assert_eq!(whole[..expected.len()], expected, "{answer:?} is what training puts there");
    let logits = vlm.logits(images, &turns).unwrap().to_dtype(DType::F64).unwrap(); // (positions, vocab)
    let total = logits.log_sum_exp(D::Minus1).unwrap().to_vec1::<f64>().unwrap();
    let logits = logits.to_vec2::<f64>().unwrap();
    let first = prompt.len() + images.len() * (vlm.image_tokens() - 1) - 1;
    let one = |(place, &id): (usize, &u32)| logits[first + place][id as usize] - total[first + place];
    ids.iter().enumerate().map(one).sum::<f64>() / ids.len() as f64
}

#[test]
fn likelihoods_are_those_of_the_logits_at_any_batch() {
    for vlm in [fixture(), tiny()] {
        let b = benchmark("tiny-seed", 12);
        let run = |batch| eval::run(&vlm, &b, &options(None, batch, Choices::Likelihood)).unwrap();
        let results = run(1);
        for (item, row) in b.items.iter().zip(&results.rows) {
            let image = item.images[0].open().unwrap();
            assert_eq!(row.likelihoods.len(), 4);
            for one in &row.likelihoods {
                let expected = by_logits(&vlm, std::slice::from_ref(&image), &item.prompt, &one.letter.to_string());
                assert!((one.log_probability - expected).abs() < 1e-4, "{}: {one:?}, {expected}", row.id);
            }
            let best = row.likelihoods.iter().max_by(|a, b| a.log_probability.total_cmp(&b.log_probability)).unwrap();
            assert_eq!((&row.output, &row.extracted), (&best.letter.to_string(), &Some(best.letter.to_string())));
            assert_eq!(row.score, f64::from(u8::from(row.output == row.gold.answer.first())));
        }
        assert!(
            results.why(3).unwrap().contains("log-probabilities after the prompt: A -"),
            "{}",
            results.why(3).unwrap()
        );
        for batch in [5, 32] {
            assert!(run(batch).rows == results.rows, "batch {batch}");
        }
    }
}

#[test]
fn continuations_of_several_tokens_are_weighed_too() {
    let vlm = fixture();
    let (tokenizer, image) = (vlm.tokenizer().unwrap(), picture("s1_00.png"));
    let text = "What is it?";
    let turn = Turn::human(with_image_marks(text, 1));
    let words = ["yes", "a red circle", "no, it is not a picture of that"];
    let ids = |word: &&str| vlm.template().answer_ids(tokenizer, &turn, word).unwrap();
    let continuations: Vec<Vec<u32>> = words.iter().map(ids).collect();
    assert!(continuations.iter().any(|ids| ids.len() > 3));
    let (ids, images) = (vlm.template().prompt(tokenizer, &[turn]).unwrap(), vec!["0".to_string()]);
    let question = Question { ids, images, wanted: Wanted::Likelihoods(continuations) };
    let open = |_: usize, _: usize| Ok(image.clone());
    let found =
        VlmEngine::new(&vlm, 2).unwrap().run(&[question.clone(), question], &open, &mut |_, _, _| true).unwrap();
    assert_eq!((found[0].likelihoods.len(), &found[0]), (words.len(), &found[1]));
    for (word, found) in words.iter().zip(&found[0].likelihoods) {
        let expected = by_logits(&vlm, std::slice::from_ref(&image), text, word);
        assert!((found - expected).abs() < 1e-4, "{word}: {found}, {expected}");
    }
}

#[test]
fn free_answers_have_no_likelihood() {
    let text = r#"let m = load("tests/fixtures/training/checkpoint");
        benchmark("tiny-vqa", #{ limit: 2 }).run(m, #{ choices: "likelihood" })"#;
    let error = run("likelihood-free", text).unwrap_err();
    assert!(error.contains("benchmark `tiny-vqa` (scorer `exact_match/2`) has no lettered choices"), "{error}");
}

#[test]
fn a_file_shows_what_the_run_showed() {
    let folder = scratch("result-file");
    let rows = [
        r#"{"question_id": "1", "question": "Q1?", "answer": "yes", "category": "random", "image": "no.png"}"#,
        r#"{"question_id": "2", "question": null, "answer": "yes", "category": "random"}"#,
        r#"{"question_id": "3", "question": "Q3?", "answer": "no", "category": "random", "image": "a.png"}"#,
    ];
    std::fs::copy("tests/fixtures/prompts/data/images/a.png", folder.join("a.png")).unwrap();
    let (data, file) = (folder.join("pope.jsonl"), folder.join("run.jsonl"));
    std::fs::write(&data, rows.join("\n")).unwrap();
    let text = format!(
        r#"let m = load("tests/fixtures/training/checkpoint");
        let b = benchmark("pope", #{{ data: "{}" }});
        let res = b.run(m, #{{ out: "{}" }});
        res.save("{file}.saved");
        show(res.table()); print("---"); show(results("{file}.saved").table()); print("---");
        `${{results("{file}").left_out == res.left_out}} ${{b.run(m, #{{ out: "{file}" }}).left_out == res.left_out}}`"#,
        data.display(),
        file.display(),
        file = file.display()
    );
    let got = run("result-file-run", &text).unwrap();
    let parts: Vec<&str> = got.split("---\n").collect();
    assert_eq!(parts[0], parts[1]);
    assert!(parts[0].contains("2 questions left out"), "{got}");
    assert_eq!(parts[2], "true true\n");
    // A line for each question, each once, however often the run was repeated.
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let left: HashMap<String, String> = lines.lines().filter_map(left_out).collect();
    assert!(left["1"].contains("no.png") && left[""].contains("row 2"), "{left:?}");

    let scored = r#"let b = benchmark("tiny-seed", #{ limit: 5, rules: "strict" });
        let res = b.score(["A", "x", "y", "z", "0"]);
        res.save("FOLDER/scored.jsonl");
        show(res.table()); print("---"); show(results("FOLDER/scored.jsonl").table());"#;
    let scored = scored.replace("FOLDER", &scratch("result-file-scored").display().to_string());
    let got = run("result-file-score", &scored).unwrap();
    let (fresh, opened) = got.split_once("---\n").unwrap();
    assert!(fresh.trim_end() == opened.trim_end() && fresh.contains("chance baseline"), "{got}");
    let unparsed = "unparsed: 4 answers could not be read and count as wrong (`1`, `2`, `3`, ...)";
    assert!(fresh.contains(unparsed), "{got}");
}

fn left_out(line: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    Some((value["id"].as_str()?.to_string(), value["left_out"].as_str()?.to_string()))
}

#[test]
fn a_file_of_other_weights_is_not_gone_on_with() {
    let folder = scratch("other-weights");
    let text = |seed: u64, more: &str| {
        format!(
            r#"let o = #{{ weights: "random", seed: {seed} }};
            let m = vlm(encoder("tiny-clip", o), projector("linear"), llm("tiny-llama", o));
            benchmark("tiny-seed", #{{ limit: 3 }}).run(m, #{{ out: "{}/run.jsonl" {more} }}).rows.len()"#,
            folder.display()
        )
    };
    assert_eq!(run("other-weights-1", &text(1, "")).unwrap(), "3\n");
    assert_eq!(run("other-weights-2", &text(1, "")).unwrap(), "3\n");
    let error = run("other-weights-3", &text(2, "")).unwrap_err();
    assert!(error.contains("run.jsonl` holds answers of other weights or settings of this model"), "{error}");
    let error = run("other-weights-4", &text(1, ", choices: \"likelihood\"")).unwrap_err();
    assert!(error.contains("holds answers with `choices` Generate, not Likelihood"), "{error}");
    assert!(Path::new(&folder).join("run.jsonl").is_file());
}

#[test]
fn an_interrupt_keeps_every_whole_answer() {
    let folder = scratch("answers-interrupt");
    let (vlm, b) = (tiny(), benchmark("tiny-vqa", 60));
    let whole = eval::run(&vlm, &b, &options(None, 4, Choices::Generate)).unwrap();
    for (number, wait) in [0, 3, 10, 30, 100].into_iter().enumerate() {
        let out = folder.join(format!("{number}.jsonl"));
        let asked = RunOptions { out: Some(out.clone()), ..options(None, 4, Choices::Generate) };
        let interrupt = asked.interrupt.clone();
        let clock = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(wait));
            interrupt.set();
        });
        let stopped = eval::run(&vlm, &b, &asked);
        clock.join().unwrap();
        let kept = Results::open(&out).map_or(0, |results| results.rows.len());
        if let Err(error) = stopped {
            assert!(error.message().starts_with(&format!("{kept} of 60 questions")), "{error}, {kept} in the file");
        }
        let rest = RunOptions { out: Some(out.clone()), ..options(None, 4, Choices::Generate) };
        assert_eq!(outputs(&eval::run(&vlm, &b, &rest).unwrap()), outputs(&whole), "stopped after {wait} ms");
    }
}

#[test]
fn a_file_that_is_no_results_file_stays_as_it_is() {
    let folder = scratch("answers-foreign");
    let (vlm, b) = (tiny(), benchmark("tiny-vqa", 2));
    let foreign = ["{\"mine\": true}", "one line of a diary\nand another", "[1, 2]\n{\"not\": \"a row\"}\n"];
    for (number, text) in foreign.into_iter().enumerate() {
        let out = folder.join(format!("{number}.json"));
        std::fs::write(&out, text).unwrap();
        let asked = RunOptions { out: Some(out.clone()), ..options(None, 4, Choices::Generate) };
        let error = eval::run(&vlm, &b, &asked).unwrap_err();
        assert!(error.message().contains(&format!("{number}.json")), "{error}");
        assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
    }

    // Answers that were read by other rules are not mixed with new ones.
    let out = folder.join("rules.jsonl");
    let asked = RunOptions { out: Some(out.clone()), ..options(None, 4, Choices::Generate) };
    eval::run(&vlm, &benchmark("tiny-vqa", 1), &asked).unwrap();
    let strict = Benchmark { rules: eval::Rules::Strict, ..b };
    let error = eval::run(&vlm, &strict, &asked).unwrap_err();
    assert!(error.message().contains("rules reference"), "{error}");
}

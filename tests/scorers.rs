//! Scores of 1,940 outputs, row by row, and every metric, as the reference computes them (`fixtures/scorers/how.md`).
//! What that file lists as decided otherwise (MMBench without GPT, MMMU without chance, POPE's yes ratio from the
//! predictions) is in its expected values already; there is no other difference.

use std::time::Instant;

use llmore::error::Kind;
use llmore::eval::{Benchmark, BenchmarkOptions, Results, Rules};
use llmore::preset::Presets;
use serde_json::{Map, Value};

use super::prompts::{TASKS, fixtures, lines, open};
use super::scripting::{run, scratch, without_sums};

fn scored(task: &str) -> (Results, Vec<Value>) {
    let expected = lines(&fixtures(&format!("scorers/{task}.jsonl")));
    let b = open(task, &fixtures(&format!("scorers/data/{task}.jsonl")));
    assert!(b.left_out.is_empty(), "{task}: {} left out, {}", b.left_out.len(), b.left_out[0]);
    let outputs: Vec<String> = expected.iter().map(|row| row["output"].as_str().unwrap().to_string()).collect();
    (Results::score_outputs(&b, "predictions", &outputs, 0.0).unwrap(), expected)
}

#[test]
fn every_row_scores_as_in_the_reference() {
    let (mut rows, mut differences) = (0, Vec::new());
    for task in TASKS {
        let (results, expected) = scored(task);
        for (index, (row, expected)) in results.rows.iter().zip(&expected).enumerate() {
            rows += 1;
            let same_score = (row.score - expected["score"].as_f64().unwrap()).abs() < 1e-12;
            let same_extracted = match &expected["extracted"] {
                // Open answers of MMMU are lists there; an absent key says nothing.
                Value::Null if expected.get("extracted").is_some() => row.extracted.is_none(),
                Value::String(text) => row.extracted.as_deref() == Some(text),
                _ => true,
            };
            if !same_score || !same_extracted {
                differences.push(format!("{task}\n{}\nexpected {expected}", results.why(index).unwrap()));
            }
        }
    }
    assert!(differences.is_empty(), "{} of {rows}:\n{}", differences.len(), differences.join("\n"));
    assert_eq!(rows, 1940);
}

/// Every number of the expected metrics, and how many there were. `groups` and what is named after the reference's
/// own rounding or chance is for information.
fn compare(path: &str, expected: &Map<String, Value>, got: &Value, compared: &mut usize) {
    for (key, value) in expected {
        let here = format!("{path}.{key}");
        match value {
            Value::Object(inner) if key != "groups" && key != "reference_with_random_fallback" => {
                compare(&here, inner, &got[key], compared);
            }
            Value::Number(number) if key != "mmmu_acc_reference_rounded" => {
                let (expected, got) = (number.as_f64().unwrap(), got[key].as_f64());
                assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{here}: {got:?}, expected {expected}");
                *compared += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn every_metric_is_that_of_the_reference() {
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures("scorers/metrics.json")).unwrap()).unwrap();
    let mut compared = 0;
    for task in TASKS {
        let metrics = Value::Object(scored(task).0.metrics());
        compare(task, expected[task].as_object().unwrap(), &metrics, &mut compared);
    }
    assert_eq!(compared, 99);
}

#[test]
fn circular_questions_count_as_in_the_reference() {
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(fixtures("scorers/metrics.json")).unwrap()).unwrap();
    for task in ["mmbench_en_dev", "mmbench_cn_dev"] {
        let groups = scored(task).0.groups();
        let expected = expected[task]["groups"].as_object().unwrap();
        assert_eq!(groups.names.len(), expected.len());
        for (name, sums) in groups.names.iter().zip(groups.sums.chunks_exact(2)) {
            assert_eq!(Some(sums[0]), expected[name].as_f64(), "{task} {name}");
        }
    }
}

#[test]
fn a_stored_file_explains_and_rescores_itself() {
    let folder = scratch("stored-results");
    for task in TASKS {
        let (results, _) = scored(task);
        let path = folder.join(format!("{task}.jsonl"));
        results.save(&path).unwrap();
        let opened = Results::open(&path).unwrap();
        assert_eq!(opened.rows, results.rows, "{task}");
        assert_eq!(opened.metrics(), results.metrics(), "{task}");
        assert_eq!(opened.rescore(Rules::Reference).unwrap().rows, results.rows, "{task}");
        for index in 0..opened.rows.len() {
            assert!(opened.why(index).unwrap().contains(&results.rows[index].id));
        }
        // Strictly, nothing scores higher than by any reading but that of letter case.
        let strict = opened.rescore(Rules::Strict).unwrap();
        assert!(strict.rows.iter().all(|row| row.rules == Rules::Strict));
    }
}

/// Expected values by running LLaVA 1.2.2 `eval_pope.py` and `eval_science_qa.py`, lmms-eval 0.7.3 `seedbench/utils.py`,
/// `ai2d/utils.py` and `scienceqa/utils.py`, and nvidia-vlmeval 26.3 `can_infer` and `YOrN_Extraction` by hand.
#[test]
fn other_tools_read_the_same_output_otherwise() {
    let cases = [
        ("pope", "No, there is not.", "no", [0, 0, 1, 1]),
        ("pope", "Yes.", "yes", [0, 0, 1, 1]),
        ("pope", "maybe", "yes", [0, 0, 1, 0]),
        ("pope", " YES ", "yes", [1, 1, 1, 1]),
        ("scienceqa_img", "The answer is B.", "1", [0, 0, 1, 1]),
        ("scienceqa_img", "B. second", "1", [1, 1, 1, 1]),
        ("scienceqa_img", "b", "1", [0, 1, 0, 0]),
        ("seedbench", "b", "B", [0, 1, -1, 0]),
        ("seedbench", "(B)", "B", [0, 0, -1, 1]),
        ("ai2d", "B. second", "1", [0, 1, -1, 1]),
        ("ai2d", "B.", "1", [1, 1, -1, 1]),
    ];
    let rules = [Rules::Reference, Rules::LmmsEval, Rules::Llava, Rules::VlmEvalKit];
    let folder = scratch("other-tools");
    for (number, (task, output, answer, expected)) in cases.into_iter().enumerate() {
        let row = format!(
            r#"{{"question_id": "q", "question": "Q?", "answer": "{answer}", "category": "c", "data_type": "image",
            "choices": ["first", "second"], "options": ["first", "second"], "choice_a": "first", "choice_b": "second",
            "choice_c": "third", "choice_d": "fourth"}}"#
        );
        let path = folder.join(format!("{number}.jsonl"));
        std::fs::write(&path, row.replace('\n', " ")).unwrap();
        for (rules, expected) in rules.into_iter().zip(expected) {
            let options = BenchmarkOptions { data: Some(path.clone()), rules, ..BenchmarkOptions::default() };
            match Benchmark::open(&Presets::default(), task, &options) {
                Ok(b) => {
                    let results = Results::score_outputs(&b, "x", &[output.to_string()], 0.0).unwrap();
                    assert_eq!(results.rows[0].score, f64::from(expected), "{task} {output:?} {}", rules.name());
                }
                Err(error) => assert_eq!((expected, error.kind()), (-1, Kind::Option), "{error}"),
            }
        }
    }
}

#[test]
fn rows_that_cannot_be_used_are_counted() {
    let folder = scratch("broken-rows");
    let rows = [
        r#"{"question_id": "1", "question": "Q1?", "answer": "yes", "category": "random", "image": "no.png"}"#,
        r#"{"question_id": "2", "question": null, "answer": "yes", "category": "random"}"#,
        r#"{"question_id": "3", "question": "Q3?", "answer": ["yes", 3, {}], "category": "random"}"#,
        r#"{"question_id": "4", "question": "Q4?", "#,
        r#"{"question_id": "1", "question": "Q1?", "answer": "yes", "category": "random"}"#,
        r#"{"question_id": "5", "question": "Q5?", "answer": "no", "category": "random", "image": "a.png"}"#,
    ];
    let path = folder.join("pope.jsonl");
    std::fs::write(&path, rows.join("\n")).unwrap();
    std::fs::copy(fixtures("prompts/data/images/a.png"), folder.join("a.png")).unwrap();
    let b = open("pope", &path);
    assert_eq!(b.items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["1#0", "5"]);
    let reasons: Vec<String> = b.left_out.iter().map(|error| error.message()).collect();
    for expected in [
        "row 4: EOF",
        "row 2: field `question` is empty",
        "row 3: field `answer` is [\"yes\",3,{}], expected an answer or a list of answers",
        "row 5: there is no picture",
    ] {
        assert!(reasons.iter().any(|reason| reason.contains(expected)), "{expected}: {reasons:?}");
    }
    let results = Results::score_outputs(&b, "x", &["yes".to_string(), "no".to_string()], 0.0).unwrap();
    assert_eq!(results.metrics()["left_out"], 4);
    // A picture that is not there leaves its question out when it is asked, not the others.
    let script = format!(
        r#"let m = load("tests/fixtures/training/checkpoint");
        let res = benchmark("pope", #{{ data: "{}" }}).run(m);
        print(res.rows.len());
        print(res.left_out[4]);
        show(res.table());"#,
        path.display()
    );
    let got = run("missing-picture", &script).unwrap();
    assert!(got.starts_with("1\n") && got.contains("item `1#0`") && got.contains("no.png"), "{got}");
    assert!(got.contains("5 questions left out"), "{got}");
}

#[test]
fn ten_thousand_predictions_take_no_time() {
    let b = Benchmark::open(&Presets::default(), "tiny-vqa", &BenchmarkOptions::default()).unwrap();
    let outputs = vec!["Yes.".to_string(); b.items.len()];
    let start = Instant::now();
    let results = Results::score_outputs(&b, "x", &outputs, 0.0).unwrap();
    let metrics = results.metrics();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} predictions scored in {seconds:.3} s", results.rows.len());
    assert!(metrics["exact_match"].as_f64().unwrap() > 0.3 && seconds < 1.0, "{seconds}");
}

#[test]
fn scripts_reach_all_of_it() {
    let script = r#"
        let b = benchmark("mme", #{ data: "tests/fixtures/scorers/data/mme.jsonl" });
        let answers = [];
        let denials = [];
        answers.pad(b.len, "Yes");
        denials.pad(b.len, "No");
        let yes = b.score(answers);
        let no = b.score(denials);
        let t = compare([yes, no], #{ published: "MORE LLaMA-3.1-8B CLIP" });
        show(t);
        let clash = "";
        try { b.score(#{ "code_reasoning/0003.png": "Yes" }); } catch (e) { clash = e.message; }
        `${t.rows[1]["p (Holm)"] > 0.5} ${yes.metrics.unparsed} ${clash} ${b[0].answer} ${b[0]["id"]}`"#;
    let got = run("scripts-eval", script).unwrap();
    assert!(
        got.ends_with(
            "true 0 benchmark `mme` has several items `code_reasoning/0003.png` Yes code_reasoning/0003.png#0\n"
        ),
        "{got}"
    );
    assert!(got.contains("1884.8"), "{got}");
}

#[test]
fn a_stopped_run_goes_on_and_parts_add_up() {
    let folder = scratch("journal");
    let script = |body: &str| {
        format!(
            r#"let m = load("tests/fixtures/training/checkpoint");
            let b = benchmark("tiny-pope", #{{ limit: 24 }});
            let file = "{}/run.jsonl";
            {body}"#,
            folder.display()
        )
    };
    let whole = run("journal-whole", &script("b.run(m, #{ out: file }).rows.map(|r| r.output)")).unwrap();
    let path = folder.join("run.jsonl");
    let text = without_sums(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(text.lines().count(), 24);
    // Stopped in the middle of line 11: ten answers are kept, one of which another hand changed.
    let cut: usize = text.lines().take(10).map(|line| line.len() + 1).sum();
    let mut first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    first["output"] = "from the file".into();
    let rest = &text[text.find('\n').unwrap() + 1..cut + 20];
    std::fs::write(&path, format!("{first}\n{rest}")).unwrap();
    let resumed = run("journal-resumed", &script("b.run(m, #{ out: file, batch: 7 }).rows.map(|r| r.output)")).unwrap();
    let old: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(resumed, whole.replacen(&format!("{:?}", old["output"].as_str().unwrap()), "\"from the file\"", 1));
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 24);
    let parts = r#"
        for k in 0..3 { b.run(m, #{ out: `${file}.${k}`, shard: [k, 3] }); }
        let all = results([`${file}.0`, `${file}.1`, `${file}.2`]);
        `${all.rows.len()} ${all.metrics.accuracy == b.run(m).metrics.accuracy}`"#;
    assert_eq!(run("journal-parts", &script(parts)).unwrap(), "24 true\n");
    let other = run("journal-other", &script("b.run(m, #{ out: file, image: \"gray\" })")).unwrap_err();
    assert!(other.contains("run.jsonl` holds answers of"), "{other}");
}

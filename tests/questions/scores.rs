//! What is counted, and how sure one is of it: unread outputs, intervals, golds, rules.

use super::*;

#[test]
fn what_could_not_be_read_is_counted() {
    let unreadable = ["", "Maybe.", "I see a dog on a bench", "42"];
    for id in ["pope", "mme"] {
        let b = open(id, &today(&format!("unparsed-says-0/{id}.jsonl")));
        let outputs: Vec<&str> = (0..b.items.len()).map(|n| unreadable[n % 4]).collect();
        let results = score(&b, &outputs);
        assert_eq!(
            (results.score(), results.metrics()["unparsed"].as_u64()),
            (0.0, Some(b.items.len() as u64)),
            "{id}"
        );
        assert!(results.why(2).unwrap().contains("no answer could be read"), "{}", results.why(2).unwrap());
        for rules in results.scorer.rules() {
            let unparsed = results.rescore(*rules).unwrap().metrics()["unparsed"].as_u64();
            // LLaVA's script takes whatever is no "no" for a "yes".
            let expected = if *rules == Rules::Llava { 0 } else { b.items.len() as u64 };
            assert_eq!(unparsed, Some(expected), "{id} {}", rules.name());
        }
        let read = score(&b, &vec!["Yes"; b.items.len()]);
        assert_eq!(read.metrics()["unparsed"], 0, "{id}");
    }
    // Letters: what is no choice was not read; a wrong choice was.
    for (id, data) in [("ai2d", "ai2d"), ("scienceqa_img", "scienceqa_img"), ("seedbench", "seedbench")] {
        let b = open(id, &fixtures(&format!("scorers/data/{data}.jsonl")));
        let unparsed = |output: &str| score(&b, &vec![output; b.items.len()]).metrics()["unparsed"].as_u64().unwrap();
        assert_eq!((unparsed("A"), unparsed("it is unclear")), (0, b.items.len() as u64), "{id}");
    }
    // Words: nothing at all.
    let b = open("gqa", &fixtures("scorers/data/gqa.jsonl"));
    assert_eq!(score(&b, &vec![""; b.items.len()]).metrics()["unparsed"], b.items.len());
    assert_eq!(score(&b, &vec!["?"; b.items.len()]).metrics()["unparsed"], b.items.len());
    assert_eq!(score(&b, &vec!["a dog"; b.items.len()]).metrics()["unparsed"], 0);
}

#[test]
fn a_perfect_score_lies_in_its_interval() {
    let gold = |item: &Item| item.gold.answer.first().to_string();
    for task in crate::prompts::TASKS {
        let b = open(task, &fixtures(&format!("scorers/data/{task}.jsonl")));
        for outputs in [b.items.iter().map(gold).collect::<Vec<_>>(), vec![String::new(); b.items.len()]] {
            let results = Results::score_outputs(&b, "x", &outputs, 0.0).unwrap();
            let (ends, score) = (results.interval().unwrap(), results.score());
            assert!(ends.low <= score && score <= ends.high, "{task}: {score} {ends:?}");
        }
    }
}

#[test]
fn a_difference_has_an_interval_where_nothing_differs() {
    let b = open("gqa", &today("paired-interval-zero/gqa.jsonl"));
    let compare = |first: &Results, second: &Results| {
        let ends =
            llmore::eval::compare::compare(&[first, second]).unwrap()[1].paired.clone().unwrap().interval.unwrap();
        ((1000.0 * ends.low).round() / 10.0, (1000.0 * ends.high).round() / 10.0)
    };
    let half = score(&b, &(0..40).map(|n| if n < 20 { "yes" } else { "no" }).collect::<Vec<_>>());
    let (all, none) = (score(&b, &["yes"; 40]), score(&b, &["no"; 40]));
    // Tango's interval: evalstats 0.3.3, `tango_scc_paired_ci(.., c=0)`; for 30 questions the second ends at -77.3.
    assert_eq!(compare(&half, &half), (-8.8, 8.8));
    assert_eq!(compare(&all, &none), (-100.0, -82.5));
    assert_eq!(compare(&none, &all), (82.5, 100.0));
    // With several questions a picture: a pair a picture. 3.8415 / (332 + 3.8415) = 1.1 %.
    let b = open("ai2d", &today("ai2d-interval/ai2d"));
    let mut outputs: Vec<&str> = b.items.iter().map(|item| item.gold.answer.first()).collect();
    outputs[0] = "-";
    let one = score(&b, &outputs);
    assert_eq!(compare(&one, &one), (-1.1, 1.1));
    // One answer more is no reason for a narrower interval.
    outputs[0] = b.items[0].gold.answer.first();
    let (low, high) = compare(&one, &score(&b, &outputs));
    assert!(low < -0.5 && high > 1.1, "{low} {high}");
    // F1 and points.
    for (id, task, scale) in [("pope", "pope", 1.0), ("mme", "mme", 2800.0)] {
        let b = open(id, &fixtures(&format!("scorers/data/{task}.jsonl")));
        let yes = score(&b, &vec!["yes"; b.items.len()]);
        let paired = llmore::eval::compare::compare(&[&yes, &yes]).unwrap()[1].paired.clone().unwrap();
        let n = yes.groups().len() as f64;
        let expected = yes.groups().scale * 3.841_458_8 / (n + 3.841_458_8);
        let ends = paired.interval.unwrap();
        assert!(
            yes.groups().scale <= scale && (ends.high - expected).abs() < 1e-4 && (ends.low + ends.high).abs() < 1e-9,
            "{id} {ends:?}"
        );
    }
}

#[test]
fn golds_that_are_lists_in_text_can_be_earned() {
    let path = scratch("list-golds").join("mmmu.jsonl");
    let row = |id: usize, answer: serde_json::Value| {
        json!({
            "id": format!("validation_Math_{id}"), "question": "How much? <image 1>", "options": "[]", "answer": answer,
            "question_type": "open",
        })
    };
    let golds = [json!("['24/7', '3.429']"), json!(["24/7", "3.429"]), json!("3.43"), json!("[not a list")];
    jsonl(&path, golds.into_iter().enumerate().map(|(id, answer)| row(id, answer)));
    let b = open("mmmu_val", &path);
    // lmms-eval 0.7.3, `eval_open`: a text that contains one of them, or an equal number of two decimals.
    let scores = |outputs: [&str; 4]| score(&b, &outputs).rows.iter().map(|row| row.score).collect::<Vec<_>>();
    assert_eq!(scores(["It is 24/7.", "24/7", "3.429", "[not a list"]), [1.0; 4]);
    assert_eq!(scores(["3.43", "3.429", "3", "no"]), [1.0, 1.0, 0.0, 0.0]);
    // The same of several people.
    let path = path.with_file_name("vqa.jsonl");
    let answers = "['yes', 'yes', 'yes', 'yes', 'no', 'no', 'no', 'no', 'no', 'no']";
    jsonl(&path, [json!({ "question_id": 1, "question": "q", "answers": answers, "image_id": "i" })]);
    assert_eq!(score(&open("textvqa_val", &path), &["yes"]).score(), 1.0);
}

#[test]
fn every_scorer_knows_the_rules_of_lmms_eval() {
    for task in crate::prompts::TASKS {
        let b = open(task, &fixtures(&format!("scorers/data/{task}.jsonl")));
        let texts = crate::prompts::lines(&fixtures(&format!("scorers/{task}.jsonl")));
        let outputs: Vec<String> = texts.iter().map(|row| row["output"].as_str().unwrap().to_string()).collect();
        let results = Results::score_outputs(&b, "x", &outputs, 0.0).unwrap();
        let today = results.rescore(Rules::LmmsEval).unwrap();
        if ["mme", "textvqa_val", "pope", "gqa", "mmmu_val"].contains(&task) {
            assert_eq!(results.score(), today.score(), "{task}");
        }
        if task == "mmbench_en_dev" {
            // By `mmbench_evals.py` of lmms-eval 0.7.3 with `static_only`: 36 of 56 questions, 176 of 203 rows.
            near(today.score(), 36.0 / 56.0);
            assert_eq!(today.rows.iter().map(|row| row.score).sum::<f64>(), 176.0);
            assert!(today.table().note.unwrap().contains("mmbench_en_dev_static"));
        }
    }
    let presets = Presets::default();
    for id in presets.ids(PresetKind::Benchmarks) {
        let options = BenchmarkOptions { rules: Rules::LmmsEval, ..BenchmarkOptions::default() };
        match Benchmark::open(&presets, &id, &options) {
            Ok(b) => assert_eq!(b.rules, Rules::LmmsEval, "{id}"),
            // Rules are looked at before data.
            Err(error) => assert!(error.to_string().contains("needs its questions"), "{id}: {error}"),
        }
    }
}

//! Which questions are asked and counted, and what is one draw among them: every row of a published set, its pictures by name
//! or by bytes, whole units under `limit`, and what is said where something is missing. Inputs with their sources are in
//! `fixtures/today/`.

mod scores;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use llmore::eval::{Benchmark, BenchmarkOptions, Item, Results, Rules};
use llmore::preset::{PresetKind, Presets};
use serde_json::json;

use super::prompts::{fixtures, open};
use super::scripting::{run, scratch};

fn today(path: &str) -> PathBuf {
    fixtures(&format!("today/{path}"))
}

fn score(b: &Benchmark, outputs: &[&str]) -> Results {
    let outputs: Vec<String> = outputs.iter().map(|output| output.to_string()).collect();
    Results::score_outputs(b, "x", &outputs, 0.0).unwrap()
}

fn jsonl(path: &Path, rows: impl IntoIterator<Item = serde_json::Value>) {
    let mut text = String::new();
    rows.into_iter().for_each(|row| writeln!(text, "{row}").unwrap());
    std::fs::write(path, text).unwrap();
}

fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
}

/// The published layout at full size: `id` runs over all rows, `question_id` begins anew in each split, and all three ask the
/// same 1,500 questions that are "yes".
fn pope(path: &Path) {
    let rows = (0..9000).map(|n| {
        let (split, number) = (n / 3000, n % 3000);
        let (picture, yes) = (number / 6, number % 2 == 0);
        let thing = if yes { format!("thing {}", number % 6) } else { format!("{} of split {split}", number % 6) };
        json!({
            "id": n.to_string(), "question_id": (number + 1).to_string(), "answer": if yes { "yes" } else { "no" },
            "question": format!("Is there a {thing} in the image?"), "category": SPLITS[split],
            "image_source": format!("COCO_val2014_{picture:012}"),
        })
    });
    jsonl(path, rows);
}

const SPLITS: [&str; 3] = ["adversarial", "popular", "random"];

#[test]
fn pope_counts_all_of_its_nine_thousand_questions() {
    let path = scratch("pope-whole").join("pope.jsonl");
    pope(&path);
    let b = open("pope", &path);
    assert_eq!((b.items.len(), b.left_out.len(), b.counted()), (9000, 0, None));
    assert_eq!([&b.items[0].id, &b.items[3000].id, &b.items[8999].id], ["1#0", "1#1", "3000#2"]);

    // Of the 1,500 "yes" of a split one in ten is missed; of its 1,500 "no" one in 5, 10 and 20 is a false alarm.
    let false_alarms = [5, 10, 20];
    let outputs: Vec<&str> = (0..9000)
        .map(|n| {
            let (split, pair) = (n / 3000, n % 3000 / 2);
            let says_yes = if n % 2 == 0 { pair % 10 != 0 } else { pair % false_alarms[split] == 0 };
            if says_yes { "Yes" } else { "no" }
        })
        .collect();
    let results = score(&b, &outputs);
    let metrics = serde_json::Value::Object(results.metrics());
    // Hits 1,350 a split, misses 150, false alarms 300, 150 and 75. F1 = 2 hits / (2 hits + false alarms + misses):
    // 2700 / (2700 + 450) = 6/7, 2700 / 3000 = 9/10, 2700 / 2925 = 12/13; pooled 8100 / (8100 + 525 + 450) = 108/121.
    for (split, f1) in SPLITS.iter().zip([6.0 / 7.0, 0.9, 12.0 / 13.0]) {
        near(metrics["by_category"][split]["f1"].as_f64().unwrap(), f1);
    }
    near(results.score(), 108.0 / 121.0);
    near(metrics["f1"].as_f64().unwrap(), 108.0 / 121.0);
    near(metrics["f1_mean"].as_f64().unwrap(), (6.0 / 7.0 + 0.9 + 12.0 / 13.0) / 3.0);
    near(metrics["accuracy"].as_f64().unwrap(), (9000.0 - 525.0 - 450.0) / 9000.0);
    // 500 pictures, each with its 18 questions in three splits.
    assert_eq!(results.groups().len(), 500);
}

#[test]
fn popes_answers_may_be_named_by_either_id() {
    let folder = today("pope-three-categories");
    let text = format!(
        r#"let b = benchmark("pope", #{{ data: "{0}/pope.jsonl" }});
        print(b);
        for outputs in [json(read("{0}/outputs.json")), json(read("{0}/by_id.json"))] {{
            let r = b.score(outputs);
            print(`${{b.len}} ${{b.left_out.len()}} ${{r.metrics.accuracy}} ${{r.score}}`);
        }}
        show(b.score(json(read("{0}/by_id.json"))).table());
        let one = json(read("{0}/by_id.json")); one.remove("7"); one["x"] = "no";
        try {{ b.score(one); }} catch (e) {{ print(e.message); }}"#,
        folder.display()
    );
    let got = run("pope-by-id", &text).unwrap();
    // Right: 360 items, accuracy and F1 0.8 (`how.md`).
    assert!(
        got.starts_with("Benchmark(pope, 360 of 9,000 published questions)\n360 0 0.8 0.8\n360 0 0.8 0.8\n"),
        "{got}"
    );
    let first = got.lines().nth(3).unwrap();
    assert!(first.contains("predictions on pope, 360 of 9,000 published questions"), "{first}");
    assert!(got.ends_with("benchmark `pope` has no item `x`\n"), "{got}");

    // Ids that name different questions in two ways are not guessed at.
    let folder = scratch("pope-two-ways");
    let row = |id: &str, other: &str| json!({ "id": id, "question_id": other, "question": other, "answer": "yes", "category": "c", "image_source": other });
    jsonl(&folder.join("pope.jsonl"), [row("1", "2"), row("2", "1")]);
    let text = format!(
        r#"let b = benchmark("pope", #{{ data: "{}" }});
        print(b.score(#{{ "1": "yes", "2": "yes" }}).score);
        b.score(#{{ "1": "yes", "2": "no" }})"#,
        folder.join("pope.jsonl").display()
    );
    let error = run("pope-two-ways-script", &text).unwrap_err();
    assert!(error.contains("in two ways") && error.contains("array in item order"), "{error}");
}

#[test]
fn no_row_is_a_repeat_by_its_fields() {
    let b = open("seedbench", &today("seed-repeated-id/SEED-Bench"));
    let ids: Vec<&str> = b.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!((b.left_out.len(), score(&b, &["B"; 3]).rows.len()), (0, 3), "{ids:?}");
    assert_eq!(ids.iter().filter(|id| id.contains('#')).count(), 2, "{ids:?}");
    // Rows that are equal in every field, as ten of ChartQA are, count each.
    let path = scratch("equal-rows").join("chartqa.jsonl");
    jsonl(&path, vec![json!({ "question": "How many?", "answer": "4", "type": "human_test", "image": "1.png" }); 3]);
    assert_eq!(open("chartqa", &path).items.len(), 3);
}

#[test]
fn every_published_set_says_how_many_questions_it_has() {
    let presets = Presets::default();
    for id in presets.ids(PresetKind::Benchmarks).into_iter().filter(|id| !id.starts_with("tiny-")) {
        let task = if id == "textvqa_val_no_ocr" { "textvqa_val" } else { &id };
        let path = fixtures(&format!("scorers/data/{task}.jsonl"));
        if !path.is_file() {
            continue;
        }
        let b = open(&id, &path);
        assert!(b.counted().unwrap().contains("published questions"), "{id}");
        // Of all sets but LLaVA-Bench the `about` line names the number as well.
        let named = llmore::show::grouped(b.counts.published[0]);
        assert!(
            b.about.contains(&named)
                || ["textvqa_val_no_ocr", "mmbench_en_dev", "mmbench_cn_dev", "seedbench"].contains(&&*id),
            "{id}: {named}"
        );
    }
}

/// Forty pictures with five questions each, all right or all wrong, in one layout; gives the interval.
fn clustered(name: &str, id: &str, row: &dyn Fn(usize, usize) -> serde_json::Value) -> (f64, f64) {
    let path = scratch(name).join("rows.jsonl");
    jsonl(&path, (0..200).map(|n| row(n, n / 5)));
    let b = open(id, &path);
    let outputs: Vec<&str> = (0..200).map(|n| if n / 5 % 2 == 0 { "B" } else { "A" }).collect();
    let ends = score(&b, &outputs).interval().unwrap();
    (ends.low, ends.high)
}

#[test]
fn equal_answers_have_equal_intervals_in_every_layout() {
    let folder = today("intervals-not-by-image");
    let outputs: Vec<String> =
        serde_json::from_str(&std::fs::read_to_string(folder.join("outputs.json")).unwrap()).unwrap();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let mut ends = Vec::new();
    for (id, file) in [
        ("gqa", "gqa.jsonl"),
        ("seedbench", "seedbench.jsonl"),
        ("ai2d", "ai2d.jsonl"),
        ("scienceqa_img", "scienceqa_img.jsonl"),
        ("ai2d", "ai2d.parquet"),
    ] {
        let b = open(id, &folder.join(file));
        let results = score(&b, &outputs);
        assert_eq!(results.groups().len(), 40, "{file}");
        ends.push(results.interval().unwrap());
        assert_eq!(b.group(&b.items[0]), results.rows[0].group, "{file}");
    }
    assert!(ends.iter().all(|other| *other == ends[0]), "{ends:?}");
    // Right: 32.1 to 63.4 % (`how.md`).
    assert!((ends[0].low - 0.321).abs() < 5e-4 && (ends[0].high - 0.634).abs() < 5e-4, "{:?}", ends[0]);
}

#[test]
fn the_bytes_tell_pictures_apart_and_not_their_names() {
    let pictures = today("intervals-not-by-image");
    let folder = scratch("copied-pictures");
    // Every question has a copy of its picture under a name of its own.
    for n in 0..200 {
        std::fs::copy(pictures.join(format!("{}.png", n / 5)), folder.join(format!("own-{n}.png"))).unwrap();
    }
    let named = |name: &str| folder.join(name).display().to_string();
    let ai2d = |n: usize, image: serde_json::Value| json!({ "question": format!("Q{n}"), "options": ["a", "b"], "answer": "1", "image": image });
    let by_name = clustered("own-shared", "ai2d", &|n, picture| {
        ai2d(n, json!(pictures.join(format!("{picture}.png")).display().to_string()))
    });
    let copies = clustered("own-copies", "ai2d", &|n, _| ai2d(n, json!(named(&format!("own-{n}.png")))));
    let lists = clustered("own-lists", "ai2d", &|n, _| ai2d(n, json!([named(&format!("own-{n}.png"))])));
    let gone = clustered("own-gone", "ai2d", &|n, picture| ai2d(n, json!(format!("gone-{picture}.png"))));
    // Questions that show two pictures belong with all that show one of them.
    let marked = clustered("own-marks", "mmmu_val", &|n, picture| {
        let own = named(&format!("own-{n}.png"));
        let other = json!(pictures.join(format!("{picture}.png")).display().to_string());
        let second = if n % 5 == 0 { other } else { json!(null) };
        json!({
            "id": format!("validation_Art_{n}"), "question_type": "multiple-choice", "options": "['a', 'b']", "answer": "B",
            "question": if n % 5 == 0 { "<image 1> and <image 2>" } else { "<image 1>?" }, "image_1": own, "image_2": second,
        })
    });
    let turns = clustered("own-mmbench", "mmbench_en_dev", &|n, _| {
        json!({
            "index": n, "question": "Q", "hint": "nan", "answer": "B", "A": "a", "B": "b", "C": "c", "D": "d",
            "category": "c", "l2-category": "l", "image": named(&format!("own-{n}.png")),
        })
    });
    for (layout, other) in
        [("copies", copies), ("lists", lists), ("not there", gone), ("marks", marked), ("mmbench", turns)]
    {
        assert_eq!(by_name, other, "{layout}");
    }
    assert!(by_name.1 - by_name.0 > 0.25, "{by_name:?}");
}

#[test]
fn diagrams_of_ai2d_are_one_draw_each() {
    let text = std::fs::read_to_string(today("ai2d-interval/run.rhai")).unwrap();
    let answers = text.split('"').nth(1).unwrap();
    let b = open("ai2d", &today("ai2d-interval/ai2d"));
    let outputs: Vec<String> = answers.chars().map(String::from).collect();
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let results = score(&b, &outputs);
    let ends = results.interval().unwrap();
    // Resampling pictures gives 49.2 to 64.4 % (`how.md`); by question it would be 53.4 to 60.3 %.
    assert_eq!(results.groups().len(), 332);
    assert!((ends.low - 0.492).abs() < 0.005 && (ends.high - 0.644).abs() < 0.005, "{ends:?}");
}

#[test]
fn questions_without_any_mark_of_a_picture_are_said_to_be_apart() {
    let table = |task: &str| {
        let b = open(task, &fixtures(&format!("scorers/data/{task}.jsonl")));
        score(&b, &vec!["A"; b.items.len()]).table().note.unwrap_or_default()
    };
    assert!(table("ai2d").contains("every question counts as a draw of its own"), "{}", table("ai2d"));
    assert!(!table("gqa").contains("draw of its own"), "{}", table("gqa"));
}

#[test]
fn a_file_with_other_groups_is_compared_all_the_same() {
    // A file of an older version took each question of AI2D for a group.
    let b = open("ai2d", &today("ai2d-interval/ai2d"));
    let (first, mut second) = (score(&b, &vec!["A"; b.items.len()]), score(&b, &vec!["B"; b.items.len()]));
    let plain = llmore::eval::compare::compare(&[&first, &second]).unwrap()[1].paired.clone().unwrap();
    second.rows.iter_mut().for_each(|row| row.group.clone_from(&row.id));
    let mixed = llmore::eval::compare::compare(&[&first, &second]).unwrap()[1].paired.clone().unwrap();
    assert_eq!(plain.difference, mixed.difference);
    assert!((plain.error - mixed.error).abs() < 1e-12, "{} {}", plain.error, mixed.error);
}

const TINY: &str = r#"let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));"#;

#[test]
fn pictures_that_are_not_there_are_not_asked_about() {
    let ask = |name: &str, id: &str, data: &str| {
        let text = format!(
            r#"{TINY} let b = benchmark("{id}", #{{ data: "{}" }});
            let r = b.run(m);
            let gray = b.run(m, #{{ image: "gray" }});
            `${{b.len}} ${{r.rows.len()}} ${{r.left_out.len()}} ${{r.left_out[0]}} ${{gray.cached}}`"#,
            today(&format!("no-picture-no-word/{data}")).display()
        );
        run(name, &text)
    };
    let gqa = ask("blind-gqa", "gqa", "gqa").unwrap_err();
    assert!(gqa.contains("none of its 20 questions has one") && gqa.contains("images: \"folder or file\""), "{gqa}");
    let vqav2 = ask("blind-vqav2", "vqav2", "VQAv2-text-only").unwrap_err();
    assert!(vqav2.contains("none of its 20 questions has one") && vqav2.contains("field `image`"), "{vqav2}");
    // Half of the rows have a picture; the gray control takes nothing from the other answers.
    let full = ask("blind-scienceqa", "scienceqa_img", "ScienceQA-FULL").unwrap();
    assert!(full.starts_with("10 10 10 ") && full.contains("there is no picture") && full.ends_with(" 0\n"), "{full}");

    // Text alone is enough to score answers by.
    let b = open("pope", &fixtures("scorers/data/pope.jsonl"));
    assert_eq!(score(&b, &vec!["yes"; b.items.len()]).rows.len(), 198);
    let asked = run(
        "blind-pope",
        &format!(r#"{TINY} benchmark("pope", #{{ data: "tests/fixtures/scorers/data/pope.jsonl" }}).run(m)"#),
    );
    assert!(asked.unwrap_err().contains("none of its 198 questions has one"));
    // A mark without its picture.
    let path = scratch("blind-mark").join("mmmu.jsonl");
    let row = |id: usize, second: Option<&str>| {
        json!({
            "id": format!("validation_Art_{id}"), "question": "<image 1> or <image 2>?", "options": "['a', 'b']", "answer": "A",
            "question_type": "multiple-choice", "image_1": "a.png", "image_2": second,
        })
    };
    jsonl(&path, [row(1, Some("b.png")), row(2, None)]);
    let b = open("mmmu_val", &path);
    assert_eq!((b.items.len(), b.left_out.len()), (1, 1));
    assert!(b.left_out[0].message().contains("row 2: its prompt shows 2 pictures, its row has 1"), "{}", b.left_out[0]);
}

#[test]
fn limit_takes_whole_questions_of_mmbench_and_whole_pictures_of_mme() {
    let path = today("mmbench-limit/circ.jsonl");
    let limited = |id: &str, data: &Path, limit: usize| {
        let options =
            BenchmarkOptions { data: Some(data.to_path_buf()), limit: Some(limit), ..BenchmarkOptions::default() };
        Benchmark::open(&Presets::default(), id, &options).unwrap()
    };
    for (limit, rows) in [(10, 40), (15, 40), (3, 12), (1, 4)] {
        let b = limited("mmbench_en_dev", &path, limit);
        // "A" for all is right in the first order only.
        assert_eq!((b.items.len(), score(&b, &vec!["A"; rows]).score()), (rows, 0.0), "{limit}");
    }
    let note = limited("mmbench_en_dev", &path, 3).counted().unwrap();
    assert_eq!(
        note,
        "12 of 4,329 or 4,377 published questions (limit: the first 3, in all their orders; the data hold 40)"
    );

    // MME's rows are shuffled in this file, two a picture.
    let path = fixtures("scorers/data/mme.jsonl");
    for (limit, rows) in [(1, 2), (4, 4), (5, 6), (168, 168)] {
        let b = limited("mme", &path, limit);
        let pictures: std::collections::BTreeSet<&str> = b.items.iter().map(|item| item.group.as_str()).collect();
        assert_eq!((b.items.len(), 2 * pictures.len()), (rows, rows), "{limit}");
    }
    // In a run and in parts of it as well.
    let folder = scratch("limit-run");
    let rows = (0..40).map(|n| {
        let index = if n < 10 { n } else { 1_000_000 * (n / 10) + n % 10 };
        json!({
            "index": index, "question": format!("q{}", n % 10), "hint": "nan", "answer": "ABCD"[n / 10..=n / 10],
            "A": "x", "B": "y", "C": "z", "D": "w", "category": "c", "L2_Category": "l",
            "image": today(&format!("intervals-not-by-image/{}.png", n % 10)).display().to_string(),
        })
    });
    jsonl(&folder.join("circ.jsonl"), rows);
    let text = format!(
        r#"{TINY} let b = benchmark("mmbench_cn_dev", #{{ data: "{0}/circ.jsonl" }});
        let r = b.run(m, #{{ limit: 3 }});
        for k in 0..2 {{ b.run(m, #{{ out: `{0}/part${{k}}.jsonl`, shard: [k, 2] }}); }}
        let parts = [results("{0}/part0.jsonl"), results("{0}/part1.jsonl")];
        print(`${{r.rows.len()}} ${{r.metrics.by_l2_category.keys()}} ${{parts[0].rows.len() + parts[1].rows.len()}} ${{parts[0].rows.len() % 4}}`);"#,
        folder.display()
    );
    assert_eq!(run("limit-run-script", &text).unwrap(), "12 [\"l\"] 40 0\n");
}

#[test]
fn a_missing_part_is_told_and_an_empty_one_is_none() {
    let folder = scratch("missing-part");
    let text = format!(
        r#"{TINY} let b = benchmark("tiny-vqa", #{{ limit: 30 }});
        for k in 0..3 {{ b.run(m, #{{ out: `{0}/part${{k}}.jsonl`, shard: [k, 3] }}); }}
        show(results(["{0}/part0.jsonl", "{0}/part1.jsonl", "{0}/part2.jsonl"]).table());
        print("---"); show(results(["{0}/part0.jsonl", "{0}/part2.jsonl"]).table());
        print("---"); show(results("{0}/part2.jsonl").table());
        // More parts than pictures.
        let few = benchmark("tiny-vqa", #{{ limit: 4 }});
        let files = [];
        for k in 0..5 {{ files.push(`{0}/few${{k}}.jsonl`); few.run(m, #{{ out: files[k], shard: [k, 5] }}); }}
        let all = results(files);
        print("---"); print(`${{all.rows.len()}} ${{all.score == few.run(m).score}}`); show(all.table());
        all.save("{0}/all.jsonl", #{{ overwrite: true }}); show(results("{0}/all.jsonl").table());
        files.remove(4); print("---"); show(results(files).table());
        // Parts into one file are the whole run.
        for k in 0..3 {{ b.run(m, #{{ out: "{0}/one.jsonl", shard: [k, 3] }}); }}
        print("---"); show(results("{0}/one.jsonl").table());
        few.run(m, #{{ out: "{0}/two.jsonl", shard: [0, 2] }});
        results(["{0}/part0.jsonl", "{0}/two.jsonl"])"#,
        folder.display()
    );
    let error = run("missing-part", &text).unwrap_err();
    assert!(
        error.contains("answered twice") || error.contains("a run in 2 parts, the files before it in 3"),
        "{error}"
    );
    let whole = text.rsplit_once("few.run").unwrap().0;
    let got = run("missing-part-said", whole).unwrap();
    let parts: Vec<&str> = got.split("---\n").collect();
    assert!(!parts[0].contains("missing"), "{got}");
    assert!(parts[1].contains("part 1 of 3 is missing"), "{got}");
    assert!(parts[2].contains("parts 0 and 1 of 3 are missing"), "{got}");
    assert!(parts[3].starts_with("4 true\n") && !parts[3].contains("missing"), "{got}");
    assert!(parts[4].contains("part 4 of 5 is missing"), "{got}");
    assert!(!parts[5].contains("missing") && !parts[5].contains("stopped"), "{got}");
    // A file that a stopped run left.
    let file = std::fs::read_to_string(folder.join("one.jsonl")).unwrap();
    let cut: String = file.lines().take(5).map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("cut.jsonl"), cut).unwrap();
    let note = Results::open(&folder.join("cut.jsonl")).unwrap().table().note.unwrap();
    assert!(note.contains("are answered: the run was stopped"), "{note}");
}

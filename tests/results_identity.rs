//! What results are about: the pictures and right answers of today, the model that answered, the questions that were asked.

use std::path::Path;

use llmore::eval::Results;

use super::scripting::{run, scratch, without_sums};

/// A folder with one question about a picture that is read from a file.
fn one_question(name: &str) -> std::path::PathBuf {
    let folder = scratch(name);
    std::fs::create_dir_all(folder.join("images")).unwrap();
    question(&folder, "red", "rgb-137x191.png");
    folder
}

fn question(folder: &Path, answer: &str, picture: &str) {
    let line = format!(
        r#"{{"id": "1", "imageId": "n1", "image": "images/a.png", "question": "what color is the shape?", "answer": "{answer}", "fullAnswer": "{answer}"}}"#
    );
    std::fs::write(folder.join("gqa.jsonl"), line + "\n").unwrap();
    std::fs::copy(Path::new("tests/fixtures/images").join(picture), folder.join("images/a.png")).unwrap();
}

/// Asks the question, its answer kept in a file; gives back the score of the results and that of the file.
fn asked(folder: &Path) -> Result<String, String> {
    let folder = folder.display();
    let text = format!(
        r#"let b = benchmark("gqa", #{{ data: "{folder}/gqa.jsonl" }});
        let r = b.run(load("tests/fixtures/training/checkpoint"), #{{ out: "{folder}/out.jsonl", cache: "off" }});
        let f = results("{folder}/out.jsonl");
        `${{r.rows[0].answer}} ${{r.score}} ${{f.rows[0].answer}} ${{f.score}} ${{r.rows[0].output}}`"#
    );
    run("results-identity", &text)
}

#[test]
fn an_answer_about_another_picture_is_refused() {
    let folder = one_question("identity-picture");
    asked(&folder).unwrap();
    let kept = Results::open(&folder.join("out.jsonl")).unwrap();
    assert_eq!(kept.rows[0].pictures[0].len(), 16);
    question(&folder, "red", "red-circle.png");
    let error = asked(&folder).unwrap_err();
    let picture = folder.join("images/a.png").display().to_string();
    assert!(error.contains("the picture of question `1` is another one now") && error.contains(&picture), "{error}");
    assert!(error.contains("choose another `out`, or remove the file"), "{error}");
    assert_eq!(Results::open(&folder.join("out.jsonl")).unwrap().rows, kept.rows);

    // The same picture under its name again, and a file that does not say what was shown.
    question(&folder, "red", "rgb-137x191.png");
    asked(&folder).unwrap();
    let text = without_sums(&std::fs::read_to_string(folder.join("out.jsonl")).unwrap());
    let hash = format!(r#","pictures":["{}"]"#, kept.rows[0].pictures[0]);
    assert!(text.contains(&hash), "{text}");
    std::fs::write(folder.join("out.jsonl"), text.replace(&hash, "")).unwrap();
    question(&folder, "red", "red-circle.png");
    asked(&folder).unwrap();
}

#[test]
fn an_answer_to_another_prompt_is_refused() {
    let folder = one_question("identity-prompt");
    asked(&folder).unwrap();
    let kept = std::fs::read_to_string(folder.join("out.jsonl")).unwrap();
    let text = std::fs::read_to_string(folder.join("gqa.jsonl")).unwrap();
    std::fs::write(folder.join("gqa.jsonl"), text.replace("what color", "which color")).unwrap();
    let error = asked(&folder).unwrap_err();
    assert!(error.contains("the prompt of question `1` is another one now"), "{error}");
    assert!(error.contains("choose another `out`, or remove the file"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.join("out.jsonl")).unwrap(), kept);
    // Asked as before, the run goes on with what is there.
    std::fs::write(folder.join("gqa.jsonl"), text).unwrap();
    asked(&folder).unwrap();
}

#[test]
fn another_right_answer_scores_kept_answers_again() {
    let folder = one_question("identity-gold");
    let before = asked(&folder).unwrap();
    let output = before.trim_end().splitn(5, ' ').nth(4).unwrap().to_string();
    let fit = |answer: &str| if answer == output { "1.0" } else { "0.0" };
    for answer in ["blue", output.as_str(), "red"] {
        question(&folder, answer, "rgb-137x191.png");
        let score = fit(answer);
        assert_eq!(asked(&folder).unwrap(), format!("{answer} {score} {answer} {score} {output}\n"));
    }
    assert_eq!(std::fs::read_to_string(folder.join("out.jsonl")).unwrap().lines().count(), 1);
    // A question that the data do not hold any more would stand in the file and not in the results.
    let text = std::fs::read_to_string(folder.join("gqa.jsonl")).unwrap();
    std::fs::write(folder.join("gqa.jsonl"), text.replace(r#""id": "1""#, r#""id": "2""#)).unwrap();
    let error = asked(&folder).unwrap_err();
    assert!(error.contains("answers question `1`, which the data do not hold any more"), "{error}");
}

#[test]
fn a_question_that_is_answered_twice_counts_once() {
    let folder = one_question("identity-twice");
    asked(&folder).unwrap();
    let text = std::fs::read_to_string(folder.join("out.jsonl")).unwrap();
    std::fs::write(folder.join("out.jsonl"), text.repeat(2)).unwrap();
    asked(&folder).unwrap();
    assert_eq!(Results::open(&folder.join("out.jsonl")).unwrap().rows.len(), 1);
}

#[test]
fn models_of_one_name_are_told_apart() {
    let text = r#"let b = benchmark("tiny-vqa", #{ limit: 6 });
        let all = [];
        for e in ["tiny-clip", "tiny-dinov2"] {
            let m = vlm(encoder(e), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
            let options = #{ train: #{ projector: 1e-3, llm: 1e-3 }, batch: 2, steps: 1, warmup_ratio: 0.0, schedule: "constant" };
            let r = trainer(m, dataset("tiny-instruct").take(4), options).fit();
            for o in [#{}, #{ dtype: "bf16" }, #{ quantize: "q8_0" }, #{ template: "v1" }] { all.push(b.run(load(r.checkpoint, o))); }
        }
        for row in compare(all).rows { print(row["answers by"]); }
        print("---");
        all[0].save("FOLDER/names.jsonl");
        for row in compare([results("FOLDER/names.jsonl"), all[1]]).rows { print(row["answers by"]); }
        show(all[2].table());"#;
    let text = text.replace("FOLDER", &scratch("identity-file").display().to_string());
    let got = run("identity-names", &text).unwrap();
    let (names, rest) = got.split_once("---\n").unwrap();
    let names: Vec<&str> = names.lines().collect();
    let start = "vision-tower -> mlp2x_gelu (average to 4) -> checkpoint-1";
    let expected: Vec<String> = ["tiny-clip", "tiny-dinov2"]
        .iter()
        .flat_map(|encoder| {
            let of = |more: &str| format!("{start} ({encoder}, {more})");
            [of("f32, template tiny"), of("bf16, template tiny"), of("q8_0, template tiny"), of("f32, template v1")]
        })
        .collect();
    assert_eq!(names, expected);
    let saved: Vec<&str> = rest.lines().take(2).collect();
    assert_eq!(saved, [format!("{start} (f32)"), format!("{start} (bf16)")]);
    assert!(
        rest.contains("checkpoint-1`, made of tiny-clip -> mlp2x_gelu (average to 4) -> tiny-llama: q8_0"),
        "{rest}"
    );
}

#[test]
fn what_is_not_known_is_numbered_and_the_same_is_not() {
    let text = r#"let b = benchmark("tiny-vqa", #{ limit: 3 });
        let all = [b.score(["yes", "no", "yes"]), b.score(["yes", "yes", "yes"]), b.score(["yes", "no", "yes"])];
        for row in compare(all).rows { print(row["answers by"]); }
        for row in compare([all[0], all[2]]).rows { print(row["answers by"]); }"#;
    let expected = "predictions (1)\npredictions (2)\npredictions (1)\npredictions\npredictions\n";
    assert_eq!(run("identity-numbered", text).unwrap(), expected);
}

#[test]
fn numbers_of_questions_and_the_next_step_are_named() {
    let of = |a: &str, b: &str| {
        let text = format!(
            r#"let r = |n| {{ let yes = []; for i in 0..n {{ yes.push("yes"); }} benchmark("tiny-vqa", #{{ limit: n }}).score(yes) }};
            compare([r.call({a}), r.call({b})])"#
        );
        run("identity-limits", &text).unwrap_err()
    };
    for (a, b) in [("4", "8"), ("8", "4")] {
        let error = of(a, b);
        assert!(error.contains(&format!("answers {a}, `predictions")) && error.contains("4 of them both"), "{error}");
        assert!(error.contains("run both with the same `limit`: `b.run(m, #{ limit: 4 })`"), "{error}");
    }
}

#[test]
fn baselines_are_those_of_the_questions_that_are_asked() {
    let text = r#"let yes = |b| { let all = []; for i in 0..b.len { all.push("yes"); } b.score(all) };
        let few = yes.call(benchmark("tiny-vqa", #{ limit: 10 }));
        for row in few.table().rows { print(`${row["answers by"]}: ${row.score}`); }
        for row in yes.call(benchmark("tiny-vqa")).table().rows { if row["answers by"].ends_with("baseline") { print(`${row["answers by"]}: ${row.score}`); } }
        let pope = benchmark("tiny-pope", #{ limit: 7 });
        let all = yes.call(pope);
        for row in all.table().rows { if row["answers by"].ends_with("baseline") { print(row.score == all.score); } }
        let m = load("tests/fixtures/training/checkpoint");
        let r = benchmark("tiny-seed").run(m, #{ limit: 4 });
        for row in r.table().rows { if row["answers by"].ends_with("baseline") { print(row.score); } }"#;
    let got = run("identity-baselines", text).unwrap();
    let lines: Vec<&str> = got.lines().collect();
    assert_eq!(lines[0], "the model: 0.2", "{got}");
    assert!(got.contains("blind baseline of all questions: 0.67\nmajority baseline: 0.2\n"), "{got}");
    assert!(got.contains("blind baseline: 0.67\nmajority baseline: 0.373\ntrue\n0.25\n"), "{got}");
}

#[test]
fn no_detectable_difference_is_above_one() {
    let text = r#"let one = benchmark("tiny-vqa", #{ limit: 1 });
        print(one.detectable(0.2));
        print(benchmark("tiny-seed").detectable(0.2) < 0.1);"#;
    assert_eq!(run("identity-detectable", text).unwrap(), "1.0\ntrue\n");
}

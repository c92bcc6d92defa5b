//! Studies that several processes or several states of the data work at: each cell is made once, and no score is pooled with
//! one that is about something else.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::events::{Interrupt, Listeners};
use llmore::preset::Presets;
use llmore::script::{Overrides, Session, SessionOptions};
use llmore::study::{Record, StudyOptions};
use llmore::writer::Writer;

use super::scripting::{Captured, scratch, without_sums};
use super::study::{benchmark, options, strings, study};

fn small(out: &Path, seeds: &[u64]) -> StudyOptions {
    StudyOptions {
        encoders: strings(&["tiny-clip"]),
        benchmarks: vec![benchmark("tiny-vqa")],
        stage: "steps = 2\nbatch = 2".parse().unwrap(),
        seeds: seeds.to_vec(),
        ..options(out)
    }
}

#[test]
fn a_cell_that_somebody_makes_is_left_to_them() {
    let folder = scratch("sharing-held");
    let out = folder.join("out");
    let held = out.join("cells/tiny-clip--tiny-llama--s1");
    let (writer, _) = Writer::take(&held).unwrap();
    let (mut mine, ears) = study(&folder, small(&out, &[0, 1])).unwrap();
    let summary = mine.run().unwrap();
    assert_eq!(ears.steps(), 4);
    let whose = format!("being made by process {}", std::process::id());
    assert_eq!(summary.rows[0][1].text, "done");
    assert!(summary.rows[1][1].text.starts_with(&whose), "{}", summary.text(None, false));
    let warnings = ears.warnings.lock().unwrap().join("\n");
    assert!(warnings.contains("left to other processes") && warnings.contains("--s1 by process"), "{warnings}");
    // Somebody else lets the study grow meanwhile, and this one notes what it does: both stay.
    let (mut grown, _) = study(&folder, small(&out, &[0, 1, 2])).unwrap();
    grown.run().unwrap();
    drop(writer);
    assert_eq!(mine.run().unwrap().rows[1][1].text, "done");
    let record = Record::open(&out).unwrap();
    assert_eq!(record.seeds, [0, 1, 2]);
    assert_eq!(record.finished(), 3);
}

#[test]
fn a_stage_that_cells_share_is_made_by_one() {
    let folder = scratch("sharing-stage");
    let out = folder.join("out");
    let (writer, _) = Writer::take(&out.join("cells/tiny-clip--tiny-llama--s0")).unwrap();
    let shared = || StudyOptions { seeds_from: 2, ..small(&out, &[0, 1]) };
    let (mut mine, ears) = study(&folder, shared()).unwrap();
    mine.run().unwrap();
    assert_eq!(ears.steps(), 0);
    drop(writer);
    let (mut mine, ears) = study(&folder, shared()).unwrap();
    mine.run().unwrap();
    assert_eq!((ears.steps(), mine.record().finished()), (6, 2));
}

#[test]
fn two_processes_make_each_cell_once() {
    let folder = scratch("sharing-processes");
    let script = r#"
        let s = study(#{ seeds: [0, 1, 2, 3], projector: projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), limit: 6,
                         stage: #{ steps: 2, batch: 2 }, out: "out" });
        show(s.run());
    "#;
    std::fs::write(folder.join("x.rhai"), script).unwrap();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmore"));
        command.args(["run", "x.rhai"]).current_dir(&folder).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
    for output in &both {
        let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        assert!(output.status.success() && !said.contains("failed"), "{said}");
    }
    let record = Record::open(&folder.join("out")).unwrap();
    assert_eq!((record.finished(), record.cells.len()), (4, 4));
    for cell in &record.cells {
        for stage in &cell.stages {
            let events = std::fs::read_to_string(folder.join("out").join(stage).join("events.jsonl")).unwrap();
            assert_eq!(events.matches(r#""event":"step""#).count(), 2, "{stage}");
        }
    }
}

/// A set of two questions about one picture.
fn set(folder: &Path, answer: &str, picture: &str) -> Arc<Benchmark> {
    std::fs::create_dir_all(folder.join("data/images")).unwrap();
    let row = |id: usize, answer: &str| {
        format!(
            r#"{{"id": "{id}", "imageId": "n1", "image": "images/a.png", "question": "what color {id}?", "answer": "{answer}", "fullAnswer": "it"}}"#
        )
    };
    std::fs::write(folder.join("data/gqa.jsonl"), format!("{}\n{}\n", row(1, "red"), row(2, answer))).unwrap();
    std::fs::copy(Path::new("tests/fixtures/images").join(picture), folder.join("data/images/a.png")).unwrap();
    let options = BenchmarkOptions { data: Some(folder.join("data/gqa.jsonl")), ..BenchmarkOptions::default() };
    Arc::new(Benchmark::open(&Presets::default(), "gqa", &options).unwrap())
}

#[test]
fn answers_about_other_pictures_or_to_other_golds_are_not_pooled() {
    let folder = scratch("sharing-questions");
    let out = folder.join("out");
    let of = |seeds: &[u64], answer: &str, picture: &str| StudyOptions {
        benchmarks: vec![set(&folder, answer, picture)],
        limit: None,
        ..small(&out, seeds)
    };
    study(&folder, of(&[0], "blue", "rgb-137x191.png")).unwrap().0.run().unwrap();
    let cases = [
        (of(&[0, 1], "blue", "red-circle.png"), "the picture of question `1` is another one now"),
        (of(&[0, 1], "teal", "rgb-137x191.png"), "the right answer of question `2` was `blue`, is `teal`"),
    ];
    // Each case has the data it was made with: the second one's are there now.
    for (number, (options, expected)) in cases.into_iter().enumerate() {
        if number == 0 {
            set(&folder, "blue", "red-circle.png");
        } else {
            set(&folder, "teal", "rgb-137x191.png");
        }
        let (mut grown, ears) = study(&folder, options).unwrap();
        let error = grown.run().unwrap_err();
        assert!(error.message().contains("benchmark `gqa`, answered by tiny-clip--tiny-llama--s0"), "{error}");
        assert!(error.message().contains(expected), "{error}");
        assert_eq!(ears.steps(), 0);
    }
    let (mut grown, _) = study(&folder, of(&[0, 1], "blue", "rgb-137x191.png")).unwrap();
    assert_eq!(grown.run().unwrap().rows[1][1].text, "done");

    // Files that were brought together otherwise are not pooled, either.
    let file = out.join("cells/tiny-clip--tiny-llama--s1/gqa.jsonl");
    let text = without_sums(&std::fs::read_to_string(&file).unwrap());
    let start = text.find(r#""pictures":[""#).unwrap() + 13;
    let hash = &text[start..start + 15];
    std::fs::write(&file, text.replace(hash, "000000000000000")).unwrap();
    let error = grown.folder().err().unwrap();
    assert!(error.message().contains("question `1` has another picture"), "{error}");
}

#[test]
fn a_seed_of_the_command_line_does_not_go_under() {
    let folder = scratch("sharing-seed");
    let run = |pair: &str, seeds: &str| {
        let mut session = Session::new(SessionOptions {
            presets: Presets::default(),
            output: Arc::new(Captured::default()),
            listeners: Listeners::default(),
            interrupt: Interrupt::default(),
            overrides: Overrides::parse(&strings(&[pair])).unwrap(),
            args: Vec::new(),
            repeats: None,
            runs: folder.join("runs"),
            cache: folder.join("cache"),
        });
        let text = format!("study(#{{ {seeds} out: {:?} }}).cells[0].id", folder.join("out").display().to_string());
        match session.run("test.rhai", &text) {
            Ok(llmore::script::Outcome::Value(value)) => value.to_string(),
            Ok(_) => String::new(),
            Err(report) => report.to_string(),
        }
    };
    assert_eq!(run("seed=7", ""), "tiny-clip--tiny-llama--s7");
    let error = run("seed=7", "seeds: [0, 1],");
    assert!(error.contains("`--set seed=7`") && error.contains("`seeds: [0, 1]`"), "{error}");
    assert!(error.contains("leave out `--set seed`, or take `seeds` out of the script"), "{error}");
    let error = run("batch=2", "stage: #{ seed: 3 },");
    assert!(error.contains("`stage` cannot name one") && error.contains("`seeds: [..]` of the study"), "{error}");
}

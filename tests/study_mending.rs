//! Studies look at their files: what is gone, cut or empty is made again, and no more; limits grow and shrink.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmore::study::{Study, StudyOptions};

use super::scripting::scratch;
use super::study::{Ears, benchmark, options, outcome, strings, study};

/// One encoder, two seeds, one benchmark.
fn small(out: &Path, limit: usize) -> StudyOptions {
    StudyOptions {
        encoders: strings(&["tiny-clip"]),
        benchmarks: vec![benchmark("tiny-vqa")],
        stage: "steps = 2\nbatch = 2".parse().unwrap(),
        limit: Some(limit),
        ..options(out)
    }
}

fn made(name: &str) -> (PathBuf, PathBuf) {
    let folder = scratch(name);
    let out = folder.join("out");
    study(&folder, small(&out, 10)).unwrap().0.run().unwrap();
    (folder, out)
}

fn note(study: &Study) -> String {
    study.folder().unwrap().table().unwrap().note.unwrap()
}

/// The cells of the plan: what is said of each stage, the questions left, and the time or `done`.
fn plan(study: &mut Study) -> Vec<Vec<String>> {
    let plan = study.plan().unwrap();
    plan.rows.iter().map(|row| row[1..].iter().map(|cell| cell.text.clone()).collect()).collect()
}

fn cell(out: &Path, seed: usize) -> PathBuf {
    out.join(format!("cells/tiny-clip--tiny-llama--s{seed}"))
}

fn run(study: &mut Study, ears: &Arc<Ears>) -> u64 {
    let before = ears.steps();
    let summary = study.run().unwrap();
    assert!(summary.rows.iter().all(|row| row[1].text == "done"), "{}", summary.text(None, false));
    ears.steps() - before
}

#[test]
fn a_cell_that_is_gone_is_made_again() {
    let (folder, out) = made("mending-gone");
    let (whole, record) = (outcome(&out), std::fs::read_to_string(out.join("study.toml")).unwrap());
    std::fs::remove_dir_all(cell(&out, 1)).unwrap();
    let (mut again, ears) = study(&folder, small(&out, 10)).unwrap();
    let planned = plan(&mut again);
    assert_eq!(planned[0], ["done", "done", "0", "done"]);
    assert_eq!(planned[1][..3], ["2 steps", "2 steps", "10"]);
    let text = note(&again);
    assert!(text.contains("mean over 1 of 2 seeds, ") && text.contains("1 of 2 cells are done"), "{text}");
    assert_eq!(run(&mut again, &ears), 4);
    assert!(outcome(&out) == whole, "it is not what it was");
    assert_eq!(std::fs::read_to_string(out.join("study.toml")).unwrap(), record);
    assert!(note(&again).contains("mean over 2 seeds"), "{}", note(&again));

    // A study that is open already sees it, too; and a run folder that is gone beside those of others is trained again.
    std::fs::remove_dir_all(cell(&out, 0).join("stage-2")).unwrap();
    assert_eq!(plan(&mut again)[0][..3], ["done", "2 steps", "0"]);
    assert_eq!(run(&mut again, &ears), 2);
    assert!(outcome(&out) == whole, "it is not what it was");
}

#[test]
fn answers_that_are_cut_are_asked_again_and_nothing_is_trained() {
    let (folder, out) = made("mending-answers");
    let whole = outcome(&out);
    let file = cell(&out, 1).join("tiny-vqa.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    let half = text.lines().take(5).map(|line| format!("{line}\n")).collect::<String>();
    let torn = text[..text.len() / 2].to_string();
    let left = (10 - torn.matches('\n').count()).to_string();
    let cases = [(Some(half), "5"), (Some(torn), left.as_str()), (Some(String::new()), "10"), (None, "10")];
    for (rest, left) in cases {
        match &rest {
            Some(rest) => std::fs::write(&file, rest).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let (mut again, ears) = study(&folder, small(&out, 10)).unwrap();
        assert_eq!(again.record().finished(), 1);
        assert_eq!(plan(&mut again)[1][..3], ["done", "done", left], "{rest:?}");
        assert!(note(&again).contains("mean over 1 of 2 seeds, "), "{}", note(&again));
        assert_eq!(run(&mut again, &ears), 0);
        assert!(outcome(&out) == whole, "{rest:?}");
    }
}

#[test]
fn only_weights_that_are_needed_are_trained_again() {
    let (folder, out) = made("mending-weights");
    let whole = outcome(&out);
    let remove = |file: &str| std::fs::remove_dir_all(cell(&out, 1).join(file)).unwrap();
    // No weights, all answers: nothing is needed.
    remove("stage-1/checkpoint-2");
    let (mut again, ears) = study(&folder, small(&out, 10)).unwrap();
    assert_eq!(plan(&mut again)[1], ["done", "done", "0", "done"]);
    assert_eq!(run(&mut again, &ears), 0);
    // No answers, the last weights: these are asked.
    std::fs::remove_file(cell(&out, 1).join("tiny-vqa.jsonl")).unwrap();
    assert_eq!(plan(&mut again)[1][..3], ["done", "done", "10"]);
    assert_eq!(run(&mut again, &ears), 0);
    // Nor the last ones.
    std::fs::remove_file(cell(&out, 1).join("tiny-vqa.jsonl")).unwrap();
    remove("stage-2/checkpoint-2");
    assert_eq!(plan(&mut again)[1][..3], ["2 steps", "2 steps", "10"]);
    assert_eq!(run(&mut again, &ears), 4);
    assert!(outcome(&out) == whole, "it is not what it was");
    // Weights that are cut off.
    std::fs::remove_file(cell(&out, 1).join("tiny-vqa.jsonl")).unwrap();
    let weights = cell(&out, 1).join("stage-2/checkpoint-2/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(plan(&mut again)[1][..3], ["done", "2 steps", "10"]);
    assert_eq!(run(&mut again, &ears), 2);
    assert!(outcome(&out) == whole, "it is not what it was");
}

#[test]
fn weights_of_a_later_stage_are_asked_as_they_were_trained() {
    let folder = scratch("mending-asked");
    let out = folder.join("out");
    let stage = "steps = 2\nbatch = 2\ntemplate = \"v1\"\nimage = \"square\"";
    let asked = || StudyOptions { stage: stage.parse().unwrap(), seeds: vec![0], ..small(&out, 6) };
    study(&folder, asked()).unwrap().0.run().unwrap();
    let file = cell(&out, 0).join("tiny-vqa.jsonl");
    let whole = std::fs::read(&file).unwrap();
    assert!(String::from_utf8_lossy(&whole).contains(r#""template":"v1","image":"square""#));
    std::fs::remove_dir_all(cell(&out, 0).join("stage-1")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let (mut again, ears) = study(&folder, asked()).unwrap();
    assert_eq!(run(&mut again, &ears), 0);
    assert!(std::fs::read(&file).unwrap() == whole, "{}", std::fs::read_to_string(&file).unwrap());
}

/// The score of each row of the table and the number of questions in the first cell's file.
fn scores(study: &Study, out: &Path) -> (Vec<String>, usize) {
    let table = study.folder().unwrap().table().unwrap();
    let lines = std::fs::read_to_string(cell(out, 0).join("tiny-vqa.jsonl")).unwrap().lines().count();
    (table.rows.iter().map(|row| row[2].text.clone()).collect(), lines)
}

#[test]
fn a_limit_grows_and_shrinks() {
    let (folder, out) = made("mending-limit");
    let (mut few, ears) = study(&folder, small(&out, 10)).unwrap();
    assert_eq!(run(&mut few, &ears), 0);
    let first = scores(&few, &out);
    assert_eq!(first.1, 10);
    let (mut more, ears) = study(&folder, small(&out, 24)).unwrap();
    assert_eq!(plan(&mut more)[1][..3], ["done", "done", "14"]);
    assert_eq!(run(&mut more, &ears), 0);
    let second = scores(&more, &out);
    assert!(second.1 >= 24 && note(&more).contains("the first 24 questions"), "{}", note(&more));
    let opened = llmore::study::Folder::open(&out).unwrap();
    assert_eq!(opened.results(0, 0).unwrap().rows.len(), 24);
    // Back again: nothing is lost, and nothing but these questions is scored.
    let (mut back, ears) = study(&folder, small(&out, 10)).unwrap();
    assert_eq!(plan(&mut back)[1], ["done", "done", "0", "done"]);
    assert_eq!(scores(&back, &out), (first.0, second.1));
    assert_eq!(run(&mut back, &ears), 0);
    let opened = llmore::study::Folder::open(&out).unwrap();
    assert_eq!(opened.results(0, 0).unwrap().rows.len(), 10);
    let (mut more, ears) = study(&folder, small(&out, 24)).unwrap();
    assert_eq!((run(&mut more, &ears), scores(&more, &out)), (0, second));
}

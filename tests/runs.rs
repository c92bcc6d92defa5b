//! `llmore run`, `rerun`, `diff` and `watch` as programs, on a smoke run in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::scratch::scratch;

const SCRIPT: &str = r#"
let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), #{ name: "first", train: #{ projector: 1e-2 }, batch: 2, steps: 2, out: "out" });
t.fit();
"#;

fn llmore(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmore")).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn folder(name: &str) -> PathBuf {
    let folder = scratch(name);
    std::fs::write(folder.join("x.rhai"), SCRIPT).unwrap();
    let done = llmore(&folder, &["run", "x.rhai", "--set", "batch=3"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    folder
}

#[test]
fn a_run_made_again_has_the_same_losses() {
    let folder = folder("again");
    let again = llmore(&folder, &["rerun", "out"]);
    let said = text(&again.stdout);
    assert_eq!(again.status.code(), Some(0), "{said}{}", text(&again.stderr));
    assert!(said.contains("losses agree to the last bit over 2 steps"), "{said}");

    let watched = llmore(&folder, &["watch", "out"]);
    assert!(text(&watched.stdout).contains("out: done"), "{}", text(&watched.stdout));
    assert!(std::fs::read_dir(folder.join("out")).unwrap().flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with("events.out.tfevents") && entry.metadata().unwrap().len() > 200
    }));
}

#[test]
fn a_run_that_would_differ_is_refused() {
    let folder = folder("drift");
    let path = folder.join("out/run.lock");
    let lock = std::fs::read_to_string(&path).unwrap();
    let hash = lock.lines().find(|line| line.starts_with("dataset_sha256")).unwrap();
    std::fs::write(&path, lock.replace(hash, "dataset_sha256 = \"another\"")).unwrap();
    let again = llmore(&folder, &["rerun", "out"]);
    let said = text(&again.stderr);
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains("this would not be the same run") && said.contains("`dataset_sha256` was another"), "{said}");
}

#[test]
fn another_commit_is_the_same_program_and_other_sources_are_not() {
    let folder = folder("builds");
    let path = folder.join("out/run.lock");
    let lock = std::fs::read_to_string(&path).unwrap();
    let line = |key: &str| lock.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap().to_string();
    assert_eq!(line("commit"), format!("commit = \"{}\"", llmore::build::COMMIT));
    std::fs::write(&path, lock.replace(&line("commit"), "commit = \"another\"")).unwrap();
    let again = llmore(&folder, &["rerun", "out"]);
    assert_eq!(again.status.code(), Some(0), "{}{}", text(&again.stdout), text(&again.stderr));
    std::fs::write(&path, lock.replace(&line("build"), "build = \"another\"")).unwrap();
    let said = text(&llmore(&folder, &["rerun", "out"]).stderr);
    assert!(said.contains("`build of llmore` was another, is "), "{said}");
}

#[test]
fn a_difference_is_shown_with_both_values() {
    let folder = folder("diff");
    let other = llmore(&folder, &["run", "x.rhai", "--set", "batch=2", "--set", "out=other"]);
    assert!(other.status.success(), "{}", text(&other.stderr));
    let diff = llmore(&folder, &["diff", "out", "other"]);
    let said = text(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{said}");
    assert!(said.lines().any(|line| line.starts_with("batch ") && line.contains('3') && line.contains('2')), "{said}");
    assert!(said.contains("losses part at step 1"), "{said}");
}

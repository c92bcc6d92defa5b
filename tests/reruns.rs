//! `llmore rerun`: everything goes elsewhere, nothing is gone on with, and what agrees was compared. As programs, in folders
//! of their own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use super::scratch::scratch;
use super::scripting::without_sums;

/// Trains three more steps whenever it is called.
const PAUSES: &str = r#"
let m = vlm(encoder("tiny-clip"), projector("linear", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-emoji").take(24),
    #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 8, out: "sit/rr" });
if begun("sit/rr") { t.resume("sit/rr"); }
let from = t.losses.len();
t.fit(|s| s.step < from + 3);
"#;

/// Two stages that go on where they stopped; the second one starts from what the first one saved, and much is written.
const STAGES: &str = r#"
let m = vlm(encoder("tiny-clip"), projector("linear", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
let one = trainer(m, dataset("tiny-emoji").take(12),
    #{ train: #{ projector: 1e-2 }, template: "plain", batch: 4, steps: 3, out: "out/one" });
if begun("out/one") { one.resume("out/one"); }
show(one.fit().plot());
m.save("out/model");
let m = load("out/model");
let two = trainer(m, dataset("tiny-instruct").take(12), #{ train: #{ projector: 1e-2, llm: 1e-2 }, batch: 4, steps: 2, out: "./out/two" });
if begun("out/two") { two.resume("out/two"); }
let r = two.fit();
r.plot();
r.report("out/two/report.html", #{ maps: 0 });
plot(r.losses).save("out/loss.svg");
let res = benchmark("tiny-vqa", #{ limit: 8 }).run(m, #{ out: "out/vqa.jsonl" });
res.save("out/again.jsonl");
save_tensors(#{ x: m.encoder.encode(image("red.png")) }, "out/x.safetensors");
m.encoder.save("out/tower");
"#;

const STUDY: &str = r#"
let s = study(#{ seeds: [0, 1], seeds_from: 2, limit: 8, out: "s", stage: #{ steps: 1, batch: 4 },
                 projector: projector("linear", #{ pool: "average", tokens: 4 }) });
s.run();
show(s.table());
s.report("s/report.html", #{ maps: 0 });
"#;

fn llmore(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmore")).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program, which has to end with a code, and gives all it said.
fn says(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = llmore(folder, arguments);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// A folder in which a script was run.
fn ran(name: &str, script: &str, times: usize) -> PathBuf {
    let folder = scratch(name);
    std::fs::write(folder.join("x.rhai"), script).unwrap();
    std::fs::copy("tests/fixtures/images/red-circle.png", folder.join("red.png")).unwrap();
    for _ in 0..times {
        says(&folder, &["run", "x.rhai"], 0);
    }
    folder
}

/// Every file with a hash of its bytes, but those of reruns.
fn bytes(folder: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.file_name().unwrap().to_string_lossy().contains("-rerun-") {
                walk(&path, found);
            } else if path.is_file() {
                found.insert(path.clone(), format!("{:x}", Sha256::digest(std::fs::read(&path).unwrap())));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, &mut found);
    found
}

/// Everything below `runs/<time>-rerun-*`, by name.
fn made(folder: &Path) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(folder.join("runs")).unwrap().flatten().map(|entry| entry.path());
    let mut made: Vec<PathBuf> = runs.filter(|path| path.to_string_lossy().contains("-rerun-")).collect();
    made.sort();
    made
}

/// Puts another number where the loss of a step stands.
fn edit_loss(events: &Path, step: u64) {
    let text = std::fs::read_to_string(events).unwrap();
    let changed: Vec<String> = text
        .lines()
        .map(|line| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            if event["step"] == step && event["loss"].is_f64() {
                event["loss"] = (event["loss"].as_f64().unwrap() + 1e-9).into();
            }
            event.to_string()
        })
        .collect();
    assert_ne!(changed.join("\n"), text.trim_end());
    std::fs::write(events, format!("{}\n", changed.join("\n"))).unwrap();
}

#[test]
fn a_script_that_resumes_starts_anew_and_leaves_the_run_alone() {
    let folder = ran("pauses", PAUSES, 1);
    let before = bytes(&folder);
    for _ in 0..2 {
        let said = says(&folder, &["rerun", "sit/rr"], 0);
        assert!(said.contains("losses agree to the last bit over 3 steps"), "{said}");
        assert!(said.contains("weights agree to the last bit at step 3"), "{said}");
        assert!(said.contains("3 were compared: `sit/rr` has 3 of 8 steps"), "{said}");
    }
    assert_eq!(bytes(&folder), before);
    assert_eq!(made(&folder).len(), 2);

    // Gone on with to 6: the rerun stops where the script does, and says so.
    says(&folder, &["run", "x.rhai"], 0);
    let before = bytes(&folder);
    let said = says(&folder, &["rerun", "sit/rr"], 0);
    assert!(said.contains("3 were compared: `sit/rr` has 6 of 8 steps"), "{said}");
    edit_loss(&folder.join("sit/rr/events.jsonl"), 2);
    let said = says(&folder, &["rerun", "sit/rr"], 1);
    assert!(said.contains("losses part at step 2"), "{said}");
    assert_eq!(bytes(&folder).len(), before.len());
}

#[test]
fn a_folder_is_not_compared_with_itself() {
    let folder = ran("itself", PAUSES, 1);
    std::os::unix::fs::symlink("sit/rr", folder.join("link")).unwrap();
    for other in ["sit/rr", "./sit/../sit/rr/", "link"] {
        let said = says(&folder, &["diff", "sit/rr", other], 2);
        assert!(said.contains("are one run") && said.contains("help: "), "{said}");
    }
}

#[test]
fn all_that_a_script_writes_goes_elsewhere() {
    let folder = ran("stages", STAGES, 2);
    let before = bytes(&folder);
    let said = says(&folder, &["rerun", "out/two"], 0);
    assert!(said.contains("losses agree to the last bit over 2 steps"), "{said}");
    assert!(said.contains("`out/vqa.jsonl`: answers agree over 8 questions"), "{said}");
    assert!(said.contains("`out/again.jsonl`: answers agree over 8 questions"), "{said}");
    assert_eq!(bytes(&folder), before);
    let again = made(&folder).pop().unwrap();
    let names = [
        "one/plots/loss.png",
        "two/report.html",
        "loss.svg",
        "x.safetensors",
        "tower/config.json",
        "model/config.json",
    ];
    for name in names {
        assert!(again.join("out").join(name).is_file(), "{name}");
    }
    // Figures that are shown are the rerun's, too.
    assert!(again.join("figures").is_dir());

    let said = says(&folder, &["rerun", "out/one"], 0);
    assert!(said.contains("losses agree to the last bit over 3 steps"), "{said}");
    assert_eq!(bytes(&folder), before);

    // Answers count as well, and so do weights.
    let file = folder.join("out/vqa.jsonl");
    let answers = without_sums(&std::fs::read_to_string(&file).unwrap());
    let (first, rest) = answers.split_once('\n').unwrap();
    let mut row: serde_json::Value = serde_json::from_str(first).unwrap();
    row["output"] = "something else".into();
    std::fs::write(&file, format!("{row}\n{rest}")).unwrap();
    let said = says(&folder, &["rerun", "out/one"], 1);
    assert!(said.contains("1 of 8 answers differ"), "{said}");
    std::fs::write(&file, answers).unwrap();

    let weights = folder.join("out/one/checkpoint-3/mm_projector.safetensors");
    let mut changed = std::fs::read(&weights).unwrap();
    let last = changed.len() - 2;
    changed[last] ^= 1;
    std::fs::write(&weights, changed).unwrap();
    let said = says(&folder, &["rerun", "out/one"], 1);
    assert!(said.contains("weights of step 3 differ: `model.mm_projector."), "{said}");
}

#[test]
fn runs_of_other_scripts_stay_what_a_script_begins_with() {
    let folder = ran("input", PAUSES, 1);
    let second = r#"
        let m = load(run("sit/rr").checkpoint);
        if !begun("sit/rr") { throw "nothing to begin with" }
        trainer(m, dataset("tiny-instruct").take(8), #{ train: #{ projector: 1e-2 }, batch: 4, steps: 2, out: "second" }).fit();
    "#;
    std::fs::write(folder.join("y.rhai"), second).unwrap();
    says(&folder, &["run", "y.rhai"], 0);
    let before = bytes(&folder);
    let said = says(&folder, &["rerun", "second"], 0);
    assert!(said.contains("losses agree to the last bit over 2 steps"), "{said}");
    // Without what it began with there is nothing to make again, and the rerun says what is missing.
    std::fs::rename(folder.join("sit"), folder.join("elsewhere")).unwrap();
    let said = says(&folder, &["rerun", "second"], 1);
    assert!(said.contains("`sit/rr` is not a run folder"), "{said}");
    std::fs::rename(folder.join("elsewhere"), folder.join("sit")).unwrap();
    assert_eq!(bytes(&folder), before);
}

#[test]
fn where_nothing_is_compared_nothing_agrees() {
    let script = r#"
        let known = false;
        try { tensors("done.safetensors"); known = true; } catch {}
        if !known {
            let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
            trainer(m, dataset("tiny-emoji").take(4), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 1, out: "out" }).fit();
            save_tensors(#{ x: m.encoder.encode(image("red.png")) }, "done.safetensors");
        }
    "#;
    let folder = ran("nothing", script, 1);
    let said = says(&folder, &["rerun", "out"], 1);
    assert!(said.contains("nothing was compared") && said.contains("help: "), "{said}");
    let said = says(&folder, &["rerun", "."], 1);
    assert!(said.contains("is not a run folder") && said.contains("runs in it: `./out`"), "{said}");
}

#[test]
fn a_study_and_its_cells_are_made_again_elsewhere() {
    let folder = ran("study", STUDY, 1);
    let before = bytes(&folder);
    let cell = "s/cells/tiny-clip--tiny-llama--s1";
    for (asked, stages, answers) in [("s", 3, 2), (cell, 2, 1), (&*format!("{cell}/stage-2"), 2, 1)] {
        let said = says(&folder, &["rerun", asked], 0);
        assert_eq!(said.matches("losses agree to the last bit over 1 step").count(), stages, "{asked}: {said}");
        assert_eq!(said.matches("answers agree over 8 questions").count(), answers, "{asked}: {said}");
    }
    assert_eq!(bytes(&folder), before);
    // Only the cell that was asked for was trained.
    let one = &made(&folder)[1];
    assert!(one.join("s/cells/tiny-clip--tiny-llama--s1/stage-2").is_dir(), "{}", one.display());
    assert!(!one.join("s/cells/tiny-clip--tiny-llama--s0/stage-2").exists(), "{}", one.display());

    edit_loss(&folder.join(cell).join("stage-2/events.jsonl"), 1);
    let said = says(&folder, &["rerun", cell], 1);
    assert!(said.contains("losses part at step 1"), "{said}");

    let other = made(&folder)[0].join("s");
    let said = says(&folder, &["diff", "s", other.to_str().unwrap()], 1);
    assert!(said.contains("tiny-clip--tiny-llama--s1, stage 2") && said.contains("losses part at step 1"), "{said}");
    assert!(says(&folder, &["diff", "s", "s"], 2).contains("are one"));
    let said = says(&folder, &["diff", "s", &format!("{cell}/stage-2")], 2);
    assert!(said.contains("`s` is a study") && said.contains("help: "), "{said}");

    // A study that is finished is watched to its end: every run's curve.
    let said = says(&folder, &["watch", "s"], 0);
    assert_eq!(said.matches(": done").count(), 3, "{said}");
}

#[test]
fn smoke_runs_of_the_scripts_are_made_again() {
    for script in ["quickstart", "small_llava", "llava_more_phi_4_mini_clip"] {
        let folder = ran(&format!("smoke-{script}"), "()", 0);
        let file = std::fs::canonicalize(format!("scripts/{script}.rhai")).unwrap();
        for name in ["tests", "stdlib"] {
            std::os::unix::fs::symlink(std::fs::canonicalize(name).unwrap(), folder.join(name)).unwrap();
        }
        says(&folder, &["run", file.to_str().unwrap(), "--set", "smoke=true"], 0);
        let runs = folder.join("runs");
        let mut all: Vec<PathBuf> = bytes(&runs).into_keys().filter(|path| path.ends_with("run.lock")).collect();
        all.sort();
        let before = bytes(&runs);
        for lock in [all.first().unwrap(), all.last().unwrap()] {
            let said = says(&folder, &["rerun", lock.parent().unwrap().to_str().unwrap()], 0);
            assert!(said.contains("losses agree to the last bit over 2 steps"), "{script}: {said}");
        }
        assert_eq!(bytes(&runs), before, "{script}");
    }
}

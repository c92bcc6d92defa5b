//! `summary.json` says what a run and a study came to, and `llmore verify` names what moved since.

use std::path::Path;
use std::process::Command;

use llmore::train::Run;
use serde_json::Value;

use super::scripting::{copy, run, scratch};

/// The exit code and what is said.
fn verify(folder: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_llmore")).arg("verify").arg(folder).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn what_moved_since_a_run_ended_is_named() {
    let folder = scratch("verify-run");
    copy(Path::new("tests/fixtures/training"), &folder.join("data"));
    let at = folder.display().to_string();
    let script = format!(
        r#"vlm("tiny-llava").save("{at}/model");
        let d = dataset("{at}/data/stage2.json", #{{ images: "{at}/data/images" }});
        trainer(load("{at}/model"), d, #{{ train: #{{ projector: 1e-3, llm: 1e-3 }}, template: "v1", batch: 4, steps: 2, out: "{at}/run" }}).fit();"#
    );
    run("verify-run-script", &script).unwrap();
    let text = std::fs::read(folder.join("run/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(summary["status"], "done");
    assert_eq!((&summary["trained"]["template"], &summary["asked"]["template"]), (&"v1".into(), &"v1".into()));
    assert_eq!((&summary["data"]["samples"], &summary["data"]["pictures"]), (&20.into(), &18.into()));
    assert_eq!(summary["build"].as_str().unwrap().len(), 16);
    let (code, said) = verify(&folder.join("run"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing: ") && said.contains(" files, pictures and texts are as they were"), "{said}");

    // A byte in each: a picture, the data, the base's config, a weight.
    let weights = Run::open(&folder.join("run")).unwrap().checkpoint().unwrap().unwrap().join("model.safetensors");
    let moved = ["data/images/stage2_04.png", "data/stage2.json", "model/config.json"].map(|name| folder.join(name));
    for path in moved.iter().chain([&weights]) {
        let mut bytes = std::fs::read(path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::remove_file(folder.join("data/images/stage2_05.png")).unwrap();
    let (code, said) = verify(&folder.join("run"));
    assert_eq!(code, Some(1), "{said}");
    for name in ["stage2_04.png", "stage2_05.png", "stage2.json", "model/config.json", "checkpoint-2/model.safetensors"]
    {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(said.contains("not there") && said.contains("5 of "), "{said}");
    let (code, said) = verify(&folder.join("data"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("is not a run folder"), "{said}");
}

#[test]
fn a_study_is_looked_at_cell_by_cell() {
    let folder = scratch("verify-study");
    let script = format!(
        r#"study(#{{ seeds: [0, 1], limit: 4, stage: #{{ steps: 2, batch: 4 }}, out: "{}" }}).run();"#,
        folder.join("s").display()
    );
    run("verify-study-script", &script).unwrap();
    let (code, said) = verify(&folder.join("s"));
    assert_eq!(code, Some(0), "{said}");
    let answers = folder.join("s/cells/tiny-clip--tiny-llama--s1/tiny-vqa.jsonl");
    let text = std::fs::read_to_string(&answers).unwrap();
    std::fs::write(&answers, text.replacen("\"score\":0.0", "\"score\":1.0", 1).replacen("output", "Output", 1))
        .unwrap();
    std::fs::remove_dir_all(folder.join("s/cells/tiny-clip--tiny-llama--s0/stage-1")).unwrap();
    let (code, said) = verify(&folder.join("s"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("tiny-clip--tiny-llama--s1/tiny-vqa.jsonl"), "{said}");
    assert!(said.contains("tiny-clip--tiny-llama--s0/stage-1"), "{said}");
}

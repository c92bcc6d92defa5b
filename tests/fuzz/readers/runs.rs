//! Folders of runs and of studies: one file is mutated at a time, and everything that looks at such a folder looks at it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use llmore::preset::Presets;
use llmore::report::{ReportOptions, page_of};
use llmore::study::{Folder, Record};
use llmore::train::{Run, RunDiff};
use serde_json::json;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Reader, Seed};
use crate::resume::{llm, model, trainer};

pub const RUN: Reader = Reader {
    name: "run",
    seeds: run_files,
    words: &[
        "event",
        "step",
        "steps",
        "loss",
        "start",
        "end",
        "status",
        "done",
        "failed",
        "checkpoint",
        "spike",
        "took",
        "seconds",
        "options",
        "identity",
        "set",
        "script",
        "args",
        "files",
        "parts",
        "data",
        "pictures",
        "sha256",
        "of",
        "nan",
        "inf",
        "model",
        "model.safetensors",
        "../",
        "build",
        "skipped",
        "samples",
        "warning",
        "text",
        "stopped",
        "scored",
        "progress",
    ],
    open: |folder| {
        let whole = lay_out(folder, &run_files(), &["run", "other"]);
        std::fs::create_dir_all(folder.join("run/checkpoint-2")).unwrap();
        let (folder, presets) = (folder.to_path_buf(), Presets::default());
        Box::new(move |input| {
            let path = input.write(folder.join("run").join(&input.kind));
            let looked = Run::open(&folder.join("run")).is_ok_and(|run| look_at_run(&run, &folder, &presets));
            std::fs::write(path, &whole[&input.kind]).unwrap();
            looked
        })
    },
};

pub const STUDY: Reader = Reader {
    name: "study",
    seeds: || vec![Seed { kind: "study.toml".to_string(), bytes: STUDY_TOML.to_vec(), frame: Frame::Toml }],
    words: &[
        "encoders",
        "llms",
        "seeds",
        "cells",
        "results",
        "stages",
        "benchmarks",
        "folder",
        "file",
        "answered",
        "error",
        "limit",
        "seeds_from",
        "questions",
        "baselines",
        "protocol",
        "tiny-clip",
        "tiny-vqa",
        "../",
        "runs/a",
        "id",
        "seed",
        "projector",
    ],
    open: |folder| {
        let results = &super::results::all()[0].bytes;
        for cell in ["a", "b"] {
            std::fs::create_dir_all(folder.join(cell).join("stage-1")).unwrap();
            std::fs::write(folder.join(cell).join("tiny-vqa.jsonl"), results).unwrap();
            for Seed { kind, bytes, .. } in run_files() {
                std::fs::write(folder.join(cell).join("stage-1").join(kind), bytes).unwrap();
            }
        }
        let (folder, presets) = (folder.to_path_buf(), Presets::default());
        Box::new(move |input| {
            input.write(folder.join("study.toml"));
            let _ = page_of(&folder, &options(&presets));
            let Ok(study) = Folder::open(&folder) else { return false };
            let record: &Record = study.record();
            let _ = (record.grid(), record.finished(), study.is_at_rest());
            let cells = record.cells.len().min(4);
            for cell in 0..cells {
                let _ = (study.stages(cell), study.results(cell, 0).map(|results| results.score()));
            }
            true
        })
    },
};

pub const CHECKPOINT: Reader = Reader {
    name: "checkpoint",
    seeds: checkpoint_files,
    words: &[
        "step",
        "steps",
        "losses",
        "loss",
        "F32",
        "F64",
        "dtype",
        "shape",
        "data_offsets",
        "__metadata__",
        "llm",
        "mm_projector",
        "projector",
        "base",
        "sha256",
        "path",
        "mm_projector_type",
        "model_type",
        ".m",
        ".v",
    ],
    open: |folder| {
        let whole = lay_out(folder, &checkpoint_files(), &["run"]);
        let run = folder.join("run");
        let mut trainer = trainer(&model(llm()), OPTIONS, &folder.join("again"));
        Box::new(move |input| {
            let path = input.write(run.join(&input.kind));
            let resumed = trainer.resume(&run).is_ok();
            let _ = std::fs::remove_file(&path);
            std::fs::write(path, &whole[&input.kind]).unwrap();
            resumed
        })
    },
};

const OPTIONS: &str = "batch = 2\nsteps = 1\nseed = 5\ntrain = { projector = 1e-3 }";

/// Writes seeds into folders; their content by name.
fn lay_out(folder: &Path, seeds: &[Seed], into: &[&str]) -> BTreeMap<String, Vec<u8>> {
    for inner in into {
        std::fs::create_dir_all(folder.join(inner)).unwrap();
        for Seed { kind, bytes, .. } in seeds {
            let path = folder.join(inner).join(kind);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    seeds.iter().map(|seed| (seed.kind.clone(), seed.bytes.clone())).collect()
}

fn options(presets: &Presets) -> ReportOptions<'_> {
    ReportOptions { presets, data: None, maps: 0 }
}

fn look_at_run(run: &Run, folder: &Path, presets: &Presets) -> bool {
    let read = run.lock().is_ok() & run.status().is_ok() & run.steps().is_ok() & run.summary().is_ok();
    let _ = (run.verify(), run.checkpoint(), page_of(run.dir(), &options(presets)));
    if let Ok(other) = Run::open(&folder.join("other")) {
        let _ = RunDiff::new(run, &other).map(|diff| diff.same());
    }
    read
}

fn run_files() -> Vec<Seed> {
    let step = |step: u64| json!({"event": "step", "step": step, "steps": 2, "loss": 1.5, "lr": 1e-3, "grad_norm": 0.5, "tokens": 10, "positions": 20, "samples": 2, "cut": 0, "unsupervised": 0, "seconds": 0.1});
    let events = [
        json!({"event": "start", "task": "train", "done": 0, "total": 2, "unit": "steps"}),
        json!({"event": "skipped", "samples": ["a"], "total": 3, "why": "empty"}),
        step(1),
        json!({"event": "spike", "step": 1, "loss": 9.0, "median": 1.0, "samples": ["b"]}),
        step(2),
        json!({"event": "took", "planned_bytes": 10, "peak_bytes": 9, "planned_seconds": 1.0, "seconds": 2.0}),
        json!({"event": "checkpoint", "step": 2, "path": "checkpoint-2"}),
        json!({"event": "stopped", "step": 2, "by": "f"}),
        json!({"event": "end", "task": "train", "done": 2, "total": 2, "unit": "steps", "status": "done", "seconds": 0.2}),
    ];
    let asked = json!({"template": "tiny", "image": "pad"});
    let summary = json!({
        "llmore": "0.1.0", "build": "b", "status": "done", "steps": 2, "of": 2, "last_loss": 1.5, "model": "m", "trained": asked, "asked": asked,
        "data": {"name": "d", "samples": 3, "sha256": "00", "files": {"data.json": "0011223344556677"}, "pictures": 1, "pictures_sha256": "00"},
        "parts": {"llm": {"config.json": "0011223344556677"}}, "files": {"run.lock": "00", "events.jsonl": 7},
    });
    let lines = events.map(|event| event.to_string()).join("\n");
    let one = |kind: &str, bytes: Vec<u8>, frame| Seed { kind: kind.to_string(), bytes, frame };
    vec![
        one("run.lock", LOCK.to_vec(), Frame::Toml),
        one("events.jsonl", lines.into_bytes(), Frame::JsonLines),
        one("summary.json", summary.to_string().into_bytes(), Frame::Json),
    ]
}

const LOCK: &[u8] = br#"llmore = "0.1.0"
build = "b"
device = "cpu"
threads = 2
model = "m"
weights_sha256 = "00"
dataset = "d"
dataset_sha256 = "00"
script_sha256 = "00"
script = "let t = trainer(m, d);\nt.fit();"
args = ["x"]
number = 1

[modules]
"a.rhai" = "fn f() { 1 }"

[set]
batch = 2

[options]
batch = 2
steps = 2
lr = 0.001
template = "tiny"
image = "pad"
train = { projector = 0.001 }

[identity]
"llm.weights" = "00"
"data.pictures" = "00"
"#;

const STUDY_TOML: &[u8] = br#"about = "two models"
encoders = ["tiny-clip"]
llms = ["tiny-llama"]
projector = "mlp2x_gelu"
recipe = "llava-more-tiny"
benchmarks = ["tiny-vqa"]
seeds = [0, 1]
limit = 4
seeds_from = 1
computed = "f32 on cpu"

[questions]
tiny-vqa = 4

[baselines.tiny-vqa]
yes = 0.5

[[protocol]]
name = "stage-1"
batch = 2
steps = 2

[[cells]]
id = "tiny-clip--tiny-llama--s0"
encoder = "tiny-clip"
llm = "tiny-llama"
seed = 0
folder = "a"
stages = ["a/stage-1"]
results = [{ benchmark = "tiny-vqa", file = "a/tiny-vqa.jsonl", answered = 4 }]

[[cells]]
id = "tiny-clip--tiny-llama--s1"
encoder = "tiny-clip"
llm = "tiny-llama"
seed = 1
folder = "b"
stages = ["b/stage-1"]
error = "it failed"
results = [{ benchmark = "tiny-vqa", file = "b/tiny-vqa.jsonl", answered = 4 }]
"#;

/// What a run of one step leaves, of a trainer that another one is made like: its lock and the files of its checkpoint.
fn checkpoint_files() -> Vec<Seed> {
    let folder = crate::fuzz::parent::scratch(&format!("checkpoint-{:?}", std::thread::current().id()));
    trainer(&model(llm()), OPTIONS, &folder).fit(&mut |_| Ok(true)).unwrap();
    let entries = std::fs::read_dir(folder.join("checkpoint-1")).unwrap();
    // Without the list of hashes, which would refuse whatever is mutated before a reader sees it.
    let is_read = |path: &PathBuf| path.is_file() && !path.ends_with("llmore.sha256");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(is_read).collect();
    paths.push(folder.join("run.lock"));
    paths.sort();
    let seed = |path: &PathBuf| {
        let kind = path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let mut bytes = std::fs::read(path).unwrap();
        let frame = match path.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Frame::Json,
            Some("lock") => Frame::Toml,
            _ => Frame::Safetensors,
        };
        // Paths and times are the same in every process.
        if frame != Frame::Safetensors {
            let text = String::from_utf8(bytes).unwrap();
            bytes = text.replace(&folder.display().to_string(), "made").into_bytes();
        }
        if kind.ends_with("trainer.json") {
            let mut state: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            state["losses"][0]["seconds"] = 0.5.into();
            bytes = state.to_string().into_bytes();
        }
        Seed { kind, bytes, frame }
    };
    let seeds = paths.iter().map(seed).collect();
    std::fs::remove_dir_all(folder).unwrap();
    seeds
}

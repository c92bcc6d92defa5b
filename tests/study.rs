//! Studies at toy size: what runs, what goes on, what is shared, what is refused.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::events::{Event, Interrupt, Listener, Listeners};
use llmore::models::projectors::pool::PoolKind;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::script::{Outcome, Overrides, Session, SessionOptions};
use llmore::study::{Folder, Study, StudyOptions, StudySetup};
use llmore::train::Lock;
use llmore::vlm::ProjectorChoice;

use super::scripting::{self, Captured, scratch};

/// Counts what runs, and asks for a stop at the n-th step or batch of answers.
#[derive(Default)]
pub struct Ears {
    steps: AtomicU64,
    batches: AtomicU64,
    stop: Mutex<Option<(&'static str, u64)>>,
    interrupt: Interrupt,
    tasks: Mutex<Vec<String>>,
    pub warnings: Mutex<Vec<String>>,
}

impl Listener for Ears {
    fn hear(&self, event: &Event) {
        let (kind, count) = match event {
            Event::Step(_) => ("step", self.steps.fetch_add(1, Ordering::SeqCst) + 1),
            Event::Scored { .. } => ("batch", self.batches.fetch_add(1, Ordering::SeqCst) + 1),
            Event::Start { task, .. } => return self.tasks.lock().unwrap().push(task.clone()),
            Event::Warning { text } => return self.warnings.lock().unwrap().push(text.clone()),
            _ => return,
        };
        if *self.stop.lock().unwrap() == Some((kind, count)) {
            self.interrupt.set();
        }
    }
}

impl Ears {
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }
}

/// Presets with a second encoder, and with an LLM whose weights are not there.
fn presets(folder: &Path) -> Presets {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (encoders, llms, hollow) = (folder.join("encoders"), folder.join("llms"), folder.join("hollow"));
    for folder in [&encoders, &llms, &hollow] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let late = "about = \"the last block of tiny-clip\"\ninherit = \"tiny-clip\"\nselect_layer = -1\n";
    std::fs::write(encoders.join("tiny-late.toml"), late).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        std::fs::copy(root.join("stdlib/models/tiny-llama").join(file), hollow.join(file)).unwrap();
    }
    let hollow = format!("about = \"no weights\"\nsource = {:?}\ntemplate = \"tiny\"\n", hollow.display().to_string());
    std::fs::write(llms.join("tiny-hollow.toml"), hollow).unwrap();
    Presets::new(vec![folder.to_path_buf()])
}

pub fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub fn benchmark(id: &str) -> Arc<Benchmark> {
    Arc::new(Benchmark::open(&Presets::default(), id, &BenchmarkOptions::default()).unwrap())
}

pub fn options(out: &Path) -> StudyOptions {
    StudyOptions {
        encoders: strings(&["tiny-clip", "tiny-late"]),
        llms: strings(&["tiny-llama"]),
        projector: ProjectorChoice::new("mlp2x_gelu").and_then(|choice| choice.pooled(PoolKind::Average, 4)).unwrap(),
        recipe: "llava-more-tiny".to_string(),
        stage: "steps = 3\nbatch = 4\nsave_every_steps = 2".parse().unwrap(),
        benchmarks: vec![benchmark("tiny-vqa"), benchmark("tiny-seed")],
        limit: Some(10),
        seeds: vec![0, 1],
        seeds_from: 1,
        data: None,
        batch: 1,
        target: Target::cpu(),
        out: out.to_path_buf(),
    }
}

pub fn study(folder: &Path, options: StudyOptions) -> llmore::error::Result<(Study, Arc<Ears>)> {
    let ears = Arc::new(Ears::default());
    let setup = StudySetup {
        presets: presets(&folder.join("presets")),
        listeners: Listeners::default().with(ears.clone()),
        interrupt: ears.interrupt.clone(),
        lock: Lock { llmore: "0.1.0".to_string(), ..Lock::default() },
        cache: folder.join("cache"),
        repeats: None,
    };
    Ok((Study::new(options, setup)?, ears))
}

/// Every results file and every final weight of a study, by path.
pub fn outcome(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![out.join("cells")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".safetensors") || (name.ends_with(".jsonl") && name != "events.jsonl") {
                found.push((path.strip_prefix(out).unwrap().to_path_buf(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_stopped_study_ends_like_an_uninterrupted_one() {
    let folder = scratch("study-resume");
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let (mut first, ears) = study(&folder, options(&whole)).unwrap();
    let summary = first.run().unwrap();
    assert!(ears.warnings.lock().unwrap().is_empty(), "{:?}", ears.warnings.lock().unwrap());
    // 2 encoders, 2 seeds, 2 stages of 3 steps.
    assert_eq!(ears.steps(), 24);
    assert!(summary.rows.iter().all(|row| row[1].text == "done"), "{}", summary.text(None, false));
    let title = "cell 2 of 4, tiny-clip, seed 1: stage 1".to_string();
    assert!(ears.tasks.lock().unwrap().contains(&title), "{:?}", ears.tasks.lock().unwrap());

    // In a stage with a checkpoint, in a stage before any, in a benchmark, in the last cell.
    let mut done = 0;
    for stop in [("step", 3), ("step", 4), ("batch", 2), ("batch", 1), ("step", 9)] {
        let (mut next, ears) = study(&folder, options(&stopped)).unwrap();
        *ears.stop.lock().unwrap() = Some(stop);
        let error = next.run().unwrap_err();
        assert_eq!(error.kind().name(), "interrupted", "{error}");
        done += ears.steps();
    }
    let (mut last, ears) = study(&folder, options(&stopped)).unwrap();
    last.run().unwrap();
    assert_eq!(done + ears.steps(), 24, "a step was done twice or never");
    let (expected, got) = (outcome(&whole), outcome(&stopped));
    // Weights of two stages and answers to two benchmarks in each cell; no optimizer's state is left.
    assert_eq!(expected.len(), 4 * 4, "{:?}", expected.iter().map(|(path, _)| path).collect::<Vec<_>>());
    for ((path, expected), (_, got)) in expected.iter().zip(&got) {
        assert!(expected == got, "{} differs", path.display());
    }

    let (mut again, ears) = study(&folder, options(&stopped)).unwrap();
    again.run().unwrap();
    assert_eq!((ears.steps(), ears.tasks.lock().unwrap().len()), (0, 0), "a finished study ran something");

    let opened = Folder::open(&stopped).unwrap();
    let table = opened.table().unwrap();
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["LLM", "encoder", "tiny-vqa", "tiny-seed", "mean"]);
    let rows: Vec<&str> = table.rows.iter().map(|row| row[1].text.as_str()).collect();
    assert_eq!(rows, ["tiny-clip", "tiny-late", "blind of all questions", "chance", "majority"]);
    assert_eq!(opened.differences().unwrap().rows.len(), 3);
    opened.bars().unwrap();
    assert!(opened.radar().is_err(), "two benchmarks make no radar chart");

    // An axis grows: what is there stays.
    let grown = StudyOptions { seeds: vec![1, 0, 2], ..options(&stopped) };
    let (mut grown, ears) = study(&folder, grown).unwrap();
    grown.run().unwrap();
    assert_eq!(ears.steps(), 2 * 2 * 3);
    assert_eq!(Folder::open(&stopped).unwrap().record().finished(), 6);
}

#[test]
fn seeds_share_a_stage_and_it_is_trained_once() {
    let folder = scratch("study-sharing");
    let out = folder.join("out");
    let options = || StudyOptions {
        seeds_from: 2,
        encoders: strings(&["tiny-clip"]),
        benchmarks: vec![benchmark("tiny-seed")],
        ..options(&out)
    };
    let (mut planned, _) = study(&folder, options()).unwrap();
    let plan = planned.plan().unwrap();
    assert_eq!(plan.rows[0][1].text, "3 steps");
    assert_eq!(plan.rows[1][1].text, "that of tiny-clip--tiny-llama--s0");
    assert_eq!(plan.rows[1][2].text, "3 steps");
    assert!(plan.note.as_ref().unwrap().contains("1 run is another cell's"), "{:?}", plan.note);
    assert!(!out.exists(), "planning left something");
    let (mut study, ears) = study(&folder, options()).unwrap();
    study.run().unwrap();
    assert_eq!(ears.steps(), 3 + 3 + 3);
    let second = &study.record().cells[1];
    assert_eq!(second.stages[0], "cells/tiny-clip--tiny-llama--s0/stage-1");
    assert!(!out.join(&second.folder).join("stage-1").exists() && out.join(&second.stages[1]).is_dir());
    let plan = study.plan().unwrap();
    assert_eq!(plan.rows[1][4].text, "done");
    assert!(plan.note.unwrap().contains("all 2 cells are done"));
}

#[test]
fn another_study_does_not_take_the_folder() {
    let folder = scratch("study-drift");
    let out = folder.join("out");
    let base = || StudyOptions {
        encoders: strings(&["tiny-clip"]),
        seeds: vec![0],
        benchmarks: vec![benchmark("tiny-seed")],
        stage: "steps = 1\nbatch = 2".parse().unwrap(),
        limit: Some(2),
        ..options(&out)
    };
    study(&folder, base()).unwrap().0.run().unwrap();
    let refused = |options: StudyOptions| study(&folder, options).map(|_| ()).unwrap_err().to_string();
    let place = format!("the study in `{}`: ", out.display());
    let cases = [
        (StudyOptions { seeds: vec![1], ..base() }, "`seeds` was [0], is [1]"),
        (
            StudyOptions { encoders: strings(&["tiny-late"]), ..base() },
            "`encoders` was [\"tiny-clip\"], is [\"tiny-late\"]",
        ),
        (StudyOptions { stage: "steps = 1\nbatch = 3".parse().unwrap(), ..base() }, "stage 1: `batch` was 2, is 3"),
    ];
    for (options, expected) in cases {
        let error = refused(options);
        assert!(error.starts_with(&format!("{place}{expected}")), "{error}");
    }
    let empty = refused(StudyOptions { llms: Vec::new(), ..base() });
    assert!(empty.contains("`llms` is empty"), "{empty}");
    let unknown = refused(StudyOptions { llms: strings(&["tiny-lama"]), out: folder.join("new"), ..base() });
    assert!(unknown.contains("no LLM preset `tiny-lama`"), "{unknown}");
}

#[test]
fn a_cell_that_fails_does_not_stop_the_others() {
    let folder = scratch("study-failing");
    let options = StudyOptions {
        encoders: strings(&["tiny-clip"]),
        llms: strings(&["tiny-hollow", "tiny-llama"]),
        seeds: vec![0],
        stage: "steps = 1\nbatch = 2".parse().unwrap(),
        ..options(&folder.join("out"))
    };
    let (mut study, ears) = study(&folder, options).unwrap();
    let summary = study.run().unwrap();
    assert!(summary.rows[0][1].text.starts_with("failed: "), "{}", summary.text(None, false));
    assert_eq!(summary.rows[1][1].text, "done");
    assert!(ears.warnings.lock().unwrap()[0].starts_with("cell 1 of 2, tiny-hollow failed, the others go on: "));
    let table = study.folder().unwrap().table().unwrap();
    assert!(table.note.unwrap().contains("1 of 2 cells are done, 1 failed"));
    assert!(study.folder().unwrap().conclusion().unwrap().contains("nothing can be compared yet"));
}

#[test]
fn scripts_name_what_they_study() {
    let script = r#"
        let p = projector("mlp2x_gelu", #{ pool: "average", tokens: 4 });
        let s = study(#{ llms: "tiny-llama", seeds: [3], projector: p, benchmarks: [benchmark("tiny-seed")], limit: 4,
                         stage: #{ steps: 1, batch: 2 } });
        print(s);
        show(s.run());
        show(s.table());
        print(s.conclusion);
        s.cells[0].id
    "#;
    let printed = scripting::run("study-script", script).unwrap();
    let expected = [
        "Study(1 encoder x 1 LLM x 1 seed, tiny-seed, 0 of 1 cells done)",
        "tiny-clip--tiny-llama--s3  done",
        "95 % interval over images",
        "one encoder with one LLM: nothing to compare (1 of 1 cells are done)",
        "tiny-clip--tiny-llama--s3\n",
    ];
    for text in expected {
        assert!(printed.contains(text), "{text}\n---\n{printed}");
    }
    let errors = [
        ("study(#{ stage: #{ bach: 4 } })", "recipe `llava-more-tiny`, stage 1: no option `bach`"),
        ("study(#{ seeds: [-1] })", "option `seeds` holds -1"),
        ("study(#{ seeds_from: 3 })", "`seeds_from` is 3, the recipe has 2 stages"),
        ("study(#{ benchmarks: [] })", "`benchmarks` is empty"),
    ];
    for (script, expected) in errors {
        let error = scripting::run("study-script", script).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_smoke_run_studies_stand_ins_elsewhere() {
    let folder = scratch("study-smoke");
    let mut session = Session::new(SessionOptions {
        presets: Presets::default(),
        output: Arc::new(Captured::default()),
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        overrides: Overrides::parse(&strings(&["smoke=true", "limit=3"])).unwrap(),
        args: Vec::new(),
        repeats: None,
        runs: folder.join("runs"),
        cache: folder.join("cache"),
    });
    let script = format!(
        r#"let s = study(#{{ encoders: ["clip-vit-l-336", "siglip-so400m-384"], llms: "phi-4-mini-instruct", recipe: "llava-more",
                            data: "no/such/folder", benchmarks: benchmark("pope", #{{ data: "no/such/file" }}), out: {:?} }});
           `${{s}} ${{s.dir}}`"#,
        folder.join("out").display().to_string()
    );
    let Ok(Outcome::Value(value)) = session.run("test.rhai", &script) else { panic!("the script failed") };
    let text = value.to_string();
    assert!(text.starts_with("Study(2 encoders x 1 LLM x 1 seed, tiny-pope, 0 of 2 cells done)"), "{text}");
    assert!(text.contains("runs") && !folder.join("out").exists(), "{text}");
}

#[test]
fn a_study_does_not_mix_data() {
    let folder = scratch("study-other-data");
    let out = folder.join("out");
    let one = || StudyOptions { seeds: vec![0], encoders: strings(&["tiny-clip"]), ..options(&out) };
    study(&folder, one()).unwrap().0.run().unwrap();
    let stage = "steps = 3\nbatch = 4\nsave_every_steps = 2\ndata = \"tiny-emoji\"";
    let other = StudyOptions { stage: stage.parse().unwrap(), ..options(&out) };
    let error = study(&folder, other).map(|_| ()).unwrap_err();
    assert!(error.message().contains("data of stage 1"), "{error}");
    let other = StudyOptions { target: Target { dtype: candle_core::DType::BF16, ..Target::cpu() }, ..options(&out) };
    let error = study(&folder, other).map(|_| ()).unwrap_err();
    assert!(error.message().contains("dtype and device"), "{error}");
}

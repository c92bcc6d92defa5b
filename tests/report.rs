//! Reports as the program writes them: of a run with results in its folder, of results alone, of a study. What they look
//! like in a browser is for `scripts/dev/check_report.py`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use llmore::eval::Results;
use llmore::preset::Presets;
use llmore::report::{self, ReportOptions};

use super::conventions::walk;
use super::scratch::scratch;

/// Two cells of a study, each a stage and its answers.
const SCRIPT: &str = r#"
for seed in [0, 1] {
    let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"), #{ seed: seed });
    let folder = `cells/s${seed}`;
    let t = trainer(m, dataset("tiny-instruct"), #{ name: "stage-1", train: #{ projector: 1e-2, llm: 1e-3 }, batch: 2, steps: 3, out: `${folder}/stage-1` });
    t.fit();
    benchmark("tiny-vqa", #{ limit: 12 }).run(m, #{ out: `${folder}/tiny-vqa.jsonl` });
    benchmark("tiny-vqa", #{ limit: 6 }).run(m, #{ out: `${folder}/stage-1/answers.jsonl` });
}
"#;

const STUDY: &str = r#"
about = "two seeds"
encoders = ["tiny-clip"]
llms = ["tiny-llama"]
projector = "linear"
recipe = "llava-more-tiny"
benchmarks = ["tiny-vqa", "pope"]
seeds = [0, 1]
[[cells]]
id = "first"
encoder = "tiny-clip"
llm = "tiny-llama"
seed = 0
folder = "cells/s0"
stages = ["cells/s0/stage-1"]
results = [{ benchmark = "tiny-vqa", file = "cells/s0/tiny-vqa.jsonl", answered = 12 }]
[[cells]]
id = "second"
encoder = "tiny-clip"
llm = "tiny-llama"
seed = 1
folder = "cells/s1"
stages = ["cells/s1/stage-1", "cells/s1/stage-2"]
error = "the disk was full"
results = [
    { benchmark = "tiny-vqa", file = "cells/s1/tiny-vqa.jsonl", answered = 12 },
    { benchmark = "pope", file = "cells/s1/pope.jsonl" },
]
"#;

fn llmore(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_llmore")).args(arguments).arg("--quiet").current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A file by its path in the study, with its bytes.
type Known = (PathBuf, Vec<u8>);

/// A copy of the study, which is made once.
fn study() -> PathBuf {
    static MADE: OnceLock<Vec<Known>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = scratch("made");
        std::fs::write(folder.join("x.rhai"), SCRIPT).unwrap();
        std::fs::write(folder.join("study.toml"), STUDY).unwrap();
        let done = llmore(&folder, &["run", "x.rhai"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        let files = walk(&folder).into_iter();
        files.map(|path| (path.strip_prefix(&folder).unwrap().to_path_buf(), std::fs::read(&path).unwrap())).collect()
    });
    let folder = scratch("report");
    for (path, bytes) in made {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

/// Nothing is loaded, and no tag is left open.
fn check(html: &str) {
    for loads in ["http://", "https://", "url(", "@import", "<link", "srcset", "<iframe"] {
        assert!(!html.contains(loads), "{loads}");
    }
    for tag in ["script", "style", "table", "section", "div", "details", "ul", "li", "article", "dl", "svg", "figure"] {
        let opened = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_run_is_a_page_with_curves_answers_maps_and_the_lock() {
    let run = study().join("cells/s0/stage-1");
    let done = llmore(&run, &["report", ".", "--out", "new/page.html", "--maps", "2"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout), "new/page.html\n");
    assert_eq!(std::fs::read_dir(run.join("new")).unwrap().count(), 1, "a temporary file is left");
    let html = std::fs::read_to_string(run.join("new/page.html")).unwrap();
    check(&html);
    for shown in ["Run: stage-1", "loss", "gradient norm", "positions per second", "3 of 3 steps", "weights_sha256"] {
        assert!(html.contains(shown), "{shown}");
    }
    assert_eq!(html.matches("<li class=\"card").count(), 6);
    // Two questions have a feature map and an attention map beside the picture.
    assert_eq!(html.matches("<figcaption>features</figcaption>").count(), 2);
    assert_eq!(html.matches("<figcaption>attention, ").count(), 2);
    assert_eq!(html.matches("<img").count(), 10);
    assert!(html.len() < 400_000, "{} bytes", html.len());
}

#[test]
fn results_are_a_page_whatever_their_texts_say() {
    const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";
    let mut results = Results::open(&study().join("cells/s0/tiny-vqa.jsonl")).unwrap();
    results.rows[0].output = HOSTILE.to_string();
    results.rows[0].score = 0.0;
    let presets = Presets::default();
    let options = ReportOptions { presets: &presets, data: None, maps: 0 };
    let html = report::page_of_results(&results, None, None, &options).unwrap().html().unwrap();
    check(&html);
    assert!(html.contains("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;") && !html.contains("<img src=x"));
    assert_eq!(html.matches("<img").count(), 12, "a picture a question");
    let why = results.why(0).unwrap().lines().next().unwrap().replace('&', "&amp;");
    assert!(html.contains(&format!("<pre>{why}")), "{why}");

    // Of a benchmark whose data are not here.
    results.benchmark = "gqa".to_string();
    let html = report::page_of_results(&results, None, None, &options).unwrap().html().unwrap();
    assert!(html.contains("no pictures: ") && !html.contains("<img"));
}

#[test]
fn a_study_is_a_page_with_every_cell() {
    let presets = Presets::default();
    let options = ReportOptions { presets: &presets, data: None, maps: 1 };
    let html = report::page_of(&study(), &options).unwrap().html().unwrap();
    check(&html);
    for shown in ["two seeds", "nothing to compare", "loss, stage-1", "p (Holm)", "not run yet"] {
        assert!(html.contains(shown), "{shown}");
    }
    assert!(
        html.contains("second: pope") && html.contains("second failed: the disk was full"),
        "what is missing is named"
    );
    assert!(html.contains("<h3>first</h3>") && html.contains("<h3>second</h3>"));
    assert_eq!(html.matches("<figcaption>features</figcaption>").count(), 2);
}

#[test]
fn what_is_no_run_is_an_error() {
    let folder = &study();
    let done = llmore(folder, &["report", "cells"]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
    let said = text(&done.stderr);
    assert!(said.contains("`cells` is no run, no study and no results file") && said.contains("run.lock"), "{said}");
    let done = llmore(folder, &["report", "x.rhai"]);
    assert!(text(&done.stderr).contains("this is not a results file"), "{}", text(&done.stderr));
    let done = llmore(folder, &["report", "nowhere"]);
    assert!(text(&done.stderr).contains("no file or folder `nowhere`"), "{}", text(&done.stderr));

    let outside = folder.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("study.toml"), STUDY.replace("cells/s0/stage-1", "../cells/s0/stage-1")).unwrap();
    let done = llmore(folder, &["report", "outside"]);
    assert!(text(&done.stderr).contains("is not a path below it"), "{}", text(&done.stderr));
}

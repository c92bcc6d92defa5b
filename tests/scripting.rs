//! A session for tests, and what is tested through it: every documented example, the reference page, errors.

use std::path::Path;
use std::sync::{Arc, Mutex};

use llmore::events::{Event, Interrupt, Listener, Listeners};
use llmore::preset::Presets;
use llmore::script::{Outcome, Output, Overrides, Session, SessionOptions};
use llmore::show::{Figure, Table};
use llmore::train::Run;

pub use super::scratch::scratch;

/// Keeps what a session prints.
#[derive(Default)]
pub struct Captured(pub Mutex<String>);

impl Captured {
    fn push(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

impl Output for Captured {
    fn text(&self, text: &str) {
        self.push(&format!("{text}\n"));
    }

    fn fragment(&self, text: &str) {
        self.push(text);
    }

    fn table(&self, table: &Table) {
        self.push(&format!("{}\n", table.text(None, false)));
    }

    fn figure(&self, figure: &Figure, about: &str) {
        let (width, height) = figure.size();
        assert!(width > 0 && height > 0);
        self.push(&format!("[figure: {about}]\n"));
    }
}

/// Copies a folder with all that is below it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Lines of answers without their sums, as they are taken when somebody edits them.
pub fn without_sums(text: &str) -> String {
    let line = |line: &str| match line.rsplit_once(",\"sum\":\"") {
        Some((rest, _)) => format!("{rest}}}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// A session whose runs go to a scratch folder.
pub fn session(name: &str) -> (Session, Arc<Captured>) {
    hearing(name, Listeners::default(), Interrupt::default())
}

/// The same with listeners, and with what stops it.
fn hearing(name: &str, listeners: Listeners, interrupt: Interrupt) -> (Session, Arc<Captured>) {
    let output = Arc::new(Captured::default());
    let session = Session::new(SessionOptions {
        presets: Presets::default(),
        output: output.clone(),
        listeners,
        interrupt,
        overrides: Overrides::default(),
        args: vec!["first".to_string()],
        repeats: None,
        runs: scratch(name),
        cache: scratch(name),
    });
    (session, output)
}

/// Runs a script and gives what it printed, its value included.
pub fn run(name: &str, text: &str) -> Result<String, String> {
    let (mut session, output) = session(name);
    match session.run("test.rhai", text) {
        Ok(Outcome::Value(value)) => {
            if !value.is_unit() {
                session.show(&value);
            }
            Ok(output.0.lock().unwrap().clone())
        }
        Ok(Outcome::Exit(code)) => Ok(format!("exit {code}")),
        Err(report) => Err(report.to_string()),
    }
}

#[test]
fn every_documented_example_runs() {
    let (session, _) = session("examples-list");
    let (mut examples, mut failures) = (0, Vec::new());
    for function in session.functions() {
        for (number, example) in function.examples().into_iter().enumerate() {
            examples += 1;
            // Examples write where people who try them find it; here each has its own place.
            let written = scratch(&format!("example-{}-{number}", function.name));
            let example = example.replace("\"target/example", &format!("\"{}/example", written.display()));
            if let Err(error) = run(&format!("example-{}-{number}", function.name), &example) {
                failures.push(format!("{}:\n{error}", function.signature()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(examples > 50, "only {examples} examples were found");
}

#[test]
fn every_function_is_documented_in_the_committed_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let page = llmore::script::docs::reference(&session("reference").0.functions());
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        page == committed,
        "docs/reference.md is out of date: run `cargo run --release -- docs --markdown > docs/reference.md`"
    );
}

#[test]
fn the_embedded_modules_compile() {
    let (session, _) = session("stdlib");
    for (name, text) in llmore::script::stdlib::modules() {
        if let Err(report) = session.check(name, text) {
            panic!("{report}");
        }
    }
    assert_eq!(run("stdlib-use", "percent(0.9731)").unwrap(), "97.3 %\n");
}

#[test]
fn unfinished_texts_wait_and_faulty_ones_do_not() {
    let (session, _) = session("unfinished");
    for text in ["for i in 0..3 {", "let x = [1,", "let m = vlm(", "print(", "let s = `a", "/* a", "if true {"] {
        assert!(session.is_unfinished(text), "{text}");
    }
    for text in ["1 + 1", "}", "foo)", "let s = \"a", "let x = 1;", "nosuch + 1", ""] {
        assert!(!session.is_unfinished(text), "{text}");
    }
}

#[test]
fn variables_functions_and_args_stay_in_a_session() {
    let (mut session, _) = session("stay");
    session.run("a", "let x = 2; fn twice(n) { n * 2 } fn first() { args[0] }").unwrap();
    match session.run("b", "first() + twice(x)").unwrap() {
        Outcome::Value(value) => assert_eq!(value.to_string(), "first4"),
        Outcome::Exit(_) => panic!("no exit was asked for"),
    }
    assert!(matches!(session.run("c", "exit(7)").unwrap(), Outcome::Exit(7)));
}

#[test]
fn caught_errors_are_typed() {
    let text = r#"let x = ""; try { llm("tiny-lama"); } catch (e) { x = `${e.kind}|${e.message}|${e.help}`; } x"#;
    let got = run("caught", text).unwrap();
    assert!(got.starts_with("missing|no LLM preset `tiny-lama`|did you mean `tiny-llama`?"), "{got}");
}

#[test]
fn a_callback_may_look_at_its_own_receiver() {
    let text = r#"
        let f = "tests/fixtures/training";
        let d = dataset(`${f}/stage2.json`, #{ images: `${f}/images` });
        let d = d.filter(|s| d.len == 20 && s.turns.len() > 2);
        let t = trainer(load(`${f}/checkpoint`), d, #{ train: #{ projector: 1e-3 }, batch: 2, steps: 3 });
        let seen = 0;
        t.fit(|s| { seen += 1; t.losses.len() == s.step });
        `${d.len < 20} ${seen}`"#;
    assert_eq!(run("receiver", text).unwrap(), "true 3\n");
}

/// Asks for a stop at the third step.
struct StopsAt3(Interrupt);

impl Listener for StopsAt3 {
    fn hear(&self, event: &Event) {
        if matches!(event, Event::Step(step) if step.step == 3) {
            self.0.set();
        }
    }
}

/// A trainer whose callback does `each` at its third step; the run folder it leaves.
fn trained_until(name: &str, each: &str, listeners: Listeners, interrupt: Interrupt) -> (Result<(), String>, Run) {
    let (mut session, _) = hearing(name, listeners, interrupt);
    let out = scratch(&format!("{name}-out")).join("run");
    let text = format!(
        r#"let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        let t = trainer(m, dataset("tiny-captions"), #{{
            train: #{{ projector: 1e-3 }}, template: "plain", batch: 2, steps: 9, out: "{}"
        }});
        t.fit(|s| {{ if s.step == 3 {{ {each} }} true }});"#,
        out.display()
    );
    let ended = session.run("test.rhai", &text).map(|_| ()).map_err(|report| report.to_string());
    (ended, Run::open(&out).unwrap())
}

#[test]
fn a_callback_that_fails_or_is_interrupted_loses_no_step() {
    let (ended, run) =
        trained_until("callback-throws", "throw \"that is enough\"", Listeners::default(), Interrupt::default());
    assert!(ended.unwrap_err().contains("that is enough"));
    assert_eq!(run.status().unwrap(), "paused");
    assert!(run.checkpoint().unwrap().unwrap().ends_with("checkpoint-3"));

    // Ctrl-C right before the callback, which would never end.
    let interrupt = Interrupt::default();
    let listeners = Listeners::default().with(Arc::new(StopsAt3(interrupt.clone())));
    let (ended, run) = trained_until("callback-interrupted", "loop { s.step += 0; }", listeners, interrupt);
    ended.unwrap();
    assert_eq!(run.status().unwrap(), "paused");
    assert!(run.checkpoint().unwrap().unwrap().ends_with("checkpoint-3"));
}

//! One run a folder and one writer at a time: processes that begin together, runs that are stopped, go back or begin again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use llmore::train::{Run, checkpoints};

use super::scratch::scratch;

const MODEL: &str = r#"let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));"#;

fn begin(folder: &Path, script: &str, arguments: &[&str]) -> Child {
    let (path, script) = (folder.join("x.rhai"), format!("{MODEL}\n{script}"));
    // Others may be reading it.
    if std::fs::read_to_string(&path).is_ok_and(|text| text != script) || !path.exists() {
        std::fs::write(&path, script).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_llmore"));
    command.args(["run", "x.rhai"]).args(arguments).current_dir(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Standard output and error of a script.
fn run(folder: &Path, script: &str, arguments: &[&str]) -> (String, String) {
    texts(&begin(folder, script, arguments).wait_with_output().unwrap())
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn steps(run: &Path) -> Vec<u64> {
    let events = std::fs::read_to_string(run.join("events.jsonl")).unwrap();
    events
        .lines()
        .filter(|line| line.contains(r#""event":"step""#))
        .map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            event["step"].as_u64().unwrap()
        })
        .collect()
}

#[test]
fn twenty_processes_that_begin_together_make_twenty_whole_runs() {
    let folder = scratch("together");
    let script = r#"trainer(m, dataset("tiny-emoji").take(8), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 2 }).fit();"#;
    let children: Vec<Child> = (0..20).map(|_| begin(&folder, script, &["--quiet"])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", texts(&output).1);
    }
    let made: Vec<PathBuf> =
        std::fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(made.len(), 20);
    for path in made {
        let run = Run::open(&path).unwrap();
        assert_eq!(run.status().unwrap(), "done", "{}", path.display());
        assert_eq!(steps(&path), [1, 2]);
        assert!(run.checkpoint().unwrap().unwrap().join("optimizer.safetensors").is_file());
    }
}

#[test]
fn of_three_processes_on_one_run_one_trains_and_two_say_who_does() {
    let folder = scratch("three");
    let script = r#"
        let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-3 }, batch: 2, steps: 25, save_every_steps: 1, out: "one" });
        if begun("one") { t.resume("one"); }
        t.fit(|s| { sleep(0.1); true });"#;
    for _ in 0..3 {
        let _ = std::fs::remove_dir_all(folder.join("one"));
        let children: Vec<Child> = (0..3).map(|_| begin(&folder, script, &["--quiet"])).collect();
        // While it trains, everybody can see that it does.
        let watched = std::time::Instant::now();
        let is_running =
            || Run::open(&folder.join("one")).and_then(|run| run.status()).is_ok_and(|status| status == "running");
        while !is_running() && watched.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(is_running());
        let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        let (good, refused): (Vec<&Output>, Vec<&Output>) = outputs.iter().partition(|output| output.status.success());
        assert_eq!((good.len(), refused.len()), (1, 2));
        for output in refused {
            let said = texts(output).1;
            assert!(said.contains("by process ") && said.contains(" UTC"), "{said}");
        }
        let run = Run::open(&folder.join("one")).unwrap();
        assert_eq!(run.status().unwrap(), "done");
        assert_eq!(steps(run.dir()), (1..=25).collect::<Vec<u64>>());
        assert!(run.checkpoint().unwrap().unwrap().ends_with("checkpoint-25"));
    }
}

#[test]
fn a_run_that_its_function_stopped_stays_stopped_for_that_function() {
    let folder = scratch("stopped");
    let script = |each: &str| {
        format!(
            r#"let t = trainer(m, dataset("tiny-emoji").take(24), #{{ train: #{{ projector: 1e-3 }}, template: "plain", batch: 4, steps: 8, out: "es" }});
            if begun("es") {{ t.resume("es"); }}
            let bad = 0;
            let r = {each};
            print(`${{r.status}} ${{t.losses.len()}}`);"#
        )
    };
    // Stops at the second step that it finds bad, counting from where it begins.
    let patience = script("t.fit(|s| { bad += 1; bad < 2 })");
    assert_eq!(run(&folder, &patience, &[]).0.trim(), "stopped 2");
    for _ in 0..2 {
        let (out, said) = run(&folder, &patience, &[]);
        assert_eq!(out.trim(), "stopped 2", "{said}");
        assert!(said.contains("was stopped after step 2 of 8"), "{said}");
        assert!(said.contains("nothing is trained: this function has ended the run"), "{said}");
    }
    assert_eq!(steps(&folder.join("es")), [1, 2]);
    // Another function goes on, and so does none.
    assert_eq!(run(&folder, &script("t.fit(|s| s.step < 5)"), &["--quiet"]).0.trim(), "stopped 5");
    assert_eq!(run(&folder, &script("t.fit()"), &["--quiet"]).0.trim(), "done 8");
    assert_eq!(steps(&folder.join("es")), (1..=8).collect::<Vec<u64>>());
}

#[test]
fn a_named_checkpoint_goes_back_behind_a_loss_that_is_no_number() {
    let folder = scratch("back");
    let script = r#"
        let t = trainer(m, dataset("tiny-emoji").take(24), #{ train: #{ projector: 1e30, llm: 1e30 }, template: "plain", batch: 4, steps: 6, warmup_ratio: 0.4, save_every_steps: 1, keep: 3, out: "bc" });
        if !args.is_empty() { t.resume(args[0]); print(t.losses.len()); }
        t.fit();"#;
    let said = run(&folder, script, &[]).1;
    assert!(said.contains("step 3: loss NaN") && said.contains(r#"`t.resume("bc/checkpoint-1")`"#), "{said}");
    assert_eq!(Run::open(&folder.join("bc")).unwrap().status().unwrap(), "failed");
    // The newest one is the one that is broken; the audit says where to go.
    let (out, said) = run(&folder, script, &["--", "bc"]);
    assert_eq!(out.trim(), "2");
    assert!(said.contains("not finite") && said.contains(r#"`t.resume("bc/checkpoint-1")`"#), "{said}");
    let (out, said) = run(&folder, script, &["--", "bc/checkpoint-1"]);
    assert_eq!(out.trim(), "1");
    assert!(said.contains("this goes on from step 1") && said.contains("bc/aside/checkpoint-2"), "{said}");
    assert!(folder.join("bc/aside/checkpoint-2/trainer.json").is_file());
    let said = run(&folder, script, &["--", "bc/checkpoint-7"]).1;
    assert!(said.contains("no complete checkpoint of step 7, but of 1, 2"), "{said}");
}

#[test]
fn a_run_without_a_checkpoint_begins_again_and_keeps_what_it_left() {
    let folder = scratch("again");
    let script = r#"
        let t = trainer(m, dataset("tiny-emoji").take(8), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 2, out: "one" });
        if !args.is_empty() { t.resume("one"); }
        print(t.fit().status);"#;
    for resumes in [&[][..], &["--", "resume"]] {
        let _ = std::fs::remove_dir_all(folder.join("one"));
        run(&folder, script, &["--quiet"]);
        for (_, path) in checkpoints(&folder.join("one")).unwrap() {
            std::fs::remove_dir_all(path).unwrap();
        }
        let (out, said) = run(&folder, script, resumes);
        assert_eq!(out.trim(), "done", "{said}");
        assert!(said.contains("came to no checkpoint: it begins at step 0"), "{said}");
        assert!(folder.join("one/events.jsonl.1").is_file() && folder.join("one/run.lock.1").is_file());
        assert_eq!(steps(&folder.join("one")), [1, 2]);
        // A whole one is not taken.
        let said = run(&folder, script, &[]).1;
        assert!(said.contains("holds a run already"), "{said}");
    }
}

#[test]
fn one_script_starts_a_run_and_goes_on_with_it() {
    let folder = scratch("alike");
    let script = |more: &str| {
        format!(
            r#"let t = trainer(m, dataset("tiny-emoji").take(8), #{{ train: #{{ projector: 1e-3 }}, template: "plain", batch: 4, steps: 4, out: "sub/one" }});
            t.resume("./sub/one");
            let r = t.fit({more});
            print(`${{r.status}} ${{t.losses.len()}}`);"#
        )
    };
    // No folder yet, in a smoke run as well.
    let (out, said) = run(&folder, &script(""), &["--set", "smoke=true"]);
    assert_eq!(out.trim(), "done 2", "{said}");
    std::fs::remove_dir_all(folder.join("sub")).unwrap();
    let (out, said) = run(&folder, &script("|s| s.step < 2"), &[]);
    assert_eq!(out.trim(), "stopped 2", "{said}");
    assert!(said.contains("there is no run in `./sub/one` yet: `fit` begins at step 0"), "{said}");
    // A run that was killed before its first checkpoint, and one whose folder was made and nothing else.
    let one = folder.join("sub/one");
    std::fs::remove_dir_all(one.join("checkpoint-2")).unwrap();
    let (out, said) = run(&folder, &script("|s| s.step < 2"), &[]);
    assert_eq!(out.trim(), "stopped 2", "{said}");
    assert!(said.contains("has no complete checkpoint: `fit` begins at step 0"), "{said}");
    assert!(one.join("events.jsonl.1").is_file());
    std::fs::remove_dir_all(&one).unwrap();
    std::fs::create_dir(&one).unwrap();
    assert_eq!(run(&folder, &script("|s| s.step < 2"), &[]).0.trim(), "stopped 2");
    // Then it goes on, and at its end there is nothing to do.
    for _ in 0..2 {
        let (out, said) = run(&folder, &script(""), &[]);
        assert_eq!(out.trim(), "done 4", "{said}");
        assert_eq!(steps(&one), [1, 2, 3, 4]);
    }
    // Another folder that is not there is a mistake.
    let elsewhere = script("").replace("./sub/one", "sub/two");
    let said = run(&folder, &elsewhere, &[]).1;
    assert!(said.contains("`sub/two` is not a run folder"), "{said}");
}

#[test]
fn training_at_no_rate_says_so() {
    let folder = scratch("rate");
    let script = r#"
        let t = trainer(m, dataset("tiny-emoji").take(24), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 32 });
        show(t.plan());
        t.fit();"#;
    let (out, said) = run(&folder, script, &[]);
    assert!(out.contains("the only step is warm-up at rate 0"), "{out}");
    assert!(said.contains("warning: the only step is warm-up at rate 0"), "{said}");
    let (out, said) = run(&folder, script, &["--set", "warmup_ratio=0"]);
    assert!(!out.contains("at rate 0") && !said.contains("at rate 0"), "{out}{said}");
}

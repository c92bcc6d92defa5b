//! Scripts of strangers: what `--sandbox` keeps them from, and what no script does unless it is told to, sandbox or not: follow
//! names out of the folder they are for, and replace what somebody else wrote.

mod attempts;
mod world;

use attempts::{ATTEMPTS, SLOW, filled};
use world::{SECRET, World, texts};

/// Limits that no honest attempt comes near.
const LIMITS: [&str; 6] = ["--time-limit", "120", "--memory-limit", "2000", "--operations-limit", "3000000"];

/// Runs attempts in the sandbox: each ends with its error, shows nothing and leaves nothing.
fn refused(name: &str, attempts: &[(&str, &str)], limits: &[&str]) {
    let world = World::new(name);
    let (before, mut failures) = (world.listing(), Vec::new());
    for (attempt, expected) in attempts {
        let script = filled(attempt, &world.at("secret"));
        let output = world.run(&script, &[&["--sandbox", "--allow", "given"], limits].concat());
        let (out, err) = texts(&output);
        let mut add = |what: &str| failures.push(format!("{attempt}\n  {what}\n  {}\n  {}", out.trim(), err.trim()));
        if output.status.code() != Some(1) || !err.contains(expected) {
            add(&format!("ended with {:?}, expected `{expected}`", output.status.code()));
        }
        if out.contains(SECRET) || err.contains(SECRET) {
            add("what must not be read was shown");
        }
        let after = world.listing();
        let changed = before.keys().chain(after.keys()).find(|path| before.get(*path) != after.get(*path));
        if let Some(path) = changed {
            add(&format!("`{path}` was left or changed"));
            break;
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), attempts.len(), failures.join("\n"));
}

#[test]
fn what_a_script_tries_is_an_error_and_leaves_nothing() {
    assert!(ATTEMPTS.len() + SLOW.len() >= 60, "{}", ATTEMPTS.len() + SLOW.len());
    refused("attempts", ATTEMPTS, &LIMITS);
}

#[test]
fn time_and_memory_come_to_an_end() {
    let is_time = |attempt: &&(&str, &str)| attempt.1.contains("longer");
    let (time, memory): (Vec<_>, Vec<_>) = SLOW.iter().partition(is_time);
    refused("time", &time, &["--time-limit", "1"]);
    refused("memory", &memory, &["--memory-limit", "200", "--time-limit", "120"]);
}

#[test]
fn the_same_scripts_do_it_without_the_sandbox() {
    let world = World::new("without");
    for script in [
        r#"print(read("../secret/key.txt"))"#,
        r#"print(read("given/out/key.txt"))"#,
        r#"import "../secret/lib" as l; print(l::KEY)"#,
    ] {
        let (out, err) = texts(&world.run(script, &[]));
        assert!(out.contains(SECRET), "{script}: {out} {err}");
    }
    for script in [
        r#"show(dataset("given/absolute.json")[0].image.width)"#,
        r#"print(encoder("given/linked-weights"))"#,
        r#"print(load("given/named-tower"))"#,
        r#"print(encoder("org/cached"))"#,
        r#"print(encoder("mine"))"#,
        r#"plot([1, 2]).save("x.png")"#,
    ] {
        let output = world.run(script, &[]);
        assert!(output.status.success(), "{script}: {}", texts(&output).1);
    }
}

#[test]
fn what_is_given_can_be_read_and_runs_can_be_written() {
    let world = World::new("allowed");
    let script = r#"
        print(dataset("given/ok.json")[0].image.width);
        let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        let t = trainer(m, dataset("tiny-instruct").take(8), #{ train: #{ projector: 1e-3 }, batch: 4, steps: 2, out: "runs/mine" });
        let r = t.fit();
        r.plot().save("runs/loss.png");
        r.report("runs/mine.html");
        m.save("runs/model");
        print(load("runs/model"));
        let b = benchmark("tiny-vqa", #{ limit: 2 });
        b.run(m, #{ out: "runs/answers.jsonl", cache: "disk" });
        print(results("runs/answers.jsonl").score);
        print(encoder("org/cached"));
    "#;
    let before = world.listing();
    let arguments = ["--sandbox", "--allow", "given", "--allow", "../home/.cache/huggingface/hub"];
    // Twice: what the first wrote may be replaced by the second, but for the run, which gets another folder.
    for again in [script.to_string(), script.replace("runs/mine\"", "runs/again\"")] {
        let output = world.run(&again, &arguments);
        assert!(output.status.success(), "{}", texts(&output).1);
    }
    let outside = |path: &&String| !path.starts_with("work/runs");
    let after = world.listing();
    assert!(after.keys().filter(outside).eq(before.keys().filter(outside)), "{after:?}");
    assert!(after.contains_key("work/runs/loss.png") && after.contains_key("work/runs/model/config.json"));
}

#[test]
fn every_way_to_give_a_script_has_the_sandbox() {
    let world = World::new("ways");
    let read = r#"print(read("../secret/key.txt"))"#;
    let refused = |output: &std::process::Output, way: &str| {
        let (out, err) = texts(output);
        assert!(err.contains("sandbox") && !out.contains(SECRET), "{way}: {out} {err}");
    };
    refused(&world.llmore(&["--sandbox", "-c", read]).output().unwrap(), "-c");
    let piped = |arguments: &[&str], lines: &str| {
        use std::io::Write;
        use std::process::Stdio;
        let mut command = world.llmore(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    refused(&piped(&["--sandbox"], read), "stdin");
    for line in [read, ":load ../secret/lib.rhai", ":sh cat ../secret/key.txt"] {
        refused(&piped(&["repl", "--sandbox"], &format!("{line}\n:quit\n")), line);
    }
    std::fs::write(world.at("work/x.rhai"), r#"import "../secret/lib" as l;"#).unwrap();
    refused(&world.llmore(&["check", "x.rhai", "--sandbox"]).output().unwrap(), "check");
    refused(&world.llmore(&["report", "../secret/run", "--sandbox"]).output().unwrap(), "report");
    let (_, err) = texts(&world.llmore(&["--allow", "given", "-c", "1"]).output().unwrap());
    assert!(err.contains("`--allow` goes with `--sandbox`"), "{err}");
    let (_, err) = texts(&world.llmore(&["--sandbox", "--allow", "none", "-c", "1"]).output().unwrap());
    assert!(err.contains("no file or folder `none`"), "{err}");
}

#[test]
fn an_error_of_the_sandbox_names_the_path_the_folders_the_place_and_the_next_step() {
    let world = World::new("told");
    let (_, err) = texts(&world.run("let a = 1;\nprint(read(\"given/link.txt\"))", &["--sandbox", "--allow", "given"]));
    let given = world.at("work/given").display().to_string();
    let key = world.at("secret/key.txt").display().to_string();
    for part in ["`given/link.txt`", &key, &given, "x.rhai:2:7", "`--allow FOLDER`"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let caught = r#"try { read("/etc/passwd") } catch (e) { print(e.kind) }"#;
    assert_eq!(texts(&world.run(caught, &["--sandbox"])).0, "refused\n");
}

#[test]
fn names_in_data_do_not_lead_out_of_their_folder_in_any_mode() {
    let world = World::new("names");
    for data in [
        r#"dataset("given/up.json")"#,
        r#"dataset("given/up.jsonl")"#,
        r#"dataset("given/round.json")"#,
        r#"dataset("given/member.json", #{ images: "given/up.zip" })"#,
        r#"dataset("given/member.json", #{ images: "given/up.tar" })"#,
    ] {
        let (out, err) = texts(&world.run(&format!("print({data}[0].image.width)"), &[]));
        assert!(err.contains("leads out of") && err.contains("the-sample"), "{data}: {out} {err}");
    }
}

#[test]
fn nothing_of_somebody_else_is_replaced_unless_told() {
    let world = World::new("replaced");
    let verbs = [
        ("x.png", r#"plot([1, 2]).save("x.png"OPTIONS)"#),
        ("x.safetensors", r#"save_tensors(tensors("../secret/tower"), "x.safetensors"OPTIONS)"#),
        ("x.jsonl", r#"benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("x.jsonl"OPTIONS)"#),
        ("x.html", r#"benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).report("x.html"OPTIONS)"#),
        ("model/config.json", r#"load("given/model").save("model"OPTIONS)"#),
        ("tower/config.json", r#"encoder("tiny-clip").save("tower"OPTIONS)"#),
    ];
    for (name, verb) in verbs {
        let file = world.at("work").join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "somebody's").unwrap();
        let run = |options: &str| world.run(&verb.replace("OPTIONS", options), &[]);
        let output = run("");
        let (_, err) = texts(&output);
        assert!(err.contains("was not written by llmore") && err.contains("overwrite: true"), "{verb}: {err}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's", "{verb}");
        // Told to; then it is llmore's, and replaced every day; then somebody changes it.
        for options in [", #{ overwrite: true }", "", ""] {
            let output = run(options);
            assert!(output.status.success(), "{verb} {options}: {}", texts(&output).1);
        }
        let mut changed = std::fs::read(&file).unwrap();
        changed.push(b'\n');
        std::fs::write(&file, &changed).unwrap();
        assert!(texts(&run("")).1.contains("changed since"), "{verb}");
        assert_eq!(std::fs::read(&file).unwrap(), changed, "{verb}");
    }
    // Other files in the folder of a model stay.
    std::fs::write(world.at("work/tower/notes.txt"), "mine").unwrap();
    assert!(world.run(r#"encoder("tiny-clip").save("tower", #{ overwrite: true })"#, &[]).status.success());
    assert_eq!(std::fs::read_to_string(world.at("work/tower/notes.txt")).unwrap(), "mine");
}

#[test]
fn a_report_on_the_command_line_replaces_only_its_own() {
    let world = World::new("report");
    let script = r#"benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("r.jsonl")"#;
    assert!(world.run(script, &[]).status.success());
    std::fs::write(world.at("work/r.html"), "somebody's").unwrap();
    let report = |more: &[&str]| world.llmore(&[&["report", "r.jsonl"], more].concat()).output().unwrap();
    let (_, err) = texts(&report(&[]));
    assert!(err.contains("`r.html` exists") && err.contains("`--overwrite`"), "{err}");
    for more in [&["--overwrite"][..], &[]] {
        let output = report(more);
        assert!(output.status.success(), "{}", texts(&output).1);
    }
}

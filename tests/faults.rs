//! What goes wrong while something runs: signals, a closed output or terminal, a disk that takes no more, bytes that change
//! where they are kept. Nothing whole is lost, and nothing damaged is used without a word.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::train::{Run, checkpoints};
use llmore::vlm::checkpoint;
use llmore::weights::HASHES;

use super::resume::{llm, model, trainer};
use super::scripting::{run as run_script, scratch, without_sums};

const PROGRAM: &str = env!("CARGO_BIN_EXE_llmore");
const STEPS: u64 = 6;
/// Files of a checkpoint that a resumed run has to end with.
const STATE: [&str; 2] = ["mm_projector.safetensors", "optimizer.safetensors"];

/// A script that trains into a folder, or goes on with what is there; after each step `each`.
fn training(out: &str, each: &str) -> String {
    format!(
        r#"let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{{ pool: "average", tokens: 4 }}), llm("tiny-llama"));
let t = trainer(m, dataset("tiny-instruct"), #{{ train: #{{ projector: 1e-3 }}, batch: 2, steps: {STEPS}, save_every_steps: 2, out: "{out}" }});
if begun("{out}") {{ t.resume("{out}"); }}
t.fit(|s| {{ {each} true }});
print("the end");"#
    )
}

/// Starts a script in a folder.
fn start(folder: &Path, script: &str, arguments: &[&str]) -> Child {
    std::fs::write(folder.join("x.rhai"), script).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["run", "x.rhai"]).args(arguments).current_dir(folder);
    // Below `nohup` it would be ignored, by the program as well.
    // SAFETY: signal(2) is async-signal-safe, as what runs between fork and exec must be, and SIG_DFL installs no handler.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn shell(folder: &Path, text: &str) -> Output {
    Command::new("bash").args(["-c", text]).env("LLMORE", PROGRAM).current_dir(folder).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// Waits until a file holds a text.
fn wait_for(file: &Path, text: &str) {
    let start = Instant::now();
    while !std::fs::read_to_string(file).is_ok_and(|found| found.contains(text)) {
        assert!(start.elapsed() < Duration::from_secs(120), "no {text} in {}", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn summary(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("summary.json")).unwrap()).unwrap()
}

/// A run that nothing disturbs, and what it ends with.
fn whole(folder: &Path) -> Vec<Vec<u8>> {
    let output = start(folder, &training("whole", ""), &["--quiet"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    state(&folder.join("whole"))
}

fn state(run: &Path) -> Vec<Vec<u8>> {
    STATE.map(|file| std::fs::read(run.join(format!("checkpoint-{STEPS}")).join(file)).unwrap()).to_vec()
}

/// The run goes on from where it stands, and ends as `expected`.
fn goes_on(folder: &Path, out: &str, expected: &[Vec<u8>]) {
    let output = start(folder, &training(out, ""), &["--quiet"]).wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(state(&folder.join(out)) == expected, "{out} ended otherwise");
}

/// The place of each byte to change: both ends, and some between.
fn places(length: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..4).map(|part| part * length / 4).collect();
    places.extend([8, length - 1]);
    places.retain(|place| *place < length);
    places
}

/// Lets `look` see a file with a changed byte, at several places; then the file is what it was.
fn with_each_flip(path: &Path, mut look: impl FnMut(usize)) {
    let bytes = std::fs::read(path).unwrap();
    for place in places(bytes.len()) {
        let mut other = bytes.clone();
        other[place] ^= 1;
        std::fs::write(path, other).unwrap();
        look(place);
    }
    std::fs::write(path, bytes).unwrap();
}

/// The files of a folder and of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

#[test]
fn every_signal_ends_a_run_as_ctrl_c_does() {
    let folder = scratch("faults-signals");
    let expected = whole(&folder);
    for (name, code) in [("INT", 130), ("TERM", 99), ("HUP", 99), ("USR1", 99), ("USR2", 99)] {
        let child = start(&folder, &training(name, "sleep(0.2);"), &[]);
        wait_for(&folder.join(name).join("events.jsonl"), r#""step":1,"#);
        // SLURM and mpirun send it two or three times.
        for _ in 0..if name == "INT" { 1 } else { 3 } {
            signal(&child, name);
        }
        let output = child.wait_with_output().unwrap();
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {text}");
        assert!(text.contains("what was done is saved") && !text.contains("panicked"), "{name}: {text}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("the end"), "{name}: the script went on");
        let run = folder.join(name);
        let found = summary(&run);
        assert_eq!((&found["status"], &found["interrupted"]), (&"paused".into(), &format!("SIG{name}").into()));
        let done = found["steps"].as_u64().unwrap();
        assert_eq!(checkpoints(&run).unwrap().last().unwrap().0, done, "{name}: the last whole step is on disk");
        assert!((1..STEPS).contains(&done), "{name}: {done}");
        goes_on(&folder, name, &expected);
        assert_eq!(summary(&run).get("interrupted"), None);
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once_and_loses_no_checkpoint() {
    let folder = scratch("faults-twice");
    let child = start(&folder, &training("out", "if s.step == 3 { sleep(600); }"), &[]);
    wait_for(&folder.join("out/events.jsonl"), r#""step":3,"#);
    let start = Instant::now();
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(30));
    let left: Vec<u64> = checkpoints(&folder.join("out")).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(left, [2]);
}

#[test]
fn a_closed_output_ends_a_run_and_saves_it() {
    let folder = scratch("faults-head");
    let expected = whole(&folder);
    // Progress goes along in the second one.
    for (out, redirected) in [("head", "--quiet 2>err"), ("both", "2>&1")] {
        std::fs::write(folder.join("x.rhai"), training(out, "print(s.step); sleep(0.2);")).unwrap();
        let text = format!(r#""$LLMORE" run x.rhai {redirected} | head -n 1 >{out}.txt; echo "${{PIPESTATUS[0]}}""#);
        let output = shell(&folder, &text);
        assert_eq!(said(&output).trim(), "141");
        let err = std::fs::read_to_string(folder.join("err")).unwrap();
        assert!(!err.contains("panicked") && !err.contains("error"), "{err}");
        assert!(err.contains("nobody reads the output any more: what was done is saved"), "{err}");
        assert_eq!(summary(&folder.join(out))["interrupted"], "closed output");
        assert!(Run::open(&folder.join(out)).unwrap().checkpoint().unwrap().is_some());
        goes_on(&folder, out, &expected);
    }
    assert_eq!(std::fs::read_to_string(folder.join("head.txt")).unwrap(), "1\n");
    // What only prints has nothing to say about it.
    for text in [
        r#""$LLMORE" -c 'for i in 0..100000 { print(i) }' | head -n 1"#,
        r#"echo 'for i in 0..100000 { print(i) }' | "$LLMORE" | head -n 1"#,
        r#"(echo 'for i in 0..100000 { print(i) }'; sleep 1; echo '1') | "$LLMORE" repl | head -n 0"#,
        r#""$LLMORE" docs | head -n 1"#,
        r#""$LLMORE" watch head | head -n 0"#,
        r#""$LLMORE" report head --maps 0 | head -n 0"#,
    ] {
        let output = shell(&folder, text);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!err.contains("panicked") && !err.contains("error") && !err.contains("stopped"), "{text}: {err}");
    }
    // A full disk behind the output is no reason to stop.
    std::fs::write(folder.join("x.rhai"), training("full", "print(s.step);")).unwrap();
    let output = shell(&folder, r#""$LLMORE" run x.rhai --quiet >/dev/full"#);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output).matches("standard output cannot be written").count(), 1, "{}", said(&output));
}

#[test]
fn a_closed_terminal_ends_a_run_and_nohup_does_not() {
    let folder = scratch("faults-terminal");
    std::fs::write(folder.join("x.rhai"), training("tty", "print(s.step); sleep(0.2);")).unwrap();
    let (mut master, mut slave) = (0, 0);
    // SAFETY: openpty writes two descriptors to places that are borrowed for the call; the other pointers may be null.
    let made =
        unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) };
    assert_eq!(made, 0);
    // SAFETY: fcntl sets a flag of a descriptor that was opened just now: the program must not hold its own terminal open.
    assert_eq!(unsafe { libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    // SAFETY: both were opened just now and belong to nobody else.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    let side = || Stdio::from(slave.try_clone().unwrap());
    let mut command = Command::new(PROGRAM);
    command.args(["run", "x.rhai"]).current_dir(&folder).stdin(side()).stdout(side()).stderr(side());
    // SAFETY: setsid and ioctl may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    drop(slave);
    wait_for(&folder.join("tty/events.jsonl"), r#""step":1,"#);
    drop(master);
    assert_eq!(child.wait().unwrap().code(), Some(99));
    assert_eq!(summary(&folder.join("tty"))["interrupted"], "SIGHUP");

    std::fs::write(folder.join("x.rhai"), training("nohup", "sleep(0.2);")).unwrap();
    let text = r#"trap '' HUP; "$LLMORE" run x.rhai --quiet & pid=$!
        until grep -qs '"step":1,' nohup/events.jsonl; do sleep 0.02; done; kill -HUP $pid; wait $pid"#;
    let output = shell(&folder, text);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(summary(&folder.join("nohup"))["status"], "done");
}

#[test]
fn a_signal_ends_the_prompt_and_what_runs_at_it() {
    let folder = scratch("faults-repl");
    let line = training("out", "sleep(0.2);").replace('\n', " ").replace("print(\"the end\");", "");
    for (name, text, file, mark) in
        [("waits", "42".to_string(), "out.txt", "42\n"), ("works", line, "out/events.jsonl", r#""step":1,"#)]
    {
        std::fs::write(folder.join("lines"), format!("{text}\n")).unwrap();
        let mut child = Command::new("bash")
            .args(["-c", r#"exec "$LLMORE" repl --quiet < <(cat lines; sleep 600) >out.txt 2>err.txt"#])
            .env("LLMORE", PROGRAM)
            .env("XDG_STATE_HOME", &folder)
            .current_dir(&folder)
            .spawn()
            .unwrap();
        wait_for(&folder.join(file), mark);
        signal(&child, "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(99), "{name}");
        let err = std::fs::read_to_string(folder.join("err.txt")).unwrap();
        assert!(!err.contains("panicked"), "{err}");
    }
    assert_eq!(summary(&folder.join("out"))["interrupted"], "SIGTERM");
}

#[test]
fn an_evaluation_and_a_study_go_on_after_a_signal() {
    let folder = scratch("faults-others");
    let answers = |out: &str| {
        format!(r#"benchmark("tiny-vqa", #{{ limit: 24 }}).run(vlm("tiny-llava"), #{{ out: "{out}", batch: 1 }});"#)
    };
    let ran = |script: &str| {
        let output = start(&folder, script, &["--quiet"]).wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    ran(&answers("whole.jsonl"));
    let child = start(&folder, &answers("killed.jsonl"), &[]);
    wait_for(&folder.join("killed.jsonl"), "\n");
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(99), "{}", said(&output));
    ran(&answers("killed.jsonl"));
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(read("whole.jsonl") == read("killed.jsonl"));

    let study = |out: &str| {
        format!(
            r#"study(#{{ seeds: [0, 1], limit: 4, stage: #{{ steps: 3, batch: 2, save_every_steps: 1 }}, out: "{out}" }}).run();"#
        )
    };
    ran(&study("whole"));
    let child = start(&folder, &study("killed"), &[]);
    wait_for(&folder.join("killed/cells/tiny-clip--tiny-llama--s0/stage-1/events.jsonl"), r#""step":1,"#);
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(99), "{}", said(&output));
    assert_eq!(summary(&folder.join("killed"))["interrupted"], "SIGTERM");
    ran(&study("killed"));
    assert_eq!(summary(&folder.join("killed")).get("interrupted"), None);
    for seed in [0, 1] {
        let cell = format!("cells/tiny-clip--tiny-llama--s{seed}/tiny-vqa.jsonl");
        assert!(read(&format!("whole/{cell}")) == read(&format!("killed/{cell}")), "{cell}");
    }
}

#[test]
fn a_disk_that_takes_no_more_names_the_file_and_leaves_the_checkpoint() {
    let folder = scratch("faults-disk");
    let expected = whole(&folder);
    let child = start(&folder, &training("out", "s.step < 2 &&"), &["--quiet"]);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    std::fs::write(folder.join("x.rhai"), training("out", "")).unwrap();
    // In blocks of 1 KiB: less than the moments take.
    let output = shell(&folder, r#"ulimit -f 8; exec "$LLMORE" run x.rhai --quiet"#);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("checkpoint-4") && text.contains(".safetensors"), "{text}");
    assert!(text.contains("checkpoint-2` is whole") && !text.contains("panicked"), "{text}");
    let left: Vec<u64> = checkpoints(&folder.join("out")).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(left, [2]);
    goes_on(&folder, "out", &expected);
}

const OPTIONS: &str = "batch = 4\nmicro_batch = 2\nsteps = 6\nsave_every_steps = 2\nkeep = 3\nseed = 5\n\
                       train = { projector = 1e-3, llm = 2e-3 }";

#[test]
fn a_changed_byte_of_a_checkpoint_is_found_before_it_is_used() {
    let folder = scratch("faults-checkpoint");
    let run = folder.join("run");
    trainer(&model(llm()), OPTIONS, &run).fit(&mut |step| Ok(step.step < 4)).unwrap();
    let newest = run.join("checkpoint-4");
    let all = files(&newest);
    assert!(all.len() >= 8, "{all:?}");
    let vlm = model(llm());
    for path in &all {
        let name = path.strip_prefix(&newest).unwrap().display().to_string();
        with_each_flip(path, |place| {
            let mut other = trainer(&vlm, OPTIONS, &run);
            let error = other.resume(&run).unwrap_err();
            let (text, help) = (error.to_string(), error.help_text().unwrap_or_default().to_string());
            assert!(text.contains(&name), "{name}, byte {place}: {text}");
            assert!(help.contains("checkpoint-2` is whole: `t.resume("), "{name}, byte {place}: {help}");
            assert_eq!(other.done(), 0, "nothing was taken from it");
            let opened = checkpoint::load(&Presets::default(), &newest, None, &Target::cpu());
            // What is no part of the model does not concern it.
            match opened {
                Err(error) => assert!(format!("{error} {:?}", error.help_text()).contains(&name), "{name}: {error}"),
                Ok(vlm) => {
                    let told = vlm.notes.list().iter().any(|note| note.contains(&name));
                    assert!(
                        told || ["optimizer.safetensors"].contains(&&*name),
                        "{name}, byte {place}: nothing was said"
                    );
                }
            }
        });
    }
    // Nothing of it is left behind.
    let mut last = trainer(&model(llm()), OPTIONS, &run);
    last.resume(&newest).unwrap();
    assert_eq!(last.done(), 4);
    // A run that was killed has no summary; what its checkpoints say of themselves is looked at all the same.
    std::fs::remove_file(run.join("summary.json")).unwrap();
    let verify = || Command::new(PROGRAM).arg("verify").arg(&run).output().unwrap();
    assert_eq!(verify().status.code(), Some(0), "{}", said(&verify()));
    with_each_flip(&run.join("checkpoint-2/optimizer.safetensors"), |_| {
        let output = verify();
        assert!(
            output.status.code() == Some(1) && said(&output).contains("checkpoint-2/optimizer"),
            "{}",
            said(&output)
        );
    });
    // A checkpoint of an older version has no hashes.
    std::fs::remove_file(newest.join(HASHES)).unwrap();
    trainer(&model(llm()), OPTIONS, &run).resume(&newest).unwrap();
}

#[test]
fn a_changed_byte_of_a_saved_model_is_found_and_an_edited_text_is_said() {
    let folder = scratch("faults-model");
    let script = format!(
        r#"let m = vlm("tiny-llava"); m.save("{0}/llava"); m.save("{0}/hf", #{{ layout: "transformers" }}); m.encoder.save("{0}/tower");"#,
        folder.display()
    );
    run_script("faults-model-script", &script).unwrap();
    for place in ["llava", "hf"] {
        let model = folder.join(place);
        let load = || checkpoint::load(&Presets::default(), &model, None, &Target::cpu());
        assert!(load().unwrap().notes.list().iter().all(|note| !note.contains("as it was written")));
        for path in [model.join("model.safetensors"), model.join(HASHES)] {
            with_each_flip(&path, |byte| {
                let error = load().err().unwrap().to_string();
                let name = path.file_name().unwrap().to_string_lossy();
                assert!(error.contains(&*name) && error.contains("not as it was written"), "{name} {byte}: {error}");
            });
        }
        // People edit it: it is taken, and said.
        let config = model.join("config.json");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}\n")).unwrap();
        let notes = load().unwrap().notes.list();
        assert!(notes.iter().any(|note| note.contains("config.json` is not as it was written")), "{notes:?}");
    }
    with_each_flip(&folder.join("tower/model.safetensors"), |_| {
        let error = run_script("faults-tower", &format!("encoder({:?})", folder.join("tower"))).unwrap_err();
        assert!(error.contains("tower/model.safetensors") && error.contains("not as it was written"), "{error}");
    });
}

#[test]
fn a_changed_byte_of_kept_features_is_said_and_computed_again() {
    let folder = scratch("faults-features");
    let train = |out: &str| {
        let script = training(out, "").replace("save_every_steps", "features: \"disk\", save_every_steps");
        std::fs::write(folder.join("x.rhai"), script).unwrap();
        shell(&folder, r#"XDG_CACHE_HOME="$PWD/cache" "$LLMORE" run x.rhai"#)
    };
    assert!(train("first").status.success());
    let expected = state(&folder.join("first"));
    let kept = files(&folder.join("cache/llmore/features")).pop().unwrap();
    let mut bytes = std::fs::read(&kept).unwrap();
    // In the values of the first record.
    bytes[100] ^= 1;
    std::fs::write(&kept, bytes).unwrap();
    let output = train("second");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("kept features of 1 pictures are not as they were written"), "{text}");
    assert!(state(&folder.join("second")) == expected);
}

#[test]
fn a_changed_byte_of_answers_is_found() {
    let folder = scratch("faults-answers");
    let (file, at) = (folder.join("a.jsonl"), folder.display().to_string());
    let ask =
        format!(r#"benchmark("tiny-vqa", #{{ limit: 3 }}).run(vlm("tiny-llava"), #{{ out: "{at}/a.jsonl" }}).score"#);
    let score = run_script("faults-answers-1", &ask).unwrap();
    let last = std::fs::metadata(&file).unwrap().len() as usize - 1;
    with_each_flip(&file, |place| {
        for script in [format!(r#"results("{at}/a.jsonl").score"#), ask.clone()] {
            match run_script("faults-answers-2", &script) {
                Err(error) => assert!(error.contains("a.jsonl`"), "byte {place}: {error}"),
                // Without its line break the last line counts as cut off: its question is asked again.
                Ok(said) => assert!(said == score && script == ask && place == last, "byte {place}: {said}"),
            }
        }
    });
    assert_eq!(run_script("faults-answers-3", &ask).unwrap(), score);
    // Lines of an older version have no sums.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, without_sums(&text)).unwrap();
    assert_eq!(run_script("faults-answers-4", &format!(r#"results("{at}/a.jsonl").score"#)).unwrap(), score);
}

#[test]
fn killed_again_and_again_nothing_is_lost() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/dev/kill_resume.sh"));
    command.args(["--program", PROGRAM, "--training", "6", "--evaluation", "3", "--study", "2", "--save", "4"]);
    let output = command.output().unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("0 unusable, 0 different"), "{text}");
}

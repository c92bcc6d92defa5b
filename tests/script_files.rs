//! Scripts as files: what they import, the mark some editors put first, places of errors in several files.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::scratch::scratch;

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = scratch(name);
    for (path, text) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// What the program says, with its code.
fn says(folder: &Path, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    use std::io::Write;
    let mut program = Command::new(env!("CARGO_BIN_EXE_llmore"))
        .args(arguments)
        .arg("--quiet")
        .current_dir(folder)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it reads is none of this test's business.
    let _ = program.stdin.take().unwrap().write_all(input.as_bytes());
    let output = program.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

const PARTS: [(&str, &str); 4] = [
    (
        "dir/run.rhai",
        "import \"lib/parts\" as p;\nfn twice(id) { 2 * p::tokens(id) }\nprint(p::tokens(\"tiny-clip\"));\nprint(twice(\"tiny-clip\"));\n",
    ),
    (
        "dir/lib/parts.rhai",
        "import \"deep/more.rhai\" as more;\nfn tokens(id) { more::open(id).tokens }\nfn first() { args[0] }\n",
    ),
    ("dir/lib/deep/more.rhai", "import \"../../side\" as side;\nfn open(id) { encoder(side::same(id)) }\n"),
    ("dir/side.rhai", "\u{feff}fn same(id) { id }\n"),
];

#[test]
fn imports_are_relative_to_the_script_that_imports() {
    let folder = folder("imports", &PARTS);
    for (at, path) in [(folder.clone(), "dir/run.rhai"), (folder.join("dir/lib"), "../run.rhai")] {
        assert_eq!(says(&at, &["run", path], ""), (Some(0), "64\n128\n".to_string()), "{path}");
        assert_eq!(says(&at, &["check", path], ""), (Some(0), String::new()), "{path}");
    }
    assert_eq!(says(&folder, &["-c", "import \"dir/side\" as s; s::same(3)"], ""), (Some(0), "3\n".to_string()));
    // What a session has loaded stays: functions that use imports, and the imports.
    let lines = ":load dir/run.rhai\nprint(twice(\"tiny-clip\") + 1);\nprint(p::tokens(\"tiny-clip\") + 2);\n";
    let (code, said) = says(&folder, &["repl"], lines);
    assert!(code == Some(0) && said.contains("129") && said.contains("66"), "{said}");
    // `args` are everywhere.
    std::fs::write(folder.join("args.rhai"), "import \"dir/lib/parts\" as p; print(p::first())").unwrap();
    assert_eq!(says(&folder, &["run", "args.rhai", "--quiet", "--", "one"], "").1.lines().next(), Some("one"));
}

#[test]
fn errors_are_placed_in_the_file_they_are_in() {
    let folder = folder("places", &PARTS);
    let more = folder.join("dir/lib/deep/more.rhai");
    std::fs::write(&more, "// One.\nfn open(id) {\n    encoder(\"no-such\" + id)\n}\n").unwrap();
    let (code, said) = says(&folder, &["run", "dir/run.rhai"], "");
    assert_eq!(code, Some(1), "{said}");
    let places = [
        " --> dir/lib/deep/more.rhai:3:5 in `open`\n",
        "3 |     encoder(\"no-such\" + id)\n",
        "called from `tokens` at dir/lib/parts.rhai:2:",
        "called from the script at dir/run.rhai:3:",
    ];
    for place in places {
        assert!(said.contains(place), "{place}: {said}");
    }
    // What does not parse is found without running.
    std::fs::write(&more, "fn open(id) {\n    encoder(id\n}\n").unwrap();
    for command in ["check", "run"] {
        let (code, said) = says(&folder, &[command, "dir/run.rhai"], "");
        assert!(code == Some(1) && said.contains(" --> dir/lib/deep/more.rhai:3:1\n"), "{said}");
        assert!(said.contains("called from the script at dir/lib/parts.rhai:1:8"), "{said}");
    }
    std::fs::remove_file(&more).unwrap();
    for command in ["check", "run"] {
        let (code, said) = says(&folder, &[command, "dir/run.rhai"], "");
        assert!(code == Some(1) && said.contains("no script `dir/lib/deep/more.rhai`"), "{said}");
        assert!(said.contains("--> dir/lib/parts.rhai:1:8") && said.contains("help: "), "{said}");
    }
    std::fs::write(&more, "import \"../parts\" as p;\nfn open(id) { id }\n").unwrap();
    let (code, said) = says(&folder, &["run", "dir/run.rhai"], "");
    let circle = "`dir/lib/parts.rhai` -> `dir/lib/deep/more.rhai` -> `dir/lib/parts.rhai`";
    assert!(code == Some(1) && said.contains(circle), "{said}");
    assert_eq!(says(&folder, &["check", "dir/run.rhai"], "").0, Some(0));
}

#[test]
fn a_rerun_has_what_the_run_imported() {
    let script = r#"import "lib/parts" as p;
        trainer(p::model(), dataset("tiny-emoji").take(4), p::options()).fit();"#;
    let parts = r#"import "more" as more;
        fn model() { vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama")) }
        fn options() { #{ train: #{ projector: more::rate() }, template: "plain", batch: 2, steps: 2, out: "out" } }"#;
    let folder =
        folder("rerun", &[("x.rhai", script), ("lib/parts.rhai", parts), ("lib/more.rhai", "fn rate() { 1e-2 }")]);
    assert_eq!(says(&folder, &["run", "x.rhai"], "").0, Some(0));
    // Another rate now, or no file at all: the run's own is in its run.lock.
    std::fs::write(folder.join("lib/more.rhai"), "fn rate() { 2e-2 }").unwrap();
    std::fs::remove_file(folder.join("lib/parts.rhai")).unwrap();
    let (code, said) = says(&folder, &["rerun", "out"], "");
    assert!(code == Some(0) && said.contains("losses agree to the last bit over 2 steps"), "{said}");
    let path = folder.join("out/run.lock");
    let lock = std::fs::read_to_string(&path).unwrap();
    assert!(lock.contains("\"lib/more.rhai\" = "), "{lock}");
    std::fs::write(&path, lock.replace("1e-2", "3e-2")).unwrap();
    let (code, said) = says(&folder, &["rerun", "out"], "");
    assert!(code == Some(1) && said.contains("was changed"), "{said}");
}

#[test]
fn a_mark_before_the_text_is_no_part_of_it() {
    let folder = folder("bom", &[("x.rhai", "\u{feff}print(1);\r\nprint(2);\r\nprint(x);\r\n")]);
    let (code, said) = says(&folder, &["run", "x.rhai"], "");
    assert_eq!(code, Some(1));
    assert!(said.contains(" --> x.rhai:3:7\n") && said.contains("no variable `x`"), "{said}");
    std::fs::write(folder.join("x.rhai"), "\u{feff}print(1);\n").unwrap();
    assert_eq!(says(&folder, &["run", "x.rhai"], ""), (Some(0), "1\n".to_string()));
    assert_eq!(says(&folder, &["check", "x.rhai"], ""), (Some(0), String::new()));
}

#[test]
fn the_line_of_the_call_comes_before_what_is_embedded() {
    let script = "let m = vlm(\"tiny-llava\");\ntrain_stages(m, \"llava-more\", \".\", \"out\");\n";
    let folder = folder("embedded", &[("x.rhai", script)]);
    let (code, said) = says(&folder, &["run", "x.rhai"], "");
    assert_eq!(code, Some(1));
    let call = " --> x.rhai:2:1\n   |\n 2 | train_stages(m, \"llava-more\", \".\", \"out\");\n";
    assert!(said.contains("no file or folder `./blip_laion_cc_sbu_558k.json`") && said.contains(call), "{said}");
    assert!(said.contains("note: inside `stage_data` at stdlib/stages.rhai:"), "{said}");
}

#[test]
fn a_stage_may_name_a_data_set() {
    let script = r#"let m = vlm(encoder("tiny-clip"), projector("linear", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
        train_stages(m, "llava-more-tiny", "no/such/folder", "out", #{ steps: 1, batch: 2 });
        print(begun("out/" + recipe("llava-more-tiny").stages[1].name));"#;
    let folder = folder("stages", &[("x.rhai", script)]);
    let (code, said) = says(&folder, &["run", "x.rhai"], "");
    assert!(code == Some(0) && said.ends_with("true\n"), "{said}");
}

#[test]
fn files_have_the_mode_that_files_of_the_process_have() {
    use std::os::unix::fs::PermissionsExt;
    let script = r#"let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
        m.save("model"); m.save("hf", #{ layout: "transformers" }); m.encoder.save("tower");
        save_tensors(#{ x: m.encoder.encode(image("red.png")) }, "x.safetensors");
        trainer(m, dataset("tiny-emoji").take(4), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 2, steps: 1, out: "run" }).fit();
        plot([1.0, 2.0]).save("plot.png");"#;
    let folder = folder("modes", &[("x.rhai", script)]);
    std::fs::copy("tests/fixtures/images/red-circle.png", folder.join("red.png")).unwrap();
    let shell = format!("umask 027; {} run x.rhai --quiet", env!("CARGO_BIN_EXE_llmore"));
    let done = Command::new("sh").args(["-c", &shell]).current_dir(&folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fn walk(folder: &Path, seen: &mut usize) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let (path, mode) = (entry.path(), entry.metadata().unwrap().permissions().mode() & 0o777);
            if path.is_dir() {
                assert_eq!(mode, 0o750, "{}", path.display());
                walk(&path, seen);
            } else if !["x.rhai", "red.png"].contains(&&*entry.file_name().to_string_lossy()) {
                assert_eq!(mode, 0o640, "{}", path.display());
                *seen += 1;
            }
        }
    }
    let mut seen = 0;
    walk(&folder, &mut seen);
    assert!(seen > 20, "{seen}");
}

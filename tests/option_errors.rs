//! An option that is wrong is named by its whole path, with what it is and what it could be, wherever it was given.

use super::scratch::scratch;
use super::scripting::run;

/// What a trainer with these options says.
fn trainer(options: &str) -> String {
    let script = format!(
        r#"let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        let o = #{{ train: #{{ projector: 1e-3, llm: 1e-3 }}, batch: 2, steps: 1 }};
        let t = trainer(m, dataset("tiny-instruct").take(4), o + #{{ {options} }});
        print(t)"#
    );
    run("option-errors", &script).unwrap_err()
}

#[test]
fn the_option_is_named() {
    let cases = [
        ("epochs: 1.5", "option `epochs` is 1.5, expected a whole number from 0"),
        ("batch: \"8\"", "option `batch` is \"8\", expected a whole number from 0"),
        ("batch: -3", "option `batch` is -3, expected a whole number from 0"),
        ("micro_batch: true", "option `micro_batch` is true, expected a whole number from 0"),
        ("weight_decay: \"0.1\"", "option `weight_decay` is \"0.1\", expected a number"),
        ("checkpointing: 1", "option `checkpointing` is 1, expected true or false"),
        ("template: 3", "option `template` is 3, expected a string"),
        ("out: 3", "option `out` is 3, expected a path"),
        ("betas: 0.9", "option `betas` is 0.9, expected an array of 2"),
        ("betas: [0.9]", "option `betas` is [0.9], expected an array of 2"),
        ("train: 1e-3", "option `train` is 0.001, expected a map"),
        ("train: #{ projector: \"fast\" }", "option `train.projector` is \"fast\", expected a number"),
        ("lora: false", "option `lora` is false, expected a map"),
        ("lora: true", "option `lora` is true, expected a map"),
        ("lora: #{ r: \"a\" }", "option `lora.r` is \"a\", expected a whole number from 0"),
        ("lora: #{ r: 1.5 }", "option `lora.r` is 1.5, expected a whole number from 0"),
        ("lora: #{ targets: 3 }", "option `lora.targets` is 3, expected a layer's name or an array of names"),
        ("lora: #{ rank: 3 }", "option `lora`: no option `rank`"),
        ("loss: \"tokens\"", "option `loss` is \"tokens\", expected \"token\" or \"micro_batch\""),
        ("moments: \"4bit\"", "option `moments` is \"4bit\", expected"),
    ];
    for (options, expected) in cases {
        let told = trainer(options);
        assert!(told.starts_with(&format!("error: trainer: {expected}")), "{options}: {told}");
    }
    assert!(trainer("loss: \"tokens\"").contains("help: did you mean \"token\"?"));
    assert!(trainer("lora: false").contains("help: "), "{}", trainer("lora: false"));
}

/// The program with `--set` over a script with two stages, of which the second has adapters.
fn set(name: &str, pairs: &[&str]) -> (Option<i32>, String) {
    let folder = scratch(name);
    let script = r#"
        fn model() { vlm(encoder("tiny-clip"), projector("linear", #{ pool: "average", tokens: 4 }), llm("tiny-llama")) }
        let d = dataset("tiny-instruct").take(4);
        trainer(model(), d, #{ train: #{ projector: 1e-3 }, batch: 2, steps: 1, out: "one" }).fit();
        trainer(model(), d, #{ train: #{ projector: 1e-3, llm: 1e-3 }, lora: #{ r: 8, alpha: 16 }, batch: 2, steps: 1, out: "two" }).fit();
        print(read("one/run.lock")); print(read("two/run.lock"));
    "#;
    std::fs::write(folder.join("x.rhai"), script).unwrap();
    let set = pairs.iter().flat_map(|pair| ["--set", pair]);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_llmore"))
        .args(["run", "x.rhai"])
        .args(set)
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &*String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let again = std::process::Command::new(env!("CARGO_BIN_EXE_llmore"))
            .args(["rerun", "two", "--quiet"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    }
    (output.status.code(), said)
}

#[test]
fn a_dot_reaches_into_a_map() {
    let (code, said) = set("dots", &["lora.r=4", "train.llm=2e-4", "train.projector=0.5"]);
    assert_eq!(code, Some(0), "{said}");
    // One of the trainers had no rate for the LLM: now it has one, and so adapters of the rank.
    assert_eq!(said.matches("\nr = 4\n").count(), 2, "{said}");
    assert_eq!(said.matches("\nllm = 0.0002\n").count(), 2, "{said}");
    assert_eq!(said.matches("\nprojector = 0.5\n").count(), 2, "{said}");
    assert!(said.contains("\nalpha = 16"), "{said}");
    // What has no LLM in training gets no adapters, and it is said.
    let (code, said) = set("dots-lora", &["lora.r=4"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("\nr = 4\n").count(), 1, "{said}");
    assert!(said.contains("`--set lora.r` changes nothing here"), "{said}");
}

#[test]
fn what_set_says_is_named_too() {
    let cases = [
        ("epochs=1.5", "--set: option `epochs` is 1.5, expected a whole number from 0"),
        ("lora=false", "--set: option `lora` is false, expected a map"),
        ("lora.r=a", "--set: option `lora.r` is \"a\", expected a whole number from 0"),
        ("lora.rank=4", "--set: option `lora`: no option `rank`"),
        ("train.llm=fast", "--set: option `train.llm` is \"fast\", expected a number"),
        ("batch.size=3", "--set: option `batch` is a map, expected a whole number from 0"),
    ];
    for (pair, expected) in cases {
        let (code, said) = set("wrong", &[pair]);
        assert_eq!(code, Some(2), "{pair}: {said}");
        assert!(said.starts_with(&format!("error: {expected}")), "{pair}: {said}");
    }
}

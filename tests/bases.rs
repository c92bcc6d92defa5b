//! Checkpoints without an LLM find their base again: however the model came to be, however it was saved, from another
//! working folder, after the whole tree was moved; another base is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::scripting::{copy, scratch};

const BASE: &str = "tests/fixtures/today/peft-adapters/base";
const GGUF: &str = "tests/fixtures/today/gguf-mlp-bias/model.gguf";

/// Makes a model in every way, saves it in every way, and says what its loss is.
const MAKE: &str = r#"
let picture = image("PICTURE");
let turns = [#{ from: "human", value: "<image>\n what" }, #{ from: "gpt", value: "red" }];
let base = |e, l| vlm(encoder(e), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm(l), #{ template: "plain" });
let open = |way| switch way {
  "presets" => base.call("tiny-clip", "tiny-llama"),
  "folders" => base.call("tower", "base"),
  "gguf" => base.call("tower", "base.gguf"),
  _ => load(way),
};
let train = |m, out, rates, more| {
  let all = #{ train: rates, template: "plain", batch: 4, steps: 3, out: out };
  all.fill_with(more);
  trainer(m, dataset("tiny-captions").take(8), all).fit().checkpoint
};
let stage_1 = |m, out| train.call(m, out, #{ projector: 1e-3 }, #{});
let low = |m, out| train.call(m, out, #{ projector: 1e-3, llm: 1e-2 }, #{ lora: #{ r: 2 } });
let whole = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
whole.save("more");
whole.save("hf", #{ layout: "transformers" });
whole.encoder.save("tower");
let first = stage_1.call(load("more"), "first");
let m = base.call("tower", "base");
low.call(m, "of-second");
m.save("second", #{ merge: false });
let say = |folder, m| print(`${folder} ${m.loss(picture, turns)}`);
for way in ["presets", "folders", "gguf", "more", "hf", first, "second"] {
  let name = way.split("/")[0];
  if way != "second" {
    let m = open.call(way);
    say.call(stage_1.call(m, `stage-1-of-${name}`), m);
    let m = open.call(way);
    say.call(low.call(m, `lora-of-${name}`), m);
    m.save(`adapter-of-${name}`, #{ merge: false });
    say.call(`adapter-of-${name}`, m);
    m.save(`merged-of-${name}`);
    say.call(`merged-of-${name}`, m);
  } else {
    let m = load(way);
    m.save("adapter-of-second", #{ merge: false });
    say.call("adapter-of-second", m);
    m.save("merged-of-second");
    say.call("merged-of-second", m);
  }
}
"#;

/// Opens what was made from a folder that is not the one it was made in.
const OPEN: &str = r#"
let picture = image("PICTURE");
let turns = [#{ from: "human", value: "<image>\n what" }, #{ from: "gpt", value: "red" }];
for folder in [FOLDERS] { print(`${folder} ${load("ROOT/" + folder).loss(picture, turns)}`); }
"#;

fn run(folder: &Path, script: &str) -> String {
    std::fs::write(folder.join("script.rhai"), script).unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_llmore"))
        .args(["run", "--quiet", "script.rhai"])
        .current_dir(folder)
        .output()
        .unwrap();
    let (text, wrong) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{text}{wrong}");
    format!("{text}{wrong}")
}

/// Folders and losses, line by line.
fn losses(text: &str) -> Vec<(String, f64)> {
    let line = |line: &str| {
        let (folder, loss) = line.rsplit_once(' ')?;
        Some((folder.to_string(), loss.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn checkpoints_of_every_model_open_from_anywhere() {
    let folder = scratch("bases");
    let picture = std::fs::canonicalize("tests/fixtures/images/red-circle.png").unwrap();
    let (root, elsewhere) = (folder.join("made"), folder.join("elsewhere"));
    copy(Path::new(BASE), &root.join("base"));
    std::fs::copy(GGUF, root.join("base.gguf")).unwrap();
    std::fs::create_dir_all(&elsewhere).unwrap();
    let picture = picture.display().to_string();
    let made = losses(&run(&root, &MAKE.replace("PICTURE", &picture)));
    assert_eq!(made.len(), 6 * 4 + 2);

    let open = |root: &Path| {
        let folders: Vec<String> = made.iter().map(|(folder, _)| format!("{folder:?}")).collect();
        let script = OPEN.replace("PICTURE", &picture).replace("FOLDERS", &folders.join(", "));
        losses(&run(&elsewhere, &script.replace("ROOT", &root.canonicalize().unwrap().display().to_string())))
    };
    let agree = |opened: Vec<(String, f64)>| {
        assert_eq!(opened.len(), made.len());
        for ((folder, expected), (_, loss)) in made.iter().zip(opened) {
            assert!((loss - expected).abs() < 1e-5, "{folder}: {loss}, expected {expected}");
        }
    };
    agree(open(&root));
    let moved = folder.join("moved");
    std::fs::rename(&root, &moved).unwrap();
    agree(open(&moved));

    // Another base in the place of the one it was made with.
    let weights = moved.join("base/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let script = |name: &str| format!("try {{ load(\"{name}\") }} catch (e) {{ print(e.message) }}");
    for (name, what) in [("adapter-of-folders", "adapter"), ("stage-1-of-folders/checkpoint-3", "projector")] {
        let text = run(&moved, &script(name));
        assert!(text.contains(&format!("the {what} was trained on other weights than LLM `base` has: ")), "{text}");
    }
    // No base at all.
    std::fs::remove_dir_all(moved.join("base")).unwrap();
    let text = run(&moved, "try { load(\"adapter-of-folders\") } catch (e) { print(e.message + e.help) }");
    assert!(text.contains("this folder holds no LLM; its base `") && text.contains("`_name_or_path`"), "{text}");
}

#[test]
fn a_projector_by_any_name_finds_its_base_beside_the_folder() {
    let folder: PathBuf = scratch("plain-projector");
    copy(Path::new(BASE), &folder.join("base"));
    let script = r#"
let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("base"), #{ template: "plain" });
trainer(m, dataset("tiny-captions").take(8), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 3, out: "run" }).fit();
print(`loss ${m.loss(image("PICTURE"), [#{ from: "human", value: "<image>\n" }, #{ from: "gpt", value: "red" }])}`);
"#;
    let picture = std::fs::canonicalize("tests/fixtures/images/red-circle.png").unwrap().display().to_string();
    let expected = losses(&run(&folder, &script.replace("PICTURE", &picture)))[0].1;
    let checkpoint = folder.join("run/checkpoint-3");
    let plain = folder.join("plain");
    copy(&checkpoint, &plain);
    // As the reference's own scripts may leave it.
    std::fs::remove_file(plain.join("projector_base.json")).unwrap();
    let config = std::fs::read_to_string(plain.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["_name_or_path"] = "../base".into();
    std::fs::write(plain.join("config.json"), config.to_string()).unwrap();
    let file = plain.join("mm_projector.safetensors");
    let tensors = llmore::weights::read_tensors(&file, &candle_core::Device::Cpu).unwrap();
    let named = |prefix: &str| {
        let name = |name: &String| name.replace("model.mm_projector.", prefix);
        tensors.iter().map(|(n, tensor)| (name(n), tensor.clone())).collect::<Vec<_>>()
    };
    let elsewhere = folder.join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    for prefix in ["mm_projector.", "base_model.model.model.mm_projector.", "module.model.mm_projector."] {
        llmore::weights::save_tensors(&named(prefix), &file).unwrap();
        let script =
            OPEN.replace("FOLDERS", "\"plain\"").replace("ROOT", &folder.canonicalize().unwrap().display().to_string());
        let script = script.replace("PICTURE", &picture).replace(" what", "");
        assert_eq!(losses(&run(&elsewhere, &script))[0].1, expected, "{prefix}");
    }
}

#[test]
fn a_snapshot_of_the_hub_is_known_by_its_id_and_commit() {
    let id = |path: &str| llmore::hub::id_of(Path::new(path));
    let cache = "/cache/models--lmsys--vicuna-7b-v1.5/snapshots/0123abcd";
    assert_eq!(id(cache).as_deref(), Some("lmsys/vicuna-7b-v1.5@0123abcd"));
    assert_eq!(id("/cache/models--lmsys--vicuna-7b-v1.5/other/0123abcd"), None);
    assert_eq!(id("/models/vicuna-7b"), None);
}

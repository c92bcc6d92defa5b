//! `--set smoke=true`: scripts as people write them for full-size models, on stand-ins.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use llmore::events::{Interrupt, Listeners};
use llmore::preset::Presets;
use llmore::script::{Outcome, Overrides, Session, SessionOptions};

use super::scripting::{Captured, run, scratch};

/// What a script prints in a smoke run; `FOLDER` in it is a folder of its own.
pub fn smoke(folder: &Path, script: &str) -> Result<String, String> {
    let output = Arc::new(Captured::default());
    let mut session = Session::new(SessionOptions {
        presets: Presets::default(),
        output: output.clone(),
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        overrides: Overrides::parse(&["smoke=true".to_string(), "limit=4".to_string()]).unwrap(),
        args: Vec::new(),
        repeats: None,
        runs: folder.join("runs"),
        cache: folder.join("cache"),
    });
    match session.run("test.rhai", &script.replace("FOLDER", &folder.display().to_string())) {
        Ok(Outcome::Value(_)) => Ok(output.0.lock().unwrap().clone()),
        Ok(Outcome::Exit(code)) => Err(format!("exit {code}")),
        Err(report) => Err(report.to_string()),
    }
}

const TWO_STAGES: &str = r#"
let e = encoder("openai/clip-vit-large-patch14-336", #{ s2: [336, 672, 1008], select_layer: 22, dtype: "bf16", device: "cuda" });
print(`${e.image_size} ${e.dtype}`);
let p = projector("mlp2x_gelu", #{ pool: "average", tokens: 144 });
let m = vlm(e, p, llm("google/gemma-2-9b-it", #{ dtype: "bf16" }), #{ template: "llama_3_1" });
let d = dataset("no/such/folder/stage1.json", #{ images: "no/such/folder" });
trainer(m, d, #{ train: #{ projector: 1e-3 }, template: "plain", batch: 256, micro_batch: 3, max_length: 4096, dtype: "bf16",
                 out: "FOLDER/one" }).fit();
let t = trainer(m, d.filter(|s| false), #{ train: #{ projector: 2e-5, llm: 2e-5 }, template: "llama_3_1", batch: 128, micro_batch: 3,
                 group_by_modality: true, checkpointing: true, lora: #{ r: 4, targets: ["qkv_proj"] }, out: "FOLDER/two" });
t.fit();
print(run("FOLDER/two").losses.len());
print(load("FOLDER/two/checkpoint-5198").llm.id);
m.save("FOLDER/model");
print(load("FOLDER/model", #{ template: "gemma_2" }).template.name);
let res = benchmark("pope", #{ data: "no/such/file" }).run(m, #{ out: "FOLDER/pope.jsonl" });
print(results("FOLDER/pope.jsonl").metrics.f1 == res.metrics.f1);
print(benchmark("mme").run(m).metrics.perception);
run("FOLDER/two").report("FOLDER/two/report.html", #{ maps: 0 });
"#;

#[test]
fn a_script_for_full_size_models_runs_again_and_again() {
    let folder = scratch("smoke-two-stages");
    for _ in 0..2 {
        let told = smoke(&folder, TWO_STAGES).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[..2], ["192 f32", "2"], "{told}");
        assert_eq!(lines[3..5], ["tiny", "true"], "{told}");
    }
    // The second run took the place of the first one's runs, and left its model and its answers alone.
    let names = |folder: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort_unstable();
        names
    };
    // The cache has the list of what was written.
    assert_eq!(names(folder.clone()), ["cache", "model", "one", "pope.jsonl", "runs", "two"]);
    assert_eq!(names(folder.join("runs")).len(), 1);

    // A real run takes the place of a smoke run's, and of nothing else in the folder.
    std::fs::write(folder.join("two/mine.txt"), "kept").unwrap();
    let real = r#"let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
        trainer(m, dataset("tiny-captions"), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 2, steps: 3, out: "FOLDER/two" }).fit();
        run("FOLDER/two").losses.len()"#;
    assert_eq!(run("smoke-then-real", &real.replace("FOLDER", &folder.display().to_string())).unwrap(), "3\n");
    assert_eq!(std::fs::read_to_string(folder.join("two/mine.txt")).unwrap(), "kept");
}

#[test]
fn what_has_no_file_or_no_room_gets_a_stand_in() {
    let folder = scratch("smoke-small");
    let told = smoke(
        &folder,
        r#"
        let t = tokenizer("llama-3.1-8b-instruct");
        let r = template("llama_3_1").render(t, [#{ from: "human", value: "Hm?" }, #{ from: "gpt", value: "A cat." }]);
        print(r.ids.len() == r.labels.len());
        let m = vlm("llava-more-phi-4-mini-clip", #{ template: "phi_4", device: "cuda" });
        let i = image("no/such/picture.jpg");
        m.ask(i, "What is it?", #{ max_new_tokens: 2048 });
        m.attention(i, "Where?", #{ layer: 20, token: 3 });
        let res = benchmark("scienceqa_img").score(["A", "B"]);
        res.rescore(#{ rules: "llava" });
        print(res.rows.len());
        radar(#{ series: #{ clip: #{ gqa: 1, pope: 2 } } });
        save_tensors(#{ x: m.encoder.encode(i) }, "FOLDER/x.safetensors");
        print(tensors("FOLDER/x.safetensors").x.shape);
        "#,
    );
    let told = told.unwrap();
    assert!(told.starts_with("true\n") && told.ends_with("4\n[64, 96]\n"), "{told}");
    assert!(folder.join("x.safetensors").is_file());
}

#[test]
fn a_study_keeps_its_axes() {
    let folder = scratch("smoke-study");
    let told = smoke(
        &folder,
        r#"
        let s = study(#{ encoders: ["clip-vit-l-336", "siglip-so400m-384", "dinov2-large"], llms: ["gemma-2-2b-it", "llama-3.1-8b-instruct"],
                         projector: projector("linear", #{ pool: "pixel_shuffle", tokens: 144 }), recipe: "llava-more", data: "no/such/folder",
                         benchmarks: ["pope", "ai2d", "gqa"], stage: #{ micro_batch: 3, max_length: 4096, dtype: "bf16" }, device: "cuda",
                         out: "FOLDER/study" });
        print(s);
        let t = study(#{ encoders: "vit-large-224", llms: "phi-4-mini-instruct", recipe: "llava-more", benchmarks: ["gqa", "mme", "docvqa"],
                         projector: projector("linear", #{ pool: "average", tokens: 9 }), out: "FOLDER/study-2" });
        t.run();
        t.radar().save("FOLDER/study-2/radar.png");
        "#,
    );
    let told = told.unwrap();
    assert_eq!(told, "Study(3 encoders x 2 LLMs x 1 seed, tiny-pope, tiny-seed, tiny-vqa, 0 of 6 cells done)\n");
    assert!(!folder.join("study-2").exists());
}

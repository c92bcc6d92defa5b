//! A model is asked, evaluated and saved by the template and `image` it was trained by last: after steps and runs, by an
//! option, by `--set`, in studies, from every kind of checkpoint; and it is said once.

use std::path::Path;
use std::sync::{Arc, Mutex};

use llmore::events::{Event, Interrupt, Listener, Listeners};
use llmore::preset::Presets;
use llmore::script::{Outcome, Overrides, Session, SessionOptions};
use serde_json::Value;

use super::scripting::{Captured, scratch};

/// Keeps warnings.
#[derive(Default)]
pub struct Warned(Mutex<Vec<String>>);

impl Listener for Warned {
    fn hear(&self, event: &Event) {
        if let Event::Warning { text } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

impl Warned {
    pub fn about(&self, word: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|text| text.contains(word)).cloned().collect()
    }
}

const PREPARED: &str = r#"
fn base() { vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama")) }
fn base_by(template) { vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"), #{ template: template }) }
fn train(m, more) {
    let all = #{ train: #{ projector: 1e-3, llm: 1e-3 }, batch: 4, steps: 2 };
    all.mixin(more);
    trainer(m, dataset("tiny-instruct").take(12), all)
}
fn loss(m) {
    m.loss(image("tests/fixtures/images/rgb-137x191.png"), [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }])
}
fn aspect(folder) { json(read(`${folder}/config.json`)).image_aspect_ratio }
fn told(folder) {
    let config = json(read(`${folder}/config.json`));
    `${config.model_architecture} ${config.image_aspect_ratio}`
}
"#;

/// Runs a script in which `FOLDER` is a folder of its own; what it printed, and the warnings.
pub fn run(folder: &Path, script: &str, set: &[&str]) -> (Result<String, String>, Arc<Warned>) {
    let (output, warned) = (Arc::new(Captured::default()), Arc::new(Warned::default()));
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    let mut session = Session::new(SessionOptions {
        presets: Presets::default(),
        output: output.clone(),
        listeners: Listeners::default().with(warned.clone()),
        interrupt: Interrupt::default(),
        overrides: Overrides::parse(&set).unwrap(),
        args: Vec::new(),
        repeats: None,
        runs: folder.join("runs"),
        cache: folder.join("cache"),
    });
    let script = format!("{PREPARED}{script}").replace("FOLDER", &folder.display().to_string());
    let ended = match session.run("test.rhai", &script) {
        Ok(Outcome::Value(_)) => Ok(output.0.lock().unwrap().trim_end().to_string()),
        Ok(Outcome::Exit(code)) => Err(format!("exit {code}")),
        Err(report) => Err(report.to_string()),
    };
    (ended, warned)
}

/// The same of a script that works.
pub fn prints(folder: &Path, script: &str) -> (String, Arc<Warned>) {
    let (ended, warned) = run(folder, script, &[]);
    (ended.unwrap(), warned)
}

#[test]
fn a_model_is_asked_and_saved_as_it_was_trained_last_and_it_is_said_once() {
    let folder = scratch("conventions-fit");
    let script = r#"
let m = base();
let handle = m;
print(m.template.name);
let t = train(m, #{ template: "v1", image: "square", save_every_steps: 1, keep: 9, out: "FOLDER/run" });
t.plan(); t.audit(); t.loss();
print(m.template.name);
let during = [];
t.fit(|s| { during.push(m.template.name); true });
print(`${m.template.name} ${handle.template.name} ${during}`);
m.save("FOLDER/more");
for at in ["run/checkpoint-1", "run/checkpoint-2", "more"] { print(told(`FOLDER/${at}`)); }
print(loss(m) - loss(load("FOLDER/more")));
print(loss(m) - loss(load("FOLDER/run/checkpoint-2")));
let b = benchmark("tiny-vqa", #{ limit: 12 });
let own = b.run(m); let loaded = b.run(load("FOLDER/more"));
let same = true;
for i in 0..12 { same = same && own.rows[i].output == loaded.rows[i].output; }
print(same);
own.save("FOLDER/own.jsonl");
"#;
    let (told, warned) = prints(&folder, script);
    let expected = "tiny\ntiny\nv1 v1 [\"v1\", \"v1\"]\nv1 square\nv1 square\nv1 square\n0.0\n0.0\ntrue";
    assert_eq!(told, expected);
    let said = warned.about("from now on");
    assert_eq!(
        said,
        ["the model is asked and saved by template `v1` and image `square` from now on, as it is trained; it was by \
          template `tiny` and image `pad`"]
    );
    let text = std::fs::read_to_string(folder.join("own.jsonl")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["facts"]["template"], &first["facts"]["image"]), (&"v1".into(), &"square".into()));
    assert!(first["facts"].get("trained_template").is_none());
}

#[test]
fn both_layouts_and_checkpoints_of_a_part_remember() {
    let folder = scratch("conventions-parts");
    let script = r#"
let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
train(m, #{ template: "chatml", image: "square" }).step();
m.save("FOLDER/hf", #{ layout: "transformers" });
print(told("FOLDER/hf"));
print(load("FOLDER/hf").template.name);
let m = base();
let r = train(m, #{ train: #{ projector: 1e-3 }, template: "v1", image: "square" }).fit();
print(`${told(r.checkpoint)} ${loss(m) - loss(load(r.checkpoint))}`);
let m = base();
let r = train(m, #{ lora: #{ r: 2 }, template: "v1", image: "square" }).fit();
print(`${told(r.checkpoint)} ${loss(m) - loss(load(r.checkpoint))}`);
m.save("FOLDER/adapter", #{ merge: false });
print(`${told("FOLDER/adapter")} ${loss(m) - loss(load("FOLDER/adapter"))}`);
"#;
    let (ended, _) = run(&folder, script, &[]);
    // The tokenizer of tiny-llama has no `<|im_start|>`.
    assert!(ended.unwrap_err().contains("chatml"));
    let (told, _) = prints(&folder, &script.replace("chatml", "v1"));
    assert_eq!(told, "v1 square\nv1\nv1 square 0.0\nv1 square 0.0\nv1 square 0.0");
}

#[test]
fn a_stage_on_captions_changes_nothing_and_the_last_that_stepped_wins() {
    let folder = scratch("conventions-turns");
    let script = r#"
let m = base();
let r = trainer(m, dataset("tiny-captions").take(8), #{ train: #{ projector: 1e-3 }, template: "plain", image: "square", batch: 4, steps: 1 }).fit();
print(`${m.template.name} ${told(r.checkpoint)}`);
let one = train(m, #{ template: "v1", image: "square" });
let two = train(m, #{});
one.step(); print(m.template.name);
two.step(); print(m.template.name);
one.step(); print(m.template.name);
two.step(); print(m.template.name);
// An option that is not given is the model's, as it is then.
one = train(m, #{ image: "square" }); one.step();
print(train(m, #{ out: "FOLDER/run" }).fit().dir.contains("run"));
print(told("FOLDER/run/checkpoint-2"));
"#;
    let (told, warned) = prints(&folder, script);
    assert_eq!(told, "tiny tiny pad\nv1\ntiny\nv1\ntiny\ntrue\ntiny square");
    // Of the two trainers each once, and of the third.
    assert_eq!(warned.about("from now on").len(), 3);
}

#[test]
fn resumed_and_finished_runs_are_asked_as_they_were_trained() {
    let folder = scratch("conventions-resume");
    let script = r#"
let options = #{ template: "v1", image: "square", out: "FOLDER/run" };
let m = base();
let t = train(m, options);
if begun("FOLDER/run") { t.resume("FOLDER/run"); }
print(m.template.name);
t.fit(|s| STOP);
print(`${m.template.name} ${loss(m)}`);
"#;
    let first = prints(&folder, &script.replace("STOP", "false")).0;
    let second = prints(&folder, &script.replace("STOP", "true")).0;
    let third = prints(&folder, &script.replace("STOP", "true")).0;
    assert!(first.starts_with("tiny\nv1 "), "{first}");
    assert!(second.starts_with("v1\nv1 "), "{second}");
    assert_eq!(second, third, "a finished run that is resumed");
}

#[test]
fn a_template_by_hand_is_kept_and_another_one_refused() {
    let folder = scratch("conventions-by-hand");
    let script = r#"
let m = base_by("v1");
try { train(m, #{ template: "tiny" }) } catch (e) { print(`${e.message} / ${e.help}`); }
train(m, #{ template: "v1" }).step();
train(m, #{}).step();
// Stage 1 may have its own.
trainer(m, dataset("tiny-captions").take(8), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 1 }).step();
print(m.template.name);
base().save("FOLDER/tiny");
let m = load("FOLDER/tiny", #{ template: "v1" });
let b = benchmark("tiny-vqa", #{ limit: 2 });
b.run(m, #{ out: "FOLDER/v1.jsonl" });
try { train(m, #{ template: "tiny" }) } catch (e) { print(e.message); }
// Whoever asks otherwise does not go on with the answers.
try { b.run(load("FOLDER/tiny"), #{ out: "FOLDER/v1.jsonl" }) } catch (e) { print(e.message); }
train(m, #{}).step();
b.run(m).save("FOLDER/trained.jsonl");
"#;
    let (told, warned) = prints(&folder, script);
    let lines: Vec<&str> = told.lines().collect();
    let refused = |asked: &str, own: &str| {
        format!("the trainer's template is `{asked}`, the model was opened with `template: \"{own}\"` by hand")
    };
    assert!(lines[0].contains(&refused("tiny", "v1")) && lines[0].contains("leave `template` out"), "{told}");
    assert_eq!(lines[1], "v1");
    assert!(lines[2].contains(&refused("tiny", "v1")), "{told}");
    assert!(lines[3].contains("asked by template `v1`, not by `tiny`"), "{told}");
    assert_eq!(
        warned.about("given by hand"),
        [
            "asked by template `v1`, which was given by hand; its config.json names `tiny`, which it was trained or made with"
        ]
    );
    let facts = |file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        first["facts"].clone()
    };
    assert_eq!(
        (&facts("v1.jsonl")["template"], &facts("v1.jsonl")["trained_template"]),
        (&"v1".into(), &"tiny".into())
    );
    assert_eq!(facts("trained.jsonl").get("trained_template"), None);
}

#[test]
fn options_of_the_command_line_hold_for_asking_as_well() {
    let folder = scratch("conventions-set");
    let script = r#"let m = base(); train(m, #{ out: "FOLDER/run" }).fit(); print(`${m.template.name} ${told("FOLDER/run/checkpoint-2")}`);"#;
    let (told, _) = run(&folder, script, &["template=v1", "image=square"]);
    assert_eq!(told.unwrap(), "v1 v1 square");
    let refused = run(&folder, r#"train(base_by("tiny"), #{})"#, &["template=v1"]).0.unwrap_err();
    assert!(refused.contains("the trainer's template is `v1`"), "{refused}");
}

#[test]
fn a_chat_goes_on_as_the_model_is_trained_in_between() {
    let folder = scratch("conventions-chat");
    let script = r#"
let m = base();
let picture = image("tests/fixtures/images/rgb-137x191.png");
let c = m.chat(picture);
c.say("What is it?", #{ max_new_tokens: 3 });
train(m, #{ template: "v1", image: "square" }).step();
c.say("And now?", #{ max_new_tokens: 3 });
m.save("FOLDER/trained");
let fresh = load("FOLDER/trained").chat(picture);
let first = fresh.say("What is it?", #{ max_new_tokens: 3 });
print(m.ask(picture, "What is it?", #{ max_new_tokens: 3 }) == first);
"#;
    assert_eq!(prints(&folder, script).0, "true");
}

const STUDY: &str = r#"
let s = study(#{ projector: projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), recipe: "llava-more-tiny-short", limit: 12,
    stage: #{ template: "v1", image: "square", steps: 3, batch: 4 }, benchmarks: [BENCHMARKS], out: "FOLDER/study" });
s.run();
let folder = `${s.dir}/${s.cells[0].folder}`;
let m = load(`${folder}/stage-2/checkpoint-3`);
for id in [BENCHMARKS] {
    let own = benchmark(id, #{ limit: 12 }).run(m);
    let asked = results(`${folder}/${id}.jsonl`);
    let same = own.rows.len() == asked.rows.len();
    for i in 0..own.rows.len() { same = same && own.rows[i].output == asked.rows[i].output; }
    print(same);
}
"#;

#[test]
fn cells_of_a_study_are_asked_as_they_were_trained_also_when_only_read_from_disk() {
    let folder = scratch("conventions-study");
    assert_eq!(prints(&folder, &STUDY.replace("BENCHMARKS", "\"tiny-vqa\"")).0, "true");
    // Nothing but answers is lacking now: the stages are read from disk.
    let (told, warned) = prints(&folder, &STUDY.replace("BENCHMARKS", "\"tiny-vqa\", \"tiny-seed\""));
    assert_eq!(told, "true\ntrue");
    assert_eq!(warned.about("from now on").len(), 1);
    let files = ["tiny-vqa.jsonl", "tiny-seed.jsonl"];
    let place = |name: &str| walk(&folder.join("study")).into_iter().find(|path| path.ends_with(name)).unwrap();
    let look = || {
        for name in files {
            let text = std::fs::read_to_string(place(name)).unwrap();
            let facts: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            assert_eq!((&facts["facts"]["template"], &facts["facts"]["image"]), (&"v1".into(), &"square".into()));
        }
    };
    look();
    // Of the stages the last one alone, which holds everything.
    files.iter().for_each(|name| std::fs::remove_file(place(name)).unwrap());
    let cell = std::fs::read_dir(folder.join("study/cells")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(cell.join("stage-1")).unwrap();
    let (told, _) = prints(&folder, &STUDY.replace("BENCHMARKS", "\"tiny-vqa\", \"tiny-seed\""));
    assert_eq!(told, "true\ntrue");
    look();
}

pub fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn a_study_refuses_a_template_that_an_llm_cannot_write_before_anything_is_done() {
    let folder = scratch("conventions-study-template");
    let script = r#"study(#{ recipe: "llava-more-tiny-short", stage: #{ template: "llama_3_1", steps: 1 }, benchmarks: ["tiny-vqa"], limit: 2, out: "FOLDER/study" })"#;
    let refused = run(&folder, script, &[]).0.unwrap_err();
    assert!(refused.contains("LLM `tiny-llama`: stage 1: ") && refused.contains("llama_3_1"), "{refused}");
    assert!(!folder.join("study").exists());
}

#[test]
fn a_smoke_run_of_a_template_by_hand_and_a_recipe_works() {
    let folder = scratch("conventions-smoke");
    let script = r#"
let m = vlm(encoder("clip-vit-l-336"), projector("mlp2x_gelu"), llm("vicuna-7b-v1.5"), #{ template: "v1" });
for stage in recipe("llava-more").stages { trainer(m, dataset(stage.data), stage).fit(); }
print(m.template.name);
"#;
    let (told, _) = run(&folder, script, &["smoke=true"]);
    assert_eq!(told.unwrap(), "v1");
}

#[test]
fn quirks_of_the_reference_are_asked_for_and_stay() {
    let folder = scratch("conventions-quirks");
    std::fs::create_dir_all(folder.join("presets/templates")).unwrap();
    for name in ["headed", "other"] {
        let template = format!(
            "about = \"{name}\"\nquestion = [{{ turn = true }}, {{ text = \"\\n\" }}]\nheader = [{{ text = \"{name}:\" }}]\n\
             reference_header = []\nanswer = [{{ turn = true, loss = true }}, {{ text = \"\\n\", loss = true }}]\n"
        );
        std::fs::write(folder.join(format!("presets/templates/{name}.toml")), template).unwrap();
    }
    let output = Arc::new(Captured::default());
    let mut session = Session::new(SessionOptions {
        presets: Presets::new(vec![folder.join("presets")]),
        output: output.clone(),
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        overrides: Overrides::default(),
        args: Vec::new(),
        repeats: None,
        runs: folder.join("runs"),
        cache: folder.join("cache"),
    });
    let script = r#"
fn ending(m) {
    let ids = m.template.prompt(m.llm.tokenizer, [#{ from: "human", value: "Is it red?" }]);
    let text = m.llm.tokenizer.decode(ids);
    text.contains("headed:") || text.contains("other:")
}
for quirks in [false, true] {
    let options = #{ template: "headed", reference_quirks: quirks };
    let composed = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"), options);
    let loaded = load("tests/fixtures/training/checkpoint", options);
    let preset = vlm("tiny-llava", options);
    print(`${ending(composed)} ${ending(loaded)} ${ending(preset)}`);
    // Whatever it is trained by then.
    trainer(composed, dataset("tiny-instruct").take(2), #{ train: #{ projector: 1e-3 }, template: "headed", batch: 2, steps: 1 }).step();
    let later = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"), #{ reference_quirks: quirks });
    trainer(later, dataset("tiny-instruct").take(2), #{ train: #{ projector: 1e-3 }, template: "other", batch: 2, steps: 1 }).step();
    print(`${later.template.name} ${ending(composed)} ${ending(later)}`);
}
"#;
    if let Err(report) = session.run("test.rhai", script) {
        panic!("{report}");
    }
    // Without quirks a prompt ends in the header, with them in the reference's.
    let told = output.0.lock().unwrap().clone();
    assert_eq!(told, "true true true\nother true true\nfalse false false\nother false false\n");
}

//! What is written opens, as what it was: the last of several saves into a folder, adapters and projectors whose base is
//! not what its name opens, bases that were renamed; and what fails leaves what was there.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use llmore::image::{Aspect, Image};
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::{Template, Turn};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, LoraOptions, ProjectorChoice, Vlm, Weights, checkpoint};
use llmore::weights::Source;

use super::conventions::{prints, run, walk};
use super::scripting::scratch;

/// A model with an adapter that changes what it computes, another one for every seed.
fn model(seed: u64) -> Vlm {
    let presets = Presets::default();
    let (weights, target) = (Weights::Stored, Target::cpu());
    let options =
        EncoderOptions { select_layer: None, select: None, s2: None, weights, seed: 0, target: target.clone() };
    let encoder = Arc::new(Encoder::open(&presets, "tiny-clip", options).unwrap());
    let llm = Arc::new(Llm::open(&presets, "tiny-llama", LlmOptions { weights, seed: 0, target }).unwrap());
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    let template = Template::load(&presets, "tiny").unwrap();
    let vlm = Vlm::compose(encoder, &choice, llm, template, Aspect::Pad, seed).unwrap();
    let lora: LoraOptions = toml::from_str("r = 2").unwrap();
    let lora = vlm.llm.adapt(&lora, Source::Random { seed }).unwrap();
    for param in lora.params.iter().filter(|param| param.name().contains("lora_B")) {
        let shape = param.tensor().unwrap().shape().clone();
        let values: Vec<f32> =
            (0..shape.elem_count()).map(|i| ((i as u64 * 7 + seed * 13) % 11) as f32 * 0.01).collect();
        param.assign(&Tensor::from_vec(values, shape, &candle_core::Device::Cpu).unwrap()).unwrap();
    }
    vlm
}

fn logits(vlm: &Vlm) -> Vec<f32> {
    let picture = Image::open(Path::new("tests/fixtures/images/red-circle.png")).unwrap();
    let turns = [Turn::human("<image>\nwhat color is the shape?"), Turn::gpt("red")];
    vlm.logits(&[picture], &turns).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn load(folder: &Path) -> Vlm {
    checkpoint::load(&Presets::default(), folder, None, &Target::cpu()).unwrap()
}

/// Ways to save, by name.
const WAYS: [&str; 5] = ["merged", "adapter", "adapter with its tower", "projector", "transformers"];

fn save(vlm: &Vlm, way: &str, folder: &Path) {
    match way {
        "merged" => vlm.save(folder).unwrap(),
        "adapter" => assert_eq!(vlm.save_adapter(folder, false).unwrap(), None),
        "adapter with its tower" => assert_eq!(vlm.save_adapter(folder, true).unwrap(), None),
        "projector" => assert_eq!(vlm.save_projector(folder).unwrap(), None),
        _ => assert_eq!(vlm.save_transformers(folder).unwrap(), None),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<String> =
        walk(folder).iter().map(|path| path.strip_prefix(folder).unwrap().display().to_string()).collect();
    files.sort();
    files
}

#[test]
fn the_last_save_into_a_folder_is_the_one_that_opens() {
    let folder = scratch("saves-orders");
    let (first, last) = (model(1), model(2));
    let alone = |way: &str| {
        let place = folder.join(format!("alone {way}"));
        save(&last, way, &place);
        (logits(&load(&place)), files(&place))
    };
    for way in WAYS {
        let (expected, mut written) = alone(way);
        written.extend(["notes.txt".to_string(), "pictures/one.txt".to_string()]);
        written.sort();
        for before in WAYS {
            let place = folder.join(format!("{way} over {before}"));
            save(&first, before, &place);
            // As other programs leave them beside a model.
            for stale in ["special_tokens_map.json", "tokenizer.model", "model-00001-of-00002.safetensors"] {
                std::fs::write(place.join(stale), "{}").unwrap();
            }
            std::fs::create_dir(place.join("pictures")).unwrap();
            for kept in ["notes.txt", "pictures/one.txt"] {
                std::fs::write(place.join(kept), "mine").unwrap();
            }
            save(&last, way, &place);
            assert_eq!(files(&place), written, "{way} over {before}");
            assert!(logits(&load(&place)) == expected, "{way} over {before}");
        }
    }
    let left: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_save_that_fails_leaves_the_earlier_one() {
    let folder = scratch("saves-failing").join("model");
    let (first, last) = (model(1), model(2));
    first.save(&folder).unwrap();
    let (expected, before) = (logits(&load(&folder)), files(&folder));
    // Layout transformers has a file where this folder is.
    std::fs::create_dir_all(folder.join("processor_config.json/x")).unwrap();
    let error = last.save_transformers(&folder).unwrap_err().to_string();
    assert!(error.contains("saving to `") && error.contains("processor_config.json"), "{error}");
    assert_eq!(files(&folder), before);
    assert!(logits(&load(&folder)) == expected);
    std::fs::remove_dir_all(folder.join("processor_config.json")).unwrap();
    let beside: Vec<_> = std::fs::read_dir(folder.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");

    // Killed between two renames: what gave way lies beside, and nothing takes the rest for a model.
    let old = folder.with_file_name(".model.old");
    std::fs::create_dir(&old).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::rename(folder.join(name), old.join(name)).unwrap();
    }
    let error = checkpoint::load(&Presets::default(), &folder, None, &Target::cpu()).err().unwrap();
    assert!(error.help_text().unwrap().contains("a save into it was cut off"), "{error}");
    std::fs::create_dir_all(folder.join("processor_config.json/x")).unwrap();
    assert!(last.save_transformers(&folder).is_err());
    assert!(logits(&load(&folder)) == expected, "it was put back");
    std::fs::remove_dir_all(folder.join("processor_config.json")).unwrap();
    last.save(&folder).unwrap();
    assert!(!old.exists() && logits(&load(&folder)) != expected);
}

#[test]
fn a_model_keeps_its_weights_when_its_folder_is_saved_into() {
    let folder = scratch("saves-mapped");
    let place = folder.join("model");
    model(1).save(&place).unwrap();
    let opened = load(&place);
    let expected = logits(&opened);
    model(2).save(&place).unwrap();
    assert!(logits(&opened) == expected && logits(&load(&place)) != expected);
    // Its name opens another model now, so that an adapter on it needs its base beside it.
    let lora: LoraOptions = toml::from_str("r = 2").unwrap();
    opened.llm.adapt(&lora, Source::Random { seed: 3 }).unwrap();
    let said = opened.save_adapter(&folder.join("adapter"), false).unwrap().unwrap();
    assert!(said.contains("was written anew since LLM `model` was opened from it"), "{said}");
    assert!(logits(&load(&folder.join("adapter"))) == expected);
    // And into the folder of its own base.
    model(1).save(&place).unwrap();
    let opened = load(&place);
    opened.llm.adapt(&lora, Source::Random { seed: 3 }).unwrap();
    let said = opened.save_adapter(&place, false).unwrap().unwrap();
    assert!(said.contains("is replaced, from which LLM `model` was opened"), "{said}");
    assert!(logits(&load(&place)) == expected);
    let again = load(&place);
    assert_eq!(again.llm.id, "model");
    assert!(again.save_adapter(&place, false).unwrap().unwrap().contains("is replaced"));
    assert!(logits(&load(&place)) == expected);
}

#[test]
fn an_adapter_opens_whatever_became_of_its_base() {
    let folder = scratch("saves-whole");
    let script = r#"
fn low(m, out) { train(m, #{ lora: #{ r: 2 }, train: #{ projector: 1e-3, llm: 1e-2 }, out: out }).fit() }
fn say(what, m, folders) {
    for f in folders {
        let opened = load(f);
        let gap = loss(m) - loss(opened);
        print(`${what}: ${gap < 1e-6 && gap > -1e-6} ${opened.llm.id}`);
    }
}
fn plain_gap(m, folder) {
    let turns = [#{ from: "human", value: "<image>\n" }, #{ from: "gpt", value: "red" }];
    let picture = image("tests/fixtures/images/rgb-137x191.png");
    let gap = m.loss(picture, turns) - load(folder).loss(picture, turns);
    gap < 1e-6 && gap > -1e-6
}
fn parts(options) { vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama", options)) }

let m = base();
trainer(m, dataset("tiny-captions").take(8), #{ train: #{ projector: 1e-3, llm: 1e-3 }, template: "plain", batch: 4, steps: 2 }).fit();
let r = low(m, "FOLDER/trained");
m.save("FOLDER/trained-adapter", #{ merge: false });
say("trained", m, ["FOLDER/trained-adapter", r.checkpoint]);
// What was opened from there is saved, and trained on.
let again = load("FOLDER/trained-adapter");
again.save("FOLDER/trained-again", #{ merge: false });
say("again", again, ["FOLDER/trained-again"]);
say("further", again, [low(again, "FOLDER/further").checkpoint]);

let m = parts(#{ seed: 5 });
let r = low(m, "FOLDER/seed");
m.save("FOLDER/seed-adapter", #{ merge: false });
say("seed", m, ["FOLDER/seed-adapter", r.checkpoint]);
let m = parts(#{ weights: "random" });
say("random", m, [low(m, "FOLDER/random").checkpoint]);
let m = parts(#{ seed: 5 });
say("projector", m, [train(m, #{ train: #{ projector: 1e-3 } }).fit().checkpoint]);
let m = base();
train(m, #{ train: #{ llm: 1e-3 } }).fit();
say("later projector", m, [train(m, #{ train: #{ projector: 1e-3 } }).fit().checkpoint]);
let m = base();
low(m, "FOLDER/merged"); m.merge();
say("merged", m, [low(m, "FOLDER/after-merge").checkpoint]);

// The tower was trained before.
let m = base();
train(m, #{ train: #{ projector: 1e-3, encoder: 1e-3 } }).fit();
let r = low(m, "FOLDER/tower");
m.save("FOLDER/tower-adapter", #{ merge: false });
say("tower", m, ["FOLDER/tower-adapter", r.checkpoint]);

for options in [#{ quantize: "q8_0" }, #{ quantize: "q8_0", seed: 5 }] {
    let m = parts(options);
    let r = low(m, `FOLDER/quantized-${options.len()}`);
    m.save(`FOLDER/quantized-adapter-${options.len()}`, #{ merge: false });
    say("quantized", m, [`FOLDER/quantized-adapter-${options.len()}`, r.checkpoint]);
}

// Of a GGUF file, and in blocks that are others when they are made again.
let g = || vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tests/fixtures/today/gguf-mlp-bias/model.gguf"), #{ template: "plain" });
let captions = |m, more| {
    let all = #{ train: #{ projector: 1e-3, llm: 1e-3 }, template: "plain", batch: 4, steps: 2 };
    all.mixin(more);
    trainer(m, dataset("tiny-captions").take(8), all).fit()
};
let m = g.call();
captions.call(m, #{});
print(`gguf: ${plain_gap(m, captions.call(m, #{ lora: #{ r: 2 } }).checkpoint)}`);
let m = parts(#{ quantize: "q4_k", seed: 5 });
let r = low(m, "FOLDER/q4_k");
print(`q4_k: ${load(r.checkpoint).llm.id}`);

// What is planned only needs no copy.
let m = base();
let t = train(m, #{}); t.plan(); t.audit(); t.loss();
say("only made", m, [low(m, "FOLDER/only-made").checkpoint]);
"#;
    let (told, warned) = prints(&folder, script);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2 + 1 + 1 + 2 + 1 + 1 + 1 + 1 + 2 + 4 + 2 + 1, "{told}");
    assert!(told.contains("\ngguf: true\nq4_k: tiny-llama\n"), "{told}");
    for line in lines.iter().filter(|line| !line.starts_with("gguf") && !line.starts_with("q4_k")) {
        // A whole model is called by its folder.
        let name = if line.contains("projector") { "checkpoint-2" } else { "tiny-llama" };
        assert!(line.ends_with(&format!(": true {name}")), "{told}");
    }
    let own = |name: &str| folder.join(name).join("checkpoint-2/adapter-base/model.safetensors").exists();
    assert!(own("trained") && own("seed") && own("random") && own("after-merge"));
    assert!(
        !own("further") && !own("only-made") && !own("tower") && !own("quantized-1"),
        "a base that its name opens is not copied"
    );
    let said = |name: &str| {
        let events = std::fs::read_to_string(folder.join(name).join("events.jsonl")).unwrap();
        events.contains("checkpoints of this run hold its weights beside the adapter")
    };
    assert!(said("trained") && said("seed") && !said("only-made") && !said("quantized-1"));
    assert!(warned.about("the weights of LLM `tiny-llama` were changed since it was opened").len() > 3);
    assert!(!warned.about("its weights are written beside the adapter, in `adapter-base`").is_empty());
    assert!(!warned.about("checkpoints of this run hold all weights beside the projector").is_empty());
    assert!(!warned.about("its LLM is opened with `quantize: \"q8_0\"`").is_empty());
}

#[test]
fn a_run_with_its_base_beside_it_resumes_to_the_last_bit() {
    let folder = scratch("saves-resume");
    let script = r#"
let m = base();
let first = #{ train: #{ projector: 1e-3, llm: 1e-3 }, template: "plain", batch: 4, steps: 2, out: "FOLDER/NAME-1" };
let t = trainer(m, dataset("tiny-captions").take(8), first);
if begun("FOLDER/NAME-1") { t.resume("FOLDER/NAME-1"); }
t.fit();
let t = train(m, #{ lora: #{ r: 2, dropout: 0.3 }, steps: 4, save_every_steps: 1, out: "FOLDER/NAME" });
if begun("FOLDER/NAME") { t.resume("FOLDER/NAME"); }
t.fit(|s| STOP);
print(loss(m) - loss(load(t.run.checkpoint)));
"#;
    let go = |name: &str, stop: &str| prints(&folder, &script.replace("NAME", name).replace("STOP", stop)).0;
    assert_eq!(go("whole", "true"), "0.0");
    assert_eq!(go("stopped", "s.step < 2"), "0.0");
    assert_eq!(go("stopped", "true"), "0.0");
    // The base is on the disk once for all checkpoints of a run.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let file = |step: u64| folder.join(format!("whole/checkpoint-{step}/adapter-base/model.safetensors"));
        assert_eq!(std::fs::metadata(file(3)).unwrap().ino(), std::fs::metadata(file(4)).unwrap().ino());
    }
    for file in [
        "adapter_model.safetensors",
        "mm_projector.safetensors",
        "optimizer.safetensors",
        "adapter-base/model.safetensors",
    ] {
        let bytes = |name: &str| std::fs::read(folder.join(name).join("checkpoint-4").join(file)).unwrap();
        assert!(bytes("whole") == bytes("stopped"), "{file} differs");
    }
}

#[test]
fn a_base_that_was_renamed_is_found_by_its_hash_or_by_the_option() {
    let folder = scratch("saves-renamed");
    let script = r#"
base().save("FOLDER/first");
let m = load("FOLDER/first");
let r = train(m, #{ lora: #{ r: 2 }, out: "FOLDER/run" }).fit();
let p = train(load("FOLDER/first"), #{ train: #{ projector: 1e-3 }, out: "FOLDER/projector" }).fit();
print(loss(m) - loss(load(r.checkpoint)));
"#;
    assert_eq!(prints(&folder, script).0, "0.0");
    std::fs::rename(folder.join("first"), folder.join("other-name")).unwrap();
    let checkpoints = r#"let folders = ["FOLDER/run/checkpoint-2", "FOLDER/projector/checkpoint-2"];"#;
    let script = format!("{checkpoints} for f in folders {{ print(load(f).llm.id); }}");
    let (told, warned) = prints(&folder, &script);
    assert_eq!(told, "other-name\nother-name", "the same weights lie beside the place");
    let other = folder.canonicalize().unwrap().join("other-name").display().to_string();
    let said = warned.about(&format!("`{other}` has the same weights and is taken for it"));
    assert_eq!(said.len(), 2, "{said:?}");

    // Out of sight, and another model near it.
    std::fs::create_dir(folder.join("elsewhere")).unwrap();
    std::fs::rename(folder.join("other-name"), folder.join("elsewhere/model")).unwrap();
    let script = format!(
        "{checkpoints}{}",
        r#"
let m = base();
train(m, #{}).fit();
m.save("FOLDER/wrong");
for f in folders {
    try { load(f) } catch (e) { print(`${e.message} / ${e.help}`); }
    print(load(f, #{ base: "FOLDER/elsewhere/model" }).llm.id);
}
try { load("FOLDER/run/checkpoint-2", #{ base: "FOLDER/wrong" }) } catch (e) { print(e.message); }
try { load("FOLDER/wrong", #{ base: "FOLDER/elsewhere/model" }) } catch (e) { print(e.message); }
try { load("FOLDER/run/checkpoint-2", #{ base: "FOLDER/nowhere" }) } catch (e) { print(`${e.message} / ${e.help}`); }
"#
    );
    let (told, _) = prints(&folder, &script);
    let lines: Vec<&str> = told.lines().collect();
    let first = folder.canonicalize().unwrap().join("first").display().to_string();
    for line in [lines[0], lines[2]] {
        for part in [
            format!("this folder holds no LLM; its base `{first}`"),
            format!("it was looked for at `{first}`"),
            "/wrong`".to_string(),
            "`load(folder, #{ base: \"..\" })` names another place".to_string(),
        ] {
            assert!(line.contains(&part), "{part}: {line}");
        }
    }
    assert_eq!((lines[1], lines[3]), ("model", "model"));
    assert!(lines[4].contains("was trained on other weights than LLM `wrong` has"), "{told}");
    assert!(lines[5].contains("`base` is for a folder without an LLM, and this one holds its own"), "{told}");
    assert!(lines[6].contains("nowhere`, which `base` names"), "{told}");
    let refused = run(&folder, r#"load("tiny-llava", #{ base: "x" })"#, &[]).0.unwrap_err();
    assert!(refused.contains("`base` goes with a folder without an LLM"), "{refused}");
}

#[test]
fn layout_transformers_says_which_tokens_the_tower_hands_over() {
    let folder = scratch("saves-strategy");
    let script = r#"
for of in [["tiny-clip", "patch"], ["tiny-clip", "cls_patch"], ["tiny-dinov2", "patch"], ["tiny-dinov2", "cls_patch"], ["tiny-siglip", "patch"]] {
    let m = vlm(encoder(of[0], #{ select: of[1] }), projector("mlp2x_gelu"), llm("tiny-llama"));
    let out = `FOLDER/${of[0]}-${of[1]}`;
    m.save(out, #{ layout: "transformers" });
    let said = ["config.json", "processor_config.json"].map(|file| json(read(`${out}/${file}`)).vision_feature_select_strategy);
    print(`${of[0]} ${of[1]}: ${said[0]} ${said[1]} ${load(out).encoder.tokens == m.encoder.tokens}`);
}
"#;
    // "default" drops the class token, which SigLIP has none of; "full" keeps every token.
    let expected = [
        "tiny-clip patch: default default true",
        "tiny-clip cls_patch: full full true",
        "tiny-dinov2 patch: default default true",
        "tiny-dinov2 cls_patch: full full true",
        "tiny-siglip patch: full full true",
    ];
    assert_eq!(prints(&folder, script).0.lines().collect::<Vec<_>>(), expected);
}

//! Training data as today's libraries write it: every codec of parquet, lists of pictures, turns in all their shapes, flags
//! and system texts; and files whose pictures are not where they should be. `fixtures/data/how.md` and
//! `fixtures/today/*/how.md` say what is in the files.

mod trained;

use std::path::{Path, PathBuf};

use llmore::data::verify::{Findings, Level, Walk, verify};
use llmore::data::{Dataset, Format, Pictures, Sample};
use llmore::events::{Event, Interrupt, Listeners};
use llmore::image::Aspect;
use llmore::preset::Presets;
use llmore::text::{IGNORE, Role, Template, Tokenizer, Turn};
use llmore::train::{Run, Trainer};

use super::resume::{llm, model};
use super::scripting::{run, scratch};
use super::training::{options, setup};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn table(name: &str) -> PathBuf {
    fixture("data/tables").join(name)
}

fn open(path: &Path) -> Dataset {
    Dataset::open(path, Format::of(path), None).unwrap()
}

fn refused(path: &Path, pictures: Option<Pictures>) -> String {
    let error = Dataset::open(path, Format::of(path), pictures).err().unwrap();
    format!("{error} = help: {}", error.help_text().unwrap_or_default())
}

fn texts(sample: &Sample) -> Vec<&str> {
    sample.turns.iter().map(|turn| turn.value.as_str()).collect()
}

/// Width, height and first pixel of a sample's pictures.
fn pictures(sample: &Sample) -> Vec<(usize, usize, [u8; 3])> {
    let images = sample.open_images().unwrap();
    images
        .iter()
        .map(|image| (image.width, image.height, [image.pixels[0], image.pixels[1], image.pixels[2]]))
        .collect()
}

const RED: (usize, usize, [u8; 3]) = (6, 4, [200, 10, 20]);
const BLUE: (usize, usize, [u8; 3]) = (3, 5, [10, 20, 200]);

fn findings(dataset: &Dataset) -> Findings {
    let (listeners, interrupt) = (Listeners::default(), Interrupt::default());
    verify(dataset, &|_| Vec::new(), &Walk { task: "verify", listeners: &listeners, interrupt: &interrupt }).unwrap()
}

#[test]
fn every_codec_of_pyarrow_and_polars_is_read() {
    let mut read = 0;
    for entry in std::fs::read_dir(fixture("data/tables")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if !["zstd", "lz4", "brotli", "gzip", "snappy", "none", "uncompressed"]
            .iter()
            .any(|codec| name.ends_with(codec))
        {
            continue;
        }
        let d = open(&path);
        assert_eq!(d.len(), 2, "{name}");
        assert_eq!((d.get(0).unwrap().id.as_str(), pictures(&d.get(0).unwrap())), ("a", vec![RED]), "{name}");
        assert_eq!(texts(&d.get(1).unwrap()), ["2 + 2?", "4"], "{name}");
        assert!(pictures(&d.get(1).unwrap()).is_empty(), "{name}");
        assert!(findings(&d).kinds.is_empty(), "{name}");
        read += 1;
    }
    assert_eq!(read, 12);
}

#[test]
fn a_column_of_lists_of_pictures_opens_as_pictures() {
    let d = open(&fixture("today/parquet-images-column/images.parquet"));
    for index in 0..d.len() {
        assert_eq!(d.get(index).unwrap().open_images().unwrap().len(), 1);
        assert!(d.brief(index).unwrap().has_image());
    }
    assert!(findings(&d).kinds.is_empty());

    let d = open(&table("datasets-images.parquet"));
    let all: Vec<_> = (0..3).map(|index| pictures(&d.get(index).unwrap())).collect();
    assert_eq!(all, [vec![RED, BLUE], vec![BLUE], vec![]]);
    assert_eq!((0..3).map(|index| d.brief(index).unwrap().images).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(d.get(2).unwrap().id, "2", "a row without an id is known by its position");
    assert!(findings(&d).kinds.is_empty());
}

#[test]
fn turns_are_read_in_every_shape_of_a_table() {
    for name in ["datasets-sequence.parquet", "datasets-lines.json"] {
        let d = open(&table(name));
        assert_eq!(d.len(), 2, "{name}");
        let (first, second) = (d.get(0).unwrap(), d.get(1).unwrap());
        assert_eq!((first.id.as_str(), texts(&first)), ("3", vec!["Be brief.", "a?", "b", "c?", "d"]), "{name}");
        assert_eq!(first.turns[0].role, Role::System, "{name}");
        assert_eq!(texts(&second), ["a?", "b", "c?", "d"], "{name}");
        let supervised: Vec<bool> = second.turns.iter().map(|turn| turn.supervised).collect();
        assert_eq!(supervised, [true, false, true, true], "{name}");
    }
    let d = open(&table("polars-json-text.parquet"));
    assert_eq!(
        (texts(&d.get(0).unwrap()), pictures(&d.get(0).unwrap())),
        (vec!["<image>\nWhat color?", "red"], vec![RED])
    );
    let found = findings(&d);
    assert_eq!(found.count("unknown key `quality`"), 1, "{found:?}");
    let d = open(&table("polars-messages.parquet"));
    assert_eq!(
        (texts(&d.get(0).unwrap()), pictures(&d.get(0).unwrap())),
        (vec!["<image>\nWhat color?", "red"], vec![RED])
    );
    let told = refused(&table("pyarrow-parts.parquet"), None);
    assert!(told.contains("missing field `content`") && told.contains("lists within lists"), "{told}");
    assert_eq!(open(&table("duckdb-lines.json")).get(1).unwrap().id, "8");
}

/// `datasets` 5.2.0: a picture given by its path is not embedded by `to_parquet`.
#[test]
fn pictures_given_by_path_are_looked_for_beside_the_table_or_where_they_are_said_to_be() {
    let path = table("datasets-paths.parquet");
    assert_eq!(pictures(&open(&path).get(0).unwrap()), [RED]);
    let folder = scratch("paths-only");
    let copy = folder.join("x.parquet");
    std::fs::copy(&path, &copy).unwrap();
    let told = refused(&copy, None);
    assert!(told.contains("none of its pictures is there (1 looked for)") && told.contains("images:"), "{told}");
    assert!(told.contains("/paths-only/pics/red.png`"), "{told}");
    let given = Pictures::at(&fixture("data/tables")).unwrap();
    let d = Dataset::open(&copy, Format::Parquet, Some(given)).unwrap();
    assert_eq!(pictures(&d.get(0).unwrap()), [RED]);
    assert!(pictures(&d.get(1).unwrap()).is_empty());
}

const PLAIN: &str = r#"{"from": "human", "value": "<image>\nWhat color?"}, {"from": "gpt", "value": "red"}"#;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    std::fs::copy(table("pics/red.png"), folder.join("red.png")).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_set_none_of_whose_pictures_is_there_does_not_open() {
    let folder = scratch("wrong-images");
    let item = |id: usize, image: &str| format!(r#"{{"id": {id}, "image": "{image}", "conversations": [{PLAIN}]}}"#);
    let missing: Vec<String> = (0..40).map(|id| item(id, "coco/1.png")).collect();
    let path = write(&folder, "none.json", &format!("[{}]", missing.join(",")));
    for images in [None, Some(folder.clone()), Some(folder.join("nowhere"))] {
        let told = refused(&path, images.as_deref().map(|path| Pictures::at(path).unwrap()));
        assert!(told.contains("that of sample `0` would be `") && told.contains("coco/1.png`"), "{told}");
        assert!(told.contains("`images:` names the folder"), "{told}");
    }
    let archive = fixture("data/pictures.zip");
    let told = refused(&path, Some(Pictures::at(&archive).unwrap()));
    assert!(told.contains("pictures.zip/coco/1.png"), "{told}");
    // A member of that name: the archive is the right one.
    let named: Vec<String> = missing.iter().map(|item| item.replace("coco/1.png", "coco/red-circle.png")).collect();
    let path = write(&folder, "zip.json", &format!("[{}]", named.join(",")));
    assert!(Dataset::open(&path, Format::Llava, Some(Pictures::at(&archive).unwrap())).is_ok());
    // One is there: it opens, and `verify` counts the others.
    let mixed = format!("[{},{}]", missing.join(","), item(41, "red.png"));
    let d = open(&write(&folder, "one.json", &mixed));
    assert_eq!(findings(&d).count("missing picture"), 40);
    // Texts alone need none.
    let text = r#"[{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]"#;
    assert_eq!(open(&write(&folder, "text.json", text)).get(0).unwrap().id, "0");
}

#[test]
fn json_is_a_list_or_lines_as_it_begins() {
    let folder = scratch("json-layouts");
    let line = format!(r#"{{"image": "red.png", "conversations": [{PLAIN}]}}"#);
    for (name, text) in [
        ("a.json", format!("[{line}, {line}]")),
        ("b.json", format!("{line}\n{line}\n")),
        ("c.jsonl", format!("{line}\n{line}")),
        ("d.jsonl", format!("\u{feff} [{line},\n{line}]")),
    ] {
        assert_eq!(open(&write(&folder, name, &text)).len(), 2, "{name}");
    }
    let indented = format!("{{\n  \"data\": [{line}]\n}}");
    let told = refused(&write(&folder, "e.json", &indented), None);
    assert!(told.contains("item 0") && told.contains("a line, or a list"), "{told}");
    let told = refused(&write(&folder, "f.json", "hello"), None);
    assert!(told.contains("begins with neither `[` nor `{`"), "{told}");
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let folder = scratch("lfs");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 181000000\n";
    for name in ["a.json", "b.jsonl", "c.parquet"] {
        let told = refused(&write(&folder, name, pointer), None);
        assert!(told.contains("is a pointer of Git LFS, in place of a file of 181000000 bytes"), "{told}");
        assert!(told.contains("`git lfs pull`"), "{told}");
    }
    std::fs::write(folder.join("blue.png"), pointer).unwrap();
    let text = format!(r#"[{{"id": "x", "image": "blue.png", "conversations": [{PLAIN}]}}]"#);
    let d = open(&write(&folder, "d.json", &text));
    let error = d.get(0).unwrap().open_images().unwrap_err().to_string();
    assert!(error.contains("sample `x`") && error.contains("pointer of Git LFS"), "{error}");
    let found = findings(&d);
    let cases = found.kinds.iter().find(|((_, what), _)| what == "corrupt picture").unwrap().1;
    assert!(cases.example.contains("pointer of Git LFS"), "{found:?}");
}

fn tokenizer() -> Tokenizer {
    Tokenizer::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("stdlib/models/tiny-llama")).unwrap()
}

fn template(name: &str) -> Template {
    Template::load(&Presets::default(), name).unwrap()
}

/// What a sample supervises, as text, and how many labels there are.
fn learned(sample: &Sample) -> (String, usize) {
    let (tokenizer, template) = (tokenizer(), template("tiny"));
    let rendered = template.render_about(&tokenizer, &sample.turns, sample.images.len()).unwrap();
    assert_eq!(rendered.ids.len(), rendered.labels.len());
    let pairs = rendered.ids.iter().zip(&rendered.labels);
    assert!(pairs.clone().all(|(id, label)| *label == IGNORE || label == id));
    let labels: Vec<u32> =
        rendered.labels.iter().filter(|label| **label != IGNORE).map(|label| *label as u32).collect();
    (tokenizer.decode(&labels).unwrap(), labels.len())
}

/// Labels of turns that are not to be learned are -100, in JSON, JSON lines and parquet.
#[test]
fn turns_that_are_not_to_be_learned_have_no_labels() {
    let folder = scratch("flags");
    for flag in [
        r#""weight": 0"#,
        r#""weight": 0.0"#,
        r#""loss": false"#,
        r#""train": false"#,
        r#""mask": true"#,
        r#""loss_weight": 0"#,
        r#""trainable": false"#,
    ] {
        let turns = format!(
            r#"{{"from": "human", "value": "a?"}}, {{"from": "gpt", "value": "red", {flag}}},
               {{"from": "human", "value": "c?"}}, {{"from": "gpt", "value": "blue"}}"#
        );
        let record = format!(r#"{{"id": 1, "conversations": [{turns}]}}"#).replace('\n', " ");
        for (name, text) in [("flags.json", format!("[{record}]")), ("flags.jsonl", record.clone())] {
            let d = open(&write(&folder, name, &text));
            assert_eq!(learned(&d.get(0).unwrap()).0.trim(), "blue", "{flag} in {name}");
            assert!(findings(&d).kinds.is_empty(), "{flag} in {name}");
        }
    }
    let whole = open(&table("datasets-sequence.parquet")).get(1).unwrap();
    assert_eq!(learned(&whole).0.trim(), "d");
    let told = refused(
        &write(
            &folder,
            "half.json",
            &format!("[{{\"conversations\": [{PLAIN}]}}]").replace(r#""red""#, r#""red", "weight": 0.5"#),
        ),
        None,
    );
    assert!(told.contains("item 0") && told.contains("`weight` of a turn is 0.5"), "{told}");
}

/// The cases of `today/turn-flags-ignored`: two answers, of which the first is not to be learned.
#[test]
fn flags_of_turns_are_honored_in_the_files_of_today() {
    let case = |name: &str| open(&fixture("today/turn-flags-ignored").join(format!("turn_{name}.json")));
    assert!(learned(&case("plain").get(0).unwrap()).0.starts_with("first answer"));
    for name in ["weight0", "loss-false", "train-false"] {
        let d = case(name);
        assert_eq!(learned(&d.get(0).unwrap()).0.trim(), "second", "{name}");
        assert!(findings(&d).kinds.is_empty(), "{name}");
    }
    let error = template("tiny").render(&tokenizer(), &case("system-key").get(0).unwrap().turns).unwrap_err();
    assert!(error.message().contains("template `tiny` has no place for a system text"), "{error}");
}

#[test]
fn a_sample_of_which_nothing_is_learned_is_left_out_and_named() {
    let folder = scratch("all-hidden");
    let text = format!(
        r#"[{{"id": "x", "image": "red.png", "conversations": [{}]}}]"#,
        PLAIN.replace("}", r#", "weight": 0}"#)
    );
    let d = open(&write(&folder, "hidden.json", &text));
    let found = findings(&d);
    assert!(
        found.kinds.keys().any(|(level, what)| *level == Level::Skipped && what == "no answer is to be learned"),
        "{found:?}"
    );
    let table = "batch = 1\nsteps = 1\ntrain = { projector = 1e-3 }";
    let made = Trainer::new(model(llm()), d, options(table), setup("tiny", Aspect::Pad, &folder));
    let error = made.err().unwrap().to_string();
    assert!(error.contains("no sample to train on: 1 have no answer that is to be learned"), "{error}");
}

#[test]
fn a_system_text_takes_the_place_of_the_templates_own() {
    let turns = |system: Option<&str>| {
        let system = system.map(|text| Turn::of(Role::System, text));
        system.into_iter().chain([Turn::human("a?"), Turn::gpt("b")]).collect::<Vec<_>>()
    };
    // Every template with a system text of its own gives it up; what they write otherwise is in `templates.rs`.
    for name in ["v1", "chatml", "phi_4", "llama_3", "deepseek_r1"] {
        let path = format!("stdlib/presets/templates/{name}.toml");
        let preset = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        assert!(preset.contains("system = true"), "{name}");
    }
    let folder = scratch("system-slot");
    let preset = "about = \"x\"\nstart = [{ text = \"[\" }, { text = \"default\", system = true }, { text = \"] \" }]\n\
                  question = [{ turn = true }, { text = \" \" }]\nanswer = [{ turn = true, loss = true }, { text = \"\\n\", loss = true }]\n";
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    std::fs::write(folder.join("templates/slot.toml"), preset).unwrap();
    let slot = Template::load(&Presets::new(vec![folder]), "slot").unwrap();
    let text = |system: Option<&str>| slot.render(&tokenizer(), &turns(system)).unwrap().text;
    assert_eq!(text(None), "[default] a? b\n");
    assert_eq!(text(Some("Be brief.")), "[Be brief.] a? b\n");
    let prompt = |system: Option<&str>| slot.prompt(&tokenizer(), &turns(system)[..turns(system).len() - 1]).unwrap();
    assert_eq!(prompt(Some("default")), prompt(None));
    assert_ne!(prompt(Some("Be brief.")), prompt(None));
    for name in ["tiny", "mistral_instruct"] {
        let error = template(name).render(&tokenizer(), &turns(Some("Be brief."))).unwrap_err();
        assert!(error.help_text().unwrap().contains("`template`"), "{name}: {error}");
    }
}

/// LLaVA-NeXT (`train.py`, `preprocess_multimodal`): a turn with several marks keeps them where they stand.
#[test]
fn of_several_pictures_each_mark_stands_for_one() {
    let folder = scratch("several");
    std::fs::copy(table("pics/red.png"), folder.join("b.png")).unwrap();
    let record = |images: &str, question: &str| {
        format!(
            r#"{{"image": {images}, "conversations": [{{"from": "human", "value": "{question}"}}, {{"from": "gpt", "value": "yes"}}]}}"#
        )
    };
    let two = record(r#"["red.png", "b.png"]"#, "Is <image> like <image>?");
    let one = record(r#"["red.png"]"#, "Is <image> red <image>?");
    let d = open(&write(&folder, "two.json", &format!("[{two}, {one}]")));
    let marks = |index: usize| {
        let sample = d.get(index).unwrap();
        let rendered = template("tiny").render_about(&tokenizer(), &sample.turns, sample.images.len()).unwrap();
        rendered.ids.iter().filter(|id| **id < 0).count()
    };
    assert_eq!((marks(0), marks(1)), (2, 1));
    assert!(findings(&d).kinds.is_empty());
    let table = "batch = 2\nsteps = 2\norder = \"sequential\"\ntrain = { projector = 1e-3, llm = 1e-3 }";
    let vlm = model(llm());
    let tokens = vlm.image_tokens() as u64;
    let mut trainer = Trainer::new(vlm, d.clone(), options(table), setup("tiny", Aspect::Pad, &folder)).unwrap();
    let plan = trainer.plan(llmore::train::Limits::default()).unwrap();
    assert_eq!(plan.features.images, 2);
    let step = trainer.step().unwrap();
    assert!(step.positions > 3 * tokens && step.positions < 4 * tokens + 40, "{step:?} with {tokens} a picture");
    // As the same conversation through the model's own way.
    let sample = d.get(0).unwrap();
    let mut alone = Trainer::new(model(llm()), d.take(1), options(table), setup("tiny", Aspect::Pad, &folder)).unwrap();
    let loss = model(llm()).loss(&sample.open_images().unwrap(), &sample.turns).unwrap();
    assert!((alone.step().unwrap().loss - loss).abs() < 1e-5);
    for (images, question, what) in [
        (r#"["red.png", "b.png"]"#, "<image> a?", "fewer <image> than pictures"),
        (r#"["red.png", "b.png"]"#, "<image> <image> <image> a?", "more <image> than pictures"),
        (r#"["red.png", "b.png"]"#, "a?", "picture without <image>"),
    ] {
        let d = open(&write(&folder, "wrong.json", &format!("[{}]", record(images, question))));
        assert_eq!(findings(&d).count(what), 1, "{question}: {:?}", findings(&d));
        let mut trainer = Trainer::new(
            model(llm()),
            d,
            options("batch = 1\nsteps = 1\ntrain = { projector = 1e-3 }"),
            setup("tiny", Aspect::Pad, &folder),
        )
        .unwrap();
        assert!(trainer.step().is_err());
    }
}

#[test]
fn scripts_see_flags_system_texts_and_several_pictures() {
    let folder = scratch("scripts-see");
    let two = r#"[{"system": "x", "image": ["red.png", "red.png"], "score": 2, "conversations": [
        {"from": "human", "value": "<image> <image>"}, {"from": "gpt", "value": "a", "train": false},
        {"from": "human", "value": "b"}, {"from": "gpt", "value": "c"}]}]"#;
    let path = write(&folder, "x.json", two);
    let script = format!(
        r#"let d = dataset("{}");
        let s = d[0];
        print(`${{s.id}} ${{s.images.len()}} ${{s.image.width}} ${{s.turns[0].from}} ${{s.turns[2].train}} ${{s.turns.len()}}`);
        let e = d.map(|s| {{ s.turns[4].value = "z"; s }});
        print(`${{e[0].images.len()}} ${{e[0].turns[2].train}} ${{e[0].turns[4].value}}`);
        for row in d.verify().rows {{ print(row.found); }}
        let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{{ pool: "average", tokens: 4 }}), llm("tiny-llama"));
        let turns = [#{{ from: "human", value: "a" }}, #{{ from: "gpt", value: "b" }}, #{{ from: "human", value: "c" }}, #{{ from: "gpt", value: "d" }}];
        let whole = m.loss((), turns);
        turns[1].weight = 0;
        print(m.loss((), turns) != whole);
        turns[1].weight = 0.5;
        try {{ m.loss((), turns) }} catch (e) {{ print(`${{e}}`.contains("learned whole or not at all")); }}"#,
        path.display()
    );
    let printed = run("scripts-see-session", &script).unwrap();
    assert_eq!(printed, "0 2 6 system false 5\n2 false z\nunknown key `score`\ntrue\ntrue\n");
}

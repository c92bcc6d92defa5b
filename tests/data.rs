//! Data sets as files have them: the reference's order of samples, archives whole and damaged, what `verify` and
//! `check_masks` find, what training leaves out and what it stops at.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use llmore::data::modality::grouped;
use llmore::data::verify::{Findings, Walk, verify};
use llmore::data::{Archive, Dataset, Format, Pictures};
use llmore::events::{Event, Interrupt, Listener, Listeners};
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::{Template, Turn};
use llmore::train::{Trainer, TrainerSetup};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights};
use serde::Deserialize;

use super::scripting::{run, scratch};
use super::training::{options, setup};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn image_bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture("images").join(name)).unwrap()
}

#[derive(Deserialize)]
struct SamplerCase {
    lengths: Vec<i64>,
    batch: usize,
    world: usize,
    permutations: Vec<Vec<usize>>,
    indices: Vec<usize>,
}

/// `fixtures/sampler/how.md`: the order of the reference's own function for the permutations it drew.
#[test]
fn samples_are_grouped_as_the_reference_does() {
    let text = std::fs::read_to_string(fixture("sampler/cases.json")).unwrap();
    let cases: Vec<SamplerCase> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 8);
    for (number, case) in cases.into_iter().enumerate() {
        let mut drawn = case.permutations.into_iter();
        let order = grouped(&case.lengths, case.batch, case.world, |n| {
            let permutation = drawn.next().unwrap();
            assert_eq!(permutation.len(), n, "case {number}");
            permutation
        });
        assert_eq!(order, case.indices, "case {number}");
        assert_eq!(drawn.next(), None, "case {number}");
    }
}

const ARCHIVES: [&str; 5] = ["pictures.zip", "wide.zip", "streamed.zip", "gnu.tar", "pax.tar"];

#[test]
fn members_of_archives_are_what_was_put_in() {
    let long: String = (0..6).map(|i| format!("a-rather-long-folder-name-{i}/")).collect();
    for name in ARCHIVES {
        let archive = Archive::open(&fixture("data").join(name)).unwrap();
        let zip = name.ends_with(".zip");
        assert_eq!(archive.len(), if zip { 7 } else { 6 }, "{name}");
        let expected = [
            ("coco/red-circle.png", "red-circle.png"),
            ("./coco/red-circle.png", "red-circle.png"),
            ("coco/noise-14x9.png", "noise-14x9.png"),
            ("../outside.png", "narrow-1x37.png"),
            (&format!("train2017/{long}noise-14x9.png"), "noise-14x9.png"),
            ("caf\u{e9}.png", "narrow-1x37.png"),
            ("twice.png", "narrow-1x37.png"),
        ];
        for (member, file) in expected {
            assert!(archive.read(member).unwrap() == image_bytes(file), "{name}: {member}");
        }
        let missing = archive.read("coco/blue-circle.png").unwrap_err().to_string();
        assert!(
            missing.contains("no member `coco/blue-circle.png`") && missing.contains("names look like"),
            "{missing}"
        );
        if zip {
            let other = archive.read("packed-otherwise.png").unwrap_err().to_string();
            assert!(other.contains("it is packed by method 12"), "{other}");
        }
    }
}

#[test]
fn damaged_archives_are_refused_and_never_misread() {
    let folder = scratch("archives");
    for name in ARCHIVES {
        let whole = std::fs::read(fixture("data").join(name)).unwrap();
        let path = folder.join(name);
        // A zip file ends with its end record, a tar file with an empty block.
        let empty = whole.chunks(512).position(|block| block.iter().all(|byte| *byte == 0));
        let needed = if name.ends_with(".zip") { whole.len() } else { empty.unwrap() * 512 };
        for length in (0..needed).step_by(61) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Archive::open(&path).is_err(), "{name} cut at {length}");
        }
        for at in (0..whole.len()).step_by(13) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            std::fs::write(&path, &damaged).unwrap();
            let Ok(archive) = Archive::open(&path) else { continue };
            let Ok(bytes) = archive.read("coco/red-circle.png") else { continue };
            // Zip members carry a sum; those of tar files do not.
            let sum = name.ends_with(".zip");
            assert!(!sum || bytes == image_bytes("red-circle.png"), "{name} with byte {at} changed");
        }
    }
}

/// Writes a data set and its pictures; `items` are JSON objects.
fn write(folder: &Path, items: &[String]) -> Dataset {
    for name in ["red-circle.png", "corrupt.png", "noise-14x9.png"] {
        std::fs::copy(fixture("images").join(name), folder.join(name)).unwrap();
    }
    std::fs::copy(fixture("images/red-circle.png"), folder.join("circle.jpg")).unwrap();
    let path = folder.join("data.json");
    std::fs::write(&path, format!("[{}]", items.join(","))).unwrap();
    Dataset::open(&path, Format::of(&path), None).unwrap()
}

fn item(id: &str, image: Option<&str>, turns: &[(&str, &str)]) -> String {
    let turns: Vec<_> = turns.iter().map(|(from, value)| serde_json::json!({"from": from, "value": value})).collect();
    serde_json::json!({"id": id, "image": image, "conversations": turns}).to_string()
}

const ASK: (&str, &str) = ("human", "<image>\nWhat is it?");
const SAY: (&str, &str) = ("gpt", "A circle.");

fn findings(dataset: &Dataset) -> Findings {
    let (listeners, interrupt) = (Listeners::default(), Interrupt::default());
    verify(dataset, &|_| Vec::new(), &Walk { task: "verify", listeners: &listeners, interrupt: &interrupt }).unwrap()
}

#[test]
fn verify_finds_every_kind_of_fault() {
    let picture = Some("red-circle.png");
    let items = [
        item("good", picture, &[ASK, SAY]),
        item("text", None, &[("human", "2 + 2?"), SAY]),
        item("missing", Some("nowhere.png"), &[ASK, SAY]),
        item("corrupt", Some("corrupt.png"), &[ASK, SAY]),
        item("mistyped", Some("circle.jpg"), &[ASK, SAY]),
        item("unmarked", picture, &[("human", "What is it?"), SAY]),
        item("marked", None, &[ASK, SAY]),
        item("twice", picture, &[ASK, SAY, ASK, SAY]),
        item("empty", picture, &[ASK, ("gpt", " \n")]),
        item("role", picture, &[("user", "<image>"), SAY]),
        item("order", picture, &[ASK, SAY, SAY]),
        item("unanswered", picture, &[ASK]),
        item("good", picture, &[SAY, ASK, SAY]),
    ];
    let dataset = write(&scratch("verify"), &items);
    let found = findings(&dataset);
    let expected = [
        ("missing picture", "missing"),
        ("corrupt picture", "corrupt"),
        ("mistyped picture", "mistyped"),
        ("picture without <image>", "unmarked"),
        ("<image> without a picture", "marked"),
        ("more <image> than pictures", "twice"),
        ("empty answer", "empty"),
        ("unknown role", "#9"),
        ("turns out of order", "order"),
        ("no answered turn", "unanswered"),
        ("repeated id", "good"),
        ("begins with an answer", "good"),
    ];
    for (what, id) in expected {
        let cases = found.kinds.iter().find(|((_, kind), _)| *kind == what).map(|(_, cases)| cases);
        assert_eq!(cases.map(|cases| (cases.count, cases.ids.as_slice())), Some((1, &[id.to_string()][..])), "{what}");
    }
    assert_eq!((found.samples, found.good), (13, 4), "{found:?}");
}

#[test]
fn scripts_see_what_verify_found() {
    let folder = scratch("verify-script");
    let items = [
        item("a", Some("nowhere.png"), &[ASK, SAY]),
        item("b", None, &[("human", "2 + 2?"), SAY]),
        item("c", Some("red-circle.png"), &[ASK, SAY]),
    ];
    write(&folder, &items);
    let script = format!(
        r#"let d = dataset("{0}/data.json");
        let rows = d.verify().rows;
        print(`${{rows.len()}} ${{rows[0].found}} ${{rows[0].samples}} ${{rows[0].ids}}`);
        let kept = d.filter(|s| s.id == "b").map(|s| {{ s.turns[1].value = "four"; s }});
        print(`${{kept.len}} ${{kept[0].turns[1].value}} ${{kept.verify().rows.len()}}`);
        print(d.lengths());
        d[0].image.width"#,
        folder.display()
    );
    let error = run("verify-script-run", &script).unwrap_err();
    assert!(error.contains("sample `a`: no file or folder"), "{error}");
    let printed = run("verify-script-run", script.trim_end_matches("d[0].image.width")).unwrap();
    assert_eq!(printed.trim_end(), "1 missing picture 1 [\"a\"]\n1 four 0\n[6, -5, 6]");
}

#[test]
fn formats_hold_the_same_samples() {
    let folder = scratch("formats");
    let items = [item("a", Some("coco/red-circle.png"), &[ASK, SAY]), item("b", None, &[("human", "2 + 2?"), SAY])];
    let list = folder.join("list.json");
    std::fs::write(&list, format!("[{}]", items.join(",\n"))).unwrap();
    let lines = folder.join("lines.jsonl");
    std::fs::write(&lines, items.join("\n")).unwrap();
    for archive in ["pictures.zip", "gnu.tar"] {
        for path in [&list, &lines] {
            let pictures = Pictures::at(&fixture("data").join(archive)).unwrap();
            let dataset = Dataset::open(path, Format::of(path), Some(pictures)).unwrap();
            assert_eq!(dataset.len(), 2);
            let sample = dataset.get(0).unwrap();
            assert_eq!((sample.id.as_str(), sample.turns[1].value.as_str()), ("a", "A circle."));
            let image = sample.open_images().unwrap()[0].clone();
            assert_eq!((image.width, image.height), (64, 64));
            assert_eq!(dataset.find("b").unwrap(), 1);
            assert_eq!(findings(&dataset).good, 2);
        }
    }
}

#[test]
fn parquet_holds_pictures_in_its_rows() {
    let path = fixture("data/samples.parquet");
    let dataset = Dataset::open(&path, Format::of(&path), None).unwrap();
    let ids: Vec<String> = (0..3).map(|i| dataset.get(i).unwrap().id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(dataset.get(0).unwrap().open_images().unwrap()[0].clone().width, 64);
    assert!(dataset.get(1).unwrap().images.is_empty());
    assert_eq!(dataset.get(2).unwrap().open_images().unwrap()[0].clone().width, 14);
    let found = findings(&dataset);
    assert_eq!((found.good, found.count("empty answer")), (2, 1), "{found:?}");
    assert_eq!(dataset.trainable().unwrap().1, [(2, "an empty answer")]);
}

fn model() -> Arc<Vlm> {
    let presets = Presets::default();
    let open = EncoderOptions {
        select_layer: None,
        select: None,
        s2: None,
        weights: Weights::Random,
        seed: 5,
        target: Target::cpu(),
    };
    let encoder = Arc::new(Encoder::open(&presets, "tiny-clip", open).unwrap());
    let llm =
        Llm::open(&presets, "tiny-llama", LlmOptions { weights: Weights::Stored, seed: 5, target: Target::cpu() })
            .unwrap();
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    let template = Template::load(&presets, "tiny").unwrap();
    Arc::new(Vlm::compose(encoder, &choice, Arc::new(llm), template, Aspect::Pad, 5).unwrap())
}

/// Keeps what training tells.
#[derive(Default)]
struct Heard(Mutex<Vec<Event>>);

impl Listener for Heard {
    fn hear(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

#[test]
fn training_leaves_out_empty_answers_and_says_so() {
    let folder = scratch("skipped");
    let picture = Some("red-circle.png");
    let empty = r#"{"id": 3, "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": null}]}"#;
    let items = [item("a", picture, &[ASK, SAY]), item("b", picture, &[ASK, ("gpt", "")]), empty.to_string()];
    let dataset = write(&folder, &items);
    let heard = Arc::new(Heard::default());
    let setup = TrainerSetup {
        listeners: Listeners::default().with(heard.clone()),
        ..setup("tiny", Aspect::Pad, &folder.join("run"))
    };
    let table = "batch = 1\nepochs = 2\ntrain = { projector = 1e-3 }";
    let mut trainer = Trainer::new(model(), dataset, options(table), setup).unwrap();
    assert_eq!(trainer.steps(), 2);
    trainer.fit(&mut |_| Ok(true)).unwrap();
    let skipped = heard.0.lock().unwrap().iter().find_map(|event| match event {
        Event::Skipped { samples, total, .. } => Some((samples.clone(), *total)),
        _ => None,
    });
    assert_eq!(skipped, Some((vec!["b".to_string(), "3".to_string()], 3)));
    assert!(trainer.history().iter().all(|step| step.samples == 1 && step.loss > 0.0));
}

#[test]
fn a_picture_that_cannot_be_read_stops_training_by_name() {
    let folder = scratch("unreadable");
    let items = [item("a", Some("red-circle.png"), &[ASK, SAY]), item("b c", Some("corrupt.png"), &[ASK, SAY])];
    let dataset = write(&folder, &items);
    let table = "batch = 1\norder = \"sequential\"\ntrain = { projector = 1e-3 }";
    let setup = setup("tiny", Aspect::Pad, &folder.join("run"));
    let mut trainer = Trainer::new(model(), dataset, options(table), setup).unwrap();
    trainer.step().unwrap();
    let error = trainer.step().unwrap_err();
    assert!(error.message().contains("sample `b c` of") && error.message().contains("damaged PNG"), "{error}");
    assert!(error.help_text().unwrap().contains("`d.show(\"b c\", m)`"), "{error}");
}

#[test]
fn grouped_training_resumes_where_it_was() {
    let presets = Presets::default();
    let folder = scratch("grouped");
    let pictures = Dataset::preset(&presets, "tiny-instruct").unwrap().take(20);
    let texts: Vec<String> = (0..12)
        .map(|i| item(&format!("t{i}"), None, &[("human", "2 + 2?"), ("gpt", &"four ".repeat(i + 1))]))
        .collect();
    let dataset = pictures.mix(&write(&folder, &texts), 1.0).unwrap();
    let table = "batch = 8\nmicro_batch = 4\nsteps = 4\nseed = 3\ngroup_by_modality = true\n\
                 train = { projector = 1e-3, llm = 1e-3 }";
    let trainer = |out: &str| {
        let setup = setup("tiny", Aspect::Pad, &folder.join(out));
        Trainer::new(model(), dataset.clone(), options(table), setup).unwrap()
    };
    let mut whole = trainer("whole");
    whole.fit(&mut |_| Ok(true)).unwrap();
    let mut first = trainer("stopped");
    first.fit(&mut |step| Ok(step.step < 2)).unwrap();
    let mut second = trainer("stopped");
    second.resume(&folder.join("stopped")).unwrap();
    second.fit(&mut |_| Ok(true)).unwrap();
    let losses = |t: &Trainer| t.history().iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(&whole), losses(&second));
}

#[test]
fn options_that_cannot_group_are_refused() {
    let check = |table: &str| options(&format!("{table}\ngroup_by_modality = true\ntrain = {{ llm = 1.0 }}")).check();
    let error = check("batch = 8\nmicro_batch = 3").unwrap_err().to_string();
    assert!(error.contains("8 is not divisible by 3"), "{error}");
    assert!(check("order = \"sequential\"").unwrap_err().to_string().contains("`order: \"shuffle\"`"));
    check("batch = 8").unwrap();
}

#[test]
fn a_mask_is_proven_from_its_ids() {
    let m = model();
    let presets = Presets::default();
    let turns =
        [Turn::human("<image>\nwhat color is the shape?"), Turn::gpt("blue"), Turn::human("is it?"), Turn::gpt("yes")];
    let tiny = Template::load(&presets, "tiny").unwrap();
    let check = m.check_mask(&tiny, &turns, 1, 4096).unwrap();
    assert_eq!(check.faults, []);
    assert!(check.supervised >= 4 && check.positions > m.image_tokens() + check.supervised, "{check:?}");
    let cut = m.check_mask(&tiny, &turns, 1, m.image_tokens()).unwrap();
    assert_eq!(cut.faults.iter().map(|(what, _)| *what).collect::<Vec<_>>(), ["nothing supervised"]);
    let plain = Template::load(&presets, "plain").unwrap();
    assert_eq!(m.check_mask(&plain, &turns[..2], 1, 4096).unwrap().faults, []);

    // Templates with a fault each: the end unsupervised, a question supervised.
    let folder = scratch("mask-presets");
    std::fs::create_dir_all(folder.join("templates")).unwrap();
    let broken = [
        ("endless", "answer = [{ turn = true, loss = true }]", "question = [{ turn = true }, { text = \"\\n\" }]"),
        (
            "chatty",
            "answer = [{ turn = true, loss = true }, { text = \"\\n\", loss = true }]",
            "question = [{ turn = true, loss = true }, { text = \"\\n\" }]",
        ),
    ];
    for (name, answer, question) in broken {
        let text = format!("about = \"x\"\ntrim = true\n{question}\n{answer}\n");
        std::fs::write(folder.join(format!("templates/{name}.toml")), text).unwrap();
    }
    let presets = Presets::new(vec![folder]);
    let faults = |name: &str| {
        let template = Template::load(&presets, name).unwrap();
        m.check_mask(&template, &turns, 1, 4096).unwrap().faults.into_iter().map(|(what, _)| what).collect::<Vec<_>>()
    };
    assert!(faults("chatty").contains(&"supervised outside answers"), "{:?}", faults("chatty"));
    // Without an end, the answers' text is all there is: nothing marks where generation stops.
    assert_eq!(faults("endless"), ["end token not supervised"; 2]);
}

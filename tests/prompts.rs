//! Prompts of every benchmark, byte for byte as the reference makes them (`fixtures/prompts/how.md`), from JSON lines and
//! from parquet.

use std::path::{Path, PathBuf};

use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::preset::{PresetKind, Presets};
use serde_json::Value;

use super::scripting::{run, scratch};

pub const TASKS: [&str; 10] = [
    "gqa",
    "scienceqa_img",
    "textvqa_val",
    "ai2d",
    "pope",
    "mme",
    "mmbench_en_dev",
    "mmbench_cn_dev",
    "seedbench",
    "mmmu_val",
];

pub fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path)
}

pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn open(id: &str, data: &Path) -> Benchmark {
    let options = BenchmarkOptions { data: Some(data.to_path_buf()), ..BenchmarkOptions::default() };
    Benchmark::open(&Presets::default(), id, &options).unwrap()
}

#[test]
fn prompts_equal_the_reference() {
    let mut compared = 0;
    for task in TASKS {
        let expected = lines(&fixtures(&format!("prompts/{task}.jsonl")));
        for data in [format!("prompts/data/{task}.jsonl"), format!("prompts/parquet/{task}.parquet")] {
            let b = open(task, &fixtures(&data));
            assert!(b.left_out.is_empty(), "{data}: {}", b.left_out[0]);
            assert_eq!(b.items.len(), expected.len(), "{data}");
            for (item, expected) in b.items.iter().zip(&expected) {
                assert_eq!(item.prompt, expected["prompt"].as_str().unwrap(), "{data}");
                assert_eq!(b.max_new_tokens as u64, expected["generation"]["max_new_tokens"].as_u64().unwrap());
                // SEED's videos have several frames and one mark; GQA's parquet has its pictures elsewhere.
                let marks = item.prompt.matches("<image>").count().max(1) as u64;
                if !data.ends_with("gqa.parquet") && !item.images.is_empty() {
                    assert_eq!(marks, expected["markers"].as_u64().unwrap(), "{data} {}", item.id);
                }
                for image in &item.images {
                    image.open().unwrap();
                }
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 62);
}

#[test]
fn repeated_ids_are_numbered_and_stay_groups() {
    let b = open("gqa", &fixtures("prompts/data/gqa.jsonl"));
    let ids: Vec<&str> = b.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(&ids[..2], ["201307251#0", "201307251#1"]);
    let b = open("mme", &fixtures("scorers/data/mme.jsonl"));
    assert!(b.items.iter().all(|item| item.id.starts_with(&format!("{}#", item.group))));
}

#[test]
fn benchmarks_without_data_say_what_they_need() {
    let presets = Presets::default();
    for id in presets.ids(PresetKind::Benchmarks) {
        match Benchmark::open(&presets, &id, &BenchmarkOptions::default()) {
            Ok(b) => assert!(id.starts_with("tiny-") && !b.items.is_empty()),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("needs its questions: lmms-lab/") && text.contains("data:"), "{id}: {text}");
            }
        }
    }
}

#[test]
fn the_tiny_benchmarks_are_what_they_were() {
    let open = |id| Benchmark::open(&Presets::default(), id, &BenchmarkOptions::default()).unwrap();
    let (pope, seed) = (open("tiny-pope"), open("tiny-seed"));
    assert_eq!((pope.items.len(), seed.items.len()), (7136, 758));
    assert!(pope.items.iter().all(|item| ["yes", "no"].contains(&item.gold.answer.first())));
    // A choice is drawn by the picture's number: the first one never changes.
    assert_eq!(seed.items[0].gold.choices.len(), 4);
    let letters: std::collections::BTreeMap<&str, usize> =
        seed.items.iter().fold(std::collections::BTreeMap::new(), |mut letters, item| {
            *letters.entry(item.gold.answer.first()).or_default() += 1;
            letters
        });
    assert!(letters.len() == 4 && letters.values().all(|count| (150..230).contains(count)), "{letters:?}");
}

#[test]
fn a_second_table_brings_the_pictures() {
    let folder = scratch("gqa-pictures");
    std::fs::copy(fixtures("prompts/data/images/b.png"), folder.join("b.png")).unwrap();
    std::fs::write(folder.join("images.jsonl"), "{\"id\": \"n161313\", \"image\": \"b.png\"}\n").unwrap();
    let options = BenchmarkOptions {
        data: Some(fixtures("prompts/parquet/gqa.parquet")),
        images: Some(folder.join("images.jsonl")),
        ..BenchmarkOptions::default()
    };
    let b = Benchmark::open(&Presets::default(), "gqa", &options).unwrap();
    let with_pictures =
        lines(&fixtures("prompts/data/gqa.jsonl")).iter().filter(|row| row["imageId"] == "n161313").count();
    assert!(with_pictures > 0 && b.items.len() == with_pictures);
    assert!(b.items.iter().all(|item| item.images.len() == 1 && item.images[0].open().is_ok()));
    let others = lines(&fixtures("prompts/data/gqa.jsonl")).len() - with_pictures;
    assert_eq!(b.left_out.len(), others, "{:?}", b.left_out.first().map(|error| error.message()));
}

#[test]
fn quirks_of_the_reference_are_a_choice() {
    let folder = scratch("nan-hint");
    let row = r#"{"index": 1, "question": "Q", "hint": "nan", "answer": "A", "A": "a", "B": "nan", "category": "c", "L2-category": "l"}"#;
    std::fs::write(folder.join("x.jsonl"), row).unwrap();
    for (quirks, beginning) in [(false, "Q There"), (true, "nan Q There")] {
        let options = BenchmarkOptions {
            data: Some(folder.join("x.jsonl")),
            reference_quirks: quirks,
            ..BenchmarkOptions::default()
        };
        let b = Benchmark::open(&Presets::default(), "mmbench_cn_dev", &options).unwrap();
        assert!(b.items[0].prompt.starts_with(beginning), "{}", b.items[0].prompt);
        assert_eq!(b.items[0].gold.choices.len(), 1);
        // The option of scripts is this one.
        let data = folder.display();
        let script = format!(
            r#"benchmark("mmbench_cn_dev", #{{ data: "{data}/x.jsonl", reference_quirks: {quirks} }})[0].prompt"#
        );
        assert!(run("quirks-script", &script).unwrap().starts_with(beginning), "{quirks}");
    }
}

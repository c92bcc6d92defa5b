//! Benchmarks as people download them: whole repositories of several configurations, the hub's conversion, interrupted
//! downloads, caches, other benchmarks' rows. Trees and columns are those of the data sets' cards and listings on the hub
//! (`fixtures/today/*/how.md`); rows are written here.

mod pictures;
mod rows;

use std::path::{Path, PathBuf};

use llmore::error::Error;
use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::preset::{PresetKind, Presets};
use serde_json::{Value, json};

use super::scripting::scratch;

/// A picture of one pixel, as base64 text.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

/// The `n`th row of a set, with its published columns.
fn row(set: &str, n: usize) -> Value {
    let (image, q) = (format!("{n}.png"), format!("What is {n}?"));
    match set {
        "gqa" => {
            json!({"id": n.to_string(), "imageId": format!("n{n}"), "question": q, "answer": "yes", "isBalanced": true})
        }
        "gqa pictures" => json!({"id": format!("n{n}"), "image": image}),
        "scienceqa" => {
            json!({"image": image, "question": q, "choices": ["a", "b"], "answer": 1, "hint": "", "subject": "s"})
        }
        "textvqa" => json!({"image_id": image, "question_id": n, "question": q, "image": image, "answers": ["x", "y"],
            "ocr_tokens": ["t"], "set_name": "val"}),
        "ai2d" => json!({"question": q, "options": ["a", "b"], "answer": "1", "image": image}),
        "chartqa" => json!({"type": "human_test", "question": q, "answer": "14", "image": image}),
        "docvqa" => json!({"questionId": n.to_string(), "question": q, "question_types": ["layout"], "image": image,
            "docId": n, "answers": ["x"], "data_split": "val"}),
        "infographicvqa" => {
            json!({"questionId": n.to_string(), "question": q, "answers": ["x"], "answer_type": ["span"],
            "image": image, "image_url": "http://x/1.jpeg", "ocr": "t", "data_split": "val"})
        }
        "mme" => {
            json!({"question_id": format!("color/{n}.jpg"), "image": image, "question": q, "answer": "Yes", "category": "color"})
        }
        "pope" => json!({"id": n.to_string(), "question_id": n.to_string(), "question": q, "answer": "yes",
            "image_source": format!("COCO_{n}"), "image": image, "category": "random"}),
        "mmbench" => {
            json!({"index": n, "question": q, "hint": "nan", "answer": "A", "A": "a", "B": "b", "C": "nan", "D": "nan",
            "category": "c", "image": image, "source": "s", "L2-category": "l", "comment": "", "split": "dev"})
        }
        "mmmu" => json!({"id": format!("validation_Art_{n}"), "question": "<image 1> is?", "options": "['a', 'b']",
            "explanation": "", "image_1": image, "img_type": "", "answer": "A", "topic_difficulty": "Easy",
            "question_type": "multiple-choice", "subfield": "s"}),
        "seedbench" => json!({"answer": "A", "choice_a": "a", "choice_b": "b", "choice_c": "c", "choice_d": "d",
            "data_id": n.to_string(), "data_type": "image", "question": q, "question_id": n.to_string(), "question_type_id": 1,
            "image": [image], "segment": []}),
        "ok_vqa" => {
            json!({"question": q, "image": image, "question_id": n.to_string(), "question_type": "one", "answers": ["x"],
            "answer_type": "other"})
        }
        "realworldqa" => json!({"image": image, "image_path": "0.webp", "question": q, "answer": "A"}),
        "vizwiz_vqa" => {
            json!({"question_id": image, "image": image, "question": q, "answers": ["x"], "category": "other"})
        }
        "vqav2" => json!({"question_type": "is", "multiple_choice_answer": "yes", "answers": [{"answer": "yes",
            "answer_confidence": "yes", "answer_id": 1}], "image_id": n, "answer_type": "yes/no", "question_id": n,
            "question": q, "image": image}),
        "llava_bench" => json!({"question_id": n, "question": q, "image": image, "category": "conv", "caption": "c",
            "gpt_answer": "g", "image_id": "1"}),
        other => panic!("{other}"),
    }
}

/// Rows of a set as JSON lines.
fn lines(set: &str, numbers: std::ops::Range<usize>) -> String {
    numbers.map(|n| row(set, n).to_string() + "\n").collect()
}

/// A folder with files of so many rows of a set; no two files have equal rows.
fn tree(name: &str, files: &[(&str, &str, usize)]) -> PathBuf {
    let root = scratch(&format!("layouts/{name}"));
    let mut next = 0;
    for (path, set, count) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, lines(set, next..next + count)).unwrap();
        next += count;
    }
    root
}

fn open(id: &str, data: &Path) -> Result<Benchmark, Error> {
    open_with(id, data, None)
}

fn open_with(id: &str, data: &Path, images: Option<&Path>) -> Result<Benchmark, Error> {
    let (data, images) = (Some(data.to_path_buf()), images.map(Path::to_path_buf));
    Benchmark::open(&Presets::default(), id, &BenchmarkOptions { data, images, ..BenchmarkOptions::default() })
}

fn count(id: &str, data: &Path) -> usize {
    let b = open(id, data).unwrap_or_else(|error| panic!("{id}: {error}"));
    assert!(b.left_out.is_empty(), "{id}: {}", b.left_out[0]);
    b.items.len()
}

/// The message and its next step; no message quotes what is in a file at length.
fn refused(id: &str, data: &Path) -> String {
    told(open(id, data).err().unwrap_or_else(|| panic!("{id} opens {}", data.display())))
}

fn told(error: Error) -> String {
    let text = error.to_string();
    assert!(error.help_text().is_some() && text.len() < 1200, "{text}");
    text
}

/// Benchmark, its rows' kind, the folder and split of its published files.
const SETS: [(&str, &str, &str, &str); 18] = [
    ("gqa", "gqa", "testdev_balanced_instructions", "testdev"),
    ("scienceqa_img", "scienceqa", "ScienceQA-IMG", "test"),
    ("textvqa_val", "textvqa", "data", "validation"),
    ("textvqa_val_no_ocr", "textvqa", "data", "validation"),
    ("ai2d", "ai2d", "data", "test"),
    ("mme", "mme", "data", "test"),
    ("mmbench_en_dev", "mmbench", "en", "dev"),
    ("mmbench_cn_dev", "mmbench", "cn", "dev"),
    ("seedbench", "seedbench", "data", "test"),
    ("mmmu_val", "mmmu", "data", "validation"),
    ("chartqa", "chartqa", "data", "test"),
    ("docvqa", "docvqa", "DocVQA", "validation"),
    ("llava_bench", "llava_bench", "data", "train"),
    ("ok_vqa", "ok_vqa", "data", "val2014"),
    ("realworldqa", "realworldqa", "data", "test"),
    ("vizwiz_vqa", "vizwiz_vqa", "data", "val"),
    ("vqav2", "vqav2", "data", "validation"),
    ("pope", "pope", "data", "test"),
];

#[test]
fn every_preset_is_in_the_list() {
    let ids = Presets::default().ids(PresetKind::Benchmarks);
    let listed = |id: &String| id.starts_with("tiny-") || SETS.iter().any(|(set, ..)| set == id);
    assert!(ids.iter().all(listed), "{ids:?}");
}

#[test]
fn every_published_set_is_read_as_its_configuration_and_split() {
    for (id, set, folder, split) in SETS {
        let other = if split == "test" { "validation" } else { "test" };
        let path = |name: &str| format!("{folder}/{name}");
        // Two shards with hashes, beside other splits; what tools keep beside them counts for nothing.
        let (a, b) = (
            path(&format!("{split}-00000-of-00002-0a1b2c3d4e5f.jsonl")),
            path(&format!("{split}-00001-of-00002-9f8e.jsonl")),
        );
        let (c, cache) =
            (path(&format!("{other}-00000-of-00001.jsonl")), format!(".cache/huggingface/{split}-00000.jsonl"));
        let root = tree(
            &format!("{id}-hub"),
            &[(&a, set, 2), (&b, set, 3), (&c, set, 7), (&cache, set, 9), ("dataset_infos.json", set, 1)],
        );
        assert_eq!((count(id, &root), count(id, &root.join(folder))), (5, 5), "{id}");
        assert_eq!(count(id, &root.join(&a)), 2, "{id}");
        std::fs::remove_file(root.join(&b)).unwrap();
        let message = refused(id, &root);
        assert!(message.contains(&format!("lacks `{split}-00001-of-00002`: 1 of 2")), "{message}");
        std::fs::remove_file(root.join(&a)).unwrap();
        let message = refused(id, &root);
        assert!(message.contains(&format!("holds the split `{other}`, `{id}` asks `{split}`")), "{message}");

        // The hub's conversion.
        let configuration = if folder == "data" { "default" } else { folder };
        let path = |split: &str, number| format!("{configuration}/{split}/000{number}.jsonl");
        let root = tree(
            &format!("{id}-conversion"),
            &[
                (&path(split, 0), set, 2),
                (&path(split, 1), set, 3),
                (&path("other", 0), set, 7),
                (&path(other, 0), set, 7),
            ],
        );
        assert_eq!((count(id, &root), count(id, &root.join(configuration))), (5, 5), "{id}");
        assert_eq!(count(id, &root.join(configuration).join(split)), 5, "{id}");
        assert!(refused(id, &root.join(configuration).join(other)).contains(&format!("the split `{other}`")), "{id}");
        std::fs::rename(root.join(path(split, 1)), root.join(path(split, 3))).unwrap();
        let message = refused(id, &root);
        assert!(message.contains("lacks `0001` and 1 more: 2 of 4"), "{message}");
        std::fs::rename(
            root.join(configuration).join(split),
            root.join(configuration).join(format!("partial-{split}")),
        )
        .unwrap();
        let message = refused(id, &root);
        assert!(message.contains(&format!("only the first part of the split `{split}`")), "{message}");

        // Whole stems.
        let (a, b) = (format!("{split}.jsonl"), format!("{other}.jsonl"));
        let root = tree(&format!("{id}-stems"), &[(&a, set, 4), (&b, set, 7), ("unrelated.jsonl", set, 9)]);
        assert_eq!(count(id, &root), 4, "{id}");
        std::fs::remove_file(root.join(&a)).unwrap();
        assert!(refused(id, &root).contains(&format!("the split `{other}`")), "{id}");

        // A file of any other name is a user's own.
        let root = tree(&format!("{id}-own"), &[("mine.jsonl", set, 3)]);
        assert_eq!((count(id, &root), count(id, &root.join("mine.jsonl"))), (3, 3), "{id}");
    }
}

#[test]
fn whole_repositories_give_the_configuration_of_the_preset() {
    let files = |name: &str, files: &[(&str, &str, usize)], expected: &[(&str, usize)]| {
        let root = tree(name, files);
        for (id, questions) in expected {
            assert_eq!(count(id, &root), *questions, "{id} in {name}");
        }
        root
    };
    let root = files(
        "GQA",
        &[
            ("testdev_all_images/testdev-00000-of-00001.jsonl", "gqa pictures", 3),
            ("testdev_all_instructions/testdev-00000-of-00001.jsonl", "gqa", 9),
            ("testdev_balanced_images/testdev-00000-of-00001.jsonl", "gqa pictures", 3),
            ("val_balanced_instructions/val-00000-of-00001.jsonl", "gqa", 8),
        ],
        &[],
    );
    let balanced = root.join("testdev_balanced_instructions/testdev-00000-of-00001.jsonl");
    std::fs::create_dir_all(balanced.parent().unwrap()).unwrap();
    std::fs::write(&balanced, lines("gqa", 12..15)).unwrap();
    // Its pictures come along, wherever in it the questions are pointed at.
    for data in [root.clone(), root.join("testdev_balanced_instructions"), balanced.clone()] {
        let b = open("gqa", &data).unwrap();
        assert_eq!((b.items.len(), b.left_out.len()), (3, 0));
        assert!(b.items.iter().all(|item| item.images.len() == 1));
        assert_eq!(b.items[0].images[0].key(), root.join("testdev_balanced_images/12.png").display().to_string());
    }
    assert!(refused("gqa", &root.join("testdev_all_instructions")).contains("asks `testdev_balanced_instructions`"));
    std::fs::remove_file(&balanced).unwrap();
    let message = refused("gqa", &root);
    assert!(message.contains("`testdev_all_instructions`"), "{message}");

    let science: Vec<(String, usize)> = ["FULL", "IMG"]
        .iter()
        .flat_map(|c| ["test", "train", "validation"].map(|s| format!("ScienceQA-{c}/{s}-00000-of-00001.jsonl")))
        .zip(1..)
        .collect();
    let science: Vec<(&str, &str, usize)> = science.iter().map(|(path, n)| (path.as_str(), "scienceqa", *n)).collect();
    files("ScienceQA", &science, &[("scienceqa_img", 4)]);

    let root = files(
        "MMBench",
        &[
            ("en/dev-00000-of-00001.jsonl", "mmbench", 2),
            ("cn/dev-00000-of-00001.jsonl", "mmbench", 3),
            ("cc/test-00000-of-00001.jsonl", "mmbench", 4),
            ("en/test-00000-of-00001.jsonl", "mmbench", 5),
        ],
        &[("mmbench_en_dev", 2), ("mmbench_cn_dev", 3)],
    );
    assert!(refused("mmbench_en_dev", &root.join("cn")).contains("is `cn`, benchmark `mmbench_en_dev` asks `en`"));
    let root = files(
        "DocVQA",
        &[
            ("DocVQA/validation-00000-of-00001.jsonl", "docvqa", 5),
            ("DocVQA/test-00000-of-00001.jsonl", "docvqa", 4),
            ("InfographicVQA/validation-00000-of-00001.jsonl", "infographicvqa", 3),
        ],
        &[("docvqa", 5)],
    );
    let message = refused("docvqa", &root.join("InfographicVQA"));
    assert!(message.contains("is `InfographicVQA`, benchmark `docvqa` asks `DocVQA`"), "{message}");
    let message = refused("docvqa", &root.join("InfographicVQA/validation-00000-of-00001.jsonl"));
    assert!(message.contains("rows of InfographicVQA, not of `docvqa`"), "{message}");

    let pope = files(
        "POPE",
        &[
            ("data/test-00000-of-00001.jsonl", "pope", 9),
            ("Full/adversarial-00000-of-00001.jsonl", "pope", 3),
            ("Full/popular-00000-of-00001.jsonl", "pope", 3),
            ("Full/random-00000-of-00001.jsonl", "pope", 3),
        ],
        &[("pope", 9)],
    );
    // MMMU/MMMU has a folder per subject: all of them are the set.
    files(
        "MMMU",
        &[
            ("Art/validation-00000-of-00001.jsonl", "mmmu", 2),
            ("Art/dev-00000-of-00001.jsonl", "mmmu", 5),
            ("Music/validation-00000-of-00001.jsonl", "mmmu", 3),
        ],
        &[("mmmu_val", 5)],
    );
    // The three splits of POPE in one configuration are the whole set.
    assert_eq!(count("pope", &pope.join("Full")), 9);
}

#[test]
fn folders_of_several_sets_are_told_by_name_or_refused() {
    let lite = |folder: &str| format!("{folder}/lite-00000-of-00001.jsonl");
    let names = [
        "ai2d",
        "chartqa",
        "docvqa_val",
        "gqa",
        "mmbench_cn_dev",
        "mmbench_en_dev",
        "ok_vqa_val2014",
        "seedbench",
        "textvqa_val",
        "vizwiz_vqa_val",
        "vqav2_val",
    ];
    let sets = [
        "ai2d",
        "chartqa",
        "docvqa",
        "gqa",
        "mmbench",
        "mmbench",
        "ok_vqa",
        "seedbench",
        "textvqa",
        "vizwiz_vqa",
        "vqav2",
    ];
    let paths: Vec<String> = names.iter().map(|name| lite(name)).collect();
    let files: Vec<(&str, &str, usize)> =
        paths.iter().zip(sets).enumerate().map(|(n, (path, set))| (path.as_str(), set, n + 1)).collect();
    let root = tree("LMMs-Eval-Lite", &files);
    for (n, id) in [
        "ai2d",
        "chartqa",
        "docvqa",
        "gqa",
        "mmbench_cn_dev",
        "mmbench_en_dev",
        "ok_vqa",
        "seedbench",
        "textvqa_val",
        "vizwiz_vqa",
        "vqav2",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(count(id, &root), n + 1, "{id}");
    }
    assert_eq!(count("textvqa_val_no_ocr", &root), 9);
    for id in ["realworldqa", "mme", "pope", "scienceqa_img", "mmmu_val"] {
        let message = refused(id, &root);
        assert!(message.contains("`ai2d`") && message.contains("chartqa") || id == "mmmu_val", "{message}");
    }
    // The only folder there is, of another benchmark.
    let root = tree("one-of-lite", &[(&lite("ai2d"), "ai2d", 3)]);
    assert!(refused("chartqa", &root).contains("is `ai2d`, benchmark `chartqa`"));

    // Files side by side.
    let files = [
        ("ChartQA_TEST.jsonl", "chartqa", 2),
        ("POPE.jsonl", "pope", 3),
        ("MME.jsonl", "mme", 4),
        ("MMBench_DEV_EN.jsonl", "mmbench", 5),
        ("MMBench_DEV_CN.jsonl", "mmbench", 6),
    ];
    let root = tree("side-by-side", &files);
    for (id, questions) in [("chartqa", 2), ("pope", 3), ("mme", 4), ("mmbench_en_dev", 5), ("mmbench_cn_dev", 6)] {
        assert_eq!(count(id, &root), questions, "{id}");
    }
    let message = refused("ai2d", &root);
    assert!(message.contains("there is no field `options`"), "{message}");
    let root = tree(
        "dev-and-test",
        &[("mmbench_dev_20230712.jsonl", "mmbench", 2), ("mmbench_dev_cn_20231003.jsonl", "mmbench", 3)],
    );
    assert_eq!((count("mmbench_en_dev", &root), count("mmbench_cn_dev", &root)), (2, 3));
    assert!(refused("mmbench_en_dev", &root.join("mmbench_dev_cn_20231003.jsonl")).contains("asks `en`"));
    let root = tree("unknown", &[("one.jsonl", "pope", 2), ("two.jsonl", "pope", 3)]);
    assert!(refused("pope", &root).contains("the files `one.jsonl`, `two.jsonl`"));
    // Numbered files are one set.
    let root = tree("numbered", &[("part1.jsonl", "pope", 2), ("part2.jsonl", "pope", 3)]);
    assert_eq!(count("pope", &root), 5);
}

#[test]
fn the_same_rows_twice_are_refused() {
    let shard = "test-00000-of-00001.jsonl";
    let twice = |name: &str, files: &[(&str, &str, usize)], words: &[&str]| {
        let message = refused("ai2d", &tree(name, files));
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    twice(
        "data-and-default",
        &[(&format!("data/{shard}"), "ai2d", 2), ("default/test/0000.jsonl", "ai2d", 2)],
        &["twice", "0000"],
    );
    twice("root-and-data", &[(shard, "ai2d", 2), (&format!("data/{shard}"), "ai2d", 2)], &["twice"]);
    twice(
        "two-hashes",
        &[("test-00000-of-00001-aa.jsonl", "ai2d", 2), ("test-00000-of-00001-bb.jsonl", "ai2d", 2)],
        &["twice"],
    );
    twice(
        "two-sizes",
        &[("test-00000-of-00002.jsonl", "ai2d", 2), ("test-00001-of-00002.jsonl", "ai2d", 2), (shard, "ai2d", 4)],
        &["twice"],
    );
    twice("stem-and-shard", &[(shard, "ai2d", 2), ("test.jsonl", "ai2d", 2)], &["twice"]);
    // Equal files under names that may belong together.
    let root = tree("copies", &[("part1.jsonl", "ai2d", 2)]);
    std::fs::copy(root.join("part1.jsonl"), root.join("part2.jsonl")).unwrap();
    assert!(refused("ai2d", &root).contains("are the same file"));
}

#[test]
fn the_cache_of_the_hub_is_opened_at_its_revision() {
    let shard = "data/test-00000-of-00001.jsonl";
    let at = |commit: &str| format!("hub/datasets--lmms-lab--ai2d/snapshots/{commit}/{shard}");
    let other = format!("hub/datasets--lmms-lab--ChartQA/snapshots/e5/{shard}");
    let root = tree("cache", &[(&at("a1"), "ai2d", 2), (&other, "chartqa", 5)]);
    let repository = root.join("hub/datasets--lmms-lab--ai2d");
    for folder in
        [&root, &root.join("hub"), &repository, &repository.join("snapshots"), &repository.join("snapshots/a1")]
    {
        assert_eq!(count("ai2d", folder), 2, "{}", folder.display());
    }
    let message = refused("mme", &root);
    assert!(
        message.contains("cache of the hub without `lmms-lab/MME`")
            && message.contains("`datasets--lmms-lab--ChartQA`")
    );
    // Two revisions: `refs/main` decides, and nothing else does.
    std::fs::create_dir_all(root.join(at("b2")).parent().unwrap()).unwrap();
    std::fs::write(root.join(at("b2")), lines("ai2d", 0..3)).unwrap();
    for folder in [&root, &repository, &repository.join("snapshots")] {
        let message = refused("ai2d", folder);
        assert!(message.contains("2 revisions of the data set: `a1`, `b2`"), "{message}");
    }
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), "b2\n").unwrap();
    for folder in [&root, &repository, &repository.join("snapshots")] {
        assert_eq!(count("ai2d", folder), 3);
    }
}

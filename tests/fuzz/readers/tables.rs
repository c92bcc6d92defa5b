//! Files of samples and of rows: everything in what opens is asked for.

use std::path::Path;
use std::sync::Arc;

use llmore::data::table::Rows;
use llmore::data::verify::{Walk, verify};
use llmore::data::{Dataset, Format};
use llmore::eval::{Benchmark, BenchmarkOptions, Results};
use llmore::events::{Interrupt, Listeners};
use llmore::preset::Presets;

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Input, Read, Reader, Seed, file, files, seeds};

const SAMPLE: &[&str] = &[
    "id",
    "image",
    "images",
    "conversations",
    "messages",
    "from",
    "value",
    "role",
    "content",
    "human",
    "gpt",
    "user",
    "assistant",
    "system",
    "<image>",
    "a.png",
    "weight",
    "loss",
    "train",
    "text",
    "type",
    "url",
    "prompt",
    "chosen",
    "tool",
];

pub const LLAVA: Reader = Reader {
    name: "llava",
    seeds: || {
        let list = format!("[{}]", LINES.join(",\n"));
        let mut all = seeds("data.json", Frame::Json, vec![list.into(), format!("[{}]", LINES[0]).into()]);
        all.extend(seeds("data.json", Frame::JsonLines, vec![file("tests/fixtures/data/tables/duckdb-lines.json")]));
        all
    },
    words: SAMPLE,
    open: |folder| samples(folder, Format::Llava),
};

pub const JSONL: Reader = Reader {
    name: "jsonl",
    seeds: || {
        let lines = [LINES.join("\n"), LINES[1].to_string()].map(String::into_bytes);
        seeds(
            "data.jsonl",
            Frame::JsonLines,
            lines.into_iter().chain([file("tests/fixtures/data/tables/datasets-lines.json")]).collect(),
        )
    },
    words: SAMPLE,
    open: |folder| samples(folder, Format::Jsonl),
};

pub const JSON: Reader = Reader {
    name: "json",
    seeds: || {
        let rows = r#"[{"id": 1, "image": "a.png", "q": "what?", "options": ["a", "b"], "n": 1.0}, {"id": "2", "image": {"bytes": "iVBORw0KGgo=", "path": null}, "q": null, "n": 3}]"#;
        let nested = r#"{"data": [{"question": "a"}], "info": {"version": 1}}"#;
        seeds("rows.json", Frame::Json, vec![rows.into(), nested.into(), format!("[{}]", LINES.join(",")).into()])
    },
    words: &["bytes", "path", "image", "images", "data", "annotations", "questions", "iVBORw0KGgo=", "/9j/", "a.png"],
    open: rows,
};

pub const TSV: Reader = Reader {
    name: "tsv",
    seeds: || {
        let rows = "index\timage\tquestion\tA\tB\tanswer\n1\tiVBORw0KGgo=\tis \"this\"?\tyes\tno\tA\n2\t1\t\"quoted\ttab \"\"x\"\"\nline\"\t\t\tB\n";
        seeds("rows.tsv", Frame::Bytes, vec![rows.into(), "a\tb\r\n1\t2\r\n\r\n3\t\"4\"\r\n".into()])
    },
    words: &["\t", "\n", "\r\n", "\"", "\"\"", "image", "index", "iVBORw0KGgo=", "/9j/"],
    open: rows,
};

pub const PARQUET: Reader = Reader {
    name: "parquet",
    seeds: || {
        let mut all = files("tests/fixtures/data/tables", ".parquet", 4000);
        all.extend(files("tests/fixtures/prompts/parquet", ".parquet", 2600));
        seeds("data.parquet", Frame::Parquet, all)
    },
    words: &[
        "PAR1",
        "schema",
        "image",
        "bytes",
        "path",
        "conversations",
        "list",
        "element",
        "\x15\x00",
        "\x19\x1c",
        "huggingface",
    ],
    open: |folder| {
        let (mut samples, mut rows) = (samples(folder, Format::Parquet), rows(folder));
        Box::new(move |input| {
            let (one, two) = (samples(input), rows(input));
            one | two
        })
    },
};

pub const ARROW: Reader = Reader {
    name: "arrow",
    seeds: || seeds("data-00000-of-00001.arrow", Frame::Bytes, vec![b"ARROW1\0\0".to_vec(), vec![0xff; 16]]),
    words: &["ARROW1", "\0\0"],
    open: |folder| {
        let folder = folder.to_path_buf();
        Box::new(move |input| {
            input.write(folder.join(&input.kind));
            Rows::open(&folder).is_ok()
        })
    },
};

pub const BENCHMARK: Reader = Reader {
    name: "benchmark",
    seeds: || {
        let seed = |id: &&str| Seed {
            kind: id.to_string(),
            bytes: file(&format!("tests/fixtures/prompts/data/{id}.jsonl")),
            frame: Frame::JsonLines,
        };
        BENCHMARKS.iter().map(seed).collect()
    },
    words: &[
        "question",
        "question_id",
        "answer",
        "answers",
        "options",
        "choices",
        "hint",
        "lecture",
        "solution",
        "category",
        "image",
        "image_1",
        "split",
        "text",
        "label",
        "['a', 'b']",
        "\"['\\\\x41', u'b']\"",
        "{'a': 1}",
        "A",
        "yes",
        "index",
        "l2-category",
        "data_id",
        "question_type",
        "ocr_tokens",
        "<image 1>",
        "images/a.png",
        "imageId",
        "fullAnswer",
        "test",
    ],
    open: |folder| {
        crate::scripting::copy(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prompts/data/images"),
            &folder.join("images"),
        );
        let path = folder.join("questions.jsonl");
        Box::new(move |input| asked(input, &input.write(path.clone())))
    },
};

const BENCHMARKS: [&str; 10] = [
    "ai2d",
    "gqa",
    "mmbench_cn_dev",
    "mmbench_en_dev",
    "mme",
    "mmmu_val",
    "pope",
    "scienceqa_img",
    "seedbench",
    "textvqa_val",
];

/// Samples in the ways that there are: LLaVA's turns, a system text, messages of parts, flags.
const LINES: [&str; 4] = [
    r#"{"id": "1", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "a dog"}]}"#,
    r#"{"id": 2, "image": ["a.png", "a.png"], "conversations": [{"from": "system", "value": "be brief"}, {"from": "human", "value": "<image> and <image>"}, {"from": "gpt", "value": "two", "loss": false}, {"from": "human", "value": "which?"}, {"from": "gpt", "value": "both", "weight": 1}]}"#,
    r#"{"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "caf\u00e9?"}]}, {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}], "images": ["a.png"]}"#,
    r#"{"id": "4", "conversations": [{"from": "human", "value": "1 + 1"}, {"from": "gpt", "value": "2"}]}"#,
];

fn picture(folder: &Path) {
    std::fs::write(folder.join("a.png"), file("tests/fixtures/prompts/data/images/a.png")).unwrap();
}

fn samples(folder: &Path, format: Format) -> Read {
    picture(folder);
    let folder = folder.to_path_buf();
    Box::new(move |input: &Input| {
        let path = input.write(folder.join(&input.kind));
        Dataset::open(&path, format, None).is_ok_and(|dataset| all_of(&dataset))
    })
}

/// Reads every sample, and lets `verify` look at them.
fn all_of(dataset: &Dataset) -> bool {
    let read = (0..dataset.len()).all(|index| {
        let _ = (dataset.brief(index), dataset.unread(index));
        dataset.get(index).is_ok_and(|sample| sample.open_images().is_ok())
    });
    let (listeners, interrupt) = (Listeners::default(), Interrupt::default());
    let walk = Walk { task: "verify", listeners: &listeners, interrupt: &interrupt };
    let _ = (verify(dataset, &|_| Vec::new(), &walk), dataset.trainable(), dataset.sha256(), dataset.find("1"));
    read
}

fn rows(folder: &Path) -> Read {
    picture(folder);
    let folder = folder.to_path_buf();
    Box::new(move |input: &Input| {
        let path = input.write(folder.join(&input.kind));
        Rows::open_files(&[path]).is_ok_and(|rows| cells(&rows))
    })
}

/// Asks for every field of every row as all that it could be.
fn cells(rows: &Arc<Rows>) -> bool {
    let fields = rows.fields().to_vec();
    for row in rows.range().take(64) {
        for field in &fields {
            let _ = (rows.value(row, field), rows.text(row, field), rows.texts(row, field), rows.integer(row, field));
            let _ = (rows.require(row, field), rows.has_picture(row, field, 0), rows.place(row));
            let images = rows.images(row, field).unwrap_or_default();
            for (number, image) in images.iter().enumerate().take(4) {
                let _ = (rows.image_bytes(row, field, number), image.open());
            }
        }
    }
    let _ = (rows.sha256(), rows.named_fields());
    rows.broken().is_empty()
}

/// Opens the questions and scores answers to them.
fn asked(input: &Input, path: &Path) -> bool {
    let options = BenchmarkOptions { data: Some(path.to_path_buf()), ..BenchmarkOptions::default() };
    let Ok(benchmark) = Benchmark::open(&Presets::default(), &input.kind, &options) else { return false };
    let said =
        |index: usize| ["A", "yes", "the answer is (B).", "", "3.5 \u{e9}", "C: it's [a]"][index % 6].to_string();
    let outputs: Vec<String> = (0..benchmark.items.len()).map(said).collect();
    let results = Results::score_outputs(&benchmark, "model", &outputs, 1.0);
    results.is_ok_and(|results| super::results::looked_at(&results)) && benchmark.left_out.is_empty()
}

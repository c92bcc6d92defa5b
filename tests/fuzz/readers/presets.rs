//! Presets of every kind, read as what they are.

use llmore::data::Dataset;
use llmore::eval::{Benchmark, BenchmarkOptions};
use llmore::models::registry::Target;
use llmore::preset::{PresetKind, Presets};
use llmore::text::{Template, Tokenizer, Turn};
use llmore::train::Recipe;
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ModelPreset, Weights};

use crate::fuzz::frames::Frame;
use crate::fuzz::reader::{Reader, Seed, file, files};

pub const PRESET: Reader = Reader {
    name: "preset",
    seeds: all,
    words: &[
        "about",
        "source",
        "inherit",
        "template",
        "segments",
        "text",
        "token",
        "turn",
        "loss",
        "system",
        "question",
        "answer",
        "stop_tokens",
        "llama_3",
        "stages",
        "batch",
        "steps",
        "lora",
        "r",
        "train",
        "projector",
        "lr",
        "schedule",
        "data",
        "packs",
        "items",
        "captions",
        "conversations",
        "questions",
        "pack",
        "prompt",
        "fields",
        "layout",
        "scorer",
        "exact_match",
        "vqa",
        "yes_no",
        "embedded:data/emoji.safetensors",
        "embedded:models/tiny-llama",
        "{question}",
        "[{hint|nonempty}]",
        "{options}",
        "config",
        "hidden_size",
        "random",
        "encoder",
        "llm",
        "s2",
        "select_layer",
        "select",
        "limit",
        "orders",
        "baselines",
    ],
    open: |folder| {
        let user = folder.join("presets");
        for kind in PresetKind::ALL {
            std::fs::create_dir_all(user.join(kind.folder())).unwrap();
        }
        let rows = folder.join("rows.jsonl");
        std::fs::write(&rows, file("tests/fixtures/prompts/data/scienceqa_img.jsonl")).unwrap();
        let presets = Presets::new(vec![user.clone()]);
        let tokenizer =
            Tokenizer::from_bytes(&file("tests/fixtures/parity/models/stage-1/llm/tokenizer.json"), "tiny").unwrap();
        Box::new(move |input| {
            let kind = PresetKind::parse(&input.kind).unwrap();
            let path = input.write(user.join(kind.folder()).join("mutated.toml"));
            let read = read(&presets, kind, &tokenizer, &rows);
            std::fs::remove_file(path).unwrap();
            read
        })
    },
};

const ID: &str = "mutated";

fn all() -> Vec<Seed> {
    let seeds = PresetKind::ALL.into_iter().flat_map(|kind| {
        let folder = kind.folder();
        let all = files(&format!("stdlib/presets/{folder}"), ".toml", 1200);
        all.into_iter().map(move |bytes| Seed { kind: folder.to_string(), bytes, frame: Frame::Toml })
    });
    seeds.collect()
}

fn read(presets: &Presets, kind: PresetKind, tokenizer: &Tokenizer, rows: &std::path::Path) -> bool {
    let target = Target::cpu();
    match kind {
        PresetKind::Templates => Template::load(presets, ID).is_ok_and(|template| {
            let turns =
                [Turn::human("<image>\nwhat?"), Turn::gpt("a dog"), Turn::human("caf\u{e9}?"), Turn::gpt("yes")];
            let _ = (template.render(tokenizer, &turns), template.render(tokenizer, &turns[..2]));
            let _ = template.prompt(tokenizer, &turns[..3]);
            true
        }),
        PresetKind::Recipes => Recipe::open(presets, ID, &toml::Table::new()).is_ok(),
        PresetKind::Datasets => Dataset::preset(presets, ID).is_ok_and(|data| data.is_empty() || data.get(0).is_ok()),
        PresetKind::Benchmarks => {
            let open = |data: Option<std::path::PathBuf>| {
                let options = BenchmarkOptions { data, limit: Some(3), ..BenchmarkOptions::default() };
                Benchmark::open(presets, ID, &options).is_ok()
            };
            open(Some(rows.to_path_buf())) || open(None)
        }
        PresetKind::Llms => Llm::open(presets, ID, LlmOptions { weights: Weights::None, seed: 0, target }).is_ok(),
        PresetKind::Encoders => {
            let options =
                EncoderOptions { select_layer: None, select: None, s2: None, weights: Weights::None, seed: 0, target };
            Encoder::open(presets, ID, options).is_ok()
        }
        PresetKind::Models => ModelPreset::open(presets, ID).is_ok(),
    }
}

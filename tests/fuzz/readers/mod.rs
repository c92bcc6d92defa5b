//! All readers of what others wrote. A new one is a `Reader` in the file of its topic and its name here.

mod archives;
mod configs;
mod images;
mod models;
mod presets;
mod results;
mod runs;
mod scripts;
mod tables;
mod tokenizers;
mod weights;

use super::reader::Reader;

pub const ALL: &[&Reader] = &[
    &weights::SAFETENSORS,
    &weights::INDEX,
    &weights::PICKLE,
    &weights::GGUF,
    &tokenizers::JSON,
    &tokenizers::SENTENCEPIECE,
    &tokenizers::TIKTOKEN,
    &tokenizers::DECLARED,
    &configs::CONFIG,
    &configs::PROCESSOR,
    &models::MODEL,
    &images::PNG,
    &images::JPEG,
    &images::GIF,
    &images::WEBP,
    &images::TIFF,
    &images::BMP,
    &archives::ZIP,
    &archives::TAR,
    &tables::LLAVA,
    &tables::JSONL,
    &tables::JSON,
    &tables::TSV,
    &tables::PARQUET,
    &tables::ARROW,
    &tables::BENCHMARK,
    &results::RESULTS,
    &runs::RUN,
    &runs::STUDY,
    &runs::CHECKPOINT,
    &presets::PRESET,
    &scripts::SCRIPT,
    &scripts::COMPLETE,
];

/// Readers that refuse all their seeds: what they can read is no small file, or nothing at all.
pub const REFUSE: &[&str] = &["tiktoken", "arrow"];

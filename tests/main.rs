//! The one integration-test binary: a module per topic.
// clippy.toml allows these in test functions; their helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accumulation;
mod answers;
mod apart;
mod architecture;
mod checkpointing;
mod checkpoints;
mod data;
mod errors;
mod generation;
mod gguf;
mod grids;
mod hostile;
mod hub;
mod images;
mod layouts;
mod lora;
mod memory;
mod parity;
mod presets;
mod prompts;
mod report;
mod resume;
mod runs;
mod scorers;
mod scripting;
mod smoke;
mod statistics;
mod study;
mod templates;
mod tokenizer_files;
mod training;
mod trouble;

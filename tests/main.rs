//! The one integration-test binary: a module per topic.
// clippy.toml allows these in test functions; their helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accumulation;
mod answers;
mod apart;
mod architecture;
mod bases;
mod checkpointing;
mod checkpoints;
mod config_keys;
mod data;
mod declared_tokens;
mod errors;
mod families;
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
mod peft;
mod pictures;
mod presets;
mod processors;
mod prompts;
mod questions;
mod report;
mod resume;
mod ropes;
mod runs;
mod scorers;
mod scripting;
mod smoke;
mod statistics;
mod study;
mod templates;
mod todays_data;
mod tokenizer_files;
mod training;
mod trouble;
mod weights;

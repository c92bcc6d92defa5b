//! The one integration-test binary: a module per topic.
// clippy.toml allows these in test functions; their helpers are tests as well.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// As in `llmore`: plans count what tensors take.
#[global_allocator]
static ALLOCATOR: llmore::memory::Counting = llmore::memory::Counting;

mod accumulation;
mod answers;
mod apart;
mod architecture;
mod bases;
mod checkpointing;
mod checkpoints;
mod config_keys;
mod conventions;
mod data;
mod declared_tokens;
mod errors;
mod exchange;
mod families;
mod faults;
mod fuzz;
mod generation;
mod gguf;
mod grids;
mod hostile;
mod hub;
mod images;
mod layout_keys;
mod layouts;
mod lora;
mod meetings;
mod memory;
mod op_places;
mod option_errors;
mod option_tables;
mod parity;
mod peft;
mod pictures;
mod presets;
mod processors;
mod projectors;
mod prompts;
mod questions;
mod report;
mod reruns;
mod results_identity;
mod resume;
mod resume_identity;
mod ropes;
mod run_folders;
mod runs;
mod sandbox;
mod saves;
mod scorers;
#[path = "../src/scratch.rs"]
mod scratch;
mod script_files;
mod scripting;
mod smoke;
mod statistics;
mod study;
mod study_agreement;
mod study_mending;
mod study_sharing;
mod templates;
mod todays_data;
mod tokenizer_files;
mod training;
mod trouble;
mod verify;
mod weights;

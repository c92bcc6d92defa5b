//! llmore: a laboratory for LLaVA-style multimodal LLMs. `ARCHITECTURE.md` has the layer picture.

pub mod assets;
pub mod build;
pub mod chat;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod events;
pub mod files;
pub mod fs;
pub mod guard;
pub mod hub;
pub mod image;
pub mod ledger;
pub mod memory;
pub mod models;
pub mod nn;
pub mod notes;
pub mod options;
pub mod preset;
pub mod process;
pub mod report;
pub mod rng;
pub mod sandbox;
#[cfg(test)]
mod scratch;
pub mod script;
pub mod settings;
pub mod show;
pub mod study;
pub mod text;
pub mod train;
pub mod vlm;
pub mod weights;
pub mod writer;

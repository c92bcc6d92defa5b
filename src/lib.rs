//! llmore: a laboratory for LLaVA-style multimodal LLMs. `ARCHITECTURE.md` has the layer picture.

pub mod assets;
pub mod chat;
#[cfg(feature = "cli")]
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod events;
pub mod hub;
pub mod image;
pub mod models;
pub mod nn;
pub mod notes;
pub mod options;
pub mod preset;
pub mod report;
pub mod rng;
pub mod script;
pub mod show;
pub mod study;
pub mod text;
pub mod train;
pub mod vlm;
pub mod weights;
pub mod writer;

//! llmore: a laboratory for LLaVA-style multimodal LLMs. `ARCHITECTURE.md` has the layer picture.

#[cfg(feature = "cli")]
pub mod cli;
pub mod error;
pub mod preset;
pub mod show;

//! llmore: a laboratory for LLaVA-style multimodal LLMs. `ARCHITECTURE.md` has the layer picture.

pub mod error;
pub mod nn;
pub mod preset;

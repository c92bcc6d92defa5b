//! llmore: a laboratory for LLaVA-style multimodal LLMs. `ARCHITECTURE.md` has the layer picture.

pub mod assets;
pub mod device;
pub mod error;
pub mod events;
pub mod preset;
pub mod rng;
pub mod weights;

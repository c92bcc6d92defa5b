//! Projectors, by the names LLaVA gives them in `mm_projector_type`.

pub mod mlp;
pub mod pool;

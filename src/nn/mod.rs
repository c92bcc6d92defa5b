//! Layers: trainable ops, norms, rotary embeddings, the decoder and the vision transformer. No model names
//! here: a family's differences are values in a spec. Functions return candle's result.

pub mod cache;
pub mod decoder;
pub mod linear;
pub mod norm;
pub mod ops;
pub mod packing;
pub mod resample;
pub mod rope;
pub mod vit;

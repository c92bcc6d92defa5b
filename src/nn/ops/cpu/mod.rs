//! Kernels on the CPU and what they share: vector math, matrix products, loops over rows, slices of candle's storage.
//! A kernel computes in f32, for f32, bf16 and f16 tensors.

pub(super) mod kernel;
pub(super) mod math;
pub(super) mod matrix;
pub(super) mod memory;
pub(super) mod rows;

//! Kernels on the CPU, one op a file, and what they share: vector math, matrix products, loops over rows, slices of
//! candle's storage. A kernel computes in f32, for f32, bf16 and f16 tensors.

mod accumulate;
mod adamw;
mod adamw_8bit;
mod adapted;
mod attention;
mod buffer;
mod cross_entropy;
mod dropout;
mod embedding;
mod gated;
mod gelu;
mod kernel;
mod layer_norm;
mod linear;
mod math;
pub(super) mod matrix;
mod memory;
mod quantized;
mod rms_norm;
mod rope;
mod rows;
mod softmax;
mod squared_norm;

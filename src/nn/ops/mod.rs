//! Trainable operations with their own backward, one per file: what is computed, of which shapes, and its gradient. Where the
//! kernels of a device take the inputs (`dispatch.rs`; the CPU's are in `cpu/`, for f32, bf16 and f16) these run, forward
//! and backward; elsewhere and in f64 the op is composed of candle's differentiable primitives (the `*_reference`
//! functions, which are also what the tests compare with).
//! A frozen input (`!tensor.track_op()`) gets no gradient, and none is computed for it. Results do not depend
//! on the number of threads: reductions run over fixed blocks that are summed in order.

mod accumulate;
mod adamw;
mod adamw_8bit;
mod adapted;
mod attention;
mod common;
mod cpu;
mod cross_entropy;
mod dispatch;
mod dropout;
mod eight_bit;
mod embedding;
mod gated;
mod gelu;
mod in_place;
mod layer_norm;
mod linear;
mod placement;
mod quantized;
mod rms_norm;
mod rope;
mod softmax;
mod squared_norm;
#[cfg(test)]
mod testing;

pub use accumulate::accumulate;
pub use adamw::{AdamW, adamw};
pub use adamw_8bit::adamw_8bit;
pub use adapted::{Beside, adapted_linear, adapted_linear_reference};
pub use attention::{Attention, Segment, attention, attention_reference, attention_weights};
pub use cpu::matrix::{FEW_ROWS, PASS_ROWS};
pub use cross_entropy::{cross_entropy, cross_entropy_reference};
pub use dropout::{dropout, dropout_reference};
pub use eight_bit::{Moment8, Sign};
pub use embedding::{embedding, embedding_reference};
pub use gated::{Gate, gated, gated_reference};
pub use gelu::{Gelu, gelu, gelu_reference};
pub use layer_norm::{layer_norm, layer_norm_reference};
pub use linear::{linear, linear_reference};
pub use quantized::{FEW_QUANTIZED_ROWS, quantized_embedding, quantized_linear};
pub use rms_norm::{rms_norm, rms_norm_reference};
pub use rope::{RopeTable, rope, rope_reference};
pub use softmax::{softmax, softmax_reference};
pub use squared_norm::squared_norm;

//! The one table of which device has kernels of which op. Kernels of another device for an op are one file beside the
//! CPU's, with the same traits for that device's storage, and a `+ cuda` in the op's line here.

use candle_core::CpuStorage;

use super::accumulate::Accumulate;
use super::adamw::AdamW;
use super::adamw_8bit::AdamW8;
use super::adapted::AdaptedLinear;
use super::attention::Plan;
use super::cross_entropy::CrossEntropy;
use super::dispatch::{Kernels, Placed};
use super::dropout::Dropout;
use super::embedding::Embedding;
use super::gated::Gated;
use super::gelu::Activation;
use super::in_place::{Edits, InPlace, Measure, Measures};
use super::layer_norm::LayerNorm;
use super::linear::Linear;
use super::quantized::QuantizedLinear;
use super::rms_norm::RmsNorm;
use super::rope::Rope;
use super::softmax::Softmax;
use super::squared_norm::SquaredNorm;

/// Ops with a gradient: the op and its number of inputs.
macro_rules! differentiable {
    ($($op:ty, $inputs:literal: cpu $(+ $cuda:ident)?;)*) => {$(
        impl Placed<$inputs> for $op {
            fn cpu(&self) -> &dyn Kernels<CpuStorage, $inputs> {
                self
            }
            $(fn $cuda(&self) -> Option<&dyn Kernels<candle_core::CudaStorage, $inputs>> {
                Some(self)
            })?
        }
    )*};
}

/// Ops in place: the op, how many tensors it changes and how many it reads.
macro_rules! in_place {
    ($($op:ty, $name:literal, $edited:literal, $read:literal: cpu $(+ $cuda:ident)?;)*) => {$(
        impl InPlace<$edited, $read> for $op {
            const NAME: &'static str = $name;
            fn cpu(&self) -> &dyn Edits<CpuStorage, $edited, $read> {
                self
            }
            $(fn $cuda(&self) -> Option<&dyn Edits<candle_core::CudaStorage, $edited, $read>> {
                Some(self)
            })?
        }
    )*};
}

/// Ops that read one number.
macro_rules! measures {
    ($($op:ty, $name:literal: cpu $(+ $cuda:ident)?;)*) => {$(
        impl Measure for $op {
            const NAME: &'static str = $name;
            fn cpu(&self) -> &dyn Measures<CpuStorage> {
                self
            }
            $(fn $cuda(&self) -> Option<&dyn Measures<candle_core::CudaStorage>> {
                Some(self)
            })?
        }
    )*};
}

differentiable! {
    Activation, 1: cpu;
    AdaptedLinear, 3: cpu;
    CrossEntropy, 2: cpu;
    Dropout, 1: cpu;
    Embedding, 1: cpu;
    Gated, 2: cpu;
    LayerNorm, 3: cpu;
    Linear, 2: cpu;
    Linear, 3: cpu;
    Plan, 3: cpu;
    QuantizedLinear, 1: cpu;
    RmsNorm, 2: cpu;
    Rope, 1: cpu;
    Softmax, 1: cpu;
}

in_place! {
    Accumulate, "accumulate", 1, 1: cpu;
    AdamW, "adamw", 3, 1: cpu;
    AdamW8, "adamw_8bit", 5, 1: cpu;
}

measures! {
    SquaredNorm, "squared_norm": cpu;
}

//! What op files share on tensors, on any device.

use candle_core::{DType, Result, Shape, Tensor, bail};

/// Runs an unfused form in f32 where its input is narrower, as rounding every intermediate would add up.
pub(super) fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match x.dtype() {
        DType::BF16 | DType::F16 => f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype()),
        _ => f(x),
    }
}

/// The length of the last dimension.
pub(super) fn width(op: &str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&width) if width > 0 => Ok(width),
        _ => bail!("{op}: expected a last dimension of at least 1, got shape {:?}", x.shape()),
    }
}

/// A shape whose last dimension is `last` instead.
pub(super) fn with_last(shape: &Shape, last: usize) -> Result<Shape> {
    let [rest @ .., _] = shape.dims() else { bail!("expected at least one dimension, got shape {shape:?}") };
    Ok([rest, &[last]].concat().into())
}

//! Slices in and out of candle's CPU storage. Kernels see contiguous f32; bf16 and f16 are widened on the way in
//! and rounded to nearest even on the way out.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::kernel::kernel;
use super::rows::{BLOCK, SERIAL, map_rows};
use crate::weights::Quantized;

/// Whether the fused form takes these tensors: all on the CPU, f32 or narrower. Mixed dtypes are an error.
pub(in crate::nn::ops) fn fused(op: &str, tensors: &[&Tensor]) -> Result<bool> {
    if let [first, rest @ ..] = tensors {
        for other in rest {
            if other.dtype() != first.dtype() {
                bail!("{op}: inputs have different dtypes, {:?} and {:?}", first.dtype(), other.dtype());
            }
        }
    }
    Ok(tensors.iter().all(|t| t.device().is_cpu() && matches!(t.dtype(), DType::F32 | DType::BF16 | DType::F16)))
}

/// Runs an unfused form in f32 where its input is narrower, as rounding every intermediate would add up.
pub(in crate::nn::ops) fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    match x.dtype() {
        DType::BF16 | DType::F16 => f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype()),
        _ => f(x),
    }
}

/// The length of the last dimension.
pub(in crate::nn::ops) fn width(op: &str, x: &Tensor) -> Result<usize> {
    match x.dims().last() {
        Some(&width) if width > 0 => Ok(width),
        _ => bail!("{op}: expected a last dimension of at least 1, got shape {:?}", x.shape()),
    }
}

/// The values of a contiguous storage in their own dtype.
#[derive(Clone, Copy)]
pub(in crate::nn::ops) enum Source<'a> {
    F32(&'a [f32]),
    BF16(&'a [bf16]),
    F16(&'a [f16]),
    /// Parts are whole rows.
    Blocks(&'a Quantized),
}

impl<'a> Source<'a> {
    pub(in crate::nn::ops) fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got shape {:?} with strides {:?}", layout.shape(), layout.stride());
        };
        Ok(match storage {
            CpuStorage::F32(values) => Self::F32(&values[start..end]),
            CpuStorage::BF16(values) => Self::BF16(&values[start..end]),
            CpuStorage::F16(values) => Self::F16(&values[start..end]),
            other => bail!("expected f32, bf16 or f16 values, got {:?}", other.dtype()),
        })
    }

    /// A part as f32, in `scratch` unless it already is.
    pub(in crate::nn::ops) fn part<'b>(&self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> &'b [f32]
    where
        'a: 'b,
    {
        if let Self::F32(values) = self {
            return &values[range];
        }
        scratch.resize(range.len(), 0.0);
        self.widen(range, scratch);
        scratch
    }

    fn widen(&self, range: Range<usize>, to: &mut [f32]) {
        match self {
            Self::F32(values) => to.copy_from_slice(&values[range]),
            Self::BF16(values) => widen_bf16(&values[range], to),
            Self::F16(values) => widen_f16(&values[range], to),
            Self::Blocks(blocks) => {
                let inputs = blocks.dims()[1];
                let rows: Vec<u32> = (range.start / inputs..range.end / inputs).map(|row| row as u32).collect();
                match blocks.rows(&rows) {
                    Ok(values) => to.copy_from_slice(&values),
                    // Only a row that is not there fails, and the callers count rows by `dims`.
                    Err(_) => to.fill(f32::NAN),
                }
            }
        }
    }
}

/// The f32 values of a contiguous storage, borrowed where they already are f32.
pub(in crate::nn::ops) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    Ok(match Source::new(storage, layout)? {
        Source::F32(values) => Cow::Borrowed(values),
        narrow => Cow::Owned(map_rows(layout.shape().elem_count(), 1, 1, |block, out| narrow.widen(block, out))),
    })
}

/// Runs `f` on the f32 values of a CPU tensor.
pub(in crate::nn::ops) fn with_floats<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(&floats(storage, layout)?),
        _ => bail!("expected a tensor on the CPU, got one on {:?}", tensor.device()),
    }
}

/// bf16 is the upper half of an f32.
pub(in crate::nn::ops) fn widen_bf16(from: &[bf16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
}

kernel! {
    /// Moves the bits into place and corrects the exponent's bias, 127 instead of 15, by a multiplication, which
    /// is exact for subnormal numbers too.
    fn widen_f16<const _FMA: bool>(from: &[f16], to: &mut [f32]) {
        const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
        for (to, from) in to.iter_mut().zip(from) {
            let bits = u32::from(from.to_bits());
            let size = (bits & 0x7fff) << 13;
            let finite = (f32::from_bits(size) * REBIAS).to_bits();
            // Infinity and NaN keep the largest exponent.
            let size = if bits & 0x7c00 == 0x7c00 { size | 0x7f80_0000 } else { finite };
            *to = f32::from_bits(size | (bits & 0x8000) << 16);
        }
    }
}

/// Rounds to the nearest bf16, ties to even.
pub(in crate::nn::ops) fn round_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    bf16::from_bits(if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded as u16 })
}

/// Storage of `dtype` from f32 values.
pub(in crate::nn::ops) fn storage(values: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
    Ok(match dtype {
        DType::F32 => CpuStorage::F32(values),
        DType::BF16 => CpuStorage::BF16(narrow(&values, round_bf16)),
        DType::F16 => CpuStorage::F16(narrow(&values, f16::from_f32)),
        other => bail!("expected f32, bf16 or f16 as the result's dtype, got {other:?}"),
    })
}

fn narrow<T: Send>(values: &[f32], convert: impl Fn(f32) -> T + Sync) -> Vec<T> {
    if values.len() <= SERIAL {
        return values.iter().map(|&value| convert(value)).collect();
    }
    values.par_iter().with_min_len(BLOCK).map(|&value| convert(value)).collect()
}

/// A CPU tensor of `dtype` from f32 values.
pub(in crate::nn::ops) fn tensor(values: Vec<f32>, shape: &Shape, dtype: DType) -> Result<Tensor> {
    let storage = storage(values, dtype)?;
    Ok(Tensor::from_storage(Storage::Cpu(storage), shape.clone(), candle_core::op::BackpropOp::none(), false))
}

/// Runs `f` on the storage of a contiguous CPU tensor, in place.
pub(in crate::nn::ops) fn edit<F: FnOnce(&mut CpuStorage, (usize, usize)) -> Result<()>>(
    op: &'static str,
    tensor: &Tensor,
    f: F,
) -> Result<()> {
    struct Edit<F>(&'static str, RefCell<Option<F>>);
    impl<F: FnOnce(&mut CpuStorage, (usize, usize)) -> Result<()>> InplaceOp1 for Edit<F> {
        fn name(&self) -> &'static str {
            self.0
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            let Some(range) = layout.contiguous_offsets() else {
                bail!("{}: cannot write in place into a tensor with strides {:?}", self.0, layout.stride());
            };
            match self.1.take() {
                Some(f) => f(storage, range),
                None => bail!("{}: the edit already ran", self.0),
            }
        }
    }
    tensor.inplace_op1(&Edit(op, RefCell::new(Some(f))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bf16_is_that_of_the_half_crate() {
        for bits in (0..u32::MAX).step_by(65_521) {
            let value = f32::from_bits(bits);
            let (ours, half) = (round_bf16(value), bf16::from_f32(value));
            assert!(ours == half || (ours.is_nan() && half.is_nan()), "{value}: {ours} instead of {half}");
        }
    }

    #[test]
    fn every_f16_is_widened_exactly() {
        let all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut wide = vec![0f32; all.len()];
        widen_f16(&all, &mut wide);
        for (wide, narrow) in wide.iter().zip(all) {
            assert!(
                wide.to_bits() == narrow.to_f32().to_bits() || (wide.is_nan() && narrow.is_nan()),
                "{narrow}: {wide}"
            );
        }
    }
}

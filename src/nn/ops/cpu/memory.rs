//! Slices in and out of candle's CPU storage: the one place that reads tensors on the host for ops. Kernels see contiguous f32; bf16 and f16 are widened on the way in
//! and rounded to nearest even on the way out.

use std::borrow::Cow;
use std::ops::Range;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Result, Tensor, bail};
use half::{bf16, f16};
use rayon::prelude::*;

use super::super::dispatch::Operand;
use super::super::in_place::Edited;
use super::kernel::kernel;
use super::rows::{BLOCK, SERIAL, map_rows};
use crate::weights::Quantized;

/// A contiguous tensor on the CPU.
pub(super) type Cpu<'a> = Operand<'a, CpuStorage>;

/// The values of a contiguous storage in their own dtype.
#[derive(Clone, Copy)]
pub(super) enum FloatSource<'a> {
    F32(&'a [f32]),
    BF16(&'a [bf16]),
    F16(&'a [f16]),
    /// Parts are whole rows.
    Blocks(&'a Quantized),
}

impl<'a> FloatSource<'a> {
    pub(super) fn new(operand: Cpu<'a>) -> Result<Self> {
        let layout = operand.layout;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("expected a contiguous tensor, got shape {:?} with strides {:?}", layout.shape(), layout.stride());
        };
        Ok(match operand.storage {
            CpuStorage::F32(values) => Self::F32(&values[start..end]),
            CpuStorage::BF16(values) => Self::BF16(&values[start..end]),
            CpuStorage::F16(values) => Self::F16(&values[start..end]),
            other => bail!("expected f32, bf16 or f16 values, got {:?}", other.dtype()),
        })
    }

    /// A part as f32, in `scratch` unless it already is. Errors for rows of blocks that are not there.
    pub(super) fn part<'b>(&self, range: Range<usize>, scratch: &'b mut Vec<f32>) -> Result<&'b [f32]>
    where
        'a: 'b,
    {
        match self {
            Self::F32(values) => return Ok(&values[range]),
            Self::BF16(values) => {
                scratch.resize(range.len(), 0.0);
                widen_bf16(&values[range], scratch);
            }
            Self::F16(values) => {
                scratch.resize(range.len(), 0.0);
                widen_f16(&values[range], scratch);
            }
            Self::Blocks(blocks) => {
                let inputs = blocks.dims()[1];
                let rows: Vec<u32> = (range.start / inputs..range.end / inputs).map(|row| row as u32).collect();
                *scratch = blocks.rows(&rows)?;
            }
        }
        Ok(scratch)
    }
}

/// The f32 values of an operand, borrowed where they already are f32.
pub(super) fn floats<'a>(operand: Cpu<'a>) -> Result<Cow<'a, [f32]>> {
    Ok(match FloatSource::new(operand)? {
        FloatSource::F32(values) => Cow::Borrowed(values),
        FloatSource::BF16(values) => {
            Cow::Owned(map_rows(values.len(), 1, 1, |block, out| widen_bf16(&values[block], out)))
        }
        FloatSource::F16(values) => {
            Cow::Owned(map_rows(values.len(), 1, 1, |block, out| widen_f16(&values[block], out)))
        }
        FloatSource::Blocks(_) => bail!("expected values, got blocks of a quantized weight"),
    })
}

/// Runs `f` on a tensor that an op holds beside its inputs.
pub(super) fn with_operand<R>(tensor: &Tensor, f: impl FnOnce(Cpu) -> Result<R>) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    f(Operand::new("kernel", &storage, layout)?)
}

/// bf16 is the upper half of an f32.
pub(super) fn widen_bf16(from: &[bf16], to: &mut [f32]) {
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
pub(super) fn round_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    bf16::from_bits(if value.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded as u16 })
}

/// Storage of `dtype` from f32 values.
pub(super) fn storage(values: Vec<f32>, dtype: DType) -> Result<CpuStorage> {
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

/// The f32 values of a tensor that is changed in place.
pub(super) fn edited_f32<'a>(edited: Edited<'a, CpuStorage>) -> Result<&'a mut [f32]> {
    match edited.storage {
        CpuStorage::F32(values) => Ok(&mut values[edited.range.0..edited.range.1]),
        other => bail!("expected f32 values to change in place, got {:?}", other.dtype()),
    }
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

    #[test]
    fn rows_of_blocks_that_are_not_there_are_an_error() {
        let matrix = Tensor::ones((2, 32), DType::F32, &candle_core::Device::Cpu).unwrap();
        let blocks = Quantized::new(&matrix, candle_core::quantized::GgmlDType::Q8_0).unwrap();
        let (source, mut scratch) = (FloatSource::Blocks(&blocks), Vec::new());
        let row = source.part(32..64, &mut scratch).unwrap();
        assert!(row.len() == 32 && row.iter().all(|value| (value - 1.0).abs() < 0.01), "{row:?}");
        assert!(source.part(64..96, &mut scratch).is_err());
    }
}

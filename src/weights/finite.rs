//! Whether all values of a tensor are numbers: looked at once, while it is loaded.

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor};
use rayon::prelude::*;

/// Values that one task looks at.
const PART: usize = 1 << 16;

/// How many values are NaN or infinite.
pub(super) fn not_finite(tensor: &Tensor) -> Result<usize> {
    if !tensor.device().is_cpu() {
        // A sum is a number where all are, so the values are fetched in the odd case only.
        let sum = tensor.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?;
        return if sum.is_finite() { Ok(0) } else { not_finite(&tensor.to_device(&Device::Cpu)?) };
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else { return not_finite(&tensor.contiguous()?) };
    Ok(match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => count(&values[start..end], |value| !value.is_finite()),
        Storage::Cpu(CpuStorage::F64(values)) => count(&values[start..end], |value| !value.is_finite()),
        Storage::Cpu(CpuStorage::BF16(values)) => {
            count(&values[start..end], |value| value.to_bits() & 0x7f80 == 0x7f80)
        }
        Storage::Cpu(CpuStorage::F16(values)) => count(&values[start..end], |value| value.to_bits() & 0x7c00 == 0x7c00),
        // Whole numbers; float8 was widened before.
        _ => 0,
    })
}

fn count<T: Sync>(values: &[T], odd: impl Fn(&T) -> bool + Sync) -> usize {
    // A sum without branches, which the compiler makes wide.
    let count = |part: &[T]| part.iter().map(|value| u32::from(odd(value))).sum::<u32>() as usize;
    values.par_chunks(PART).map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_float_is_looked_at() {
        let mut values = vec![1f32; 3 * PART];
        (values[7], values[PART], values[3 * PART - 1]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
        let tensor = Tensor::from_vec(values, (3, PART), &Device::Cpu).unwrap();
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            assert_eq!(not_finite(&tensor.to_dtype(dtype).unwrap()).unwrap(), 3, "{dtype:?}");
        }
        assert_eq!(not_finite(&tensor.narrow(1, 1, 9).unwrap()).unwrap(), 1);
        // f16 ends at 65504.
        let large = Tensor::new(&[1e5f32, 1.0], &Device::Cpu).unwrap();
        assert_eq!(not_finite(&large).unwrap(), 0);
        assert_eq!(not_finite(&large.to_dtype(DType::F16).unwrap()).unwrap(), 1);
    }
}

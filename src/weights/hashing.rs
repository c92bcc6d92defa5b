//! Hashes of parameters: SHA-256 over the values. A frozen parameter remembers its own, so that hashing a model a second
//! time costs what has changed since.

use std::sync::PoisonError;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, TensorId};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::param::{Param, ParamSet};
use super::quantized::{Quantized, quantized_name};

/// What is known of a parameter's values.
#[derive(Default)]
pub(super) struct Known {
    /// A hash and the frozen tensor it belongs to; blocks never change.
    now: Option<(Option<TensorId>, [u8; 32])>,
    /// The hash of what it was made with, where somebody asked before it was changed.
    first: Option<[u8; 32]>,
}

impl Param {
    /// The hash of its values: of what they are in f32, or of a quantized parameter's blocks.
    ///
    /// # Errors
    /// What reading values from their device gives.
    pub fn sha256(&self) -> Result<[u8; 32]> {
        let tensor = if self.blocks().is_some() { None } else { Some(self.tensor()?) };
        let id = tensor.as_ref().map(Tensor::id);
        // A variable changes in place and keeps its id.
        let lasts = tensor.as_ref().is_none_or(|tensor| !tensor.is_variable());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.now {
            Some((of, hash)) if lasts && of == id => return Ok(hash),
            _ => {}
        }
        let hash = match (&tensor, self.blocks()) {
            (Some(tensor), _) => of_values(tensor)?,
            (None, Some(blocks)) => of_blocks(blocks),
            (None, None) => Sha256::digest([]).into(),
        };
        known.now = lasts.then_some((id, hash));
        if !self.is_touched() {
            known.first = Some(hash);
        }
        Ok(hash)
    }

    /// Whether its values may be others than those it was made with: they are, or nobody knows what those were.
    ///
    /// # Errors
    /// As [`sha256`](Self::sha256).
    pub fn is_changed(&self) -> Result<bool> {
        if !self.is_touched() {
            return Ok(false);
        }
        let now = self.sha256()?;
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(known.first != Some(now))
    }
}

impl ParamSet {
    /// Whether any of them may have other values than it was made with.
    ///
    /// # Errors
    /// As [`Param::sha256`].
    pub fn is_changed(&self) -> Result<bool> {
        let changed = self.iter().map(|param| param.is_changed()).find(|changed| !matches!(changed, Ok(false)));
        changed.unwrap_or(Ok(false))
    }

    /// Names and hashes of all of them, computed side by side.
    ///
    /// # Errors
    /// As [`Param::sha256`].
    pub fn hashes(&self) -> Result<Vec<(&str, [u8; 32])>> {
        let params: Vec<_> = self.iter().collect();
        params.into_par_iter().map(|param| Ok((param.name(), param.sha256()?))).collect()
    }
}

fn of_values(tensor: &Tensor) -> Result<[u8; 32]> {
    let tensor = tensor.detach().to_device(&Device::Cpu)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let mut hasher = Sha256::new();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            update(&mut hasher, &values[start..end], |value| *value);
        }
        (Storage::Cpu(CpuStorage::BF16(values)), Some((start, end))) => {
            update(&mut hasher, &values[start..end], |value| value.to_f32());
        }
        (Storage::Cpu(CpuStorage::F16(values)), Some((start, end))) => {
            update(&mut hasher, &values[start..end], |value| value.to_f32());
        }
        _ => update(&mut hasher, &tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?, |value| *value),
    }
    Ok(hasher.finalize().into())
}

/// Adds values as little-endian f32, whatever the machine and the dtype.
fn update<T>(hasher: &mut Sha256, values: &[T], widen: impl Fn(&T) -> f32) {
    const PART: usize = 4096;
    let mut bytes = Vec::with_capacity(4 * PART.min(values.len()));
    for part in values.chunks(PART) {
        bytes.clear();
        part.iter().for_each(|value| bytes.extend(widen(value).to_le_bytes()));
        hasher.update(&bytes);
    }
}

fn of_blocks(blocks: &Quantized) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(quantized_name(blocks.dtype()));
    hasher.update(blocks.as_bytes());
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_the_values_now() {
        let values = |list: &[f32]| Tensor::new(list, &Device::Cpu).unwrap();
        let param = Param::new("w".to_string(), values(&[1.0, 2.0]));
        // printf '\x00\x00\x80\x3f\x00\x00\x00\x40' | sha256sum
        let hex = |hash: [u8; 32]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let first = param.sha256().unwrap();
        assert_eq!(hex(first), "b9c80b5adeca450753a16950c3cc655d271f7bef7a485bc83f112b72fef21d37");
        assert_eq!(
            Param::new("w".to_string(), values(&[1.0, 2.0]).to_dtype(DType::BF16).unwrap()).sha256().unwrap(),
            first
        );
        param.assign(&values(&[1.0, 3.0])).unwrap();
        let second = param.sha256().unwrap();
        assert_ne!(second, first);
        param.set_trainable(true).unwrap();
        assert_eq!(param.sha256().unwrap(), second);
        param.assign(&values(&[1.0, 2.0])).unwrap();
        assert_eq!(param.sha256().unwrap(), first);
        param.set_trainable(false).unwrap();
        assert_eq!(param.sha256().unwrap(), first);
        param.assign(&values(&[1.0, 3.0])).unwrap();
        assert_eq!(param.sha256().unwrap(), second);
    }

    #[test]
    fn whether_values_changed_is_seen_by_them() {
        let values = |list: &[f32]| Tensor::new(list, &Device::Cpu).unwrap();
        let param = Param::new("w".to_string(), values(&[1.0, 2.0]));
        assert!(!param.is_changed().unwrap());
        param.sha256().unwrap();
        param.set_trainable(true).unwrap();
        assert!(!param.is_changed().unwrap(), "nothing but thawed");
        param.assign(&values(&[1.0, 3.0])).unwrap();
        assert!(param.is_changed().unwrap());
        param.set_trainable(false).unwrap();
        assert!(param.is_changed().unwrap());
        param.assign(&values(&[1.0, 2.0])).unwrap();
        assert!(!param.is_changed().unwrap(), "they are what they were");
        // Nobody looked before.
        let other = Param::new("w".to_string(), values(&[1.0, 2.0]));
        other.assign(&values(&[1.0, 2.0])).unwrap();
        assert!(other.is_changed().unwrap());
    }
}

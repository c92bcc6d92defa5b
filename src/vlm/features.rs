//! Features of a frozen encoder, computed once per image and kept while there is room: in memory, or in a file that
//! runs share. What comes back has the bits that went in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Tensor};

use super::feature_file::FeatureFile;
use super::{Encoder, Vlm};
use crate::error::Result;
use crate::image::Aspect;

/// Features by image key, up to a number of bytes; what does not fit is computed again each time.
pub struct FeatureCache {
    limit: u64,
    kept: FeatureStore,
}

enum FeatureStore {
    Memory(Mutex<Memory>),
    Disk { file: Mutex<FeatureFile>, dtype: DType, shape: (usize, usize), device: Device },
}

#[derive(Default)]
struct Memory {
    features: HashMap<String, Tensor>,
    bytes: u64,
}

impl FeatureCache {
    /// An empty cache of at most `limit` bytes.
    pub fn in_memory(limit: u64) -> Self {
        FeatureCache { limit, kept: FeatureStore::Memory(Mutex::default()) }
    }

    /// A cache in the file of this encoder, picture shape and program below `folder`, of at most `limit` bytes. Keys
    /// have to say what is in a picture, as other runs find them.
    ///
    /// # Errors
    /// `File` when the folder or the file cannot be used.
    pub fn on_disk(folder: &Path, encoder: &Encoder, aspect: Aspect, limit: u64) -> Result<Self> {
        let dtype = encoder.target().dtype;
        let shape = (encoder.tokens(), encoder.width());
        let size = shape.0 * shape.1 * dtype.size_in_bytes();
        let file = FeatureFile::open(folder, &encoder.features_sha256(aspect)?, size)?;
        let device = encoder.target().device.clone();
        Ok(FeatureCache { limit, kept: FeatureStore::Disk { file: Mutex::new(file), dtype, shape, device } })
    }

    /// Whether keys have to be of the pictures' contents, not of their places.
    pub fn wants_contents(&self) -> bool {
        matches!(self.kept, FeatureStore::Disk { .. })
    }

    /// Whether an image's features are kept; what is kept stays.
    pub fn has(&self, key: &str) -> bool {
        match &self.kept {
            FeatureStore::Memory(memory) => locked(memory).features.contains_key(key),
            FeatureStore::Disk { file, .. } => locked(file).has(key),
        }
    }

    /// A sentence about kept features that were found damaged since the last call; they were computed again.
    pub fn damage(&self) -> Option<String> {
        match &self.kept {
            FeatureStore::Memory(_) => None,
            FeatureStore::Disk { file, .. } => locked(file).damage(),
        }
    }

    /// Features of images (images, tokens, width) in the order of `keys`; `pixels` gives the input of the ones not kept.
    pub fn get(&self, vlm: &Vlm, keys: &[&str], pixels: impl Fn(usize) -> Result<Tensor> + Sync) -> Result<Tensor> {
        use rayon::prelude::*;
        let mut known: HashMap<&str, Tensor> = HashMap::new();
        let mut missing = Vec::new();
        for (i, &key) in keys.iter().enumerate() {
            if known.contains_key(key) || missing.iter().any(|&other: &usize| keys[other] == key) {
                continue;
            }
            match self.find(key)? {
                Some(features) => drop(known.insert(key, features)),
                None => missing.push(i),
            }
        }
        if !missing.is_empty() {
            let pixels = missing.par_iter().map(|&i| pixels(i)).collect::<Result<Vec<_>>>()?;
            let features = vlm.encoder.encode(&Tensor::stack(&pixels, 0)?)?;
            for (row, &i) in missing.iter().enumerate() {
                // A copy of its own, so that a kept row does not hold the whole batch.
                let row = features.get(row)?.force_contiguous()?.detach();
                self.keep(keys[i], &row)?;
                known.insert(keys[i], row);
            }
        }
        let rows: Vec<&Tensor> = keys.iter().filter_map(|key| known.get(key)).collect();
        Ok(Tensor::stack(&rows, 0)?)
    }

    fn find(&self, key: &str) -> Result<Option<Tensor>> {
        match &self.kept {
            FeatureStore::Memory(memory) => Ok(locked(memory).features.get(key).cloned()),
            FeatureStore::Disk { file, dtype, shape, device } => {
                let bytes = locked(file).read(key);
                Ok(bytes
                    .map(|bytes| Tensor::from_raw_buffer(&bytes, *dtype, &[shape.0, shape.1], device))
                    .transpose()?)
            }
        }
    }

    fn keep(&self, key: &str, features: &Tensor) -> Result<()> {
        match &self.kept {
            FeatureStore::Memory(memory) => {
                let mut memory = locked(memory);
                let bytes = (features.elem_count() * features.dtype().size_in_bytes()) as u64;
                if memory.bytes + bytes <= self.limit {
                    memory.bytes += bytes;
                    memory.features.insert(key.to_string(), features.clone());
                }
            }
            FeatureStore::Disk { file, .. } => {
                let bytes = raw_bytes(features)?;
                locked(file).append(key, &bytes, self.limit);
            }
        }
        Ok(())
    }
}

/// The values of a tensor as they lie in memory, little-endian.
fn raw_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::BF16 => flat.to_vec1::<half::bf16>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F16 => flat.to_vec1::<half::f16>()?.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => super::as_bytes(&flat.to_dtype(DType::F32)?.to_vec1::<f32>()?),
    })
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Features of a frozen encoder, computed once per image and kept while there is room.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use super::Vlm;
use crate::error::Result;

/// Features by image key, up to a number of bytes; what does not fit is computed again each time.
pub struct FeatureCache {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    features: HashMap<String, Tensor>,
    bytes: usize,
}

impl FeatureCache {
    /// An empty cache of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        FeatureCache { limit, kept: Mutex::default() }
    }

    /// Whether an image's features are kept; what is kept stays.
    pub fn has(&self, key: &str) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).features.contains_key(key)
    }

    /// Features of images (images, tokens, width) in the order of `keys`; `pixels` gives the input of the ones not kept.
    pub fn get(&self, vlm: &Vlm, keys: &[&str], pixels: impl Fn(usize) -> Result<Tensor> + Sync) -> Result<Tensor> {
        use rayon::prelude::*;
        let missing: Vec<usize> = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = std::collections::HashSet::new();
            (0..keys.len()).filter(|&i| !kept.features.contains_key(keys[i]) && seen.insert(keys[i])).collect()
        };
        let mut fresh: HashMap<&str, Tensor> = HashMap::new();
        if !missing.is_empty() {
            let pixels = missing.par_iter().map(|&i| pixels(i)).collect::<Result<Vec<_>>>()?;
            let features = vlm.encoder.encode(&Tensor::stack(&pixels, 0)?)?;
            for (row, &i) in missing.iter().enumerate() {
                // A copy of its own, so that a kept row does not hold the whole batch.
                fresh.insert(keys[i], features.get(row)?.force_contiguous()?.detach());
            }
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, feature) in &fresh {
            let bytes = feature.elem_count() * feature.dtype().size_in_bytes();
            if kept.bytes + bytes <= self.limit {
                kept.bytes += bytes;
                kept.features.insert((*key).to_string(), feature.clone());
            }
        }
        let rows = keys
            .iter()
            .filter_map(|key| kept.features.get(*key).or_else(|| fresh.get(key)).cloned())
            .collect::<Vec<_>>();
        Ok(Tensor::stack(&rows, 0)?)
    }
}

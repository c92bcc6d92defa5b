//! Whether two runs have the same weights at the last step of which both hold a checkpoint.

use std::collections::BTreeSet;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::run::{Run, checkpoints};
use crate::error::{Error, Result};
use crate::weights::TensorFiles;

/// The weights of two runs at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightDifference {
    pub step: u64,
    /// Files of tensors that both checkpoints have.
    pub files: usize,
    /// The first tensor that differs, with its file and the largest difference of its values.
    pub first: Option<(String, String, f64)>,
}

/// Compares the newest checkpoints of a step that both runs have; `None` when there are none.
pub(super) fn compare(a: &Run, b: &Run) -> Result<Option<WeightDifference>> {
    let (then, now) = (checkpoints(a.dir())?, checkpoints(b.dir())?);
    let pairs = then.iter().rev().filter_map(|(step, x)| {
        let (_, y) = now.iter().find(|(other, _)| other == step)?;
        Some((*step, x, y))
    });
    for (step, x, y) in pairs {
        let theirs = tensor_files(y)?;
        let names: Vec<String> = tensor_files(x)?.into_iter().filter(|name| theirs.contains(name)).collect();
        if names.is_empty() {
            continue;
        }
        let mut first = None;
        for name in &names {
            if first.is_none() {
                first = difference(&x.join(name), &y.join(name))?.map(|(tensor, by)| (name.clone(), tensor, by));
            }
        }
        return Ok(Some(WeightDifference { step, files: names.len(), first }));
    }
    Ok(None)
}

fn tensor_files(checkpoint: &Path) -> Result<BTreeSet<String>> {
    let entries = crate::fs::read_dir(checkpoint).map_err(|error| Error::file(checkpoint, error))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.ends_with(".safetensors") && !name.starts_with('.')).collect())
}

/// The first tensor that two files do not share, and by how much its values differ: infinitely where shapes do.
fn difference(a: &Path, b: &Path) -> Result<Option<(String, f64)>> {
    if same_bytes(a, b)? {
        return Ok(None);
    }
    // What differs is said here, whatever their hashes say.
    let (then, now) = (TensorFiles::peek(a)?, TensorFiles::peek(b)?);
    for name in then.names() {
        if !now.has(&name) {
            return Ok(Some((name, f64::INFINITY)));
        }
        let load = |files: &TensorFiles| files.load(&name, &Device::Cpu);
        let (x, y) = (load(&then)?, load(&now)?);
        if x.dims() != y.dims() || x.dtype() != y.dtype() {
            return Ok(Some((name, f64::INFINITY)));
        }
        let (x, y) = (values(&x)?, values(&y)?);
        if x.iter().zip(&y).any(|(x, y)| x.to_bits() != y.to_bits()) {
            let largest = x.iter().zip(&y).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            return Ok(Some((name, largest)));
        }
    }
    // Only what is written beside the tensors differs.
    Ok(now.names().into_iter().find(|name| !then.has(name)).map(|name| (name, f64::INFINITY)))
}

fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool> {
    let open = |path: &Path| -> Result<(u64, BufReader<std::fs::File>)> {
        let file = crate::fs::open(path).map_err(|error| Error::file(path, error))?;
        let length = file.metadata().map_err(|error| Error::file(path, error))?.len();
        Ok((length, BufReader::with_capacity(1 << 20, file)))
    };
    let ((length, mut x), (other, mut y)) = (open(a)?, open(b)?);
    if length != other {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0u8; 1 << 20], vec![0u8; 1 << 20]);
    let mut rest = length;
    while rest > 0 {
        let size = rest.min(1 << 20) as usize;
        x.read_exact(&mut left[..size]).map_err(|error| Error::file(a, error))?;
        y.read_exact(&mut right[..size]).map_err(|error| Error::file(b, error))?;
        if left[..size] != right[..size] {
            return Ok(false);
        }
        rest -= size as u64;
    }
    Ok(true)
}

//! Tensors of a `torch.save` file (`pytorch_model.bin`, `mm_projector.bin`), mapped and read in place. No code in the
//! file is ever run; sizes, strides and offsets are checked against the data before a tensor is made.

mod archive;
mod machine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use memmap2::Mmap;

use self::machine::Described;
use crate::error::Result;
use crate::{bail, error};

/// The first bytes of a file of torch before 1.6: protocol 2, then a magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9";
/// The largest number of dimensions, more than any weight has.
const MAX_RANK: usize = 8;

/// An opened file.
pub(super) struct TorchFile {
    map: Mmap,
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    described: Described,
    /// The range of the whole storage in the file.
    bytes: Range<usize>,
}

impl TorchFile {
    /// Maps a file and reads its table of tensors.
    ///
    /// # Errors
    /// `Decode`, naming the file, for anything that is not a dictionary of tensors.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let map = crate::files::map(path)?;
        let tensors = table(&map).map_err(|error| error.context(format!("`{}`", path.display())))?;
        Ok(TorchFile { map, tensors })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    /// Every tensor's name, dtype and shape.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, candle_core::DType, &[usize])> {
        self.tensors.iter().map(|(name, stored)| (name, stored.described.dtype, stored.described.shape.as_slice()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// One tensor, in the dtype it is stored in.
    pub(super) fn load(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        let Some(Stored { described, bytes }) = self.tensors.get(name) else {
            candle_core::bail!("no tensor `{name}`")
        };
        let size = described.dtype.size_in_bytes();
        let storage = &self.map[bytes.clone()];
        let count: usize = described.shape.iter().product();
        if described.is_contiguous() {
            let values = &storage[described.offset * size..][..count * size];
            return Tensor::from_raw_buffer(values, described.dtype, &described.shape, device);
        }
        let mut values = Vec::with_capacity(count * size);
        let mut index = vec![0; described.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&described.strides).map(|(i, stride)| i * stride).sum();
            values.extend_from_slice(&storage[(described.offset + at) * size..][..size]);
            for (axis, i) in index.iter_mut().enumerate().rev() {
                *i += 1;
                if *i < described.shape[axis] {
                    break;
                }
                *i = 0;
            }
        }
        Tensor::from_raw_buffer(&values, described.dtype, &described.shape, device)
    }
}

fn table(bytes: &[u8]) -> Result<BTreeMap<String, Stored>> {
    if bytes.starts_with(LEGACY) {
        return Err(error!(Decode, "it is in the format of torch before 1.6, which llmore does not read")
            .help("write it anew: `torch.save(torch.load(path, weights_only=True), path)`"));
    }
    let entries = archive::entries(bytes)?;
    let pickles: Vec<&String> = entries.keys().filter(|name| name.ends_with("/data.pkl")).collect();
    let [pickle] = pickles.as_slice() else {
        bail!(Decode, "{} of its entries are named `data.pkl`, a file of torch.save has one", pickles.len());
    };
    let root = pickle.trim_end_matches("data.pkl");
    let order = entries.get(&format!("{root}byteorder")).map(|range| &bytes[range.clone()]);
    if order.is_some_and(|order| order != b"little") {
        bail!(Decode, "its numbers are big-endian");
    }
    let mut tensors = BTreeMap::new();
    for (name, described) in machine::tensors(&bytes[entries[*pickle].clone()])? {
        let entry = format!("{root}data/{}", described.storage);
        let Some(range) = entries.get(&entry) else { bail!(Decode, "tensor `{name}`: there is no entry `{entry}`") };
        described.check(range.len()).map_err(|error| error.context(format!("tensor `{name}`")))?;
        tensors.insert(name, Stored { described, bytes: range.clone() });
    }
    match tensors.is_empty() {
        true => bail!(Decode, "it does not hold tensors by name"),
        false => Ok(tensors),
    }
}

impl Described {
    /// Refuses a tensor that does not fit into its storage of `bytes` bytes, or that has more values than its storage.
    fn check(&self, bytes: usize) -> Result<()> {
        let (shape, strides) = (&self.shape, &self.strides);
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            bail!(Decode, "shape {shape:?} with strides {strides:?}");
        }
        if self.values.checked_mul(self.dtype.size_in_bytes()) != Some(bytes) {
            bail!(Decode, "its storage of {} {} values has {bytes} bytes", self.values, self.dtype.as_str());
        }
        let count = shape.iter().try_fold(1usize, |count, side| count.checked_mul(*side));
        let reach = |&(side, stride): &(&usize, &usize)| (side - 1).checked_mul(*stride);
        let last = match count {
            Some(0) => Some(self.offset),
            _ => shape.iter().zip(strides).try_fold(self.offset + 1, |last, axis| last.checked_add(reach(&axis)?)),
        };
        match (count, last) {
            (Some(count), Some(last)) if count <= self.values && last <= self.values => Ok(()),
            _ => bail!(
                Decode,
                "shape {shape:?} with strides {strides:?} from value {} reaches beyond its storage of {}",
                self.offset,
                self.values
            ),
        }
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(side, stride)| {
            let fits = *side <= 1 || *stride == expected;
            expected *= side;
            fits
        })
    }
}

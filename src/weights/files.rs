//! Safetensors on disk (mmapped, single or sharded) or embedded, a GGUF file under other names, and writing them without ever leaving half a
//! file under the real name. Headers are checked by the `safetensors` crate before a byte of data is read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{Device, Tensor};

use super::gguf::Gguf;
use super::quantized::{Quantize, Quantized};
use crate::assets::Folder;
use crate::error::{Error, Result};
use crate::{bail, error};

/// The tensors of one or more safetensors files.
pub struct TensorFiles {
    name: String,
    storage: Storage,
}

enum Storage {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
    Gguf { file: Arc<Gguf>, names: BTreeMap<String, Renamed> },
}

/// What a tensor of a GGUF file is called elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Renamed {
    /// The name in the file.
    pub stored: String,
    pub change: Change,
}

/// How a tensor's values have to be changed to be those of the Hugging Face layout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    None,
    /// Rows of every head are in adjacent pairs for rotation; they become two halves. The number of heads.
    Unpair(usize),
    /// The 1 of `1 + w` is stored with w.
    MinusOne,
}

impl TensorFiles {
    /// Opens a file, or a folder in Hugging Face layout (single or sharded).
    pub fn open(path: &Path) -> Result<Self> {
        let paths = if path.is_dir() { shards(path)? } else { vec![path.to_path_buf()] };
        for path in &paths {
            // mmap of a missing or empty file has a message without the path.
            let length = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
            if length < 8 {
                bail!(Decode, "`{}` is not a safetensors file: {length} bytes", path.display());
            }
        }
        // SAFETY: the files are only read; whoever changes a checkpoint while it is loaded gets what they asked for,
        // and llmore itself replaces files by renaming, which leaves the mapping intact.
        let mapped = unsafe { MmapedSafetensors::multi(&paths) };
        let mapped = mapped.map_err(|error| {
            error!(Decode, "`{}` is not a whole safetensors file: {}", path.display(), plain(&error))
                .help("it may be truncated: compare its size or sha256 with the source, or fetch it again")
        })?;
        Ok(TensorFiles { name: format!("`{}`", path.display()), storage: Storage::Mapped(mapped) })
    }

    /// The weights of a folder, on disk or embedded.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        match folder {
            Folder::Disk(path) => TensorFiles::open(path),
            Folder::Embedded(path) => {
                let path = format!("{path}/model.safetensors");
                let bytes =
                    crate::assets::embedded(&path).ok_or_else(|| error!(Missing, "no embedded weights `{path}`"))?;
                TensorFiles::embedded(bytes, &path)
            }
            Folder::Memory(name, _) => bail!(Missing, "{name} carries a configuration, no weights"),
        }
    }

    /// The tensors of an embedded file.
    pub fn embedded(bytes: &'static [u8], name: &str) -> Result<Self> {
        let slice = SliceSafetensors::new(bytes).map_err(|error| error!(Decode, "embedded `{name}`: {error}"))?;
        Ok(TensorFiles { name: format!("embedded `{name}`"), storage: Storage::Embedded(slice) })
    }

    /// The tensors of a GGUF file by the names a model asks for.
    pub fn gguf(file: Arc<Gguf>, names: BTreeMap<String, Renamed>) -> Self {
        TensorFiles { name: format!("`{}`", file.path().display()), storage: Storage::Gguf { file, names } }
    }

    /// What to call the files in a message.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.storage {
            Storage::Mapped(mapped) => mapped.tensors().into_iter().map(|(name, _)| name).collect(),
            Storage::Embedded(slice) => slice.tensors().into_iter().map(|(name, _)| name).collect(),
            Storage::Gguf { names, .. } => names.keys().cloned().collect(),
        };
        names.sort();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        match &self.storage {
            Storage::Mapped(mapped) => mapped.get(name).is_ok(),
            Storage::Embedded(slice) => slice.get(name).is_ok(),
            Storage::Gguf { names, .. } => names.contains_key(name),
        }
    }

    /// One tensor, in the dtype it is stored in; f32 if that is a quantized one.
    pub fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        if !self.has(name) {
            let names = self.names();
            let list = format!("{} holds {} tensors", self.name, names.len());
            return Err(Error::unknown("tensor", name, &names, &list));
        }
        let tensor = match &self.storage {
            Storage::Mapped(mapped) => mapped.load(name, device),
            Storage::Embedded(slice) => slice.load(name, device),
            Storage::Gguf { file, names } => load_gguf(file, &names[name], device),
        };
        tensor.map_err(|error| error!(Decode, "tensor `{name}` of {}: {}", self.name, plain(&error)))
    }

    /// The blocks of a matrix that is stored quantized, where they are what `quantize` asks for.
    ///
    /// # Errors
    /// `Option` for `keep` where nothing is stored quantized, `Shape` for a matrix of another shape.
    pub fn load_blocks(&self, name: &str, quantize: Quantize, shape: [usize; 2]) -> Result<Option<Quantized>> {
        let Storage::Gguf { file, names } = &self.storage else {
            return match quantize {
                Quantize::To(_) => Ok(None),
                Quantize::Keep => Err(error!(Option, "{} holds no quantized weights to keep", self.name)
                    .help("`quantize: \"keep\"` is for GGUF files; name a type, as in `quantize: \"q8_0\"`")),
            };
        };
        let Some((renamed, stored)) = names.get(name).and_then(|name| Some((name, file.tensor(&name.stored)?))) else {
            return Ok(None);
        };
        let plain = matches!(stored.dtype, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16);
        if plain || matches!(quantize, Quantize::To(dtype) if dtype != stored.dtype) {
            return Ok(None);
        }
        if stored.shape != shape {
            bail!(Shape, "tensor `{name}` of {} has shape {:?}, the model needs {shape:?}", self.name, stored.shape);
        }
        let (rows, inputs) = (shape[0], shape[1]);
        let bytes = match renamed.change {
            Change::None => std::borrow::Cow::Borrowed(file.data(stored)),
            // Blocks do not cross rows, so rows can be moved as they are.
            Change::Unpair(heads) => unpaired(file.data(stored), rows, heads).into(),
            Change::MinusOne => return Ok(None),
        };
        Quantized::from_bytes(&bytes, stored.dtype, rows, inputs).map(Some)
    }
}

/// A tensor of a GGUF file in f32.
fn load_gguf(file: &Gguf, renamed: &Renamed, device: &Device) -> candle_core::Result<Tensor> {
    let Some(stored) = file.tensor(&renamed.stored) else { candle_core::bail!("no tensor `{}`", renamed.stored) };
    let inputs = stored.shape.last().copied().unwrap_or(1);
    let rows = stored.shape.iter().product::<usize>() / inputs.max(1);
    let bytes = match renamed.change {
        Change::Unpair(heads) => unpaired(file.data(stored), stored.shape[0], heads).into(),
        _ => std::borrow::Cow::Borrowed(file.data(stored)),
    };
    let tensor = Quantized::from_bytes(&bytes, stored.dtype, rows, inputs)
        .map_err(|error| candle_core::Error::msg(error.message()))?
        .tensor()?
        .reshape(stored.shape.as_slice())?;
    match renamed.change {
        Change::MinusOne => tensor - 1.0,
        _ => Ok(tensor),
    }?
    .to_device(device)
}

/// Rows of every head from adjacent pairs (0, 1), (2, 3), ... to two halves.
fn unpaired(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (row, head) = (bytes.len() / rows.max(1), rows / heads.max(1));
    let half = head / 2;
    if half == 0 || head * heads != rows || half * 2 != head {
        // Such heads fit no model; the shape is refused where it is known what it should be.
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len());
    for index in 0..rows {
        let (first, inside) = (index / head * head, index % head);
        let from = first + inside % half * 2 + inside / half;
        out.extend_from_slice(&bytes[from * row..(from + 1) * row]);
    }
    out
}

/// The files of a checkpoint folder: an index, a single file, or a stage-1 projector.
fn shards(folder: &Path) -> Result<Vec<PathBuf>> {
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        let value = Folder::Disk(folder.to_path_buf()).json("model.safetensors.index.json")?;
        let Some(map) = value.get("weight_map").and_then(|map| map.as_object()) else {
            bail!(Decode, "`{}` has no `weight_map`", index.display());
        };
        let names: BTreeMap<&str, ()> = map.values().filter_map(|file| file.as_str()).map(|file| (file, ())).collect();
        if let Some(name) = names.keys().find(|name| name.contains(['/', '\\'])) {
            bail!(Decode, "`{}` names a file outside its folder: `{name}`", index.display());
        }
        return Ok(names.keys().map(|name| folder.join(name)).collect());
    }
    for name in ["model.safetensors", "mm_projector.safetensors"] {
        if folder.join(name).is_file() {
            return Ok(vec![folder.join(name)]);
        }
    }
    Err(error!(Missing, "no weights in `{}`", folder.display())
        .help("expected model.safetensors, model.safetensors.index.json or mm_projector.safetensors"))
}

/// Writes tensors to a file: to a temporary name first, then renamed.
pub fn save_tensors(tensors: &[(String, Tensor)], path: &Path) -> Result<()> {
    let mut map: HashMap<String, Tensor> = HashMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.contiguous()?.to_device(&Device::Cpu)?;
        if map.insert(name.clone(), tensor).is_some() {
            bail!(Weights, "two tensors are named `{name}`");
        }
    }
    write_atomically(path, |temporary| {
        candle_core::safetensors::save(&map, temporary).map_err(|error| error!(File, "{}", plain(&error)))
    })
}

/// Lets `write` fill a temporary file beside `path`, syncs it and renames it into place.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = path.file_name().ok_or_else(|| error!(File, "`{}` is not a file name", path.display()))?;
    let temporary = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let done = write(&temporary)
        .and_then(|()| {
            let sync = std::fs::File::open(&temporary).and_then(|file| file.sync_all());
            sync.map_err(|error| Error::file(&temporary, error))
        })
        .and_then(|()| std::fs::rename(&temporary, path).map_err(|error| Error::file(path, error)));
    done.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        error.context(format!("writing `{}`", path.display()))
    })
}

fn plain(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

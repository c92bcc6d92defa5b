//! Safetensors on disk (mmapped, single or sharded) or embedded, and writing them without ever leaving half a
//! file under the real name. Headers are checked by the `safetensors` crate before a byte of data is read.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{Device, Tensor};

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
            Folder::Preset(id, _) => bail!(Missing, "preset `{id}` carries a configuration, no weights"),
        }
    }

    /// The tensors of an embedded file.
    pub fn embedded(bytes: &'static [u8], name: &str) -> Result<Self> {
        let slice = SliceSafetensors::new(bytes).map_err(|error| error!(Decode, "embedded `{name}`: {error}"))?;
        Ok(TensorFiles { name: format!("embedded `{name}`"), storage: Storage::Embedded(slice) })
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
        };
        names.sort();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        match &self.storage {
            Storage::Mapped(mapped) => mapped.get(name).is_ok(),
            Storage::Embedded(slice) => slice.get(name).is_ok(),
        }
    }

    /// One tensor, in the dtype it is stored in.
    pub fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        if !self.has(name) {
            let names = self.names();
            let list = format!("{} holds {} tensors", self.name, names.len());
            return Err(Error::unknown("tensor", name, &names, &list));
        }
        let tensor = match &self.storage {
            Storage::Mapped(mapped) => mapped.load(name, device),
            Storage::Embedded(slice) => slice.load(name, device),
        };
        tensor.map_err(|error| error!(Decode, "tensor `{name}` of {}: {}", self.name, plain(&error)))
    }
}

/// The files of a checkpoint folder: an index, a single file, or a projector, an adapter or both.
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
    for names in [&["model.safetensors"][..], &["mm_projector.safetensors", "adapter_model.safetensors"]] {
        let found: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
        if !found.is_empty() {
            return Ok(found);
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

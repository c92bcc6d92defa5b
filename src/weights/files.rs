//! Tensors on disk (safetensors, single or sharded, a file of torch.save, a GGUF file; all mapped) or embedded, and
//! writing them without ever leaving half a file under the real name. Headers are checked before a byte of data is read.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::folder::{self, Found, INDEX, WHOLE};
use super::gguf::Gguf;
use super::gguf_view::{GgufView, Renamed};
use super::pickle::TorchFile;
use super::quantized::{Quantize, Quantized};
use super::scaled::{self, Entry, Scaled};
use super::seal::{check_file, reseal};
use crate::assets::Folder;
use crate::error::{Error, Result};
use crate::files;
use crate::notes::Notes;
use crate::{bail, error, guard};

const SAFETENSORS: &str = "safetensors";
const CANDLE: &str = "candle-core";
/// The largest product of the sides of a tensor without values, the one that is 0 left out.
const LARGEST_EMPTY: u64 = 1 << 24;

/// The tensors of one or more files, under their own names or under those of a view.
pub struct TensorFiles {
    name: String,
    storage: Arc<Storage>,
    /// Name in this view -> stored name; without, the stored names.
    names: Option<BTreeMap<String, String>>,
    /// Stored weights that are computed with the scales beside them.
    scaled: Arc<BTreeMap<String, Scaled>>,
    /// What opening them found that people should know; shared with every view.
    notes: Notes,
}

enum Storage {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'static>),
    Torch(TorchFile),
    Gguf(GgufView),
}

impl TensorFiles {
    /// Opens a file, or a folder in Hugging Face layout (single or sharded). Files whose hash is known are read whole and
    /// compared with it.
    ///
    /// # Errors
    /// `Missing`, `File` and `Decode`, with the file.
    pub fn open(path: &Path) -> Result<Self> {
        let found = found(path)?;
        let checked: Vec<Result<()>> = found.paths.par_iter().map(|path| check_file(path)).collect();
        checked.into_iter().collect::<Result<()>>()?;
        TensorFiles::of(path, found)
    }

    /// The same without a look at hashes, where only names are asked for, or the files were compared just now.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn peek(path: &Path) -> Result<Self> {
        TensorFiles::of(path, found(path)?)
    }

    fn of(path: &Path, found: Found) -> Result<Self> {
        let files = TensorFiles::map(path, &found.paths)?;
        found.note.into_iter().for_each(|note| files.notes.add(note));
        Ok(files)
    }

    fn map(path: &Path, paths: &[std::path::PathBuf]) -> Result<Self> {
        for path in paths {
            folder::check_pointer(path)?;
        }
        if let [file] = paths
            && file.extension().is_some_and(|extension| extension == "bin")
        {
            return Ok(TensorFiles::new(format!("`{}`", file.display()), Storage::Torch(TorchFile::open(file)?)));
        }
        for path in paths {
            crate::sandbox::readable(path)?;
            // mmap of a missing or empty file has a message without the path.
            let length = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
            if length < 8 {
                bail!(Decode, "`{}` is not a safetensors file: {length} bytes", path.display());
            }
        }
        // SAFETY: what `files::map` says holds here as well: candle maps the same files read-only, parses names, shapes and
        // offsets once into values of its own, checked against the length, and copies the bytes of a tensor out.
        let mapped = guard::catch(SAFETENSORS, || unsafe { MmapedSafetensors::multi(paths) });
        let mapped = mapped.map_err(|failure| failure.error(&path.display()))?.map_err(|error| {
            error!(Decode, "`{}` is not a whole safetensors file: {}", path.display(), plain(&error))
                .help("it may be truncated: compare its size or sha256 with the source, or fetch it again")
        })?;
        check_shapes(path, &mapped)?;
        Ok(TensorFiles::new(format!("`{}`", path.display()), Storage::Mapped(mapped)))
    }

    fn new(name: String, storage: Storage) -> Self {
        TensorFiles { name, storage: Arc::new(storage), names: None, scaled: Arc::default(), notes: Notes::default() }
    }

    /// The same tensors under other names: a view, nothing is copied.
    ///
    /// # Errors
    /// `Weights` when two tensors would get the same name.
    pub fn renamed(&self, rename: impl Fn(&str) -> String) -> Result<Self> {
        let mut names = BTreeMap::new();
        for name in self.names() {
            let stored = self.stored(&name).unwrap_or(&name).to_string();
            if let Some(other) = names.insert(rename(&name), stored) {
                bail!(Weights, "{}: `{other}` and `{name}` are the same tensor by another name", self.name);
            }
        }
        Ok(TensorFiles {
            name: self.name.clone(),
            storage: self.storage.clone(),
            names: Some(names),
            scaled: self.scaled.clone(),
            notes: self.notes.clone(),
        })
    }

    /// The same tensors without those that only say how others are stored: these are computed with them.
    ///
    /// # Errors
    /// `Weights` for a way of storing weights that is not computed, by its name.
    fn with_scales(mut self, config: &serde_json::Value) -> Result<Self> {
        let entry = |view: TensorView| Entry { dtype: view.dtype(), shape: view.shape().to_vec() };
        let entries: BTreeMap<String, Entry> = match self.storage.as_ref() {
            Storage::Mapped(mapped) => mapped.tensors().into_iter().map(|(name, view)| (name, entry(view))).collect(),
            Storage::Torch(torch) => torch
                .entries()
                .map(|(name, dtype, shape)| (name.clone(), Entry { dtype: dtype.into(), shape: shape.to_vec() }))
                .collect(),
            Storage::Embedded(_) | Storage::Gguf(_) => return Ok(self),
        };
        let found = scaled::find(&self.name, &entries, config)?;
        if !found.beside.is_empty() {
            let kept = entries.into_keys().filter(|name| !found.beside.contains(name));
            self.names = Some(kept.map(|name| (name.clone(), name)).collect());
        }
        found.note.into_iter().for_each(|note| self.notes.add(note));
        self.scaled = Arc::new(found.scaled);
        Ok(self)
    }

    /// The name in the file.
    fn stored<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match &self.names {
            Some(names) => names.get(name).map(String::as_str),
            None => Some(name),
        }
    }

    /// The weights of a model's folder, on disk or embedded; its config.json says how they are stored.
    pub fn open_folder(folder: &Folder) -> Result<Self> {
        match folder {
            Folder::Disk(path) => {
                let config = if folder.has("config.json") { folder.json("config.json")? } else { Default::default() };
                TensorFiles::open(path)?.with_scales(&config)
            }
            Folder::Embedded(path) => {
                let path = format!("{path}/{WHOLE}");
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
        Ok(TensorFiles::new(format!("embedded `{name}`"), Storage::Embedded(slice)))
    }

    /// The tensors of a GGUF file by the names a model asks for.
    pub fn gguf(file: Arc<Gguf>, names: BTreeMap<String, Renamed>) -> Self {
        TensorFiles::new(format!("`{}`", file.path().display()), Storage::Gguf(GgufView { file, names }))
    }

    /// What opening them found that people should know.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// What to call the files in a message.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> Vec<String> {
        if let Some(names) = &self.names {
            return names.keys().cloned().collect();
        }
        let mut names: Vec<String> = match self.storage.as_ref() {
            Storage::Mapped(mapped) => mapped.tensors().into_iter().map(|(name, _)| name).collect(),
            Storage::Embedded(slice) => slice.tensors().into_iter().map(|(name, _)| name).collect(),
            Storage::Torch(torch) => torch.names().cloned().collect(),
            Storage::Gguf(view) => view.names.keys().cloned().collect(),
        };
        names.sort();
        names
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        let Some(stored) = self.stored(name) else { return false };
        match self.storage.as_ref() {
            Storage::Mapped(mapped) => mapped.get(stored).is_ok(),
            Storage::Embedded(slice) => slice.get(stored).is_ok(),
            Storage::Torch(torch) => torch.has(stored),
            Storage::Gguf(view) => view.names.contains_key(stored),
        }
    }

    /// One tensor, in the dtype it is stored in; f32 if that is a quantized one.
    pub fn load(&self, name: &str, device: &Device) -> Result<Tensor> {
        let Some(stored) = self.stored(name).filter(|_| self.has(name)) else {
            let names = self.names();
            let list = format!("{} holds {} tensors", self.name, names.len());
            return Err(Error::unknown("tensor", name, &names, &list));
        };
        let wrong = |error| error!(Decode, "tensor `{stored}` of {}: {}", self.name, plain(&error));
        if let Some(scaled) = self.scaled.get(stored) {
            return self.product(stored, scaled)?.to_device(device).map_err(wrong);
        }
        let loaded = guard::catch(CANDLE, || match self.storage.as_ref() {
            Storage::Mapped(mapped) => mapped.get(stored).and_then(|view| read(&view, device)),
            Storage::Embedded(slice) => slice.load(stored, device),
            Storage::Torch(torch) => torch.load(stored, device),
            Storage::Gguf(view) => view.load(stored, device),
        });
        loaded.map_err(|failure| failure.error(&stored).context(self.name.clone()))?.map_err(wrong)
    }

    /// What the type is called that a tensor is stored in.
    pub(super) fn stored_type(&self, name: &str) -> Option<String> {
        let stored = self.stored(name)?;
        let dtype = match self.storage.as_ref() {
            Storage::Mapped(mapped) => mapped.get(stored).ok()?.dtype(),
            Storage::Embedded(slice) => slice.get(stored).ok()?.dtype(),
            Storage::Torch(_) | Storage::Gguf(_) => return None,
        };
        Some(scaled::dtype_name(dtype))
    }

    /// A float8 weight times its scale, in f32.
    fn product(&self, stored: &str, scaled: &Scaled) -> Result<Tensor> {
        let Storage::Mapped(mapped) = self.storage.as_ref() else {
            bail!(Decode, "tensor `{stored}` of {} is not float8", self.name)
        };
        let (weight, scale) = (mapped.get(stored)?, mapped.get(&scaled.scale)?);
        let scales = scaled::scales(scale.data(), scale.dtype())
            .map_err(|error| error.context(format!("`{}` of {}", scaled.scale, self.name)))?;
        let entry = Entry { dtype: weight.dtype(), shape: weight.shape().to_vec() };
        Ok(scaled::product(weight.data(), &entry, scaled, &scales)?)
    }

    /// The blocks of a matrix that is stored quantized, where they are what `quantize` asks for.
    ///
    /// # Errors
    /// `Option` for `keep` where nothing is stored quantized, `Shape` for a matrix of another shape.
    pub fn load_blocks(&self, name: &str, quantize: Quantize, shape: [usize; 2]) -> Result<Option<Quantized>> {
        match (self.storage.as_ref(), quantize) {
            (Storage::Gguf(view), _) => self.stored(name).map_or(Ok(None), |name| {
                guard::catch(CANDLE, || view.blocks(name, quantize, shape))
                    .map_err(|failure| failure.error(&name).context(self.name.clone()))?
            }),
            (_, Quantize::To(_)) => Ok(None),
            (_, Quantize::Keep) => Err(error!(Option, "{} holds no quantized weights to keep", self.name)
                .help("`quantize: \"keep\"` is for GGUF files; name a type, as in `quantize: \"q8_0\"`")),
        }
    }
}

/// Refuses tensors without values whose other sides are larger than any: what goes through their rows would not end.
fn check_shapes(path: &Path, files: &MmapedSafetensors) -> Result<()> {
    for (name, view) in files.tensors() {
        let sides = view.shape().iter().filter(|side| **side > 0).map(|side| *side as u64);
        let product = sides.fold(1u64, u64::saturating_mul);
        // Those of the others fit their bytes, which safetensors has checked.
        if view.data().is_empty() {
            guard::check(&path.display(), &format!("rows for the empty tensor `{name:.80}`"), product, LARGEST_EMPTY)?;
        }
    }
    Ok(())
}

/// The files of a folder, or the one that is named.
fn found(path: &Path) -> Result<Found> {
    match path.is_dir() {
        true => folder::found(path),
        false => Ok(Found { paths: vec![path.to_path_buf()], note: None }),
    }
}

/// Writes tensors to a file: to a temporary name first, then renamed. Where hashes of the folder's files stand beside it, its
/// own is set anew.
pub fn save_tensors(tensors: &[(String, Tensor)], path: &Path) -> Result<()> {
    let mut map: HashMap<String, Tensor> = HashMap::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.contiguous()?.to_device(&Device::Cpu)?;
        if map.insert(name.clone(), tensor).is_some() {
            bail!(Weights, "two tensors are named `{name}`");
        }
    }
    files::write_atomically(path, |temporary| {
        candle_core::safetensors::save(&map, temporary).map_err(|error| error!(File, "{}", plain(&error)))
    })?;
    reseal(path)
}

/// Writes model.safetensors into a folder, or parts of at most `limit` bytes each with their index.
pub fn save_shards(tensors: &[(String, Tensor)], folder: &Path, limit: usize) -> Result<()> {
    let mut shards: Vec<Vec<(String, Tensor)>> = vec![Vec::new()];
    let (mut room, mut total) = (limit, 0);
    for (name, tensor) in tensors {
        let size = tensor.elem_count() * tensor.dtype().size_in_bytes();
        if size > room && shards.last().is_some_and(|shard| !shard.is_empty()) {
            shards.push(Vec::new());
            room = limit;
        }
        (room, total) = (room.saturating_sub(size), total + size);
        if let Some(shard) = shards.last_mut() {
            shard.push((name.clone(), tensor.clone()));
        }
    }
    let count = shards.len();
    if count == 1 {
        return save_tensors(tensors, &folder.join(WHOLE));
    }
    let mut map = serde_json::Map::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", i + 1);
        save_tensors(shard, &folder.join(&file))?;
        map.extend(shard.iter().map(|(name, _)| (name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": map });
    files::write(&folder.join(INDEX), format!("{index:#}\n"))
}

/// A tensor of a file in the type it is stored in; types that candle does not have become wider ones.
fn read(view: &TensorView, device: &Device) -> candle_core::Result<Tensor> {
    let (bytes, shape) = (view.data(), view.shape());
    match view.dtype() {
        Dtype::F8_E5M2 => scaled::widen(bytes, shape, view.dtype())?.to_device(device),
        Dtype::BOOL => Tensor::from_raw_buffer(bytes, DType::U8, shape, device),
        Dtype::I8 => {
            let values: Vec<i64> = bytes.iter().map(|byte| i64::from(byte.cast_signed())).collect();
            Tensor::from_vec(values, shape, device)
        }
        _ => candle_core::safetensors::Load::load(view, device),
    }
}

fn plain(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back_from_a_map() {
        let path = crate::scratch::scratch_path("weights.safetensors");
        let values: Vec<f32> = (0..1000u16).map(|n| f32::from(n) * 0.5).collect();
        let whole = Tensor::from_vec(values.clone(), (10, 100), &Device::Cpu).unwrap();
        let narrow = whole.to_dtype(DType::BF16).unwrap();
        save_tensors(&[("whole".to_string(), whole), ("narrow".to_string(), narrow)], &path).unwrap();
        let files = TensorFiles::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let read = |name| files.load(name, &Device::Cpu).unwrap().flatten_all().unwrap();
        assert_eq!(read("whole").to_vec1::<f32>().unwrap(), values);
        assert_eq!((read("narrow").dtype(), read("narrow").elem_count()), (DType::BF16, 1000));
    }
}

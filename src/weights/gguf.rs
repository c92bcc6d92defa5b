//! GGUF files (versions 2 and 3): metadata and tensor table are checked against the file's length before anything
//! is allocated; arrays and tensor data stay in the mapped file until they are read. A model in several parts
//! (`name-00001-of-00003.gguf`) can be opened by any of them; the first has the metadata.
//! Source: ggml's `docs/gguf.md`; llama.cpp's `tools/gguf-split` for the parts. Dimensions are stored innermost first, so a matrix is (out, in) read backwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use memmap2::Mmap;

use super::folder::{check_pointer, part};
use super::gguf_types::dtype;
use crate::error::{Context, Error, Result};
use crate::{bail, error};

/// An opened GGUF file, with the other parts of the model if there are any.
pub struct Gguf {
    path: PathBuf,
    /// The file with the metadata.
    map: Mmap,
    /// The other parts.
    others: Vec<Mmap>,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Stored>,
}

/// A metadata value, not read from the file yet.
#[derive(Clone, Copy)]
struct Value {
    kind: Kind,
    /// `None` for a single value, else the length of the array.
    count: Option<usize>,
    at: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    Text,
}

/// A tensor of the table: its shape, outermost dimension first, and the position of its blocks.
#[derive(Clone, Debug)]
pub struct Stored {
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// 0 for the file with the metadata.
    part: usize,
    at: usize,
    bytes: usize,
}

impl Gguf {
    /// Opens and checks a file.
    ///
    /// # Errors
    /// `Missing` or `File` if it cannot be read, `Decode` for damaged or unsupported content, naming the key or tensor.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Gguf::open_one(path)?;
        let count = opened.whole("split.count")?.unwrap_or(1);
        if count <= 1 {
            return Ok(opened);
        }
        let mut parts = part_paths(path, count)?.into_iter();
        let (Some(first), here) = (parts.next(), path) else { return Ok(opened) };
        let mut whole = if first == here { opened } else { Gguf::open_one(&first)? };
        for (number, path) in (1..).zip(parts) {
            let next = Gguf::open_one(&path)?;
            for (file, expected) in [(&next, number as u64), (&whole, 0)] {
                let no = file.whole("split.no")?;
                if no != Some(expected) {
                    let no = no.map_or_else(|| "not there".to_string(), |no| no.to_string());
                    bail!(
                        Decode,
                        "`{}`: `split.no` is {no}, expected {expected} by the file's name",
                        file.path.display()
                    );
                }
            }
            for (name, stored) in next.tensors {
                if whole.tensors.insert(name.clone(), Stored { part: number, ..stored }).is_some() {
                    bail!(Decode, "`{}`: tensor `{name}` is in another part as well", path.display());
                }
            }
            whole.others.push(next.map);
        }
        match whole.whole("split.tensors.count")? {
            Some(said) if said != whole.tensors.len() as u64 => Err(error!(
                Decode,
                "`{}`: `split.tensors.count` is {said}, its {count} parts hold {}",
                whole.path.display(),
                whole.tensors.len()
            )
            .help("the parts may be of different models: fetch them again")),
            _ => Ok(whole),
        }
    }

    /// Whether files are parts of one model, by their names.
    pub fn are_parts(paths: &[PathBuf]) -> bool {
        let stem = |path: &PathBuf| {
            let name = path.file_stem()?.to_string_lossy().into_owned();
            part(&name).map(|(stem, _, count)| (stem.to_string(), count))
        };
        let first = paths.first().and_then(stem);
        first.is_some() && paths.iter().all(|path| stem(path) == first)
    }

    fn open_one(path: &Path) -> Result<Self> {
        check_pointer(path)?;
        let length = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
        if length < 24 {
            bail!(Decode, "`{}` is not a GGUF file: {length} bytes", path.display());
        }
        let map = crate::files::map(path)?;
        let (values, tensors) = parse(&map).context(|| format!("`{}`", path.display()))?;
        Ok(Gguf { path: path.to_path_buf(), map, others: Vec::new(), values, tensors })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a metadata key.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// All metadata keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// All tensor names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor of the table.
    pub fn tensor(&self, name: &str) -> Option<&Stored> {
        self.tensors.get(name)
    }

    /// The stored blocks of a tensor.
    pub fn data(&self, tensor: &Stored) -> &[u8] {
        let map = tensor.part.checked_sub(1).map_or(&self.map, |other| &self.others[other]);
        &map[tensor.at..tensor.at + tensor.bytes]
    }

    /// A non-negative integer.
    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.single(key, "a whole number", |value| match value.kind {
            Kind::Unsigned(size) => Some(self.unsigned(value.at, size)),
            Kind::Signed(size) => u64::try_from(self.signed(value.at, size)).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.single(key, "a number", |value| match value.kind {
            Kind::Unsigned(size) => Some(self.unsigned(value.at, size) as f64),
            Kind::Signed(size) => Some(self.signed(value.at, size) as f64),
            // The decimal number that was written, 1e-5, not the nearest f32 to it.
            Kind::Float(4) => (self.float(value.at, 4) as f32).to_string().parse().ok(),
            Kind::Float(size) => Some(self.float(value.at, size)),
            _ => None,
        })
    }

    /// A boolean.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.single(key, "true or false", |value| (value.kind == Kind::Bool).then(|| self.map[value.at] != 0))
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.single(key, "a text", |value| match value.kind {
            Kind::Text => std::str::from_utf8(self.string(value.at)).ok(),
            _ => None,
        })
    }

    /// An array of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.array(key, "an array of texts", |kind| kind == Kind::Text)? else { return Ok(None) };
        let mut at = value.at;
        let mut texts = Vec::with_capacity(value.count.unwrap_or_default());
        for index in 0..value.count.unwrap_or_default() {
            let bytes = self.string(at);
            at += 8 + bytes.len();
            let text = std::str::from_utf8(bytes)
                .map_err(|_| error!(Decode, "`{}`: `{key}`[{index}] is not UTF-8", self.path.display()))?;
            texts.push(text);
        }
        Ok(Some(texts))
    }

    /// An array of numbers.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        let number = |kind| matches!(kind, Kind::Unsigned(_) | Kind::Signed(_) | Kind::Float(_));
        let Some(value) = self.array(key, "an array of numbers", number)? else { return Ok(None) };
        let at = |index: usize| match value.kind {
            Kind::Unsigned(size) => self.unsigned(value.at + index * size, size) as f64,
            Kind::Signed(size) => self.signed(value.at + index * size, size) as f64,
            Kind::Float(size) => self.float(value.at + index * size, size),
            Kind::Bool | Kind::Text => 0.0,
        };
        Ok(Some((0..value.count.unwrap_or_default()).map(at).collect()))
    }

    /// An array of booleans.
    pub fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        let Some(value) = self.array(key, "an array of truth values", |kind| kind == Kind::Bool)? else {
            return Ok(None);
        };
        let bytes = &self.map[value.at..value.at + value.count.unwrap_or_default()];
        Ok(Some(bytes.iter().map(|byte| *byte != 0).collect()))
    }

    /// Whether a key holds an array.
    pub fn is_array(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| value.count.is_some())
    }

    /// The error for a required key.
    pub fn lacks(&self, key: &str) -> Error {
        error!(Missing, "`{}` has no `{key}` in its metadata", self.path.display())
    }

    fn single<'a, T>(&'a self, key: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        match Some(value).filter(|value| value.count.is_none()).and_then(read) {
            Some(found) => Ok(Some(found)),
            None => Err(self.wrong(key, value, what)),
        }
    }

    fn array(&self, key: &str, what: &str, fits: impl Fn(Kind) -> bool) -> Result<Option<Value>> {
        match self.values.get(key) {
            None => Ok(None),
            // An empty array may have any type.
            Some(value) if value.count.is_some_and(|count| count == 0 || fits(value.kind)) => Ok(Some(*value)),
            Some(value) => Err(self.wrong(key, value, what)),
        }
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> Error {
        let kind = match value.kind {
            Kind::Unsigned(_) | Kind::Signed(_) => "whole number",
            Kind::Float(_) => "number",
            Kind::Bool => "truth value",
            Kind::Text => "text",
        };
        let found = match value.count {
            None => format!("a {kind}"),
            Some(count) => format!("an array of {count}, each a {kind}"),
        };
        error!(Decode, "`{}`: `{key}` is {found}, expected {expected}", self.path.display())
    }

    fn unsigned(&self, at: usize, size: usize) -> u64 {
        let mut bytes = [0u8; 8];
        bytes[..size].copy_from_slice(&self.map[at..at + size]);
        u64::from_le_bytes(bytes)
    }

    fn signed(&self, at: usize, size: usize) -> i64 {
        let unused = 64 - 8 * size as u32;
        (self.unsigned(at, size) << unused) as i64 >> unused
    }

    fn float(&self, at: usize, size: usize) -> f64 {
        match size {
            4 => f64::from(f32::from_bits(self.unsigned(at, 4) as u32)),
            _ => f64::from_bits(self.unsigned(at, 8)),
        }
    }

    fn string(&self, at: usize) -> &[u8] {
        let length = self.unsigned(at, 8) as usize;
        &self.map[at + 8..at + 8 + length]
    }
}

/// The files of a model in `count` parts, one of which is `path`, in order.
fn part_paths(path: &Path, count: u64) -> Result<Vec<PathBuf>> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((stem, _, _)) = part(&name).filter(|(_, _, named)| *named as u64 == count) else {
        return Err(error!(
            Missing,
            "`{}` is one of {count} parts of a model (`split.count`), and its name does not say which",
            path.display()
        )
        .help(format!("give the parts their names again: `name-00001-of-{count:05}.gguf`")));
    };
    let paths: Vec<PathBuf> =
        (1..=count).map(|number| path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf"))).collect();
    let lacking: Vec<String> =
        paths.iter().filter(|path| !path.is_file()).map(|path| format!("`{}`", path.display())).collect();
    match lacking.is_empty() {
        true => Ok(paths),
        false => Err(error!(
            Missing,
            "`{}` is one of {count} parts of a model: {} of them {} lacking, {}",
            path.display(),
            lacking.len(),
            if lacking.len() == 1 { "is" } else { "are" },
            lacking[..lacking.len().min(4)].join(", ")
        )
        .help("fetch the files that are lacking into the same folder")),
    }
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, Stored>);

fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.take(4)? != b"GGUF" {
        bail!(Decode, "not a GGUF file: it does not begin with `GGUF`");
    }
    match reader.u32()? {
        2 | 3 => (),
        version => bail!(Decode, "GGUF version {version}; llmore reads 2 and 3, little-endian"),
    }
    // Every entry takes at least this many bytes, so a wrong count is noticed before anything is allocated.
    let tensor_count = reader.count("tensors", 8 + 4 + 4 + 8)?;
    let value_count = reader.count("metadata entries", 8 + 4 + 1)?;
    let mut values = BTreeMap::new();
    for _ in 0..value_count {
        let key = reader.text("a metadata key")?;
        let value = reader.value().context(|| format!("metadata `{key}`"))?;
        if values.insert(key.clone(), value).is_some() {
            bail!(Decode, "metadata `{key}` is there twice");
        }
    }
    let mut tensors = BTreeMap::new();
    for _ in 0..tensor_count {
        let name = reader.text("a tensor name")?;
        let stored = reader.tensor().context(|| format!("tensor `{name}`"))?;
        if tensors.insert(name.clone(), stored).is_some() {
            bail!(Decode, "tensor `{name}` is there twice");
        }
    }
    let alignment = match values.get("general.alignment") {
        None => 32,
        Some(&Value { kind: Kind::Unsigned(4), count: None, at }) => Reader { bytes, at }.u32()? as usize,
        Some(_) => bail!(Decode, "metadata `general.alignment` is not a u32"),
    };
    if alignment == 0 || alignment % 8 != 0 {
        bail!(Decode, "metadata `general.alignment` is {alignment}, not a multiple of 8");
    }
    let start = reader.at.div_ceil(alignment).checked_mul(alignment);
    for (name, stored) in &mut tensors {
        let at = start.and_then(|start| start.checked_add(stored.at)).filter(|at| at % 8 == 0);
        let end = at.and_then(|at| at.checked_add(stored.bytes));
        match (at, end) {
            (Some(at), Some(end)) if end <= bytes.len() => stored.at = at,
            (Some(at), _) => {
                return Err(error!(
                    Decode,
                    "tensor `{name}` takes {} bytes from byte {at} on, the file has {}",
                    stored.bytes,
                    bytes.len()
                )
                .help("the file may be truncated: compare its size or sha256 with the source, or fetch it again"));
            }
            (None, _) => bail!(Decode, "tensor `{name}` begins at an offset of {}, which cannot be", stored.at),
        }
    }
    Ok((values, tensors))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(error!(Decode, "{count} bytes wanted at byte {}, the file has {}", self.at, self.bytes.len())
                .help("the file may be truncated: compare its size or sha256 with the source, or fetch it again"));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        let mut bytes = [0u8; 4];
        bytes.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(bytes))
    }

    fn length(&mut self) -> Result<usize> {
        let mut bytes = [0u8; 8];
        bytes.copy_from_slice(self.take(8)?);
        let length = u64::from_le_bytes(bytes);
        usize::try_from(length).map_err(|_| error!(Decode, "a length of {length}"))
    }

    /// A count of entries that take at least `least` bytes each.
    fn count(&mut self, what: &str, least: usize) -> Result<usize> {
        let count = self.length()?;
        let room = self.bytes.len() - self.at;
        match count.checked_mul(least) {
            Some(needed) if needed <= room => Ok(count),
            _ => bail!(Decode, "{count} {what} cannot be in the {room} bytes that are left"),
        }
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.length()?;
        let bytes = self.take(length).context(|| what.to_string())?;
        let text = std::str::from_utf8(bytes).map_err(|_| error!(Decode, "{what} is not UTF-8"))?;
        Ok(text.to_string())
    }

    fn kind(&mut self) -> Result<Option<Kind>> {
        Ok(Some(match self.u32()? {
            0 => Kind::Unsigned(1),
            1 => Kind::Signed(1),
            2 => Kind::Unsigned(2),
            3 => Kind::Signed(2),
            4 => Kind::Unsigned(4),
            5 => Kind::Signed(4),
            6 => Kind::Float(4),
            7 => Kind::Bool,
            8 => Kind::Text,
            9 => return Ok(None),
            10 => Kind::Unsigned(8),
            11 => Kind::Signed(8),
            12 => Kind::Float(8),
            other => bail!(Decode, "a value of type {other}; GGUF has 0 to 12"),
        }))
    }

    fn value(&mut self) -> Result<Value> {
        let (kind, count) = match self.kind()? {
            Some(kind) => (kind, None),
            None => match self.kind()? {
                None => bail!(Decode, "an array of arrays; llmore knows no key that has one"),
                Some(kind) => (kind, Some(self.count("array elements", kind.least())?)),
            },
        };
        let at = self.at;
        match kind {
            Kind::Text => {
                for _ in 0..count.unwrap_or(1) {
                    let length = self.length()?;
                    self.take(length)?;
                }
            }
            // Cannot overflow: `count` was checked against the file.
            kind => drop(self.take(count.unwrap_or(1) * kind.least())?),
        }
        Ok(Value { kind, count, at })
    }

    /// `at` counts from the start of the data, whose position is known only after the table.
    fn tensor(&mut self) -> Result<Stored> {
        let rank = self.u32()? as usize;
        if !(1..=4).contains(&rank) {
            bail!(Decode, "{rank} dimensions; GGUF has 1 to 4");
        }
        let mut shape = (0..rank).map(|_| self.length()).collect::<Result<Vec<_>>>()?;
        let dtype = dtype(self.u32()?)?;
        let at = self.length()?;
        let row = shape[0];
        shape.reverse();
        let values = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let bytes = values.and_then(|values| (values / dtype.block_size()).checked_mul(dtype.type_size()));
        match bytes {
            Some(bytes) if row % dtype.block_size() == 0 && bytes > 0 => {
                Ok(Stored { shape, dtype, part: 0, at, bytes })
            }
            _ => bail!(Decode, "shape {shape:?} cannot be stored in blocks of {}", dtype.block_size()),
        }
    }
}

impl Kind {
    /// The smallest number of bytes of one value.
    fn least(self) -> usize {
        match self {
            Kind::Unsigned(size) | Kind::Signed(size) | Kind::Float(size) => size,
            Kind::Bool => 1,
            Kind::Text => 8,
        }
    }
}

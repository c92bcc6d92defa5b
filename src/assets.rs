//! Folders in Hugging Face layout, on disk, embedded in the binary or made of what a preset or a GGUF file says,
//! behind one type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error;
use crate::error::{Error, Result};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// A folder of model or data files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// On disk.
    Disk(PathBuf),
    /// Below `stdlib/` at build time: `models/tiny-clip`.
    Embedded(String),
    /// Files that something else stands for: what messages call it ("preset `x`"), file -> content.
    Memory(String, Arc<BTreeMap<String, Vec<u8>>>),
}

impl Folder {
    /// The folder a preset's `source` names: `embedded:models/tiny-clip`, or a path.
    pub fn parse(source: &str) -> Self {
        match source.strip_prefix("embedded:") {
            Some(path) => Folder::Embedded(path.to_string()),
            None => Folder::Disk(PathBuf::from(source)),
        }
    }

    /// Where a file of this folder is, for messages.
    pub fn locate(&self, file: &str) -> String {
        match self {
            Folder::Disk(path) => path.join(file).display().to_string(),
            Folder::Embedded(path) => format!("embedded:{path}/{file}"),
            Folder::Memory(name, _) => format!("{file} of {name}"),
        }
    }

    /// Whether the folder holds a file.
    pub fn has(&self, file: &str) -> bool {
        match self {
            Folder::Disk(path) => path.join(file).is_file(),
            Folder::Embedded(path) => embedded(&format!("{path}/{file}")).is_some(),
            Folder::Memory(_, files) => files.contains_key(file),
        }
    }

    /// A file's bytes.
    pub fn read(&self, file: &str) -> Result<Cow<'static, [u8]>> {
        match self {
            Folder::Disk(path) => {
                let path = path.join(file);
                let bytes = crate::fs::read(&path).map_err(|error| Error::file(&path, error))?;
                refuse_pointer(&path, &bytes)?;
                Ok(Cow::Owned(bytes))
            }
            Folder::Embedded(path) => embedded(&format!("{path}/{file}"))
                .map(Cow::Borrowed)
                .ok_or_else(|| error!(Missing, "no embedded file `{path}/{file}`")),
            Folder::Memory(name, files) => files
                .get(file)
                .map(|content| Cow::Owned(content.clone()))
                .ok_or_else(|| error!(Missing, "{name} carries no `{file}`")),
        }
    }

    /// A file as JSON.
    pub fn json(&self, file: &str) -> Result<serde_json::Value> {
        let bytes = self.read(file)?;
        serde_json::from_slice(&bytes).map_err(|error| error!(Decode, "`{}`: {error}", self.locate(file)))
    }

    /// The folder inside this one.
    pub fn join(&self, name: &str) -> Folder {
        match self {
            Folder::Disk(path) => Folder::Disk(path.join(name)),
            Folder::Embedded(path) => Folder::Embedded(format!("{path}/{name}")),
            Folder::Memory(whole, _) => Folder::Memory(format!("{name} of {whole}"), Arc::default()),
        }
    }

    /// The path on disk, if it is on disk.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Folder::Disk(path) => Some(path),
            Folder::Embedded(_) | Folder::Memory(..) => None,
        }
    }
}

/// How the file begins that Git LFS leaves where it did not fetch.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses the pointer of Git LFS, which stands in place of a file that was not fetched.
pub fn refuse_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(POINTER) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")).unwrap_or("an unknown number of").to_string();
    Err(error!(Decode, "`{}` is a pointer of Git LFS, in place of a file of {size} bytes", path.display())
        .help("fetch the file itself: `git lfs pull` in its folder, or `hf download owner/name` (data sets: with `--repo-type dataset`)"))
}

/// The bytes of an embedded file, by its path below `stdlib/`.
pub fn embedded(path: &str) -> Option<&'static [u8]> {
    ASSETS.iter().find(|(name, _)| *name == path).map(|(_, bytes)| *bytes)
}

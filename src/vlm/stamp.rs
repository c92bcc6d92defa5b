//! Detects whether the files that a part was opened from have changed since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Sizes and modification times of the files of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    path: PathBuf,
    files: BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
}

impl Stamp {
    /// The current state of a file, or of the config and the weights in a folder.
    pub(super) fn of(path: &Path) -> Self {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let names = |path: &Path| -> Vec<PathBuf> {
            let entries = crate::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| decides(path)).collect()
        };
        let files = if path.is_dir() { names(&path) } else { vec![path.clone()] };
        let state = |file: PathBuf| {
            let data = std::fs::metadata(&file).ok()?;
            Some((file, (data.len(), data.modified().ok())))
        };
        Stamp { files: files.into_iter().filter_map(state).collect(), path }
    }

    /// Whether no file was changed, added or removed since.
    pub(super) fn holds(&self) -> bool {
        Stamp::of(&self.path) == *self
    }
}

fn decides(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let ends = [".safetensors", ".bin", ".gguf", ".safetensors.index.json"];
    !name.starts_with('.') && (name == "config.json" || ends.iter().any(|end| name.ends_with(end)))
}

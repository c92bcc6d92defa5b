//! Which files a path stands for.

use std::path::{Path, PathBuf};

use crate::error;
use crate::error::{Error, Result};

/// How deep folders are searched: `MMMU/Accounting/validation-*.parquet` is two levels down.
const DEPTH: usize = 2;

/// The file itself, or the tables in a folder, sorted by path.
pub(super) fn list(path: &Path, split: Option<&str>) -> Result<Vec<PathBuf>> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
    if metadata.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    walk(path, DEPTH, &mut found)?;
    found.sort();
    let prefix = split.map(|split| format!("{split}-"));
    let of_split = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        prefix.as_ref().is_some_and(|prefix| name.starts_with(prefix))
    };
    if found.iter().any(of_split) {
        found.retain(of_split);
    }
    if found.iter().any(|path| is_parquet(path)) {
        found.retain(|path| is_parquet(path));
    }
    match found.is_empty() {
        false => Ok(found),
        true => Err(error!(Missing, "`{}` holds no .parquet or .jsonl file", path.display())),
    }
}

/// By the name; files of other names are taken for JSON lines.
pub(super) fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "parquet")
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let path = entry.map_err(|error| Error::file(folder, error))?.path();
        if path.is_dir() && depth > 0 {
            walk(&path, depth - 1, found)?;
        } else if is_parquet(&path) || path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
    Ok(())
}

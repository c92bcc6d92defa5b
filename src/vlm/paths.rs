//! Relative paths that stay valid in another working folder, or after a whole tree was moved.

use std::path::{Component, Path, PathBuf};

use crate::error;
use crate::error::Result;

/// The suffix of the folder that keeps the old files until a save is complete.
pub(super) const OLD: &str = "old";

/// The relative path from a folder to an absolute path; `None` for a relative path or another drive.
pub(super) fn relative(folder: &Path, path: &Path) -> Option<String> {
    let folder = settled(folder);
    if !path.is_absolute() {
        return None;
    }
    let (from, to): (Vec<Component>, Vec<Component>) = (folder.components().collect(), path.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    // Another drive.
    if shared == 0 {
        return None;
    }
    let mut way: PathBuf = from[shared..].iter().map(|_| Component::ParentDir).collect();
    way.extend(&to[shared..]);
    Some(way.to_str()?.replace('\\', "/"))
}

/// An absolute path without `..`; links in all folders but the last are followed, so that `..` leads to the right place.
pub(super) fn settled(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match (absolute.parent().and_then(|parent| parent.canonicalize().ok()), absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute.canonicalize().unwrap_or(absolute),
    }
}

/// The name of a temporary folder beside a folder.
pub(super) fn beside(folder: &Path, ending: &str) -> Result<PathBuf> {
    match folder.file_name() {
        Some(name) => Ok(folder.with_file_name(format!(".{}.{ending}", name.to_string_lossy()))),
        None => Err(error!(File, "`{}` is not the name of a folder", folder.display())),
    }
}

/// The sentence for a folder that cannot be opened because a save was killed before its end.
pub(super) fn cut_off(folder: &Path) -> Option<String> {
    let old = beside(folder, OLD).ok().filter(|old| old.exists())?;
    Some(format!("a save into it was cut off: what it held is in `{}`; the next save puts it right", old.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_leads_from_a_folder_to_its_base() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
        let way = |folder: &str, base: &str| relative(&root.join(folder), &root.join(base));
        assert_eq!(way("run", "base").as_deref(), Some("../base"));
        assert_eq!(way("run", "models/base.gguf").as_deref(), Some("../models/base.gguf"));
        assert_eq!(way("base/adapter", "base").as_deref(), Some(".."));
        assert_eq!(relative(&root, Path::new("tiny-llama")), None);
    }
}

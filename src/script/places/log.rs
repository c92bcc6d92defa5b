//! What was written elsewhere than the script says, by both names, and one name for each place.

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What the script names, and where it is.
#[derive(Default)]
pub(super) struct Log(Mutex<Vec<(PathBuf, PathBuf)>>);

impl Log {
    /// Records that what the script calls `named` is at `place`.
    pub(super) fn note(&self, named: &Path, place: &Path) {
        let pair = (plain(named), place.to_path_buf());
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.contains(&pair) {
            written.push(pair);
        }
    }

    /// Where a path lies that is, or is in, something written.
    pub(super) fn of(&self, path: &Path) -> Option<PathBuf> {
        let path = plain(path);
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |(named, place): &(PathBuf, PathBuf)| match path.strip_prefix(named).ok()? {
            rest if rest.as_os_str().is_empty() => Some(place.clone()),
            rest => Some(place.join(rest)),
        };
        written.iter().rev().find_map(inside)
    }

    /// Everything, by the names the script gave, each with its place.
    pub(super) fn all(&self) -> Vec<(PathBuf, PathBuf)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The place of a path in a folder that holds what is somewhere else.
pub(super) fn below(root: &Path, path: &Path) -> PathBuf {
    let (here, path) = (plain(Path::new(".")), plain(path));
    let path = path.strip_prefix(&here).unwrap_or(&path);
    let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
    root.join(names.collect::<PathBuf>())
}

/// A path as one name for a place: absolute, without `.` and `..`.
pub(super) fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_name() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(plain(Path::new(".")), here);
        assert_eq!(plain(Path::new("./a/../b/./c")), here.join("b/c"));
        assert_eq!(below(Path::new("root"), Path::new("./a/b")), Path::new("root/a/b"));
        assert_eq!(below(Path::new("root"), &here.join("a")), Path::new("root/a"));
        assert_eq!(below(Path::new("root"), Path::new("/x/y")), Path::new("root/x/y"));
    }

    #[test]
    fn what_lies_in_something_written_is_found_by_its_name() {
        let log = Log::default();
        log.note(Path::new("run"), Path::new("/elsewhere/run"));
        assert_eq!(log.of(Path::new("./run/a/../b")), Some(PathBuf::from("/elsewhere/run/b")));
        assert_eq!(log.of(Path::new("running")), None);
    }
}

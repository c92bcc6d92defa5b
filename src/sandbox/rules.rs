//! Which paths may be read and written: those that lie, with all links followed, below folders that were given.

use std::path::{Path, PathBuf};

use crate::error;
use crate::error::{Error, Result};

/// The folders, with links followed.
pub(super) struct Rules {
    read: Vec<PathBuf>,
    write: PathBuf,
    /// What the folder that is written was called.
    named: PathBuf,
}

impl Rules {
    /// Reads below `read` and `write`, writes below `write`, which is made where it is missing.
    ///
    /// # Errors
    /// `Missing` or `File` for a path that is not there or cannot be made.
    pub(super) fn new(read: &[PathBuf], write: &Path) -> Result<Self> {
        std::fs::create_dir_all(write).map_err(|error| Error::file(write, error))?;
        let real = |path: &Path| path.canonicalize().map_err(|error| Error::file(path, error));
        let folders = read.iter().map(|path| real(path)).collect::<Result<_>>()?;
        Ok(Rules { read: folders, write: real(write)?, named: write.to_path_buf() })
    }

    /// The folders that are read, besides the one that is written.
    pub(super) fn read(&self) -> &[PathBuf] {
        &self.read
    }

    /// The folder that is written.
    pub(super) fn write(&self) -> &Path {
        &self.write
    }

    /// Refuses what lies outside of all folders.
    pub(super) fn readable(&self, path: &Path) -> Result<()> {
        let inside = |real: PathBuf| self.read.iter().chain([&self.write]).any(|folder| real.starts_with(folder));
        if real(path).is_some_and(inside) {
            return Ok(());
        }
        let folders = self.read.iter().chain([&self.write]).map(|folder| format!("`{}`", folder.display()));
        let folders = folders.collect::<Vec<_>>().join(", ");
        Err(error!(Refused, "{} outside of what the sandbox reads: {folders}", stands(path))
            .help("`--allow FOLDER` on the command line lets the script read what lies in FOLDER"))
    }

    /// Refuses what lies outside of the folder that is written.
    pub(super) fn writable(&self, path: &Path) -> Result<()> {
        match real(path).is_some_and(|real| real.starts_with(&self.write)) {
            true => Ok(()),
            false => Err(self.not_written(path)),
        }
    }

    /// The same for a name in a folder, which may be that of a link: the link is meant itself. The folder that is written stays.
    pub(super) fn changeable(&self, path: &Path) -> Result<()> {
        match entry(path).is_some_and(|real| real.starts_with(&self.write) && real != self.write) {
            true => Ok(()),
            false => Err(self.not_written(path)),
        }
    }

    fn not_written(&self, path: &Path) -> Error {
        let named = self.named.display();
        error!(Refused, "{} outside of `{}`, and the sandbox writes nowhere else", stands(path), self.write.display())
            .help(format!("give a path that begins with `{named}/`, as in `{named}/x.png`"))
    }
}

/// How a message begins about a path: where a link leads is said, too.
fn stands(path: &Path) -> String {
    let plain = std::path::absolute(path).ok();
    match path.canonicalize().ok().filter(|real| Some(real) != plain.as_ref()) {
        Some(real) => format!("`{}` is `{}`, which lies", path.display(), real.display()),
        None => format!("`{}` lies", path.display()),
    }
}

/// Where a path leads, all links followed; what is not there yet lies in the folder before it. `None` for a link that leads to
/// nothing: who opens it would make a file somewhere else.
fn real(path: &Path) -> Option<PathBuf> {
    match path.canonicalize() {
        Ok(real) => Some(real),
        Err(_) if path.symlink_metadata().is_ok() => None,
        Err(_) => entry(path),
    }
}

/// A name in the folder that really holds it.
fn entry(path: &Path) -> Option<PathBuf> {
    // `..` behind something that is not there has no name, and leads nowhere.
    let name = path.file_name()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(real(folder)?.join(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = crate::scratch::scratch(name);
        std::fs::create_dir_all(folder.join("given/inner")).unwrap();
        std::fs::create_dir_all(folder.join("secret")).unwrap();
        std::fs::write(folder.join("secret/key"), "secret").unwrap();
        std::fs::write(folder.join("given/data"), "data").unwrap();
        folder
    }

    #[test]
    fn paths_lie_where_their_links_lead() {
        let root = scratch("links");
        let at = |path: &str| root.join(path);
        symlink(at("secret"), at("given/out")).unwrap();
        symlink("../secret/key", at("given/key")).unwrap();
        symlink("inner", at("given/in")).unwrap();
        symlink(at("secret/new"), at("given/dangling")).unwrap();
        let rules = Rules::new(&[at("given")], &at("runs")).unwrap();
        for path in ["given", "given/data", "given/./inner/../data", "given/in/none", "given/none", "runs/x/y"] {
            assert!(rules.readable(&at(path)).is_ok(), "{path}");
        }
        for path in [
            "secret/key",
            "given/../secret/key",
            "given/out/key",
            "given/key",
            "given/dangling",
            "given/out/none",
            "given-2",
            "given/none/../../secret/key",
            "",
            "runs/../secret",
        ] {
            assert!(rules.readable(&at(path)).is_err(), "{path}");
        }
        assert!(rules.readable(Path::new("/etc/passwd")).is_err());
        assert!(rules.readable(Path::new("")).is_err());
        let told = rules.readable(&at("given/key")).unwrap_err().to_string();
        let known = [at("secret/key"), at("given"), at("runs")].map(|path| path.canonicalize().unwrap());
        assert!(known.iter().all(|path| told.contains(&path.display().to_string())), "{told}");
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn one_folder_is_written() {
        let root = scratch("written");
        let at = |path: &str| root.join(path);
        let rules = Rules::new(&[at("given")], &at("runs")).unwrap();
        symlink(at("secret/new"), at("runs/dangling")).unwrap();
        symlink(at("secret"), at("runs/out")).unwrap();
        for path in ["runs/x", "runs/a/b/c", "runs/./a/../x"] {
            let made = rules.writable(&at(path)).is_ok();
            assert_eq!(made, path != "runs/./a/../x", "{path}");
        }
        for path in ["x", "given/x", "given/data", "runs/../x", "runs/dangling", "runs/out/x", "runs2/x"] {
            assert!(rules.writable(&at(path)).is_err(), "{path}");
        }
        // A link is removed itself; what it leads to and the folder stay.
        for (path, may) in [
            ("runs/out", true),
            ("runs/dangling", true),
            ("runs/out/key", false),
            ("runs", false),
            ("given/data", false),
        ] {
            assert_eq!(rules.changeable(&at(path)).is_ok(), may, "{path}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}

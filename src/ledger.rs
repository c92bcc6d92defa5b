//! What was written for scripts, so that a file which somebody else has made, or changed since, is not replaced by accident. A file
//! is known by a fingerprint of its content, wherever it lies: folders may be moved and copied. The fingerprints are the lines of a
//! file, which all processes append to; without it nothing is lost but that a script has to say `overwrite: true` once.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error;
use crate::error::{Error, Result};

/// The file, in the folder of what is kept between runs.
pub const FILE: &str = "written";
/// A content up to here is looked at whole, a longer one at its beginning, middle and end, so much of each.
const WHOLE: u64 = 8 << 20;
const PIECE: u64 = 1 << 20;

/// The fingerprints of what was written.
#[derive(Debug)]
pub struct Ledger {
    file: PathBuf,
    /// Of this process: they count even where the file cannot be written.
    own: Mutex<HashSet<String>>,
}

impl Ledger {
    /// The ledger in a folder; nothing is made before something is noted.
    pub fn in_folder(folder: &Path) -> Self {
        Ledger { file: folder.join(FILE), own: Mutex::default() }
    }

    /// Refuses to replace a file that is not known as it is. What is not there can be written.
    ///
    /// # Errors
    /// `File` for a file of somebody else and for one that cannot be read.
    pub fn may_replace(&self, path: &Path) -> Result<()> {
        // A folder is an error of whoever writes; a link is replaced by a file, so it is looked at itself.
        let Ok(there) = path.symlink_metadata() else { return Ok(()) };
        if there.is_dir() {
            return Ok(());
        }
        let is_known = match there.is_file() {
            true => self.knows(&fingerprint(path).map_err(|error| Error::file(path, error))?),
            false => false,
        };
        if is_known {
            return Ok(());
        }
        Err(error!(File, "`{}` exists and was not written by llmore, or was changed since", path.display()).help(
            "give another name, or replace it: `#{ overwrite: true }` in a script, `--overwrite` on the command line",
        ))
    }

    /// Remembers a file as it is now. Where that fails it is not known later, and nothing else goes wrong.
    pub fn note(&self, path: &Path) {
        let Ok(print) = fingerprint(path) else { return };
        if self.knows(&print) {
            return;
        }
        let line = format!("{print}\n");
        self.own.lock().unwrap_or_else(PoisonError::into_inner).insert(print);
        if let Some(folder) = self.file.parent() {
            let _ = crate::fs::create_dir_all(folder);
        }
        // One short line a write: processes that append at the same time do not mix theirs.
        let file = crate::fs::open_with(&self.file, |how| how.create(true).append(true));
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }

    fn knows(&self, print: &str) -> bool {
        if self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(print) {
            return true;
        }
        let text = crate::fs::read_to_string(&self.file).unwrap_or_default();
        text.lines().any(|line| line == print)
    }
}

/// The hash of a file's length and of its content, or of three pieces of that.
fn fingerprint(path: &Path) -> std::io::Result<String> {
    let file: File = crate::fs::open(path)?;
    let length = file.metadata()?.len();
    let mut hasher = Sha256::new();
    hasher.update(length.to_le_bytes());
    let pieces = match length {
        0..=WHOLE => vec![(0, length)],
        _ => [0, (length - PIECE) / 2, length - PIECE].map(|at| (at, PIECE)).to_vec(),
    };
    for (at, size) in pieces {
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, at)?;
        hasher.update(&bytes);
    }
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::{scratch, scratch_path};

    #[test]
    fn what_was_noted_may_be_replaced_until_it_changes() {
        let folder = scratch("ledger");
        let (ledger, path) = (Ledger::in_folder(&folder), folder.join("x.png"));
        assert!(ledger.may_replace(&path).is_ok());
        std::fs::write(&path, "somebody's").unwrap();
        let told = ledger.may_replace(&path).unwrap_err().to_string();
        assert!(told.contains("x.png") && told.contains("overwrite: true"), "{told}");
        std::fs::write(&path, "ours").unwrap();
        ledger.note(&path);
        ledger.note(&path);
        // Another process, and another place.
        let other = Ledger::in_folder(&folder);
        std::fs::copy(&path, folder.join("copy.png")).unwrap();
        assert!(other.may_replace(&path).is_ok() && other.may_replace(&folder.join("copy.png")).is_ok());
        assert_eq!(std::fs::read_to_string(folder.join(FILE)).unwrap().lines().count(), 1);
        std::fs::write(&path, "ours, edited").unwrap();
        assert!(other.may_replace(&path).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_long_file_is_known_by_its_length_and_three_pieces() {
        let path = scratch_path("long");
        let of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            fingerprint(&path).unwrap()
        };
        let mut bytes = vec![7; WHOLE as usize + 5];
        let before = of(&bytes);
        assert_ne!(before, of(&bytes[1..]));
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            bytes[at] = 8;
            assert_ne!(before, of(&bytes), "{at}");
            bytes[at] = 7;
        }
        assert_eq!(before, of(&bytes));
        std::fs::remove_file(path).unwrap();
    }
}

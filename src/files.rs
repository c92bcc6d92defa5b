//! Files that matter: written whole or not at all, and mapped for reading.

use std::path::Path;

use memmap2::Mmap;

use crate::error;
use crate::error::{Error, Result};

/// What decides about a run, in its folder.
pub const RUN_LOCK: &str = "run.lock";
/// What happened in a run, or in a study, a line each.
pub const EVENTS: &str = "events.jsonl";

/// Lets `write` fill a temporary file beside `path`, syncs it and renames it into place: a crash leaves the old file or the
/// new one, whole.
///
/// # Errors
/// What `write` gives, or `File`; the temporary file is removed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = path.file_name().ok_or_else(|| error!(File, "`{}` is not a file name", path.display()))?;
    let temporary = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
    // As files of this process are, whatever `write` may make of it: safetensors writes files that only the owner can read.
    let mode = crate::fs::create(&temporary)
        .and_then(|file| file.metadata())
        .map(|file| file.permissions())
        .map_err(|error| Error::file(&temporary, error));
    let done = mode
        .and_then(|mode| {
            write(&temporary)?;
            crate::fs::set_permissions(&temporary, mode).map_err(|error| Error::file(&temporary, error))
        })
        .and_then(|()| sync(&temporary))
        .and_then(|()| crate::fs::rename(&temporary, path).map_err(|error| Error::file(path, error)));
    done.map_err(|error| {
        let _ = crate::fs::remove_file(&temporary);
        error.context(format!("writing `{}`", path.display()))
    })
}

/// [`write_atomically`] with what the file is to hold.
///
/// # Errors
/// `File`, naming the path.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    write_atomically(path, |file| crate::fs::write(file, content.as_ref()).map_err(|error| Error::file(file, error)))
}

/// Waits until a file or, after a rename, a folder is on the disk and would survive a power cut.
///
/// # Errors
/// `File`, naming the path.
pub fn sync(path: &Path) -> Result<()> {
    crate::fs::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::file(path, error))
}

/// Maps a file for reading.
///
/// # Errors
/// `File`, naming the path.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = crate::fs::open(path).map_err(|error| Error::file(path, error))?;
    // SAFETY: the bytes behind the map must not change while it is seen as `&[u8]`. Nothing in this process changes them:
    // files that can be mapped are written by `write_atomically`, which fills a new file and renames it, so that a map keeps
    // the old one; no file is truncated or written in place. No Rust code can keep another process from doing so. For that
    // case readers take what they index by (offsets, lengths) into values of their own, checked once against the map's
    // length, and look at the rest as bytes to be copied, each bit pattern of which is a value: what changes under them is
    // wrong numbers, and a file that is cut short ends the process by SIGBUS.
    unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_what_it_was_made_of() {
        let folder = crate::scratch::scratch("files");
        let path = folder.join("weights");
        write(&path, "before").unwrap();
        let mapped = map(&path).unwrap();
        write(&path, "after that").unwrap();
        assert_eq!((&mapped[..], &map(&path).unwrap()[..]), (&b"before"[..], &b"after that"[..]));
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_file_and_nothing_else() {
        let folder = crate::scratch::scratch("files-old");
        let path = folder.join("run.lock");
        write(&path, "old").unwrap();
        let failed = write_atomically(&path, |file| {
            std::fs::write(file, "half").unwrap();
            Err(error!(File, "the disk is gone"))
        });
        assert!(failed.unwrap_err().message().contains("run.lock"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }
}

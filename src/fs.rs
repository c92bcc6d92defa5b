//! The file system, for everything below `cli`: as [`std::fs`], with the sandbox asked first. What opens, makes, renames or
//! removes a file goes through here (`tests/architecture/files.rs`), so a path from a script, a config or a data file leads
//! nowhere that the sandbox does not. An error of the sandbox comes through [`Error::file`] as it is.

use std::fs::{File, OpenOptions, Permissions, ReadDir};
use std::io;
use std::path::Path;

use crate::error::Error;
use crate::sandbox;

fn refused(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, error)
}

fn readable(path: &Path) -> io::Result<()> {
    sandbox::readable(path).map_err(refused)
}

fn writable(path: &Path) -> io::Result<()> {
    sandbox::writable(path).map_err(refused)
}

fn changeable(path: &Path) -> io::Result<()> {
    sandbox::changeable(path).map_err(refused)
}

/// The bytes of a file.
///
/// # Errors
/// As [`std::fs::read`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    readable(path)?;
    std::fs::read(path)
}

/// The text of a UTF-8 file.
///
/// # Errors
/// As [`std::fs::read_to_string`].
pub fn read_to_string(path: &Path) -> io::Result<String> {
    readable(path)?;
    std::fs::read_to_string(path)
}

/// The text of a file of the system, such as `/proc/meminfo`. No script and no file names it, so the sandbox is not asked.
///
/// # Errors
/// As [`std::fs::read_to_string`].
pub fn of_system(path: &'static str) -> io::Result<String> {
    std::fs::read_to_string(path)
}

/// What a folder holds.
///
/// # Errors
/// As [`std::fs::read_dir`].
pub fn read_dir(path: &Path) -> io::Result<ReadDir> {
    readable(path)?;
    std::fs::read_dir(path)
}

/// Opens a file for reading.
///
/// # Errors
/// As [`File::open`].
pub fn open(path: &Path) -> io::Result<File> {
    readable(path)?;
    File::open(path)
}

/// Makes a file, or empties it.
///
/// # Errors
/// As [`File::create`].
pub fn create(path: &Path) -> io::Result<File> {
    writable(path)?;
    File::create(path)
}

/// Opens a file to be written, too, as `how` says.
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn open_with(path: &Path, how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions) -> io::Result<File> {
    writable(path)?;
    how(&mut OpenOptions::new()).open(path)
}

/// Writes a whole file.
///
/// # Errors
/// As [`std::fs::write`].
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    writable(path)?;
    std::fs::write(path, content)
}

/// Makes a folder.
///
/// # Errors
/// As [`std::fs::create_dir`].
pub fn create_dir(path: &Path) -> io::Result<()> {
    changeable(path)?;
    std::fs::create_dir(path)
}

/// Makes a folder and those it lies in.
///
/// # Errors
/// As [`std::fs::create_dir_all`].
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    writable(path)?;
    std::fs::create_dir_all(path)
}

/// Gives a file or folder another name.
///
/// # Errors
/// As [`std::fs::rename`].
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    changeable(from)?;
    changeable(to)?;
    std::fs::rename(from, to)
}

/// Gives a file a second name. In the sandbox both are to be where it writes: through one the other is changed.
///
/// # Errors
/// As [`std::fs::hard_link`].
pub fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    writable(from)?;
    changeable(to)?;
    std::fs::hard_link(from, to)
}

/// Removes a file.
///
/// # Errors
/// As [`std::fs::remove_file`].
pub fn remove_file(path: &Path) -> io::Result<()> {
    changeable(path)?;
    std::fs::remove_file(path)
}

/// Removes an empty folder.
///
/// # Errors
/// As [`std::fs::remove_dir`].
pub fn remove_dir(path: &Path) -> io::Result<()> {
    changeable(path)?;
    std::fs::remove_dir(path)
}

/// Removes a folder and what is in it.
///
/// # Errors
/// As [`std::fs::remove_dir_all`].
pub fn remove_dir_all(path: &Path) -> io::Result<()> {
    changeable(path)?;
    std::fs::remove_dir_all(path)
}

/// Sets who may read and write a file.
///
/// # Errors
/// As [`std::fs::set_permissions`].
pub fn set_permissions(path: &Path, permissions: Permissions) -> io::Result<()> {
    writable(path)?;
    std::fs::set_permissions(path, permissions)
}

//! Which files a path stands for: a file, a folder as people download it, a revision in the hub's cache.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::super::lfs;
use super::choose::Wanted;
use crate::error;
use crate::error::{Error, Result};

/// How deep folders are searched: `MMMU/Accounting/validation/0000.parquet` is three levels down.
const DEPTH: usize = 3;
/// How the hub's cache names data sets.
const CACHED: &str = "datasets--";

/// The file itself, or those of the tables in a folder that are wanted, sorted by path.
///
/// # Errors
/// What [`Wanted::choose`] fails with; `Data` when two files are equal or the path has several revisions; `Missing` for a
/// pointer of Git LFS.
pub fn find(path: &Path, wanted: &Wanted, homes: &[String]) -> Result<Vec<PathBuf>> {
    let metadata = std::fs::metadata(path).map_err(|error| Error::file(path, error))?;
    if metadata.is_file() {
        wanted.check_file(&path.to_string_lossy())?;
        check_pointer(path)?;
        return Ok(vec![path.to_path_buf()]);
    }
    let folder = revision(path, homes)?;
    let mut names = Vec::new();
    walk(&folder, "", DEPTH, &mut names)?;
    let names = wanted.choose(&shown(&folder), &names)?;
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    files.iter().try_for_each(|file| check_pointer(file))?;
    check_equal(&files)?;
    Ok(files)
}

/// A folder's name in messages, and as what it is called.
fn shown(folder: &Path) -> String {
    let name = match folder.file_name() {
        Some(_) => folder.to_path_buf(),
        // `.` and `..` have no name of their own.
        None => std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf()),
    };
    name.to_string_lossy().into_owned()
}

fn walk(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) -> Result<()> {
    for (name, path) in entries(folder)? {
        if name.starts_with('.') {
            continue;
        }
        if !path.is_dir() {
            names.push(format!("{prefix}{name}"));
        } else if depth > 0 {
            walk(&path, &format!("{prefix}{name}/"), depth - 1, names)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut entries = Vec::new();
    for entry in crate::fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let entry = entry.map_err(|error| Error::file(folder, error))?;
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    entries.sort();
    Ok(entries)
}

/// The folder with the files: of the hub's cache, or of one data set in it, the revision that `refs/main` names, or the
/// only one; any other folder itself.
fn revision(path: &Path, homes: &[String]) -> Result<PathBuf> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if name(path) == "snapshots" {
        return only_revision(path, path.parent().unwrap_or(path));
    }
    let snapshots = path.join("snapshots");
    let is_repository = name(path).starts_with(CACHED) || path.join("refs").is_dir() || path.join("blobs").is_dir();
    if is_repository && snapshots.is_dir() {
        return only_revision(&snapshots, path);
    }
    let inside = |folder: &Path| -> Vec<(String, PathBuf)> {
        entries(folder).unwrap_or_default().into_iter().filter(|(name, _)| name.starts_with(CACHED)).collect()
    };
    let cached = match inside(path) {
        none if none.is_empty() => inside(&path.join("hub")),
        some => some,
    };
    if cached.is_empty() {
        return Ok(path.to_path_buf());
    }
    let folders = homes.iter().map(|home| format!("{CACHED}{}", home.replace('/', "--")).to_lowercase());
    match folders.into_iter().find_map(|home| cached.iter().find(|(name, _)| name.to_lowercase() == home)) {
        Some((_, repository)) => revision(repository, homes),
        None => {
            let names: Vec<_> = cached.iter().map(|(name, _)| format!("`{name}`")).take(8).collect();
            Err(error!(Missing, "`{}` is a cache of the hub without `{}`", path.display(), homes.join("` or `"))
                .help(format!("it holds {}", names.join(", "))))
        }
    }
}

fn only_revision(snapshots: &Path, repository: &Path) -> Result<PathBuf> {
    if let Ok(commit) = crate::fs::read_to_string(&repository.join("refs/main")) {
        let folder = snapshots.join(commit.trim());
        // A commit is a name, never a path.
        if !commit.trim().is_empty() && !commit.contains(['/', '\\', '.']) && folder.is_dir() {
            return Ok(folder);
        }
    }
    let revisions: Vec<_> = entries(snapshots)?.into_iter().filter(|(_, path)| path.is_dir()).collect();
    match revisions.as_slice() {
        [(_, only)] => Ok(only.clone()),
        [] => Err(error!(Missing, "`{}` holds no revision", snapshots.display()).help("fetch the data set again")),
        _ => {
            let names: Vec<_> = revisions.iter().map(|(name, _)| format!("`{name}`")).take(8).collect();
            let (count, names) = (revisions.len(), names.join(", "));
            Err(error!(Data, "`{}` holds {count} revisions of the data set: {names}", snapshots.display())
                .help("give the folder of one of them"))
        }
    }
}

/// A file that stands for one that was not fetched.
fn check_pointer(path: &Path) -> Result<()> {
    lfs::refuse_file(path).map(drop)
}

/// Two equal files are one set twice.
fn check_equal(files: &[PathBuf]) -> Result<()> {
    let mut sizes: BTreeMap<u64, Vec<&PathBuf>> = BTreeMap::new();
    for path in files {
        let size = std::fs::metadata(path).map_err(|error| Error::file(path, error))?.len();
        sizes.entry(size).or_default().push(path);
    }
    for same in sizes.values() {
        for (i, a) in same.iter().enumerate() {
            if let Some(b) = same[..i].iter().find(|b| equal(a, b).unwrap_or(false)) {
                return Err(error!(Data, "`{}` and `{}` are the same file", b.display(), a.display())
                    .help("its rows would count twice: keep one of them"));
            }
        }
    }
    Ok(())
}

fn equal(a: &Path, b: &Path) -> std::io::Result<bool> {
    let (mut a, mut b) = (crate::fs::open(a)?, crate::fs::open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut a).take(1 << 20).read_to_end(&mut left)?;
        (&mut b).take(1 << 20).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

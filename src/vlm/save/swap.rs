//! Putting a folder in place: everything is written into a temporary folder beside it first. A folder that is there already
//! and holds nothing but a model changes names with it, in one step. Where it holds more, the files of the model in it give
//! way to the new ones, all of them, so that it loads as what was saved last; other files stay. Until the last rename
//! config.json is missing then, so that nothing opens half of it; what gave way is put back when anything fails.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::process::exchange;
use crate::vlm::base::{BASE_FOLDER, TOWER_FOLDER};
use crate::vlm::paths::{OLD, beside};
use crate::weights::{HASHES, is_part, seal};

/// Files that belong to the model in a folder: what `save` writes, `load` reads, or other programs take for its own.
const OF_A_MODEL: [&str; 22] = [
    HASHES,
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "mm_projector.safetensors",
    "projector_base.json",
    "adapter_model.safetensors",
    "adapter_config.json",
    "adapter_base.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
];
/// Folders in it that hold parts of the model.
const PARTS: [&str; 2] = [TOWER_FOLDER, BASE_FOLDER];
const LAST: &str = "config.json";
/// Ends of the names of what lies beside a folder for a while: what comes, and what gave way and need not be put back.
const PART: &str = "part";
const GONE: &str = "gone";

/// Lets `write` fill a temporary folder beside `folder`, adds the hashes of its files and puts it in place. Hashes of what is
/// linked are those of the `earlier` folder it was linked from.
pub(super) fn write_folder(
    folder: &Path,
    earlier: Option<&Path>,
    write: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    // A link stays one: what it leads to is written.
    let folder = &folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let temporary = beside(folder, PART)?;
    let fill = || {
        restore(folder)?;
        remove(&temporary)?;
        crate::fs::create_dir_all(&temporary).map_err(|error| Error::file(&temporary, error))?;
        write(&temporary)?;
        seal(&temporary, earlier)?;
        if folder.exists() {
            return swap(&temporary, folder);
        }
        crate::fs::rename(&temporary, folder).map_err(|error| Error::file(folder, error))
    };
    let done = fill().context(|| format!("saving to `{}`", folder.display()));
    let _ = remove(&temporary);
    done
}

/// The files in a folder that a save into it replaces or removes: those of a model.
///
/// # Errors
/// `File` when the folder cannot be read.
pub fn model_files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(files(folder, &belongs)?.into_iter().map(|file| folder.join(file)).collect())
}

fn remove(path: &Path) -> Result<()> {
    match path.exists() {
        true => crate::fs::remove_dir_all(path).map_err(|error| Error::file(path, error)),
        false => Ok(()),
    }
}

/// Puts back what gave way in a save that was killed.
fn restore(folder: &Path) -> Result<()> {
    let old = beside(folder, OLD)?;
    if old.exists() {
        for file in files(&old, &|_| true)? {
            rename(&old.join(&file), &folder.join(&file))?;
        }
        remove(&old)?;
    }
    remove(&beside(folder, GONE)?)
}

/// Gives the files of a folder a second name each in another one; when that is not possible, nothing is left.
pub(super) fn link(from: &Path, to: &Path) -> bool {
    let links = || -> std::io::Result<()> {
        crate::fs::create_dir_all(to)?;
        for entry in crate::fs::read_dir(from)? {
            let path = entry?.path();
            crate::fs::hard_link(&path, &to.join(path.file_name().unwrap_or_default()))?;
        }
        Ok(())
    };
    let done = links().is_ok();
    if !done {
        let _ = remove(to);
    }
    done
}

fn swap(new: &Path, folder: &Path) -> Result<()> {
    let (old, gone) = (beside(folder, OLD)?, beside(folder, GONE)?);
    let mut coming = files(new, &|_| true)?;
    let is_ours = |path: &Path| belongs(path) || coming.iter().any(|file| file == path);
    if holds_only(folder, Path::new(""), &is_ours)? && exchanged(new, folder) {
        return Ok(());
    }
    let mut going = files(folder, &is_ours)?;
    going.sort_by_key(|file| file != Path::new(LAST));
    coming.sort_by_key(|file| file == Path::new(LAST));
    let mut moved: Vec<(PathBuf, PathBuf)> = Vec::new();
    let moves = going.iter().map(|file| (folder.join(file), old.join(file)));
    for (from, to) in moves.chain(coming.iter().map(|file| (new.join(file), folder.join(file)))) {
        if let Err(error) = rename(&from, &to) {
            // What cannot be put back now is put back by the next save.
            if moved.iter().rev().all(|(from, to)| rename(to, from).is_ok()) {
                let _ = remove(&old);
            }
            return Err(error);
        }
        moved.push((from, to));
    }
    if old.exists() {
        // By one rename: half of it must not be taken for what has to be put back.
        match crate::fs::rename(&old, &gone) {
            Ok(()) => drop(remove(&gone)),
            Err(_) => remove(&old)?,
        }
    }
    // What a part's folder held may have been all of it.
    PARTS.iter().map(|part| folder.join(part)).for_each(|part| drop(crate::fs::remove_dir(&part)));
    Ok(())
}

/// Lets two folders change names, if that can be done in one step; the modes of the folders stay with the names.
fn exchanged(new: &Path, folder: &Path) -> bool {
    let mode = std::fs::metadata(folder).map(|metadata| metadata.permissions());
    mode.and_then(|mode| crate::fs::set_permissions(new, mode)).and_then(|()| exchange(new, folder)).is_ok()
}

/// Whether all that is in a folder is `ours`, and no folder in it is another than those of a model's parts.
fn holds_only(folder: &Path, inside: &Path, ours: &dyn Fn(&Path) -> bool) -> Result<bool> {
    let here = folder.join(inside);
    for entry in crate::fs::read_dir(&here).map_err(|error| Error::file(&here, error))? {
        let entry = entry.map_err(|error| Error::file(&here, error))?;
        let name = inside.join(entry.file_name());
        let is_ours = match entry.path().is_dir() {
            true => PARTS.iter().any(|part| name == Path::new(part)) && holds_only(folder, &name, ours)?,
            false => ours(&name),
        };
        if !is_ours {
            return Ok(false);
        }
    }
    Ok(true)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        crate::fs::create_dir_all(parent).map_err(|error| Error::file(parent, error))?;
    }
    crate::fs::rename(from, to).map_err(|error| Error::file(to, error))
}

/// Whether a file of a folder, by its path in it, is of the model there.
fn belongs(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let inside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let placed = inside.is_none_or(|parent| PARTS.iter().any(|part| parent == Path::new(part)));
    placed && (OF_A_MODEL.contains(&name.as_str()) || is_part(&name))
}

/// The files of a folder and of the folders in it, by their paths in it, that `wanted` takes.
fn files(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(inside) = folders.pop() {
        let path = folder.join(&inside);
        for entry in crate::fs::read_dir(&path).map_err(|error| Error::file(&path, error))? {
            let entry = entry.map_err(|error| Error::file(&path, error))?;
            let name = inside.join(entry.file_name());
            // A folder of somebody else's is not walked through.
            let walked = inside.as_os_str().is_empty() && PARTS.iter().any(|part| name == Path::new(part));
            if entry.path().is_dir() {
                if walked {
                    folders.push(name);
                }
            } else if wanted(&name) {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

//! Hashes of a folder's files, written beside them: a byte that changed since is found before it is used. The list is one
//! that `sha256sum -c` reads; its last line, a comment, is a hash of the lines before it.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::error;
use crate::error::{Error, Result};
use crate::files;

/// The list's name.
pub const HASHES: &str = "llmore.sha256";
/// Bytes that are read at a time.
const PART: usize = 1 << 20;
/// The last line before its hash.
const END: &str = "# all of the above: ";
/// Digits of a hash that a message shows.
const SHORT: usize = 12;

/// Hashes by name, as seen from the folder; `/` between the names of folders.
type Hashes = BTreeMap<String, String>;

/// The SHA-256 of a file.
///
/// # Errors
/// What reading it gives.
pub fn sha256_of(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut part) = (crate::fs::open(path)?, Sha256::new(), vec![0; PART]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(format!("{:x}", hasher.finalize())),
            Ok(read) => hasher.update(&part[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes the hashes of all files in a folder and below it. A file that is a link of the file of that name in `earlier` has
/// the hash it has there: it is not read, so that what changed there meanwhile does not pass for right.
///
/// # Errors
/// `File` when something cannot be read or written.
pub fn seal(folder: &Path, earlier: Option<&Path>) -> Result<()> {
    let known = earlier.and_then(|earlier| listed(earlier).ok()?).unwrap_or_default();
    let names = below(folder, "")?;
    let hash = |name: String| {
        let path = folder.join(&name);
        let linked = earlier.is_some_and(|earlier| is_same_file(&earlier.join(&name), &path));
        let hash = match known.get(&name).filter(|_| linked) {
            Some(hash) => hash.clone(),
            None => sha256_of(&path).map_err(|error| Error::file(&path, error))?,
        };
        Ok((name, hash))
    };
    write(folder, &names.into_par_iter().map(hash).collect::<Result<_>>()?)
}

/// Adds files of a folder to its list.
///
/// # Errors
/// As [`seal`], and `Decode` for a list that is damaged.
pub fn seal_more(folder: &Path, names: &[&str]) -> Result<()> {
    let mut hashes = listed(folder)?.unwrap_or_default();
    for name in names {
        let path = folder.join(name);
        let hash = sha256_of(&path).map_err(|error| Error::file(&path, error))?;
        hashes.insert(name.to_string(), hash);
    }
    write(folder, &hashes)
}

/// Sets the hash of a file anew that its folder's list names.
///
/// # Errors
/// As [`seal_more`].
pub(super) fn reseal(path: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(|name| name.to_string_lossy())) else {
        return Ok(());
    };
    match listed(folder)?.is_some_and(|hashes| hashes.contains_key(&*name)) {
        true => seal_more(folder, &[&*name]),
        false => Ok(()),
    }
}

/// Takes files that are there no more out of a folder's list, if it has one.
///
/// # Errors
/// As [`seal_more`].
pub fn unseal_removed(folder: &Path) -> Result<()> {
    let Some(mut hashes) = listed(folder)? else { return Ok(()) };
    hashes.retain(|name, _| folder.join(name).is_file());
    write(folder, &hashes)
}

/// The hashes in a folder's list; `None` where there is none.
///
/// # Errors
/// `Decode` for a list that is damaged.
pub fn listed(folder: &Path) -> Result<Option<Hashes>> {
    let path = folder.join(HASHES);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = crate::fs::read(&path).map_err(|error| Error::file(&path, error))?;
    let damaged = || {
        error!(
            Decode,
            "`{}` is not as it was written: the hash in its last line is not that of the lines before",
            path.display()
        )
        .help("take another copy of the folder; without this file nothing in the folder is checked")
    };
    let text = String::from_utf8(bytes).map_err(|_| damaged())?;
    let lines = text.find(END).map(|end| &text[..end]).ok_or_else(damaged)?;
    if text != whole(lines) {
        return Err(damaged());
    }
    let pair = |line: &str| line.split_once("  ").map(|(hash, name)| (name.to_string(), hash.to_string()));
    lines.lines().map(pair).collect::<Option<_>>().map(Some).ok_or_else(damaged)
}

/// Refuses a file that is not what it was when its folder was written. What no list names is not looked at.
///
/// # Errors
/// `Decode`, with the file and both hashes; for a list that is damaged.
pub fn check_file(path: &Path) -> Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(|name| name.to_string_lossy())) else {
        return Ok(());
    };
    if let Some(hashes) = listed(folder)? {
        return hashes.get(&*name).map_or(Ok(()), |then| check(path, then, folder));
    }
    // A part's folder is named by the model's.
    let (Some(model), Some(part)) = (folder.parent(), folder.file_name()) else { return Ok(()) };
    let hashes = listed(model)?.unwrap_or_default();
    hashes.get(&format!("{}/{name}", part.to_string_lossy())).map_or(Ok(()), |then| check(path, then, model))
}

/// Refuses a folder of which a file is not what it was when it was written, or is not there.
///
/// # Errors
/// As [`check_file`], and `Missing`.
pub fn check_folder(folder: &Path) -> Result<()> {
    let hashes: Vec<(String, String)> = listed(folder)?.unwrap_or_default().into_iter().collect();
    let checked: Vec<Result<()>> =
        hashes.par_iter().map(|(name, then)| check(&folder.join(name), then, folder)).collect();
    checked.into_iter().collect()
}

/// The files of a folder that are no tensors and not what they were when it was written: people edit them on purpose.
///
/// # Errors
/// `Decode` for a list that is damaged.
pub fn edited(folder: &Path) -> Result<Vec<PathBuf>> {
    let hashes = listed(folder)?.unwrap_or_default();
    let is_other = |(name, then): (String, String)| {
        let path = folder.join(name);
        let is_text = path.extension().is_none_or(|extension| extension != "safetensors");
        (is_text && sha256_of(&path).is_ok_and(|now| now != then)).then_some(path)
    };
    Ok(hashes.into_iter().filter_map(is_other).collect())
}

fn check(path: &Path, then: &str, folder: &Path) -> Result<()> {
    let now = sha256_of(path).map_err(|error| Error::file(path, error))?;
    if now == then {
        return Ok(());
    }
    let short = |hash: &str| hash.chars().take(SHORT).collect::<String>();
    let (path, then, now) = (path.display(), short(then), short(&now));
    Err(error!(Decode, "`{path}` is not as it was written: its SHA-256 was {then}, is {now}").help(format!(
        "take another copy of it; without `{}` nothing in the folder is checked",
        folder.join(HASHES).display()
    )))
}

fn write(folder: &Path, hashes: &Hashes) -> Result<()> {
    let lines: String = hashes.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    files::write(&folder.join(HASHES), whole(&lines))
}

/// The lines with the last one.
fn whole(lines: &str) -> String {
    format!("{lines}{END}{:x}\n", Sha256::digest(lines))
}

/// The names of the files in a folder and below it, without its list.
fn below(folder: &Path, inside: &str) -> Result<Vec<String>> {
    let here = folder.join(inside);
    let failed = |error| Error::file(&here, error);
    let mut names = Vec::new();
    for entry in crate::fs::read_dir(&here).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            names.extend(below(folder, &format!("{name}/"))?);
        } else if name != HASHES {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_same_file(a: &Path, b: &Path) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let places = [a, b].map(|path| std::fs::metadata(path).map(place).ok());
    places[0].is_some() && places[0] == places[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = crate::scratch::scratch(name);
        std::fs::create_dir_all(folder.join("part")).unwrap();
        for (file, text) in
            [("model.safetensors", "weights"), ("config.json", "{}"), ("part/model.safetensors", "more")]
        {
            std::fs::write(folder.join(file), text).unwrap();
        }
        seal(&folder, None).unwrap();
        folder
    }

    #[test]
    fn a_flipped_byte_of_any_file_is_found_at_any_place() {
        let folder = folder("flip");
        check_folder(&folder).unwrap();
        for file in ["model.safetensors", "config.json", "part/model.safetensors", HASHES] {
            let path = folder.join(file);
            let bytes = std::fs::read(&path).unwrap();
            for place in 0..bytes.len() {
                for bit in [1, 32, 128] {
                    let mut other = bytes.clone();
                    other[place] ^= bit;
                    std::fs::write(&path, other).unwrap();
                    let error = check_folder(&folder).unwrap_err().to_string();
                    assert!(error.contains(file), "{file}, byte {place}, bit {bit}: {error}");
                    if file.ends_with(".safetensors") {
                        assert!(check_file(&path).unwrap_err().to_string().contains(file));
                    }
                }
            }
            assert_eq!(edited(&folder).is_ok_and(|edited| edited.is_empty()), file != "config.json" && file != HASHES);
            std::fs::write(&path, bytes).unwrap();
        }
        check_folder(&folder).unwrap();
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        assert_eq!(check_folder(&folder).unwrap_err().kind(), crate::error::Kind::Missing);
        unseal_removed(&folder).unwrap();
        check_folder(&folder).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_linked_keeps_the_hash_it_was_written_with() {
        let (first, second) = (folder("first"), folder("second"));
        let name = "part/model.safetensors";
        std::fs::remove_file(second.join(name)).unwrap();
        std::fs::hard_link(first.join(name), second.join(name)).unwrap();
        // Both names lead to it.
        std::fs::write(first.join(name), "mode").unwrap();
        seal(&second, Some(&first)).unwrap();
        let error = check_file(&second.join(name)).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        seal_more(&second, &[name]).unwrap();
        check_file(&second.join(name)).unwrap();
        [first, second].iter().for_each(|folder| std::fs::remove_dir_all(folder).unwrap());
    }

    #[test]
    fn sha256sum_reads_the_list() {
        let folder = folder("sum");
        let ran =
            std::process::Command::new("sha256sum").args(["-c", "--strict", HASHES]).current_dir(&folder).output();
        let Ok(output) = ran else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

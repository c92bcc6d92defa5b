//! Fingerprints of the pictures of a data set, so that a run knows whether they are still those it was trained on. Small
//! files are read whole; of larger ones the length, the beginning, the middle and the end, which is what a picture that was
//! replaced differs in, and lets the pictures of 665,000 samples be looked at before a run begins.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::dataset::Dataset;
use super::sample::ImageSource;
use crate::error::Result;

/// Bytes that are read at one place.
const BLOCK: usize = 4096;
/// Places in a file that are read, where it is larger than all of them: of a picture, and of a file with the pictures of
/// many rows.
const OF_PICTURE: usize = 3;
const OF_TABLE: usize = 1024;
/// Samples between two words about how far it is.
const CHUNK: usize = 8192;

/// A file, a member of an archive or a table with pictures, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// `folder/a.png`, `archive.zip#a.png` or `rows.parquet`.
    pub place: String,
    /// The first bytes of a SHA-256; zeros for what cannot be read.
    pub hash: [u8; 8],
}

/// What has a fingerprint.
enum Source {
    Picture(PathBuf),
    Table(PathBuf),
    Member(Arc<Archive>, String),
}

impl Source {
    fn place(&self) -> String {
        match self {
            Source::Picture(path) | Source::Table(path) => path.display().to_string(),
            Source::Member(archive, name) => format!("{}#{name}", archive.path().display()),
        }
    }

    fn hash(&self) -> [u8; 8] {
        let hash = match self {
            Source::Picture(path) => of_file(path, OF_PICTURE).ok(),
            Source::Table(path) => of_file(path, OF_TABLE).ok(),
            Source::Member(archive, name) => archive.print(name, OF_PICTURE),
        };
        hash.unwrap_or_default()
    }

    /// The sources of a picture; what is in the data set's own hash has none.
    fn of(image: &ImageSource) -> Vec<Source> {
        match image {
            ImageSource::File(path) => vec![Source::Picture(path.clone())],
            ImageSource::Member { archive, name } => vec![Source::Member(archive.clone(), name.clone())],
            ImageSource::Row { rows, row, field, number } => {
                let beside = rows.picture_path(*row, field, *number).map(|path| rows.folder(*row).join(path));
                let beside = beside.filter(|path| path.is_file()).map(Source::Picture);
                rows.file(*row).map(|path| Source::Table(path.to_path_buf())).into_iter().chain(beside).collect()
            }
            ImageSource::Packed { .. } | ImageSource::Decoded { .. } => Vec::new(),
        }
    }
}

impl Dataset {
    /// The fingerprints of all pictures, each file once, in the order of the samples; `told` hears how many samples were
    /// looked at.
    ///
    /// # Errors
    /// What reading a sample gives; a picture that cannot be read is none.
    pub fn prints(&self, told: &mut dyn FnMut(usize)) -> Result<Arc<Vec<Print>>> {
        if let Some(known) = self.known_prints() {
            return Ok(known);
        }
        let (mut seen, mut prints) = (HashSet::new(), Vec::new());
        for start in (0..self.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(self.len());
            let sources: Vec<Vec<Source>> = (start..end)
                .into_par_iter()
                .map(|index| Ok(self.get(index)?.images.iter().flat_map(Source::of).collect()))
                .collect::<Result<_>>()?;
            let new: Vec<(String, Source)> = sources
                .into_iter()
                .flatten()
                .map(|source| (source.place(), source))
                .filter(|(place, _)| seen.insert(place.clone()))
                .collect();
            prints.par_extend(new.into_par_iter().map(|(place, source)| Print { hash: source.hash(), place }));
            told(end);
        }
        Ok(self.keep_prints(prints))
    }
}

/// A hash in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The fingerprint of a place of [`Print`] as it is now.
pub fn print_now(place: &str) -> [u8; 8] {
    if let Some((archive, name)) = place.rsplit_once('#')
        && !Path::new(place).exists()
    {
        return Archive::open(Path::new(archive))
            .ok()
            .and_then(|archive| archive.print(name, OF_PICTURE))
            .unwrap_or_default();
    }
    let path = Path::new(place);
    let is_table =
        path.extension().is_some_and(|end| ["parquet", "tsv", "csv", "json", "jsonl"].iter().any(|name| end == *name));
    of_file(path, if is_table { OF_TABLE } else { OF_PICTURE }).unwrap_or_default()
}

fn of_file(path: &Path, places: usize) -> std::io::Result<[u8; 8]> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    print(length, places, |bytes, at| file.read_exact_at(bytes, at))
}

/// The fingerprint of `length` bytes, read at so many places at most.
pub(super) fn print(
    length: u64,
    places: usize,
    read: impl Fn(&mut [u8], u64) -> std::io::Result<()>,
) -> std::io::Result<[u8; 8]> {
    let mut hasher = Sha256::new();
    hasher.update(length.to_le_bytes());
    let mut take = |at: u64, size: usize| {
        let mut bytes = vec![0; size];
        read(&mut bytes, at)?;
        hasher.update(&bytes);
        Ok::<_, std::io::Error>(())
    };
    if length <= (places * BLOCK) as u64 {
        take(0, length as usize)?;
    } else {
        let last = length - BLOCK as u64;
        for place in 0..places as u64 {
            take(last * place / (places as u64 - 1), BLOCK)?;
        }
    }
    let mut hash = [0; 8];
    hash.copy_from_slice(&hasher.finalize()[..8]);
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> [u8; 8] {
        let read = |into: &mut [u8], at: u64| {
            into.copy_from_slice(&bytes[at as usize..at as usize + into.len()]);
            Ok(())
        };
        print(bytes.len() as u64, OF_PICTURE, read).unwrap()
    }

    #[test]
    fn a_change_of_length_beginning_middle_or_end_is_seen() {
        let bytes = vec![7u8; 100_000];
        let before = of(&bytes);
        assert_eq!(before, of(&bytes.clone()));
        for at in [0, 50_000, 99_999] {
            let mut other = bytes.clone();
            other[at] = 8;
            assert_ne!(before, of(&other), "{at}");
        }
        assert_ne!(before, of(&bytes[1..]));
        assert_ne!(of(b"abc"), of(b"abd"));
    }
}

//! The fingerprint of a picture or of a file with many: of small ones all bytes, of larger ones the length, the beginning,
//! the middle and the end, which is what a picture that was replaced differs in.

use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes that are read at one place.
const BLOCK: usize = 4096;
/// Places in a file that are read, where it is larger than all of them: of a picture, and of a file with the pictures of
/// many rows.
pub(super) const OF_PICTURE: usize = 3;
pub(super) const OF_TABLE: usize = 1024;

/// A file, a member of an archive or a table with pictures, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Print {
    /// `folder/a.png`, `archive.zip#a.png` or `rows.parquet`.
    pub place: String,
    /// The first bytes of a SHA-256; zeros for what cannot be read.
    pub hash: [u8; 8],
}

/// How a hash is made; `None` where something cannot be read.
type Hash = Box<dyn Fn() -> Option<[u8; 8]> + Send + Sync>;

/// What has a fingerprint, and where it is.
pub(super) struct Printable {
    pub(super) place: String,
    hash: Hash,
}

impl Printable {
    pub(super) fn new(place: String, hash: impl Fn() -> Option<[u8; 8]> + Send + Sync + 'static) -> Self {
        Printable { place, hash: Box::new(hash) }
    }

    /// A file that is a picture.
    pub(super) fn of_picture(path: &Path) -> Self {
        Printable::of_path(path, OF_PICTURE)
    }

    /// A file with the pictures of many rows.
    pub(super) fn of_table(path: &Path) -> Self {
        Printable::of_path(path, OF_TABLE)
    }

    fn of_path(path: &Path, places: usize) -> Self {
        let (place, path) = (path.display().to_string(), path.to_path_buf());
        Printable::new(place, move || of_file(&path, places).ok())
    }

    /// Its fingerprint as it is now; zeros for what cannot be read.
    pub(super) fn print(self) -> Print {
        Print { hash: (self.hash)().unwrap_or_default(), place: self.place }
    }
}

/// A hash in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn of_file(path: &Path, places: usize) -> std::io::Result<[u8; 8]> {
    let file = crate::fs::open(path)?;
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

//! Features on disk: one file per encoder, to which every run appends. All records have one size, so that a tail torn by
//! a kill is known by its length, passed over by readers and cut off by the next writer, under a lock of the file.
//! A record is its key (32 bytes), a checksum of key and values (4 bytes), the values.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc::{CRC_32_ISCSI, Crc};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Key and checksum.
const HEAD: usize = 36;

/// An open file of features.
pub(super) struct FeatureFile {
    path: PathBuf,
    file: File,
    /// Bytes of one image's features.
    size: usize,
    /// The number of every key's record; the last one counts.
    index: HashMap<[u8; 32], u64>,
    /// A write failed: what does not fit on the disk is computed again each time.
    full: bool,
    /// Records with a wrong checksum that nobody was told of.
    damaged: usize,
}

impl FeatureFile {
    /// Opens or makes `<name>.features` and reads which keys it holds.
    pub(super) fn open(folder: &Path, name: &str, size: usize) -> Result<Self> {
        crate::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        let path = folder.join(format!("{name}.features"));
        let file = crate::fs::open_with(&path, |how| how.create(true).read(true).append(true));
        let file = file.map_err(|error| Error::file(&path, error))?;
        let mut opened = FeatureFile { path, file, size, index: HashMap::new(), full: false, damaged: 0 };
        opened.read_index(0).map_err(|error| Error::file(&opened.path, error))?;
        Ok(opened)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.index.contains_key(&hash(key))
    }

    /// The values of a key; `None` too for a record whose checksum is wrong.
    pub(super) fn read(&mut self, key: &str) -> Option<Vec<u8>> {
        let key = hash(key);
        let number = *self.index.get(&key)?;
        let mut record = vec![0; self.record()];
        let read = self.file.read_exact_at(&mut record, number * self.record() as u64);
        let sum = checksum(&record[..32], &record[HEAD..]).to_le_bytes();
        if read.is_err() || record[..32] != key || record[32..HEAD] != sum {
            self.index.remove(&key);
            self.damaged += 1;
            return None;
        }
        record.drain(..HEAD);
        Some(record)
    }

    /// A sentence about records that were found damaged since the last call.
    pub(super) fn damage(&mut self) -> Option<String> {
        let count = std::mem::take(&mut self.damaged);
        let path = self.path.display();
        (count > 0).then(|| {
            format!(
                "`{path}`: the kept features of {count} pictures are not as they were written: they are computed again"
            )
        })
    }

    /// Appends a record unless the file would grow beyond `limit` bytes. A full disk is no error: features are
    /// computed again.
    pub(super) fn append(&mut self, key: &str, values: &[u8], limit: u64) {
        if !self.full && self.try_append(hash(key), values, limit).is_err() {
            self.full = true;
        }
    }

    fn try_append(&mut self, key: [u8; 32], values: &[u8], limit: u64) -> std::io::Result<()> {
        use std::io::Write;
        let mut record = Vec::with_capacity(self.record());
        record.extend(key);
        record.extend(checksum(&key, values).to_le_bytes());
        record.extend(values);
        self.file.lock()?;
        let size = self.record() as u64;
        let written = self.file.metadata().and_then(|metadata| {
            let whole = metadata.len() / size;
            if (whole + 1) * size > limit {
                return Ok(None);
            }
            if metadata.len() % size != 0 {
                self.file.set_len(whole * size)?;
            }
            self.file.write_all(&record)?;
            Ok(Some(whole))
        });
        self.file.unlock()?;
        if let Some(number) = written? {
            self.index.insert(key, number);
        }
        Ok(())
    }

    fn record(&self) -> usize {
        HEAD + self.size
    }

    /// Reads the keys from record `first` on.
    fn read_index(&mut self, first: u64) -> std::io::Result<()> {
        let size = self.record() as u64;
        let mut key = [0; 32];
        for number in first..self.file.metadata()?.len() / size {
            self.file.read_exact_at(&mut key, number * size)?;
            self.index.insert(key, number);
        }
        Ok(())
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn checksum(key: &[u8], values: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(key);
    digest.update(values);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::scratch;

    fn open(folder: &Path) -> FeatureFile {
        FeatureFile::open(folder, "x", 8).unwrap()
    }

    #[test]
    fn what_one_run_wrote_another_one_reads() {
        let folder = scratch("shared");
        let (mut first, mut second) = (open(&folder), open(&folder));
        first.append("a", b"12345678", u64::MAX);
        second.append("b", b"abcdefgh", u64::MAX);
        first.append("c", b"........", u64::MAX);
        let mut third = open(&folder);
        assert_eq!(third.read("a").as_deref(), Some(b"12345678".as_slice()));
        assert_eq!(third.read("b").as_deref(), Some(b"abcdefgh".as_slice()));
        assert_eq!(second.read("b").as_deref(), Some(b"abcdefgh".as_slice()));
        assert!(third.has("c") && !third.has("d") && third.read("d").is_none());
    }

    #[test]
    fn a_torn_tail_is_passed_over_and_cut_off() {
        let folder = scratch("torn");
        for cut in 1..HEAD as u64 + 8 {
            let _ = std::fs::remove_dir_all(&folder);
            let mut file = open(&folder);
            file.append("a", b"12345678", u64::MAX);
            file.append("b", b"abcdefgh", u64::MAX);
            file.file.set_len(2 * (HEAD as u64 + 8) - cut).unwrap();
            let mut again = open(&folder);
            assert!(again.has("a") && !again.has("b"));
            again.append("c", b"........", u64::MAX);
            let mut last = open(&folder);
            assert_eq!(last.read("a").as_deref(), Some(b"12345678".as_slice()));
            assert_eq!(last.read("c").as_deref(), Some(b"........".as_slice()));
        }
    }

    #[test]
    fn a_changed_byte_makes_a_record_unknown() {
        let folder = scratch("changed");
        for place in 0..HEAD as u64 + 8 {
            let _ = std::fs::remove_dir_all(&folder);
            let mut file = open(&folder);
            file.append("a", b"12345678", u64::MAX);
            let mut byte = [0];
            file.file.read_exact_at(&mut byte, place).unwrap();
            // A file opened for appending cannot be written elsewhere.
            let other = std::fs::OpenOptions::new().write(true).open(folder.join("x.features")).unwrap();
            other.write_all_at(&[byte[0] ^ 4], place).unwrap();
            assert!(file.read("a").is_none() && !file.has("a"), "byte {place}");
            let told = file.damage().unwrap();
            assert!(told.contains("x.features") && told.contains("computed again"), "{told}");
            assert_eq!(file.damage(), None);
            file.append("a", b"12345678", u64::MAX);
            let mut again = open(&folder);
            assert_eq!(again.read("a").as_deref(), Some(b"12345678".as_slice()));
            assert_eq!(again.damage(), None);
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_budget_is_kept() {
        let folder = scratch("budget");
        let mut file = open(&folder);
        for key in ["a", "b", "c"] {
            file.append(key, b"12345678", 2 * (HEAD as u64 + 8));
        }
        assert!(file.has("a") && file.has("b") && !file.has("c"));
    }
}

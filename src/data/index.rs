//! Where the records of a JSON file begin and end, found in one pass that holds one block of the file at a time:
//! 28 bytes are kept for each record, whatever it holds. Byte offsets count from the start of the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::brief::Brief;
use super::record::Record;
use super::scan::{Layout, Scanner};
use crate::error::{Error, Result};
use crate::{bail, error};

/// How much is read at a time.
const BLOCK: usize = 4 << 20;
/// The longest record; anything longer is not a conversation.
const LONGEST: usize = 64 << 20;

/// The records of a file by number.
#[derive(Default)]
pub(super) struct Index {
    starts: Vec<u64>,
    lengths: Vec<u32>,
    briefs: Vec<Brief>,
    /// Of the whole file.
    pub(super) sha256: String,
}

impl Index {
    /// Reads the file once; every record is checked, none is kept.
    ///
    /// # Errors
    /// `Decode`, naming the file, the record's number and its byte, when a record is malformed or the file cut off.
    pub(super) fn build(mut file: impl Read + Send, path: &Path, layout: Layout) -> Result<Self> {
        let mut index = Index::default();
        let mut hasher = Sha256::new();
        let mut scanner = Scanner::new(layout);
        // The bytes from `base` on that were read and belong to no finished record.
        let (mut pending, mut base) = (Vec::new(), 0u64);
        loop {
            let before = pending.len();
            (&mut file).take(BLOCK as u64).read_to_end(&mut pending).map_err(|error| Error::file(path, error))?;
            let ended = pending.len() == before;
            let (fresh, all) = (&pending[before..], &pending);
            let ((), found) = rayon::join(|| hasher.update(fresh), || scanner.scan(all, before, ended));
            let found = found.map_err(|fault| fault.error(path, index.len() + fault.records, base))?;
            index.push(&pending, base, &found.records, path)?;
            if ended {
                index.sha256 = format!("{:x}", hasher.finalize());
                return Ok(index);
            }
            pending.drain(..found.consumed);
            base += found.consumed as u64;
            scanner.rebase(found.consumed);
            if pending.len() > LONGEST {
                bail!(
                    Decode,
                    "`{}`: item {}, which begins at byte {base}, is longer than {} MiB",
                    path.display(),
                    index.starts.len(),
                    LONGEST >> 20
                );
            }
        }
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The facts of a record.
    pub(super) fn brief(&self, number: usize) -> Option<Brief> {
        self.briefs.get(number).copied()
    }

    /// The first byte and the length of a record.
    pub(super) fn span(&self, number: usize) -> Option<(u64, usize)> {
        Some((*self.starts.get(number)?, *self.lengths.get(number)? as usize))
    }

    /// The bytes of a record.
    ///
    /// # Errors
    /// `Decode` when the file is shorter than it was.
    pub(super) fn read(&self, file: &File, number: usize) -> Result<Vec<u8>> {
        use std::os::unix::fs::FileExt;
        let (start, length) = self.span(number).ok_or_else(|| error!(Data, "no sample {number}"))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, start)
            .map_err(|error| error!(Decode, "item {number} at byte {start} cannot be read any more: {error}"))?;
        Ok(bytes)
    }

    fn push(&mut self, bytes: &[u8], base: u64, records: &[(usize, usize)], path: &Path) -> Result<()> {
        let first = self.starts.len();
        let parse = |(number, &(start, end)): (usize, &(usize, usize))| parse(&bytes[start..end], first + number);
        let briefs: Vec<_> = records.par_iter().enumerate().map(parse).collect();
        for (&(start, end), brief) in records.iter().zip(briefs) {
            let at = base + start as u64;
            let brief = brief.map_err(|found| malformed(path, self.starts.len(), at, &found))?;
            self.starts.push(at);
            self.lengths.push((end - start) as u32);
            self.briefs.push(brief);
        }
        Ok(())
    }
}

fn parse(bytes: &[u8], number: usize) -> std::result::Result<Brief, serde_json::Error> {
    serde_json::from_slice::<Record>(bytes).map(|record| record.brief(number))
}

/// The error for a record that is not one.
pub(super) fn malformed(path: &Path, number: usize, at: u64, found: &serde_json::Error) -> Error {
    let text = found.to_string();
    // Lines and columns inside the record help nobody.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    error!(Decode, "`{}`: item {number}, which begins at byte {at}: {text}", path.display())
        .help("expected { id, image, conversations: [{ from, value }] }")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one to seven bytes at a time, so that every border falls somewhere inside.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.1 = self.1 % 7 + 1;
            let n = self.1.min(out.len()).min(self.0.len());
            out[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn an_index_reads_what_it_points_to() {
        let item = |id: usize| format!(r#"{{"id": {id}, "conversations": [{{"from": "gpt", "value": "a b"}}]}}"#);
        let text = format!("\u{feff}[{},\n {}]\n", item(1), item(22));
        let index = Index::build(Dribble(text.as_bytes(), 0), Path::new("x.json"), Layout::List).unwrap();
        assert_eq!(index.len(), 2);
        assert_eq!(index.brief(1).unwrap().words, 2);
        let (start, length) = index.span(1).unwrap();
        assert_eq!(&text[start as usize..start as usize + length], item(22));
        assert_eq!(index.sha256, format!("{:x}", Sha256::digest(&text)));
    }

    #[test]
    fn a_malformed_record_is_named_by_number_and_byte() {
        let good = r#"{"id": 1, "conversations": []}"#;
        let error = |text: &str| {
            let built = Index::build(text.as_bytes(), Path::new("x.json"), Layout::List);
            built.err().unwrap().to_string()
        };
        let found = error(&format!("[{good}, {{\"id\": 2}}]"));
        assert!(found.contains("`x.json`: item 1, which begins at byte 33: missing field `conversations`"), "{found}");
        let found = error(&format!("[{good}, {{\"id\": 2, \"conver"));
        assert!(found.contains("`x.json` is cut off: it ends in item 1, which begins at byte 33"), "{found}");
        let found = error(r#"[{"id": 1, "image": 3, "conversations": []}]"#);
        assert!(found.contains("invalid type: integer `3`, expected a picture's path"), "{found}");
    }
}

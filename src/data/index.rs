//! Where the records of a JSON file begin and end, found in one pass that holds one block of the file at a time:
//! 28 bytes are kept for each record, whatever it holds. Byte offsets count from the start of the file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::record::{Brief, Record};
use crate::error::{Error, Result};
use crate::{bail, error};

/// How much is read at a time.
const BLOCK: usize = 4 << 20;
/// The longest record; anything longer is not a conversation.
const LONGEST: usize = 64 << 20;

/// How records follow each other in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One JSON list.
    List,
    /// One record a line.
    Lines,
}

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
        let briefs: Vec<_> = records.par_iter().map(|&(start, end)| parse(&bytes[start..end])).collect();
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

fn parse(bytes: &[u8]) -> std::result::Result<Brief, serde_json::Error> {
    serde_json::from_slice::<Record>(bytes).map(|record| record.brief())
}

/// The error for a record that is not one.
pub(super) fn malformed(path: &Path, number: usize, at: u64, found: &serde_json::Error) -> Error {
    let text = found.to_string();
    // Lines and columns inside the record help nobody.
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    error!(Decode, "`{}`: item {number}, which begins at byte {at}: {text}", path.display())
        .help("expected { id, image, conversations: [{ from, value }] }")
}

/// What a scan found in the pending bytes.
#[derive(Debug, Default)]
struct Found {
    /// (first byte, byte after the last) of each finished record.
    records: Vec<(usize, usize)>,
    /// Bytes that are not needed any more.
    consumed: usize,
}

/// What is wrong at a byte.
struct Fault {
    at: usize,
    what: What,
    /// Whole records of the pending bytes before it.
    records: usize,
}

enum What {
    NotAList,
    NotAnObject,
    NoComma,
    After,
    CutOff,
}

impl Fault {
    fn error(&self, path: &Path, number: usize, base: u64) -> Error {
        let (path, at) = (path.display(), base + self.at as u64);
        match self.what {
            What::NotAList => error!(Decode, "`{path}` does not begin with `[`").help(
                "expected a list of { id, image, conversations: [{ from, value }] }; `format: \"jsonl\"` is one a line",
            ),
            What::NotAnObject => error!(Decode, "`{path}`: item {number} at byte {at} is not an object"),
            What::NoComma => error!(Decode, "`{path}`: no comma before item {number} at byte {at}"),
            What::After => error!(Decode, "`{path}`: something follows the list at byte {at}"),
            What::CutOff => error!(Decode, "`{path}` is cut off: it ends in item {number}, which begins at byte {at}")
                .help("fetch it again"),
        }
    }
}

/// Finds records without looking into them: quotes, escapes and brackets are all that counts.
struct Scanner {
    layout: Layout,
    state: State,
    /// Where the record under way begins.
    start: usize,
    depth: usize,
    /// Inside a string; after a backslash.
    quoted: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the list.
    Start,
    /// Before a record that may also be the end (after `[`).
    First,
    /// After a record.
    Comma,
    /// Before a record that must come.
    Next,
    Record,
    End,
}

impl Scanner {
    fn new(layout: Layout) -> Self {
        Scanner { layout, state: State::Start, start: 0, depth: 0, quoted: false, escaped: false }
    }

    /// Scans `bytes` from `from` on; `ended` says that nothing follows.
    fn scan(&mut self, bytes: &[u8], from: usize, ended: bool) -> std::result::Result<Found, Fault> {
        let from = if from == 0 && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { from };
        let mut found = Found::default();
        match self.layout {
            Layout::List => self.scan_list(bytes, from, &mut found)?,
            Layout::Lines => self.scan_lines(bytes, from, ended, &mut found),
        }
        let inside = self.state == State::Record;
        if ended && self.layout == Layout::List && self.state != State::End {
            let at = if inside { self.start } else { bytes.len() };
            let what = if self.state == State::Start { What::NotAList } else { What::CutOff };
            return Err(Fault { at, what, records: found.records.len() });
        }
        found.consumed = if inside { self.start } else { bytes.len() };
        Ok(found)
    }

    /// The first `consumed` bytes are gone.
    fn rebase(&mut self, consumed: usize) {
        self.start = self.start.saturating_sub(consumed);
    }

    fn scan_list(&mut self, bytes: &[u8], from: usize, found: &mut Found) -> std::result::Result<(), Fault> {
        let mut at = from;
        while let Some(&byte) = bytes.get(at) {
            if self.state == State::Record {
                at = self.skip_record(bytes, at, found);
                continue;
            }
            let fault = |what| Err(Fault { at, what, records: found.records.len() });
            self.state = match (self.state, byte) {
                (state, b' ' | b'\n' | b'\r' | b'\t') => state,
                (State::Start, b'[') => State::First,
                (State::Start, _) => return fault(What::NotAList),
                (State::First | State::Comma, b']') => State::End,
                (State::First | State::Next, b'{') => {
                    (self.start, self.depth) = (at, 1);
                    State::Record
                }
                (State::First | State::Next, _) => return fault(What::NotAnObject),
                (State::Comma, b',') => State::Next,
                (State::Comma, _) => return fault(What::NoComma),
                (State::Record | State::End, _) => return fault(What::After),
            };
            at += 1;
        }
        Ok(())
    }

    /// Goes on in a record up to its end or that of the bytes.
    fn skip_record(&mut self, bytes: &[u8], from: usize, found: &mut Found) -> usize {
        let mut at = from;
        while at < bytes.len() {
            if std::mem::take(&mut self.escaped) {
                at += 1;
                continue;
            }
            if self.quoted {
                let Some(skip) = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                    return bytes.len();
                };
                at += skip;
                self.escaped = bytes[at] == b'\\';
                self.quoted = self.escaped;
            } else {
                match bytes[at] {
                    b'"' => self.quoted = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                if self.depth == 0 {
                    found.records.push((self.start, at + 1));
                    self.state = State::Comma;
                    return at + 1;
                }
            }
            at += 1;
        }
        at
    }

    fn scan_lines(&mut self, bytes: &[u8], from: usize, ended: bool, found: &mut Found) {
        let mut push = |start: usize, end: usize| {
            if !bytes[start..end].iter().all(u8::is_ascii_whitespace) {
                found.records.push((start, end));
            }
        };
        let mut start = if self.state == State::Record { self.start } else { from };
        let mut at = from;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            push(start, at + length);
            at += length + 1;
            start = at;
        }
        if ended {
            push(start, bytes.len());
        }
        self.state = if ended { State::End } else { State::Record };
        self.start = start;
    }
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

    fn spans(text: &str, layout: Layout, block: usize) -> std::result::Result<Vec<String>, usize> {
        // The scanner alone, with blocks of any size.
        let (mut scanner, bytes, mut pending, mut base) = (Scanner::new(layout), text.as_bytes(), Vec::new(), 0);
        let mut spans = Vec::new();
        let mut blocks = bytes.chunks(block).map(Some).chain([None]);
        while let Some(next) = blocks.next() {
            let before = pending.len();
            pending.extend_from_slice(next.unwrap_or_default());
            let found = scanner.scan(&pending, before, next.is_none()).map_err(|fault| base + fault.at)?;
            spans.extend(found.records.iter().map(|&(s, e)| String::from_utf8_lossy(&pending[s..e]).into_owned()));
            pending.drain(..found.consumed);
            base += found.consumed;
            scanner.rebase(found.consumed);
        }
        Ok(spans)
    }

    #[test]
    fn records_are_found_whatever_the_blocks() {
        let list = r#" [ {"a": "}]\"\\", "b": [{}]} ,{"c": "{"}, {} ] "#;
        let expected = [r#"{"a": "}]\"\\", "b": [{}]}"#, r#"{"c": "{"}"#, "{}"];
        for block in 1..list.len() + 1 {
            assert_eq!(spans(list, Layout::List, block).unwrap(), expected, "blocks of {block}");
            assert_eq!(spans("[]", Layout::List, block).unwrap(), [""; 0]);
        }
        let lines = "{\"a\": 1}\n\n  \n{\"b\": 2}\r\n{\"c\": 3}";
        for block in 1..lines.len() + 1 {
            let expected = ["{\"a\": 1}", "{\"b\": 2}\r", "{\"c\": 3}"];
            assert_eq!(spans(lines, Layout::Lines, block).unwrap(), expected, "blocks of {block}");
        }
    }

    #[test]
    fn faults_stand_at_their_byte_whatever_the_blocks() {
        let cases = [("[{} {}]", 4), ("[{}, 3]", 5), ("[{}] x", 5), ("[{}, {\"a\": \"", 5), ("{}", 0), ("[{},", 4)];
        for (text, at) in cases {
            for block in 1..8 {
                assert_eq!(spans(text, Layout::List, block), Err(at), "{text} in blocks of {block}");
            }
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
        let found = error(r#"[{"id": 1, "image": ["a", "b"], "conversations": []}]"#);
        assert!(found.contains("invalid type: sequence, expected a string"), "{found}");
    }
}

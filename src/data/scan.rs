//! Finds where records begin and end in the blocks of a JSON file, without looking into them: quotes, escapes and
//! brackets are all that counts. A block may end anywhere, inside an escape, too.

use std::path::Path;

use crate::error;
use crate::error::Error;

/// How records follow each other in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One JSON list.
    List,
    /// One record a line.
    Lines,
}

impl Layout {
    /// By the first bytes of a file.
    pub(super) fn of(head: &[u8]) -> Self {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
        if head.starts_with(b"{") { Layout::Lines } else { Layout::List }
    }
}

/// What a scan found in the pending bytes.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// (first byte, byte after the last) of each finished record.
    pub(super) records: Vec<(usize, usize)>,
    /// Bytes that are not needed any more.
    pub(super) consumed: usize,
}

/// What is wrong at a byte.
pub(super) struct Fault {
    at: usize,
    what: What,
    /// Whole records of the pending bytes before it.
    pub(super) records: usize,
}

enum What {
    NotAList,
    NotAnObject,
    NoComma,
    After,
    CutOff,
}

impl Fault {
    /// As an error: `number` is the record's in the file, `base` where the pending bytes begin.
    pub(super) fn error(&self, path: &Path, number: usize, base: u64) -> Error {
        let (path, at) = (path.display(), base + self.at as u64);
        match self.what {
            What::NotAList => error!(Decode, "`{path}` begins with neither `[` nor `{{`")
                .help("expected { id, image, conversations: [{ from, value }] }, as a list or one a line"),
            What::NotAnObject => error!(Decode, "`{path}`: item {number} at byte {at} is not an object"),
            What::NoComma => error!(Decode, "`{path}`: no comma before item {number} at byte {at}"),
            What::After => error!(Decode, "`{path}`: something follows the list at byte {at}"),
            What::CutOff => error!(Decode, "`{path}` is cut off: it ends in item {number}, which begins at byte {at}")
                .help("fetch it again"),
        }
    }
}

/// Finds records without looking into them: quotes, escapes and brackets are all that counts.
pub(super) struct Scanner {
    layout: Layout,
    state: ScanState,
    /// Where the record under way begins.
    start: usize,
    depth: usize,
    /// Inside a string; after a backslash.
    quoted: bool,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanState {
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
    pub(super) fn new(layout: Layout) -> Self {
        Scanner { layout, state: ScanState::Start, start: 0, depth: 0, quoted: false, escaped: false }
    }

    /// Scans `bytes` from `from` on; `ended` says that nothing follows.
    pub(super) fn scan(&mut self, bytes: &[u8], from: usize, ended: bool) -> std::result::Result<Found, Fault> {
        let from = if from == 0 && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { from };
        let mut found = Found::default();
        match self.layout {
            Layout::List => self.scan_list(bytes, from, &mut found)?,
            Layout::Lines => self.scan_lines(bytes, from, ended, &mut found),
        }
        let inside = self.state == ScanState::Record;
        if ended && self.layout == Layout::List && self.state != ScanState::End {
            let at = if inside { self.start } else { bytes.len() };
            let what = if self.state == ScanState::Start { What::NotAList } else { What::CutOff };
            return Err(Fault { at, what, records: found.records.len() });
        }
        found.consumed = if inside { self.start } else { bytes.len() };
        Ok(found)
    }

    /// The first `consumed` bytes are gone.
    pub(super) fn rebase(&mut self, consumed: usize) {
        self.start = self.start.saturating_sub(consumed);
    }

    fn scan_list(&mut self, bytes: &[u8], from: usize, found: &mut Found) -> std::result::Result<(), Fault> {
        let mut at = from;
        while let Some(&byte) = bytes.get(at) {
            if self.state == ScanState::Record {
                at = self.skip_record(bytes, at, found);
                continue;
            }
            let fault = |what| Err(Fault { at, what, records: found.records.len() });
            self.state = match (self.state, byte) {
                (state, b' ' | b'\n' | b'\r' | b'\t') => state,
                (ScanState::Start, b'[') => ScanState::First,
                (ScanState::Start, _) => return fault(What::NotAList),
                (ScanState::First | ScanState::Comma, b']') => ScanState::End,
                (ScanState::First | ScanState::Next, b'{') => {
                    (self.start, self.depth) = (at, 1);
                    ScanState::Record
                }
                (ScanState::First | ScanState::Next, _) => return fault(What::NotAnObject),
                (ScanState::Comma, b',') => ScanState::Next,
                (ScanState::Comma, _) => return fault(What::NoComma),
                (ScanState::Record | ScanState::End, _) => return fault(What::After),
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
                    self.state = ScanState::Comma;
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
        let mut start = if self.state == ScanState::Record { self.start } else { from };
        let mut at = from;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            push(start, at + length);
            at += length + 1;
            start = at;
        }
        if ended {
            push(start, bytes.len());
        }
        self.state = if ended { ScanState::End } else { ScanState::Record };
        self.start = start;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(text: &str, layout: Layout, block: usize) -> std::result::Result<Vec<String>, usize> {
        // The scanner alone, with blocks of any size.
        let (mut scanner, bytes, mut pending, mut base) = (Scanner::new(layout), text.as_bytes(), Vec::new(), 0);
        let mut spans = Vec::new();
        for next in bytes.chunks(block).map(Some).chain([None]) {
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
}

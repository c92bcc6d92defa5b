//! Tables of the benchmarks' own repositories and of VLMEvalKit: values between tabs, quoted where they hold tabs, quotes or
//! ends of lines, as pandas writes them. Every value is a text; an empty one is none.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::Container;
use crate::data::table::file::{Columns, Keep, TableFile, TableParts, Whole};
use crate::data::table::inline::Inline;
use crate::error;
use crate::error::{Error, Result};

/// The longest row; a picture takes some hundred kilobytes.
const LONGEST: usize = 256 << 20;
/// The most lines of a row.
const LINES: usize = 1000;
/// VLMEvalKit writes a picture once; other rows have the `index` of that row in place of it (vlmeval/dataset/image_base.py).
const REFERENCE: usize = 64;

/// Values between tabs.
pub(super) struct Tsv;

impl Container for Tsv {
    fn endings(&self) -> &'static [&'static str] {
        &["tsv"]
    }

    fn rows(&self, path: &Path, keep: Option<Keep>) -> Option<Result<Box<dyn TableParts>>> {
        Some(open(path, keep.unwrap_or(&|_| true)).map(Whole::of))
    }
}

/// Reads a file; a row of another number of values is kept out.
fn open(path: &Path, keep: Keep) -> Result<TableFile> {
    let file = crate::fs::open(path).map_err(|error| Error::file(path, error))?;
    let mut rows = TsvRows { lines: BufReader::new(file), path, at: 0 };
    let Some((header, ..)) = rows.next_row()? else {
        return Err(error!(Decode, "`{}` is empty", path.display()));
    };
    let header: Arc<Vec<String>> = Arc::new(header);
    let names = header.clone();
    let parse = move |bytes: &[u8], field: &str| {
        let values = values(bytes)?;
        let place = names.iter().position(|name| name == field)?;
        values.into_iter().nth(place).map(Value::from)
    };
    let mut inline = Inline::new(path, Some(Box::new(parse)));
    let mut columns = Columns::new(header.iter().filter(|name| keep(name)));
    let (mut numbers, mut broken, mut number) = (Vec::new(), Vec::new(), 0);
    while let Some((values, start, length)) = rows.next_row()? {
        inline.push_place(start, length);
        if values.len() == header.len() {
            let kept = numbers.len();
            numbers.push(number);
            for (name, text) in header.iter().zip(values).filter(|(name, text)| keep(name) && !text.is_empty()) {
                let mut value = Value::String(text);
                inline.take(number, name, &mut value);
                columns.put(kept, name, value);
            }
        } else {
            let (path, there, expected) = (path.display(), values.len(), header.len());
            broken.push(error!(
                Decode,
                "`{path}`, row {}: {there} values, the first line names {expected}",
                number + 1
            ));
        }
        number += 1;
    }
    let mut columns = columns.finish(numbers.len());
    refer(&mut inline, &numbers, &mut columns);
    Ok(TableFile {
        path: path.to_path_buf(),
        start: 0,
        numbers,
        fields: header.to_vec(),
        columns,
        broken,
        pictures: None,
        inline: inline.some().map(Arc::new),
        placed: Vec::new(),
    })
}

/// TsvRows whose picture is the `index` of another row show the picture of that row.
fn refer(inline: &mut Inline, numbers: &[usize], columns: &mut [(String, Vec<Value>)]) {
    let Some((_, index)) = columns.iter().find(|(name, _)| name == "index") else { return };
    let text = |value: &Value| value.as_str().map(str::to_string);
    let places: std::collections::HashMap<String, usize> =
        index.iter().enumerate().filter_map(|(at, value)| Some((text(value)?, at))).collect();
    let fields: Vec<String> = inline.fields().cloned().collect();
    for (name, values) in columns.iter().filter(|(name, _)| fields.contains(name)) {
        for (at, value) in values.iter().enumerate() {
            let short = value.as_str().filter(|text| text.len() <= REFERENCE && !inline.has(name, numbers[at]));
            let to = short.and_then(|text| places.get(text)).map(|to| numbers[*to]);
            if let Some(to) = to.filter(|to| inline.has(name, *to)) {
                inline.refer(name, numbers[at], to);
            }
        }
    }
}

struct TsvRows<'a, R> {
    lines: R,
    path: &'a Path,
    at: u64,
}

impl<R: BufRead> TsvRows<'_, R> {
    /// The values of the next row, its first byte and its length. Lines without text are no rows.
    fn next_row(&mut self) -> Result<Option<(Vec<String>, u64, usize)>> {
        let (mut start, mut bytes, mut lines) = (self.at, Vec::new(), 0);
        loop {
            let before = bytes.len();
            self.lines.read_until(b'\n', &mut bytes).map_err(|error| Error::file(self.path, error))?;
            let blank = bytes.iter().all(u8::is_ascii_whitespace);
            lines += 1;
            if bytes.len() == before || bytes.len() > LONGEST || lines > LINES {
                let path = self.path.display();
                return match blank {
                    true => Ok(None),
                    false => {
                        Err(error!(Decode, "`{path}`: a quote that begins in the row at byte {start} is not closed")
                            .help("the file may be cut off: fetch it again"))
                    }
                };
            }
            self.at += (bytes.len() - before) as u64;
            if blank {
                (start, bytes, lines) = (self.at, Vec::new(), 0);
                continue;
            }
            // Inside quotes only a line with a quote can be the last.
            if before > 0 && !bytes[before..].contains(&b'"') {
                continue;
            }
            let row = bytes.strip_prefix(b"\xef\xbb\xbf").filter(|_| start == 0).unwrap_or(&bytes);
            if let Some(values) = values(row) {
                return Ok(Some((values, start, bytes.len())));
            }
        }
    }
}

/// The values of a row; `None` when a quote is not closed.
fn values(row: &[u8]) -> Option<Vec<String>> {
    let row = row.strip_suffix(b"\n").unwrap_or(row);
    let mut rest = row.strip_suffix(b"\r").unwrap_or(row);
    let mut values = Vec::new();
    loop {
        let mut value = Vec::new();
        // Quotes count at the beginning of a value only; two of them inside are one.
        if let Some(quoted) = rest.strip_prefix(b"\"") {
            rest = quoted;
            loop {
                let end = rest.iter().position(|byte| *byte == b'"')?;
                value.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix(b"\"") {
                    Some(after) => rest = after,
                    None => break,
                }
                value.push(b'"');
            }
        }
        let end = rest.iter().position(|byte| *byte == b'\t');
        value.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        values.push(String::from_utf8_lossy(&value).into_owned());
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return Some(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_pandas() {
        // pandas 2.3: read_csv(io.StringIO(text), sep="\t")
        let is = |row: &str, expected: &[&str]| assert_eq!(values(row.as_bytes()).unwrap(), expected, "{row}");
        is("a\tb c\t\r\n", &["a", "b c", ""]);
        is("\"a\tb\"\t\"say \"\"hi\"\"\"\t5\" wide\n", &["a\tb", "say \"hi\"", "5\" wide"]);
        is("\"two\nlines\"\tx\n", &["two\nlines", "x"]);
        assert!(values(b"\"open\tx\n").is_none());
    }
}

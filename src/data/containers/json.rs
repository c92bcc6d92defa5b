//! JSON: one object a line, or a list of objects. Pictures are paths relative to the file, or base64 texts. Other JSON that
//! people download beside questions (one object for all of them, lists of ids) is recognized and named.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Container;
use crate::data::table::file::{Columns, Keep, TableFile, TableParts, Whole};
use crate::data::table::inline::Inline;
use crate::error;
use crate::error::{Error, Result};

/// One object a line. A file that begins with `[` is a list all the same.
pub(super) struct JsonLines;
/// A list of objects; a file that does not begin with `[` has one a line all the same.
pub(super) struct Json;

/// What libraries keep beside data.
const BESIDE: [&str; 7] = ["dataset_info", "dataset_infos", "dataset_dict", "state", "config", "metadata", "package"];

impl Container for JsonLines {
    fn endings(&self) -> &'static [&'static str] {
        &["jsonl", "ndjson"]
    }

    fn rows(&self, path: &Path, keep: Option<Keep>) -> Option<Result<Box<dyn TableParts>>> {
        Some(open(path, keep.unwrap_or(&|_| true)).map(Whole::of))
    }
}

impl Container for Json {
    fn endings(&self) -> &'static [&'static str] {
        &["json"]
    }

    fn is_named(&self, stem: &str) -> bool {
        !BESIDE.contains(&stem)
    }

    fn rows(&self, path: &Path, keep: Option<Keep>) -> Option<Result<Box<dyn TableParts>>> {
        JsonLines.rows(path, keep)
    }
}

type Row = Map<String, Value>;

/// Reads a file; a line that is no object is kept out. Fields that are not to be kept are named but not held.
fn open(path: &Path, keep: Keep) -> Result<TableFile> {
    let mut file = BufReader::new(crate::fs::open(path).map_err(|error| Error::file(path, error))?);
    let head = file.fill_buf().map_err(|error| Error::file(path, error))?;
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => list(path, keep),
        _ => lines(path, file, keep),
    }
}

fn lines(path: &Path, file: impl BufRead, keep: Keep) -> Result<TableFile> {
    let parse = |bytes: &[u8], field: &str| serde_json::from_slice::<Row>(bytes).ok()?.swap_remove(field);
    let mut table = Reader::new(path, Inline::new(path, Some(Box::new(parse))), keep);
    let mut at = 0;
    for line in file.split(b'\n') {
        let line = line.map_err(|error| Error::file(path, error))?;
        let (start, whole_line) = (at, line.len());
        at += whole_line as u64 + 1;
        let line = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| start == 0).unwrap_or(&line);
        let start = start + (whole_line - line.len()) as u64;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        table.inline.push_place(start, line.len());
        match serde_json::from_slice::<Row>(line) {
            Ok(row) => {
                if table.number == 0 {
                    table.first = what_it_is(&row);
                }
                table.push(row);
            }
            Err(_) if table.number == 0 && line.starts_with(b"{") && whole(path)?.is_some() => {
                let row = whole(path)?.unwrap_or_default();
                let what =
                    what_it_is(&row).unwrap_or_else(|| "one object over several lines, not one a line".to_string());
                return Err(error!(Decode, "`{}` is {what}", path.display()));
            }
            Err(error) => table.broken.push(
                error!(Decode, "`{}`, row {}: {error}", path.display(), table.number + 1)
                    .help("a line is one JSON object; the row is left out"),
            ),
        }
        table.number += 1;
    }
    if table.numbers.is_empty() && !table.broken.is_empty() {
        return Err(error!(Decode, "`{}` is not JSON lines: {}", path.display(), table.broken[0].message()));
    }
    match table.first.take().filter(|_| table.number == 1) {
        Some(what) => Err(error!(Decode, "`{}` is {what}", path.display())),
        None => Ok(table.finish()),
    }
}

/// The one object that a file is.
fn whole(path: &Path) -> Result<Option<Row>> {
    let bytes = crate::fs::read(path).map_err(|error| Error::file(path, error))?;
    Ok(serde_json::from_slice(&bytes).ok())
}

fn list(path: &Path, keep: Keep) -> Result<TableFile> {
    let bytes = crate::fs::read(path).map_err(|error| Error::file(path, error))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let rows: Vec<Value> = serde_json::from_slice(bytes).map_err(|error| {
        error!(Decode, "`{}` is a JSON list that cannot be read: {error}", path.display())
            .help("it may be cut off: fetch it again")
    })?;
    let mut table = Reader::new(path, Inline::new(path, None), keep);
    for row in rows {
        match row {
            Value::Object(row) => table.push(row),
            _ => {
                return Err(error!(
                    Decode,
                    "`{}` is a list, and its item {} is no object",
                    path.display(),
                    table.number
                ));
            }
        }
        table.number += 1;
    }
    Ok(table.finish())
}

/// What a file is whose only object is no row: objects or lists by name.
fn what_it_is(row: &Row) -> Option<String> {
    let names = || {
        let names: Vec<String> = row.keys().take(3).map(|name| format!("`{name:.30}`")).collect();
        names.join(", ") + if row.len() > 3 { ", ..." } else { "" }
    };
    let rows = |value: &Value| value.as_array().is_some_and(|list| list.first().is_some_and(Value::is_object));
    if row.is_empty() {
        return None;
    }
    if row.values().all(Value::is_object) {
        return Some(format!("one object with {} entries by name ({}), not a list of questions", row.len(), names()));
    }
    if row.values().all(Value::is_array) {
        return Some(format!("{} lists by name ({}), not a list of questions", row.len(), names()));
    }
    let inside = row.iter().find(|(_, value)| rows(value)).map(|(name, _)| name)?;
    // A row may well have a list of objects, but not beside what describes a whole set.
    let describes =
        |name: &String| ["info", "version", "license", "dataset_name", "dataset_version"].contains(&name.as_str());
    row.keys()
        .any(describes)
        .then(|| format!("one object that holds its rows in `{inside:.30}`, not a list of questions"))
}

struct Reader<'a> {
    path: &'a Path,
    keep: Keep<'a>,
    inline: Inline,
    /// Of the row under way, in the file.
    number: usize,
    numbers: Vec<usize>,
    fields: Vec<String>,
    columns: Columns,
    broken: Vec<Error>,
    /// What the file is, should the first row be its only one.
    first: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, inline: Inline, keep: Keep<'a>) -> Self {
        let (numbers, broken, fields) = (Vec::new(), Vec::new(), Vec::new());
        Reader { path, keep, inline, number: 0, numbers, fields, columns: Columns::default(), broken, first: None }
    }

    fn push(&mut self, row: Row) {
        let kept = self.numbers.len();
        self.numbers.push(self.number);
        for (name, mut value) in row {
            let known = self.fields.len();
            if (self.keep)(&name) {
                self.inline.take(self.number, &name, &mut value);
                self.columns.put(kept, &name, value);
            }
            // Rows of one set have the same fields: the search is short.
            if kept == 0 || !self.fields[..known].contains(&name) {
                self.fields.push(name);
            }
        }
    }

    fn finish(self) -> TableFile {
        let columns = self.columns.finish(self.numbers.len());
        TableFile {
            path: self.path.to_path_buf(),
            start: 0,
            numbers: self.numbers,
            fields: self.fields,
            columns,
            broken: self.broken,
            pictures: None,
            inline: self.inline.some().map(Arc::new),
            placed: Vec::new(),
        }
    }
}

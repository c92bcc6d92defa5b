//! Pictures inside a parquet file. They are read in windows of a few rows, and the last windows are kept: questions come
//! in order and in batches. A reader stays where it is and goes on from there; only a step back begins a row group
//! anew, where pages that hold no wanted row are passed over without being unpacked.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::columns::{Leaf, Levels, Step, each_entry};
use super::inline;
use super::pages::{self, guarded, largest_group};
use crate::error;
use crate::error::{Error, Result};

/// Rows in a window.
const WINDOW: usize = 16;
/// Rows of lists that are passed over at a time.
const SKIPPED: usize = 1024;
/// Windows that are kept, and the bytes they may hold together; one is always kept.
const WINDOWS: usize = 8;
const BYTES: usize = 256 << 20;

/// The columns of bytes of one file.
pub(in crate::data) struct ColumnPictures {
    path: PathBuf,
    reader: Arc<SerializedFileReader<File>>,
    /// First row of each row group, and the number of all rows.
    starts: Vec<usize>,
    columns: BTreeMap<String, Column>,
    /// Bytes of the largest row group.
    group: u64,
    state: Mutex<Windows>,
}

struct Column {
    leaf: Leaf,
    /// Whether the struct's `path`, which is read with the texts, tells if there is a picture.
    paths: bool,
}

#[derive(Default)]
struct Windows {
    cursor: Option<Cursor>,
    windows: VecDeque<(WindowKey, Arc<Window>)>,
    /// Columns of row groups that the library broke off on or did not end with: not begun again.
    failed: Vec<((usize, usize), Error)>,
}

/// Column and first row.
type WindowKey = (usize, usize);

/// Where a column's reader stands.
struct Cursor {
    column: usize,
    group: usize,
    /// The row of the file it reads next.
    row: usize,
    reader: ColumnReaderImpl<ByteArrayType>,
}

/// For each row its pictures; an item of a list may be null.
struct Window {
    rows: Vec<Vec<Option<ByteArray>>>,
    bytes: usize,
}

impl ColumnPictures {
    /// The columns of bytes among the leaves, if there are any.
    pub(in crate::data) fn new(
        path: &Path,
        reader: Arc<SerializedFileReader<File>>,
        leaves: &[Leaf],
        length: u64,
    ) -> Option<Self> {
        let single = |leaf: &Leaf| leaf.steps.iter().filter(|step| **step == Step::Item).count() <= 1;
        let columns: BTreeMap<String, Column> = leaves
            .iter()
            .filter(|leaf| leaf.binary && single(leaf))
            .map(|leaf| {
                let beside = |other: &&Leaf| other.field == leaf.field && !other.binary;
                (leaf.field.clone(), Column { leaf: leaf.clone(), paths: leaves.iter().any(|other| beside(&other)) })
            })
            .collect();
        if columns.is_empty() {
            return None;
        }
        let mut starts = vec![0usize];
        for group in reader.metadata().row_groups() {
            starts.push(starts[starts.len() - 1].saturating_add(group.num_rows().max(0) as usize));
        }
        let group = largest_group(&reader, length);
        Some(ColumnPictures { path: path.to_path_buf(), reader, starts, columns, group, state: Mutex::default() })
    }

    /// Names of the fields.
    pub(in crate::data) fn fields(&self) -> impl Iterator<Item = &String> {
        self.columns.keys()
    }

    /// Whether a field's pictures lie in this file.
    pub(in crate::data) fn holds(&self, field: &str) -> bool {
        self.columns.contains_key(field)
    }

    /// Whether the texts that were read already tell if there is a picture.
    pub(in crate::data) fn has_paths(&self, field: &str) -> bool {
        self.columns.get(field).is_some_and(|column| column.paths)
    }

    /// How many pictures a row's field has.
    pub(in crate::data) fn count(&self, field: &str, row: usize) -> Result<usize> {
        let (window, at) = self.window(field, row)?;
        Ok(window.rows.get(at).map_or(0, |row| row.iter().flatten().count()))
    }

    /// The encoded bytes of a picture.
    pub(in crate::data) fn bytes(&self, field: &str, row: usize, number: usize) -> Result<Option<Vec<u8>>> {
        let (window, at) = self.window(field, row)?;
        let picture = window.rows.get(at).and_then(|row| row.get(number)?.as_ref());
        let Some(bytes) = picture.map(ByteArray::data) else { return Ok(None) };
        if !self.columns.get(field).is_some_and(|column| column.leaf.encoded) {
            return Ok(Some(bytes.to_vec()));
        }
        let decoded = std::str::from_utf8(bytes).ok().and_then(inline::decode);
        let place = || format!("`{}`, row {}, field `{field}`", self.path.display(), row + 1);
        decoded.map(Some).ok_or_else(|| error!(Decode, "{}: it is not the base64 text of a picture", place()))
    }

    /// The window that holds a row, and the row's place in it.
    fn window(&self, field: &str, row: usize) -> Result<(Arc<Window>, usize)> {
        let named = |message: &dyn std::fmt::Display| {
            error!(Decode, "`{}`, row {}, field `{field}`: {message}", self.path.display(), row + 1)
        };
        let column = self.columns.get(field).ok_or_else(|| named(&"no pictures"))?;
        let group = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        let (Some(&start), Some(&end)) = (self.starts.get(group), self.starts.get(group + 1)) else {
            return Err(named(&"no such row"));
        };
        // Windows are aligned within their row group, so that threads that ask for neighbors share one.
        let first = start + (row - start) / WINDOW * WINDOW;
        let key = (column.leaf.column, first);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, window)) = state.windows.iter().find(|(known, _)| *known == key) {
            return Ok((window.clone(), row - first));
        }
        if let Some((_, error)) = state.failed.iter().find(|(known, _)| *known == (key.0, group)) {
            return Err(error.clone());
        }
        let cursor = state.cursor.take().filter(|c| c.column == key.0 && c.group == group && c.row <= first);
        let (reader, leaf, count) = (self.reader.clone(), column.leaf.clone(), WINDOW.min(end - first));
        let read = guarded(&self.path, self.group, move || -> parquet::errors::Result<_> {
            let mut cursor = match cursor {
                Some(cursor) => cursor,
                None => begin(&reader, leaf.column, group, start)?,
            };
            let window = read_window(&mut cursor, &leaf, first, count)?;
            Ok((cursor, window))
        });
        let read = read.inspect_err(|error| state.failed.push(((key.0, group), error.clone())))?;
        let (cursor, window) = read.map_err(|error| named(&error))?;
        let window = Arc::new(window);
        state.cursor = Some(cursor);
        state.keep(key, window.clone());
        Ok((window, row - first))
    }
}

fn begin(
    reader: &SerializedFileReader<File>,
    column: usize,
    group: usize,
    row: usize,
) -> parquet::errors::Result<Cursor> {
    match pages::column(reader, group, column)? {
        ColumnReader::ByteArrayColumnReader(reader) => Ok(Cursor { column, group, row, reader }),
        _ => Err(ParquetError::General("the column does not hold bytes".to_string())),
    }
}

impl Windows {
    fn keep(&mut self, key: WindowKey, window: Arc<Window>) {
        self.windows.push_back((key, window));
        let total = |windows: &VecDeque<(WindowKey, Arc<Window>)>| windows.iter().map(|(_, w)| w.bytes).sum::<usize>();
        while self.windows.len() > 1 && (self.windows.len() > WINDOWS || total(&self.windows) > BYTES) {
            self.windows.pop_front();
        }
    }
}

impl Cursor {
    /// Passes over the rows before `first`. In a list that is damaged `skip_records` (parquet 60) does not end, so the rows of
    /// lists are read and dropped; their pages have to be unpacked in either case.
    fn skip_to(&mut self, first: usize, leaf: &Leaf) -> parquet::errors::Result<()> {
        if !leaf.steps.contains(&Step::Item) {
            self.row += self.reader.skip_records(first - self.row)?;
            return Ok(());
        }
        while self.row < first {
            let (mut levels, mut values) = (Levels::default(), Vec::new());
            let (definitions, repetitions) = (Some(&mut levels.definitions), Some(&mut levels.repetitions));
            let count = (first - self.row).min(SKIPPED);
            let (rows, ..) = self.reader.read_records(count, definitions, repetitions, &mut values)?;
            if rows == 0 {
                break;
            }
            self.row += rows;
        }
        Ok(())
    }
}

fn read_window(cursor: &mut Cursor, leaf: &Leaf, first: usize, count: usize) -> parquet::errors::Result<Window> {
    cursor.skip_to(first, leaf)?;
    let (mut levels, mut values) = (Levels::default(), Vec::new());
    let (definitions, repetitions) = (Some(&mut levels.definitions), Some(&mut levels.repetitions));
    (levels.rows, _, levels.count) = cursor.reader.read_records(count, definitions, repetitions, &mut values)?;
    cursor.row += levels.rows;
    let bytes = values.iter().map(ByteArray::len).sum();
    let (mut values, mut rows) = (values.into_iter(), vec![Vec::new(); levels.rows]);
    each_entry(&levels, leaf.depth(), |row, _, _, there| {
        if let Some(row) = rows.get_mut(row) {
            row.push(if there { values.next() } else { None });
        }
    });
    Ok(Window { rows, bytes })
}

//! Parquet files: texts and numbers column by column, so many rows at a time; a struct's `bytes` stay behind (`pictures.rs`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::ColumnReader;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::Container;
use crate::data::table::columns::{Leaf, leaves, read, read_some};
use crate::data::table::file::{Keep, TableFile, TableParts};
use crate::data::table::inline::is_picture;
use crate::data::table::pages::{column, guarded, largest_group};
use crate::data::table::pictures::ColumnPictures;
use crate::error;
use crate::error::{Error, Result};

/// Of a struct with this field nothing else is kept, where only what is wanted is read: VQA's answers.
const ANSWER: &str = "answer";
/// Rows that tell whether a column of texts holds pictures.
const PEEK: usize = 64;
/// More rows than this at once may be all of the file.
const PART: usize = 1 << 16;

/// Parquet files.
pub(super) struct Parquet;

impl Container for Parquet {
    fn endings(&self) -> &'static [&'static str] {
        &["parquet"]
    }

    fn rows(&self, path: &Path, keep: Option<Keep>) -> Option<Result<Box<dyn TableParts>>> {
        Some(ParquetRows::open(path, keep).map(|rows| Box::new(rows) as Box<dyn TableParts>))
    }
}

/// A file that is read from its first row to its last; nothing is left of it after a panic.
struct ParquetRows {
    path: PathBuf,
    fields: Vec<String>,
    pictures: Option<Arc<ColumnPictures>>,
    /// Bytes of the file and of its largest row group.
    length: u64,
    group: u64,
    reading: Option<Reading>,
}

/// Where the library stands; it goes to the thread that the library runs on, and comes back.
struct Reading {
    path: PathBuf,
    reader: Arc<SerializedFileReader<File>>,
    /// Those that are read.
    leaves: Vec<Leaf>,
    group: usize,
    /// Of the row group under way, one for each leaf, and how many rows are left of it.
    columns: Vec<ColumnReader>,
    left: usize,
    /// The row of the file that comes next.
    row: usize,
    begun: bool,
}

/// Columns by their fields, and how many rows they have.
type Part = (Vec<(String, Vec<Value>)>, usize);

/// A file and its leaves.
struct Opened {
    reader: Arc<SerializedFileReader<File>>,
    leaves: Vec<Leaf>,
}

impl Opened {
    fn open(path: &Path, file: File) -> Result<Self> {
        let broken = |error: &dyn std::fmt::Display| damaged(path, error);
        let reader = Arc::new(SerializedFileReader::new(file).map_err(|error| broken(&error))?);
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut leaves = leaves(schema.root_schema());
        if leaves.len() != schema.num_columns() {
            return Err(broken(&"its schema is not understood"));
        }
        for leaf in &mut leaves {
            let physical = schema.column(leaf.column).physical_type();
            let text = physical == parquet::basic::Type::BYTE_ARRAY && !leaf.binary;
            let may_be = text && leaf.field.starts_with("image") && leaf.key().is_none();
            leaf.encoded = may_be && holds_pictures(&reader, leaf.column).map_err(|error| broken(&error))?;
            leaf.binary |= leaf.encoded;
            leaf.readable = leaf.is_readable(physical);
        }
        Ok(Opened { reader, leaves })
    }
}

impl ParquetRows {
    /// Opens a file; `keep` says which fields are read, `None` stands for all of all.
    fn open(path: &Path, keep: Option<Keep>) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        let file = crate::fs::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let name = path.to_path_buf();
        let Opened { reader, leaves: mut all } = guarded(path, length, move || Opened::open(&name, file))??;
        let mut fields: Vec<String> = all.iter().map(|leaf| leaf.field.clone()).collect();
        fields.dedup();
        let pictures = ColumnPictures::new(path, reader.clone(), &all, length).map(Arc::new);
        all.retain(|leaf| leaf.readable);
        if let Some(keep) = keep {
            all = wanted(all, keep);
        }
        all.retain(|leaf| !leaf.binary);
        let (path, group) = (path.to_path_buf(), largest_group(&reader, length));
        let (leaves, columns) = (all, Vec::new());
        let reading = Reading { path: path.clone(), reader, leaves, group: 0, columns, left: 0, row: 0, begun: false };
        Ok(ParquetRows { path, fields, pictures, length, group, reading: Some(reading) })
    }
}

impl Reading {
    /// Goes on to the next row group that has rows.
    fn next_group(&mut self) -> Result<bool> {
        let broken = |error: &dyn std::fmt::Display| damaged(&self.path, error);
        while self.group < self.reader.num_row_groups() {
            let rows = self.reader.metadata().row_group(self.group).num_rows();
            self.left = usize::try_from(rows).map_err(|error| broken(&error))?;
            let columns = self.leaves.iter().map(|leaf| column(&self.reader, self.group, leaf.column));
            self.columns = columns.collect::<parquet::errors::Result<_>>().map_err(|error| broken(&error))?;
            self.group += 1;
            if self.left > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next rows, `limit` at most.
    fn part(&mut self, limit: usize) -> Result<Part> {
        let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
        let mut rows = 0;
        while rows < limit && (self.left > 0 || self.next_group()?) {
            let count = self.left.min(limit - rows);
            for (leaf, reader) in self.leaves.iter().zip(&mut self.columns) {
                let place = columns.iter().position(|(name, _)| *name == leaf.field).unwrap_or_else(|| {
                    columns.push((leaf.field.clone(), Vec::new()));
                    columns.len() - 1
                });
                let column = &mut columns[place].1;
                column.resize(column.len().max(rows), Value::Null);
                let broken =
                    |error: &dyn std::fmt::Display| damaged(&self.path, &format!("field `{}`: {error}", leaf.field));
                let mut there = read(reader, leaf, column, rows, count).map_err(|error| broken(&error))?;
                if count == self.left {
                    there += read_some(reader, 1).map_err(|error| broken(&error))?.0.rows;
                }
                if there != count {
                    return Err(broken(&format!("{count} rows are declared, {there} are there")));
                }
            }
            (rows, self.left) = (rows + count, self.left - count);
        }
        Ok((columns, rows))
    }
}

impl TableParts for ParquetRows {
    fn next(&mut self, limit: usize) -> Result<Option<TableFile>> {
        let Some(mut reading) = self.reading.take() else { return Ok(None) };
        let bytes = if limit > PART { self.length } else { self.group };
        let (mut reading, part) = guarded(&self.path, bytes, move || {
            let part = reading.part(limit);
            (reading, part)
        })?;
        let (columns, rows) = part?;
        // A file without rows is one part.
        if rows == 0 && reading.begun {
            return Ok(None);
        }
        reading.begun = true;
        let numbers = (reading.row..reading.row + rows).collect();
        reading.row += rows;
        self.reading = Some(reading);
        Ok(Some(TableFile {
            path: self.path.clone(),
            start: 0,
            numbers,
            fields: self.fields.clone(),
            columns,
            broken: Vec::new(),
            pictures: self.pictures.clone(),
            inline: None,
            placed: Vec::new(),
        }))
    }
}

/// Of the wanted fields what is used: of pictures where they are, of structs with an answer the answer.
fn wanted(leaves: Vec<Leaf>, keep: Keep) -> Vec<Leaf> {
    let beside: Vec<(String, bool)> = leaves.iter().map(|leaf| (leaf.field.clone(), leaf.binary)).collect();
    let has_bytes = |leaf: &Leaf| beside.contains(&(leaf.field.clone(), true));
    let has_answer: Vec<String> =
        leaves.iter().filter(|leaf| leaf.key() == Some(ANSWER)).map(|leaf| leaf.field.clone()).collect();
    let mut kept = Vec::new();
    for mut leaf in leaves.iter().filter(|leaf| keep(&leaf.field)).cloned() {
        match leaf.key() {
            Some("path") if has_bytes(&leaf) && !leaf.binary => leaf.instead_of_struct(),
            Some(ANSWER) => leaf.instead_of_struct(),
            Some(_) if has_answer.contains(&leaf.field) => continue,
            _ => {}
        }
        kept.push(leaf);
    }
    kept
}

/// Whether the first texts of a column are pictures.
fn holds_pictures(reader: &SerializedFileReader<File>, leaf: usize) -> parquet::errors::Result<bool> {
    if reader.num_row_groups() == 0 {
        return Ok(false);
    }
    let (_, values) = read_some(&mut column(reader, 0, leaf)?, PEEK)?;
    Ok(values.first().and_then(Value::as_str).is_some_and(is_picture))
}

fn damaged(path: &Path, error: &dyn std::fmt::Display) -> Error {
    let text = error.to_string();
    let error = error!(Decode, "`{}`: {text}", path.display());
    if text.contains("Disabled feature") || text.contains("codec") {
        return error.help("snappy, gzip, zstd, lz4 and brotli are read: write it again with one of these");
    }
    match text.contains("Invalid Parquet file") || text.contains("EOF") {
        true => error.help("the file is cut off or no parquet file: fetch it again"),
        false => error,
    }
}

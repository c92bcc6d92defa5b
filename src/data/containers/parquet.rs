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
use crate::data::table::pictures::ColumnPictures;
use crate::error;
use crate::error::{Error, Result};

/// Of a struct with this field nothing else is kept, where only what is wanted is read: VQA's answers.
const ANSWER: &str = "answer";
/// Rows that tell whether a column of texts holds pictures.
const PEEK: usize = 64;

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

/// A file that is read from its first row to its last.
struct ParquetRows {
    path: PathBuf,
    reader: Arc<SerializedFileReader<File>>,
    fields: Vec<String>,
    /// Those that are read.
    leaves: Vec<Leaf>,
    pictures: Option<Arc<ColumnPictures>>,
    group: usize,
    /// Of the row group under way, one for each leaf, and how many rows are left of it.
    columns: Vec<ColumnReader>,
    left: usize,
    /// The row of the file that comes next.
    row: usize,
    begun: bool,
}

impl ParquetRows {
    /// Opens a file; `keep` says which fields are read, `None` stands for all of all.
    fn open(path: &Path, keep: Option<Keep>) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        let broken = |error: &dyn std::fmt::Display| damaged(path, error);
        let reader = Arc::new(SerializedFileReader::new(file).map_err(|error| broken(&error))?);
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let mut all = leaves(schema.root_schema());
        if all.len() != schema.num_columns() {
            return Err(broken(&"its schema is not understood"));
        }
        let mut fields: Vec<String> = all.iter().map(|leaf| leaf.field.clone()).collect();
        fields.dedup();
        for leaf in &mut all {
            let text = schema.column(leaf.column).physical_type() == parquet::basic::Type::BYTE_ARRAY && !leaf.binary;
            let may_be = text && leaf.field.starts_with("image") && leaf.key().is_none();
            leaf.encoded = may_be && holds_pictures(&reader, leaf.column).map_err(|error| broken(&error))?;
            leaf.binary |= leaf.encoded;
        }
        let pictures = ColumnPictures::new(path, reader.clone(), &all).map(Arc::new);
        all.retain(|leaf| leaf.is_readable(schema.column(leaf.column).physical_type()));
        if let Some(keep) = keep {
            all = wanted(all, keep);
        }
        all.retain(|leaf| !leaf.binary);
        let (path, leaves, columns) = (path.to_path_buf(), all, Vec::new());
        Ok(ParquetRows { path, reader, fields, leaves, pictures, group: 0, columns, left: 0, row: 0, begun: false })
    }

    /// Goes on to the next row group that has rows.
    fn next_group(&mut self) -> Result<bool> {
        let broken = |error: &dyn std::fmt::Display| damaged(&self.path, error);
        while self.group < self.reader.num_row_groups() {
            let group = self.reader.get_row_group(self.group).map_err(|error| broken(&error))?;
            self.group += 1;
            self.left = usize::try_from(group.metadata().num_rows()).map_err(|error| broken(&error))?;
            let columns = self.leaves.iter().map(|leaf| group.get_column_reader(leaf.column));
            self.columns = columns.collect::<parquet::errors::Result<_>>().map_err(|error| broken(&error))?;
            if self.left > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl TableParts for ParquetRows {
    fn next(&mut self, limit: usize) -> Result<Option<TableFile>> {
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
        // A file without rows is one part.
        if rows == 0 && self.begun {
            return Ok(None);
        }
        self.begun = true;
        let numbers = (self.row..self.row + rows).collect();
        self.row += rows;
        Ok(Some(TableFile {
            path: self.path.clone(),
            start: 0,
            numbers,
            fields: self.fields.clone(),
            columns,
            broken: Vec::new(),
            pictures: self.pictures.clone(),
            inline: None,
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
fn holds_pictures(reader: &SerializedFileReader<File>, column: usize) -> parquet::errors::Result<bool> {
    if reader.num_row_groups() == 0 {
        return Ok(false);
    }
    let mut column = reader.get_row_group(0)?.get_column_reader(column)?;
    let (_, values) = read_some(&mut column, PEEK)?;
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

//! Parquet files: texts and numbers column by column; a struct's `bytes` stay behind (`pictures.rs`).

use std::fs::File;
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::TableFile;
use super::columns::{leaves, read};
use super::pictures::Pictures;
use crate::error;
use crate::error::{Error, Result};

/// Reads every column but those of bytes.
pub(super) fn open(path: &Path) -> Result<TableFile> {
    let file = File::open(path).map_err(|error| Error::file(path, error))?;
    let broken = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        let error = error!(Decode, "`{}`: {text}", path.display());
        match text.contains("Disabled feature") || text.contains("codec") {
            true => error.help("snappy, gzip, zstd, lz4 and brotli are read: write it again with one of these"),
            false => error,
        }
    };
    let reader = SerializedFileReader::new(file).map_err(|error| broken(&error))?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let leaves = leaves(schema.root_schema());
    if leaves.len() != schema.num_columns() {
        return Err(broken(&"its schema is not understood"));
    }
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    let mut rows = 0;
    for number in 0..reader.num_row_groups() {
        let group = reader.get_row_group(number).map_err(|error| broken(&error))?;
        let count = usize::try_from(group.metadata().num_rows()).map_err(|error| broken(&error))?;
        for leaf in &leaves {
            if leaf.binary || !leaf.is_readable(schema.column(leaf.column).physical_type()) {
                continue;
            }
            let place = columns.iter().position(|(name, _)| *name == leaf.field).unwrap_or_else(|| {
                columns.push((leaf.field.clone(), Vec::new()));
                columns.len() - 1
            });
            let column = &mut columns[place].1;
            column.resize(column.len().max(rows), Value::Null);
            let read = read(group.as_ref(), leaf, column, rows)
                .map_err(|error| broken(&format!("field `{}`: {error}", leaf.field)))?;
            if read != count {
                return Err(broken(&format!("field `{}`: {count} rows are declared, {read} are there", leaf.field)));
            }
        }
        rows += count;
    }
    let pictures = Pictures::new(path, reader, &leaves);
    Ok(TableFile {
        path: path.to_path_buf(),
        start: 0,
        numbers: (0..rows).collect(),
        columns,
        broken: Vec::new(),
        pictures,
    })
}

//! Rows of published data sets: parquet and JSON-lines files, alone or in folders, behind one type. Texts and numbers
//! are read when a file is opened; pictures stay in the file until one is wanted. A row that cannot be read is kept
//! out and counted; an error names file, row and field.

mod columns;
mod files;
mod jsonl;
mod parquet;
mod pictures;
mod places;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use self::pictures::Pictures;
use super::sample::ImageSource;
use crate::error;
use crate::error::{Error, Result};

/// The rows of one or several files. Row numbers run over all of them, in the order of the files' names.
pub struct Rows {
    files: Vec<TableFile>,
    /// Names of the fields, in the order in which they were met.
    fields: Vec<String>,
    broken: Vec<Error>,
    rows: usize,
}

/// What was read of one file.
struct TableFile {
    path: PathBuf,
    /// Of the first row, in the whole.
    start: usize,
    /// For each kept row its number in the file, from 0; broken rows are counted.
    numbers: Vec<usize>,
    columns: Vec<(String, Vec<Value>)>,
    /// Rows that could not be read.
    broken: Vec<Error>,
    /// Pictures that lie in the file itself.
    pictures: Option<Pictures>,
}

impl Rows {
    /// Opens a `.parquet` or `.jsonl` file, or a folder of them (two levels deep).
    ///
    /// # Errors
    /// `Missing` when there is nothing to read, `Decode` naming the file that is not what its name says.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        Self::open_split(path, None)
    }

    /// The same; in a folder that has files named `<split>-*`, only those.
    pub fn open_split(path: &Path, split: Option<&str>) -> Result<Arc<Self>> {
        let mut table = Rows { files: Vec::new(), fields: Vec::new(), broken: Vec::new(), rows: 0 };
        for path in files::list(path, split)? {
            let mut file = match files::is_parquet(&path) {
                true => parquet::open(&path)?,
                false => jsonl::open(&path)?,
            };
            file.start = table.rows;
            table.rows += file.numbers.len();
            for name in file.columns.iter().map(|(name, _)| name).chain(file.picture_fields()) {
                if !table.fields.contains(name) {
                    table.fields.push(name.clone());
                }
            }
            table.broken.append(&mut file.broken);
            table.files.push(file);
        }
        Ok(Arc::new(table))
    }

    /// Number of rows that could be read.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Names of the fields, pictures among them.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Why rows were kept out; one error a row.
    pub fn broken(&self) -> &[Error] {
        &self.broken
    }

    /// The file a row is in and its place there: `test.parquet, row 7`; rows are counted from 1, as editors do lines.
    pub fn place(&self, row: usize) -> String {
        match self.find(row) {
            Some((file, at)) => format!("`{}`, row {}", file.path.display(), file.numbers[at] + 1),
            None => format!("row {row} of {}", self.rows),
        }
    }

    /// A field of a row; `None` when the row lacks it or it is null.
    pub fn value(&self, row: usize, field: &str) -> Option<&Value> {
        let (file, at) = self.find(row)?;
        let (_, column) = file.columns.iter().find(|(name, _)| name == field)?;
        column.get(at).filter(|value| !value.is_null())
    }

    /// A field that must be there.
    pub fn require(&self, row: usize, field: &str) -> Result<&Value> {
        self.value(row, field).ok_or_else(|| match self.fields.iter().any(|known| known == field) {
            true => error!(Data, "{}: field `{field}` is empty", self.place(row)),
            false => error!(Data, "{}: there is no field `{field}`", self.place(row))
                .help(format!("fields: {}", self.fields.join(", "))),
        })
    }

    /// The error for a field that holds something else than what is expected.
    pub fn unexpected(&self, row: usize, field: &str, expected: &str) -> Error {
        let found = self.value(row, field).map_or("nothing".to_string(), shown);
        error!(Data, "{}: field `{field}` is {found}, expected {expected}", self.place(row))
    }

    /// A field that is text, or null.
    pub fn text(&self, row: usize, field: &str) -> Result<Option<&str>> {
        match self.value(row, field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.unexpected(row, field, "text")),
        }
    }

    /// A field that is a list of texts, or null.
    pub fn texts(&self, row: usize, field: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.value(row, field) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.unexpected(row, field, "a list of texts"))
    }

    /// A field that is a whole number, or null.
    pub fn integer(&self, row: usize, field: &str) -> Result<Option<i64>> {
        let Some(value) = self.value(row, field) else { return Ok(None) };
        // pandas makes floats of a whole-number column that has gaps.
        let whole = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
        let number = value.as_i64().or(whole.map(|number| number as i64));
        number.map(Some).ok_or_else(|| self.unexpected(row, field, "a whole number"))
    }

    /// The pictures of a field, a single one or a list; nothing is decoded. A field that is null or absent has none.
    pub fn images(self: &Arc<Self>, row: usize, field: &str) -> Result<Vec<ImageSource>> {
        let Some((file, at)) = self.find(row) else { return Ok(Vec::new()) };
        let inside = file.pictures.as_ref().filter(|pictures| pictures.holds(field));
        let count = match (self.value(row, field), inside) {
            (None, Some(pictures)) if !pictures.has_paths(field) => pictures.count(field, file.numbers[at])?,
            (None, _) => 0,
            (Some(Value::Array(list)), _) => list.len(),
            (Some(_), _) => 1,
        };
        let there = (0..count).filter(|number| !self.is_blank(row, field, *number));
        there.map(|number| self.picture(row, field, number)).collect()
    }

    /// One picture of a field.
    pub fn image(self: &Arc<Self>, row: usize, field: &str, number: usize) -> Result<Option<ImageSource>> {
        Ok(self.images(row, field)?.into_iter().nth(number))
    }

    fn picture(self: &Arc<Self>, row: usize, field: &str, number: usize) -> Result<ImageSource> {
        let Some((file, _)) = self.find(row) else { return Err(error!(Data, "there is no row {row}")) };
        let value = self.value(row, field);
        let value = value.and_then(Value::as_array).map_or(value, |list| list.get(number));
        let path = value.and_then(|value| value.as_str().or_else(|| value.get("path")?.as_str()));
        if file.pictures.as_ref().is_some_and(|pictures| pictures.holds(field)) {
            return Ok(ImageSource::Row { rows: self.clone(), row, field: field.into(), number });
        }
        match path {
            Some(path) => Ok(ImageSource::File(file.folder().join(path))),
            None => Err(self.unexpected(row, field, "a picture's path or bytes")),
        }
    }

    /// The encoded bytes of a picture that lies in the file, or of the file beside it that the row names.
    pub fn image_bytes(&self, row: usize, field: &str, number: usize) -> Result<Vec<u8>> {
        let Some((file, at)) = self.find(row) else { return Err(error!(Data, "there is no row {row}")) };
        let missing = || error!(Data, "{}: field `{field}` has no picture", self.place(row));
        let Some(pictures) = &file.pictures else { return Err(missing()) };
        if let Some(bytes) = pictures.bytes(field, file.numbers[at], number)? {
            return Ok(bytes);
        }
        let value = self.value(row, field);
        let value = value.and_then(Value::as_array).map_or(value, |list| list.get(number));
        let path = value.and_then(|value| value.get("path")?.as_str()).ok_or_else(missing)?;
        let path = file.folder().join(path);
        std::fs::read(&path).map_err(|error| Error::file(&path, error).context(self.place(row)))
    }

    /// What identifies the contents: every text and number, and which pictures there are.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, column) in self.files.iter().flat_map(|file| &file.columns) {
            hasher.update(name);
            column.iter().for_each(|value| hasher.update(value.to_string()));
        }
        format!("{:x}", hasher.finalize())
    }

    fn find(&self, row: usize) -> Option<(&TableFile, usize)> {
        let index = self.files.partition_point(|file| file.start <= row).checked_sub(1)?;
        // Empty files begin where the next one does.
        let file = &self.files[index];
        (row - file.start < file.numbers.len()).then(|| (file, row - file.start))
    }
}

impl TableFile {
    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn picture_fields(&self) -> impl Iterator<Item = &String> {
        self.pictures.iter().flat_map(Pictures::fields)
    }
}

/// A value in a message: short ones themselves, long ones by their kind.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 {
        return text;
    }
    match value {
        Value::String(_) => "a long text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        _ => "a number",
    }
    .to_string()
}

#[cfg(test)]
mod tests;

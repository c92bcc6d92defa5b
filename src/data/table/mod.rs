//! Rows of published data sets: parquet, JSON and TSV files, alone or in folders, behind one type. Texts and numbers
//! are read when a file is opened, or part by part; pictures stay in the file until one is wanted. A row that cannot be
//! read is kept out and counted; an error names file, row and field.

mod choose;
pub(super) mod columns;
pub(super) mod file;
mod files;
pub(super) mod inline;
mod names;
pub(super) mod pages;
mod parts;
pub(super) mod pictures;
mod places;
mod row_picture;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use self::choose::Wanted;
use self::file::TableFile;
pub use self::files::find;
pub use self::parts::{Reading, parts};
use self::row_picture::RowPicture;
use super::containers;
use super::image_source::ImageSource;
use crate::error;
use crate::error::{Context, Error, Result};

/// How many fields a message names.
const SHOWN: usize = 20;
/// The longest path; a longer text is something else.
const LONGEST_PATH: usize = 4096;

/// The rows of one or several files. Row numbers run over all of them, in the order of the files' names.
pub struct Rows {
    files: Vec<TableFile>,
    /// Names of the fields, in the order in which they were met.
    fields: Vec<String>,
    broken: Vec<Error>,
    rows: usize,
    /// The same rows without their texts: what pictures are read from, where the texts need not stay.
    kept: Option<Arc<Rows>>,
}

impl Rows {
    /// Opens a file, or a folder of files of one format (three levels deep), whole.
    ///
    /// # Errors
    /// `Missing` when there is nothing to read, `Decode` naming the file that is not what its name says; what
    /// [`find`] fails with.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        Self::open_files(&files::find(path, &Wanted::default(), &[])?)
    }

    /// Opens files whole.
    ///
    /// # Errors
    /// `Decode` naming the file that is not what its name says.
    pub fn open_files(files: &[PathBuf]) -> Result<Arc<Self>> {
        let parts = files.iter().map(|path| whole(path)).collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Rows::of(parts, 0)))
    }

    /// The rows of some files, numbered from `start` on.
    fn of(parts: Vec<TableFile>, start: usize) -> Self {
        let mut table = Rows { files: Vec::new(), fields: Vec::new(), broken: Vec::new(), rows: start, kept: None };
        let mut known: HashMap<String, ()> = HashMap::new();
        for mut file in parts {
            file.start = table.rows;
            table.rows += file.numbers.len();
            for name in &file.fields {
                if known.insert(name.clone(), ()).is_none() {
                    table.fields.push(name.clone());
                }
            }
            table.broken.append(&mut file.broken);
            table.files.push(file);
        }
        table
    }

    /// Number of rows that could be read; of a part, with those before it.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// The first file.
    pub fn path(&self) -> &Path {
        self.files.first().map_or(Path::new(""), |file| &file.path)
    }

    /// The numbers of the rows that are here: a part begins where the one before it ends.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.files.first().map_or(0, |file| file.start)..self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.range().is_empty()
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
        match file.columns.iter().find(|(name, _)| name == field) {
            Some((_, column)) => column.get(at).filter(|value| !value.is_null()),
            None => self.kept.as_ref()?.value(row, field),
        }
    }

    /// A field that must be there.
    pub fn require(&self, row: usize, field: &str) -> Result<&Value> {
        self.value(row, field).ok_or_else(|| match self.fields.iter().any(|known| known == field) {
            true => error!(Data, "{}: field `{field}` is empty", self.place(row)),
            false => error!(Data, "{}: there is no field `{field}`", self.place(row))
                .help(format!("fields: {}", self.named_fields())),
        })
    }

    /// The names of the fields for a message: some, should there be many.
    pub fn named_fields(&self) -> String {
        let names: Vec<String> = self.fields.iter().take(SHOWN).map(|name| format!("{name:.40}")).collect();
        let more = self.fields.len().saturating_sub(SHOWN);
        let names = names.join(", ");
        if more > 0 { format!("{names} and {more} more") } else { names }
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
        let Some((file, at)) = self.find(row) else { return Err(error!(Data, "there is no row {row}")) };
        let value = self.value(row, field);
        let value = value.and_then(Value::as_array).map_or(value, |list| list.get(number));
        let path = value.and_then(|value| value.as_str().or_else(|| value.get("path")?.as_str()));
        if file.holds(field, at) {
            let rows = self.kept.as_ref().unwrap_or(self).clone();
            return Ok(RowPicture::source(rows, row, field, number));
        }
        match path.filter(|path| path.len() <= LONGEST_PATH) {
            Some(path) => Ok(match file.beside(path) {
                Ok(place) => ImageSource::file(place),
                Err(_) => ImageSource::leading_out(file.folder(), path),
            }),
            None => Err(self.unexpected(row, field, "a picture's path or bytes")),
        }
    }

    /// The encoded bytes of a picture that lies in the file, or of the file beside it that the row names.
    pub fn image_bytes(&self, row: usize, field: &str, number: usize) -> Result<Vec<u8>> {
        let Some((file, at)) = self.find(row) else { return Err(error!(Data, "there is no row {row}")) };
        let missing = || error!(Data, "{}: field `{field}` has no picture", self.place(row));
        if let Some(inline) = file.inline.as_ref().filter(|inline| inline.has(field, file.numbers[at])) {
            return inline.bytes(field, file.numbers[at], number)?.ok_or_else(missing);
        }
        let Some(pictures) = &file.pictures else { return Err(missing()) };
        if let Some(bytes) = pictures.bytes(field, file.numbers[at], number)? {
            return Ok(bytes);
        }
        let value = self.value(row, field);
        let value = value.and_then(Value::as_array).map_or(value, |list| list.get(number));
        let path =
            value.and_then(|value| value.as_str().or_else(|| value.get("path")?.as_str())).ok_or_else(missing)?;
        let path = file.beside(path).context(|| self.place(row))?;
        crate::fs::read(&path).map_err(|error| Error::file(&path, error).context(self.place(row)))
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

/// A file whole.
fn whole(path: &Path) -> Result<TableFile> {
    Ok(containers::rows(path, None)?.next(usize::MAX)?.unwrap_or_default())
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

//! Where the pictures of rows are: in the file, or at a path that the row has in their place.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Rows;
use crate::error::Result;

impl Rows {
    /// The value of a picture: of a list the one with this number.
    pub(super) fn picture_value(&self, row: usize, field: &str, number: usize) -> Option<&Value> {
        let value = self.value(row, field);
        value.and_then(Value::as_array).map_or(value, |list| list.get(number))
    }

    /// Whether a field says that it has no picture: null in a list, or an empty text.
    pub(super) fn is_blank(&self, row: usize, field: &str, number: usize) -> bool {
        match self.picture_value(row, field, number) {
            Some(Value::Null) => true,
            Some(Value::String(path)) => path.trim().is_empty(),
            _ => false,
        }
    }

    /// The path that a row has for a picture, beside its bytes or in their place.
    pub fn picture_path(&self, row: usize, field: &str, number: usize) -> Option<&str> {
        let value = self.picture_value(row, field, number)?;
        value.as_str().or_else(|| value.get("path")?.as_str())
    }

    /// Whether the bytes of a picture lie in the file.
    pub fn has_bytes(&self, row: usize, field: &str, number: usize) -> Result<bool> {
        let Some((file, at)) = self.find(row) else { return Ok(false) };
        match file.pictures.as_ref().filter(|pictures| pictures.holds(field)) {
            Some(pictures) => Ok(pictures.bytes(field, file.numbers[at], number)?.is_some()),
            None => Ok(false),
        }
    }

    /// The place of a picture that a row names; `None` where its name leads elsewhere.
    pub(super) fn beside(&self, row: usize, name: &str) -> Option<PathBuf> {
        self.find(row).and_then(|(file, _)| file.beside(name).ok())
    }

    /// Whether a picture is in the file or beside it.
    pub fn has_picture(&self, row: usize, field: &str, number: usize) -> Result<bool> {
        let path = self.picture_path(row, field, number);
        Ok(self.has_bytes(row, field, number)?
            || path.is_some_and(|path| self.beside(row, path).is_some_and(|path| path.is_file())))
    }

    /// All files.
    pub fn files_of_rows(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// The file a row is in.
    pub fn file(&self, row: usize) -> Option<&Path> {
        self.find(row).map(|(file, _)| file.path.as_path())
    }

    /// The folder of the file a row is in.
    pub fn folder(&self, row: usize) -> &Path {
        self.find(row).map_or(Path::new("."), |(file, _)| file.folder())
    }
}

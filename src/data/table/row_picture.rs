//! A picture in a table's row.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::Rows;
use crate::data::image_source::{ImageSource, Picture};
use crate::data::print::Printable;
use crate::error::Result;

/// Picture `number` of a row's field.
pub(super) struct RowPicture {
    rows: Arc<Rows>,
    row: usize,
    field: Arc<str>,
    number: usize,
}

impl RowPicture {
    pub(super) fn source(rows: Arc<Rows>, row: usize, field: &str, number: usize) -> ImageSource {
        ImageSource::new(RowPicture { rows, row, field: field.into(), number })
    }

    fn path(&self) -> Option<&str> {
        self.rows.picture_path(self.row, &self.field, self.number)
    }
}

impl Picture for RowPicture {
    fn key(&self) -> String {
        format!("{}, {} {}", self.rows.place(self.row), self.field, self.number)
    }

    /// The path of one whose bytes the table does not hold.
    fn place(&self) -> String {
        match self.path() {
            Some(path) => self.rows.folder(self.row).join(path).display().to_string(),
            None => self.key(),
        }
    }

    fn is_there(&self) -> Result<bool> {
        self.rows.has_picture(self.row, &self.field, self.number)
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        self.rows.image_bytes(self.row, &self.field, self.number).map(Cow::Owned)
    }

    fn prints(&self) -> Vec<Printable> {
        let beside = self.path().and_then(|path| self.rows.beside(self.row, path)).filter(|path| path.is_file());
        let table = self.rows.file(self.row).map(Printable::of_table);
        table.into_iter().chain(beside.map(|path| Printable::of_picture(&path))).collect()
    }

    fn name_below(&self, _folder: &Path) -> Result<Option<String>> {
        match self.path() {
            Some(path) if !self.rows.has_bytes(self.row, &self.field, self.number)? => Ok(Some(path.to_string())),
            _ => Ok(None),
        }
    }
}

//! One file as rows: what readers of each kind of file make.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::inline::Inline;
use super::pictures::ColumnPictures;
use crate::data::image_source::{below, stays};
use crate::error::{Error, Result};

/// Which fields are read, by their names.
pub(in crate::data) type Keep<'a> = &'a dyn Fn(&str) -> bool;

/// A file that is read from its first row to its last.
pub(in crate::data) trait TableParts {
    /// The next rows, `limit` at most where they are read part by part; `None` after the last. A file without rows is one
    /// part.
    ///
    /// # Errors
    /// `Decode`, naming the file.
    fn next(&mut self, limit: usize) -> Result<Option<TableFile>>;
}

/// A file that was read in one go.
pub(in crate::data) struct Whole(Option<TableFile>);

impl Whole {
    pub(in crate::data) fn of(file: TableFile) -> Box<dyn TableParts> {
        Box::new(Whole(Some(file)))
    }
}

impl TableParts for Whole {
    fn next(&mut self, _limit: usize) -> Result<Option<TableFile>> {
        Ok(self.0.take())
    }
}

/// What was read of one file.
#[derive(Default)]
pub(in crate::data) struct TableFile {
    pub(in crate::data) path: PathBuf,
    /// Of the first row, in the whole.
    pub(in crate::data) start: usize,
    /// For each kept row its number in the file, from 0; broken rows are counted.
    pub(in crate::data) numbers: Vec<usize>,
    /// Names of the fields, those that were not read among them.
    pub(in crate::data) fields: Vec<String>,
    pub(in crate::data) columns: Vec<(String, Vec<Value>)>,
    /// Rows that could not be read.
    pub(in crate::data) broken: Vec<Error>,
    /// Pictures that lie in the file itself.
    pub(in crate::data) pictures: Option<Arc<ColumnPictures>>,
    /// Pictures that are written in its texts.
    pub(in crate::data) inline: Option<Arc<Inline>>,
    /// Folders that a layout, not the data, puts before names of pictures: they may begin with `..`.
    pub(in crate::data) placed: Vec<String>,
}

impl TableFile {
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The place of a picture by its name in a row.
    ///
    /// # Errors
    /// `Data` for a name that leads out of the file's folder, and of those where the layout has pictures.
    pub(super) fn beside(&self, name: &str) -> Result<PathBuf> {
        let placed = self.placed.iter().find_map(|folder| name.strip_prefix(folder.as_str())?.strip_prefix('/'));
        match placed {
            Some(rest) if stays(rest) => Ok(self.folder().join(name)),
            _ => below(self.folder(), name),
        }
    }

    /// Whether the row's pictures of a field lie in the file.
    pub(super) fn holds(&self, field: &str, at: usize) -> bool {
        self.pictures.as_ref().is_some_and(|pictures| pictures.holds(field))
            || self.inline.as_ref().is_some_and(|inline| inline.has(field, self.numbers[at]))
    }

    /// Takes the columns of pictures out, with what is needed to read them: the same file without its texts.
    pub(super) fn split_off_pictures(&mut self) -> Self {
        let inside: Vec<String> = self
            .pictures
            .iter()
            .flat_map(|pictures| pictures.fields())
            .chain(self.inline.iter().flat_map(|inline| inline.fields()))
            .cloned()
            .collect();
        let is_inside = |column: &mut (String, Vec<Value>)| inside.contains(&column.0);
        TableFile {
            path: self.path.clone(),
            start: self.start,
            numbers: self.numbers.clone(),
            fields: Vec::new(),
            columns: self.columns.extract_if(.., is_inside).collect(),
            broken: Vec::new(),
            pictures: self.pictures.clone(),
            inline: self.inline.clone(),
            placed: self.placed.clone(),
        }
    }
}

/// Columns that grow by values, where a row may lack some.
#[derive(Default)]
pub(in crate::data) struct Columns {
    columns: Vec<(String, Vec<Value>)>,
    places: HashMap<String, usize>,
}

impl Columns {
    /// With columns that are there whether or not they have values.
    pub(in crate::data) fn new<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        let mut columns = Columns::default();
        for name in names {
            columns.column(name);
        }
        columns
    }

    fn column(&mut self, name: &str) -> &mut Vec<Value> {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.columns.push((name.to_string(), Vec::new()));
                self.places.insert(name.to_string(), self.columns.len() - 1);
                self.columns.len() - 1
            }
        };
        &mut self.columns[place].1
    }

    pub(in crate::data) fn put(&mut self, row: usize, name: &str, value: Value) {
        let column = self.column(name);
        column.resize(row, Value::Null);
        column.push(value);
    }

    pub(in crate::data) fn finish(mut self, rows: usize) -> Vec<(String, Vec<Value>)> {
        self.columns.iter_mut().for_each(|(_, column)| column.resize(rows, Value::Null));
        self.columns
    }
}

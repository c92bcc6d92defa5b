//! Files as their rows: whole, or so many rows at a time with only what is wanted of them, so that a set of some hundred
//! thousand questions needs no more memory than its questions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::Rows;
use super::file::{TableFile, TableParts};
use crate::data::containers;
use crate::data::image_source::stays;
use crate::error::{Error, Result};

/// Rows of a part.
const PART: usize = 8192;

/// What is read of each row.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Names of fields, as [`plain`] has them.
    pub fields: BTreeSet<String>,
    /// Other names of fields, for tables that lack the first: `(other, name)`.
    pub aliases: Vec<(String, String)>,
    /// Folders beside a file in which its pictures may be.
    pub pictures: Vec<String>,
}

impl Reading {
    /// Adds a field.
    pub fn want(&mut self, field: &str) {
        self.fields.insert(plain(field));
    }

    /// Whether a field is read.
    pub fn keeps(&self, field: &str) -> bool {
        self.fields.contains(&plain(field)) || self.aliases.iter().any(|(other, _)| other == field)
    }
}

/// A name that spellings have in common: `L2-category`, `l2_category`.
fn plain(name: &str) -> String {
    name.replace(['-', '_', ' '], "").to_lowercase()
}

/// The rows of some files part by part, numbered over all of them. `label` gives a field and its value for a file whose
/// name says what its rows do not.
pub fn parts<'a>(
    files: &'a [PathBuf],
    reading: &'a Reading,
    label: &'a dyn Fn(&Path) -> Option<(String, String)>,
) -> impl Iterator<Item = Result<Arc<Rows>>> + 'a {
    let mut start = 0;
    let parts = files.iter().flat_map(move |path| match containers::rows(path, Some(&|field| reading.keeps(field))) {
        Ok(parts) => Opened::Parts(parts),
        Err(error) => Opened::Failed(Some(error)),
    });
    parts.map(move |part| {
        let mut part = part?;
        part.rename(&reading.aliases);
        if let Some((field, value)) = label(&part.path) {
            part.fill(&field, value);
        }
        part.find_pictures(&reading.pictures);
        let pictures = part.split_off_pictures();
        let mut rows = Rows::of(vec![part], start);
        rows.kept = Some(Arc::new(Rows::of(vec![pictures], start)));
        start = rows.len();
        Ok(Arc::new(rows))
    })
}

/// The parts of a file; after an error there is none.
enum Opened {
    Parts(Box<dyn TableParts>),
    Failed(Option<Error>),
}

impl Iterator for Opened {
    type Item = Result<TableFile>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Opened::Parts(parts) => match parts.next(PART) {
                Err(error) => {
                    *self = Opened::Failed(None);
                    Some(Err(error))
                }
                next => next.transpose(),
            },
            Opened::Failed(error) => error.take().map(Err),
        }
    }
}

impl TableFile {
    /// Gives fields of other names the names that are asked for, where those are not there.
    pub(super) fn rename(&mut self, aliases: &[(String, String)]) {
        for (other, name) in aliases {
            if self.fields.contains(name) || !self.fields.contains(other) {
                continue;
            }
            self.fields.iter_mut().filter(|field| *field == other).for_each(|field| field.clone_from(name));
            self.columns.iter_mut().filter(|(field, _)| field == other).for_each(|(field, _)| field.clone_from(name));
        }
    }

    /// A field that all rows have alike, unless they have it already.
    fn fill(&mut self, field: &str, value: String) {
        if !self.fields.iter().any(|name| name == field) {
            self.fields.push(field.to_string());
            self.columns.push((field.to_string(), vec![Value::String(value); self.numbers.len()]));
        }
    }

    /// Names of pictures that are not beside the file, in the folder beside it where the first one is.
    fn find_pictures(&mut self, folders: &[String]) {
        let (beside, mut placed) = (self.folder().to_path_buf(), Vec::new());
        for (_, column) in self.columns.iter_mut().filter(|(field, _)| field.starts_with("image")) {
            let Some(first) =
                column.iter().find_map(Value::as_str).filter(|name| name.len() < super::LONGEST_PATH && stays(name))
            else {
                continue;
            };
            if beside.join(first).is_file() {
                continue;
            }
            let Some(folder) = folders.iter().find(|folder| beside.join(folder).join(first).is_file()) else {
                continue;
            };
            for value in column.iter_mut() {
                if let Value::String(name) = value
                    && stays(name)
                {
                    *name = format!("{folder}/{name}");
                }
            }
            placed.push(folder.clone());
        }
        self.placed.extend(placed);
    }
}

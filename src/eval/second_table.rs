//! Pictures that lie apart from the questions, as GQA publishes them: a table of `id` and `image`, or a folder of files
//! named by their ids.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fields::required;
use crate::data::ImageSource;
use crate::data::table::{Rows, Wanted, find};
use crate::error;
use crate::error::{Context, Error, Kind, Result};

/// Endings of pictures.
const ENDINGS: [&str; 6] = ["jpg", "jpeg", "png", "webp", "gif", "bmp"];

/// Pictures by id.
pub(super) enum SecondTable {
    Table { rows: Arc<Rows>, places: HashMap<String, usize> },
    Folder(HashMap<String, PathBuf>),
}

impl SecondTable {
    /// Opens a table or a folder.
    ///
    /// # Errors
    /// `Missing` when it holds neither; what tables fail with.
    pub(super) fn open(path: &Path, wanted: &Wanted, homes: &[String]) -> Result<Self> {
        let named = in_folder(path)?;
        let files = match find(path, wanted, homes) {
            Ok(files) => files,
            Err(_) if !named.is_empty() => return Ok(SecondTable::Folder(named)),
            Err(error) if error.kind() == Kind::Missing && path.is_dir() => {
                return Err(error.context("pictures").help(
                    "`images` is a table of `id` and `image`, or a folder of pictures that are named by their ids (`n161313.jpg`)",
                ));
            }
            Err(error) => return Err(error.context("pictures")),
        };
        let rows = Rows::open_files(&files)?;
        let place = |row| Ok((required(&rows, row, "id")?, row));
        let places = (0..rows.len()).map(place).collect::<Result<_>>().context(|| "table of pictures")?;
        Ok(SecondTable::Table { rows, places })
    }

    /// The pictures of an id; `None` when there is none.
    pub(super) fn of(&self, id: &str, field: &str) -> Result<Option<Vec<ImageSource>>> {
        match self {
            SecondTable::Table { rows, places } => places.get(id).map(|place| rows.images(*place, field)).transpose(),
            SecondTable::Folder(files) => Ok(files.get(id).map(|path| vec![ImageSource::file(path.clone())])),
        }
    }
}

/// The pictures in a folder, by their names without endings.
fn in_folder(path: &Path) -> Result<HashMap<String, PathBuf>> {
    let mut named = HashMap::new();
    if !path.is_dir() {
        return Ok(named);
    }
    for entry in crate::fs::read_dir(path).map_err(|error| Error::file(path, error))? {
        let file = entry.map_err(|error| Error::file(path, error))?.path();
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        if !ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
            continue;
        }
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(other) = named.insert(stem.clone(), file.clone()) {
            return Err(error!(Data, "`{}` and `{}` are both picture `{stem}`", other.display(), file.display()));
        }
    }
    Ok(named)
}

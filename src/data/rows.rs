//! Samples from parquet: columns `id`, `image` (bytes in the row, or a path) and `conversations`. Texts are held in memory,
//! which suits sets of some hundred thousand rows; pictures stay in the file.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::dataset::Items;
use super::pictures::Pictures;
use super::record::{Brief, Record};
use super::sample::{ImageSource, Sample};
use super::table::Rows;
use crate::error;
use crate::error::{Context, Result};

const IMAGE: &str = "image";

/// The rows of a file or a folder of files.
pub(super) struct RowItems {
    rows: Arc<Rows>,
    /// Where paths lead; without it, below the file's folder.
    pictures: Option<Pictures>,
    briefs: Vec<Brief>,
}

impl RowItems {
    /// Reads the texts and checks every row; nothing is left out.
    pub(super) fn open(path: &Path, pictures: Option<Pictures>) -> Result<Self> {
        let rows = Rows::open(path)?;
        if let Some(error) = rows.broken().first() {
            return Err(error.clone().context(format!("{} rows cannot be read", rows.broken().len())));
        }
        let mut items = RowItems { rows, pictures, briefs: Vec::new() };
        items.briefs = (0..items.rows.len())
            .into_par_iter()
            .map(|row| {
                let image = items.image(row)?.is_some();
                items.record(row).map(|record| Brief { image, ..record.brief() })
            })
            .collect::<Result<_>>()?;
        Ok(items)
    }

    fn record(&self, row: usize) -> Result<Record<'_>> {
        let id = match self.rows.integer(row, "id") {
            Ok(Some(id)) => id.to_string(),
            _ => self.rows.text(row, "id")?.map_or_else(|| row.to_string(), str::to_string),
        };
        let conversations = self.rows.require(row, "conversations")?;
        Record::from_row(id, conversations).map_err(|found| {
            error!(Decode, "{}: `conversations`: {found}", self.rows.place(row))
                .help("expected a list of { from, value }")
        })
    }

    fn image(&self, row: usize) -> Result<Option<ImageSource>> {
        let mut images = self.rows.images(row, IMAGE)?;
        if images.len() > 1 {
            return Err(error!(Data, "{}: {} pictures, a sample has at most one", self.rows.place(row), images.len()));
        }
        let path = self.rows.value(row, IMAGE).and_then(|value| value.as_str());
        Ok(match (&self.pictures, images.pop(), path) {
            (Some(pictures), Some(ImageSource::File(_)), Some(path)) => Some(pictures.find(path)),
            (_, image, _) => image,
        })
    }
}

impl Items for RowItems {
    fn len(&self) -> usize {
        self.briefs.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let image = self.image(index)?;
        let sample = self.record(index)?.with_image(image);
        sample.context(|| self.rows.place(index))
    }

    fn brief(&self, index: usize) -> Result<Brief> {
        self.briefs.get(index).copied().ok_or_else(|| error!(Data, "no sample {index}"))
    }

    fn sha256(&self) -> String {
        self.rows.sha256()
    }
}

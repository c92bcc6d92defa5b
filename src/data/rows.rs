//! Samples from parquet: columns `id`, `image` or `images` (bytes in the row, or paths; one or a list) and `conversations`
//! or `messages`, with `system` beside them. Texts are held in memory, which suits sets of some hundred thousand rows;
//! pictures stay in the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::brief::Brief;
use super::image_source::ImageSource;
use super::items::Items;
use super::lfs;
use super::pictures::Pictures;
use super::record::{CONVERSATIONS, FLAGS, IMAGES, Record, SYSTEM, is_known};
use super::sample::Sample;
use super::table::Rows;
use crate::error;
use crate::error::{Context, Result};

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
        if path.is_file() {
            lfs::refuse_file(path)?;
        }
        RowItems::of(Rows::open(path)?, pictures)
    }

    /// The same of several files.
    pub(super) fn open_files(files: &[PathBuf], pictures: Option<Pictures>) -> Result<Self> {
        files.iter().try_for_each(|path| lfs::refuse_file(path).map(drop))?;
        RowItems::of(Rows::open_files(files)?, pictures)
    }

    fn of(rows: Arc<Rows>, pictures: Option<Pictures>) -> Result<Self> {
        if let Some(error) = rows.broken().first() {
            return Err(error.clone().context(format!("{} rows cannot be read", rows.broken().len())));
        }
        let mut items = RowItems { rows, pictures, briefs: Vec::new() };
        items.briefs = (0..items.rows.len())
            .into_par_iter()
            .map(|row| {
                let (record, images) = items.row(row)?;
                Ok(record.brief(row).with_images(images.len()))
            })
            .collect::<Result<_>>()?;
        Ok(items)
    }

    /// A row's texts and where its pictures are.
    fn row(&self, row: usize) -> Result<(Record<'_>, Vec<ImageSource>)> {
        let id = match self.rows.integer(row, "id") {
            Ok(Some(id)) => Some(id.to_string()),
            _ => self.rows.text(row, "id")?.map(str::to_string),
        };
        let mut system = None;
        for field in SYSTEM {
            system = system.or(self.rows.text(row, field)?);
        }
        let filled = CONVERSATIONS.into_iter().find(|field| self.rows.value(row, field).is_some());
        let field = filled.unwrap_or(CONVERSATIONS[0]);
        let mut record = Record::from_row(id, system, self.rows.require(row, field)?).map_err(|found| {
            error!(Decode, "{}: `{field}`: {found}", self.rows.place(row)).help(
                "expected a list of { from, value } or { role, content }, of texts: lists within lists are not read",
            )
        })?;
        for field in FLAGS {
            if let Some(value) = self.rows.value(row, field) {
                record.take_flag(field, value).map_err(|told| error!(Data, "{}: {told}", self.rows.place(row)))?;
            }
        }
        let mut images = Vec::new();
        for field in IMAGES {
            let found = self.rows.images(row, field)?;
            if !images.is_empty() && !found.is_empty() {
                return Err(error!(Data, "{}: pictures in both `image` and `images`", self.rows.place(row))
                    .help("leave one of the columns out"));
            }
            images.extend(found);
        }
        match images.is_empty() {
            true => images.extend(record.names().map(|name| self.named(row, name))),
            false if record.names().next().is_some() => {
                return Err(error!(
                    Data,
                    "{}: pictures are named beside the turns and inside them",
                    self.rows.place(row)
                ));
            }
            false => {}
        }
        Ok((record, images))
    }

    /// A picture that a turn names.
    fn named(&self, row: usize, name: &str) -> ImageSource {
        match &self.pictures {
            Some(pictures) => pictures.find(name),
            None => ImageSource::named(self.rows.folder(row), name),
        }
    }

    /// A picture where it is looked for: one whose bytes are not in the row, below the folder that was given.
    fn placed(&self, row: usize, image: ImageSource) -> Result<ImageSource> {
        let Some(pictures) = &self.pictures else { return Ok(image) };
        let name = image.name_below(self.rows.folder(row))?;
        Ok(name.map_or(image, |name| pictures.find(&name)))
    }
}

impl Items for RowItems {
    fn len(&self) -> usize {
        self.briefs.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (record, images) = self.row(index)?;
        let images = images.into_iter().map(|image| self.placed(index, image)).collect::<Result<_>>()?;
        record.with_images(index, images).context(|| self.rows.place(index))
    }

    fn brief(&self, index: usize) -> Result<Brief> {
        self.briefs.get(index).copied().ok_or_else(|| error!(Data, "no sample {index}"))
    }

    fn unread(&self, index: usize) -> Result<Vec<String>> {
        let (record, _) = self.row(index)?;
        let empty = |field: &String| self.rows.value(index, field).is_none();
        let columns = self.rows.fields().iter().filter(|field| !is_known(field) && !empty(field));
        let mut keys: Vec<String> = columns.map(|field| format!("`{field}`")).collect();
        keys.extend(record.unread());
        Ok(keys)
    }

    fn sha256(&self) -> String {
        self.rows.sha256()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.rows.files_of_rows()
    }
}

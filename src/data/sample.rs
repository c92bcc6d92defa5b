//! One sample: an id, at most one picture, a conversation.

use std::path::PathBuf;
use std::sync::Arc;

use super::pack::Pack;
use super::table::Rows;
use crate::error::{Context, Result};
use crate::image::Image;
use crate::text::Turn;

/// Where a picture comes from; decoded when it is needed.
#[derive(Clone)]
pub enum ImageSource {
    File(PathBuf),
    /// Picture `index` of an embedded pack.
    Packed {
        pack: Arc<Pack>,
        index: usize,
    },
    /// A picture inside a table's row.
    Row {
        rows: Arc<Rows>,
        row: usize,
        field: Arc<str>,
        number: usize,
    },
    Decoded {
        image: Image,
        key: String,
    },
}

impl ImageSource {
    /// What identifies the picture in caches and messages.
    pub fn key(&self) -> String {
        match self {
            ImageSource::File(path) => path.display().to_string(),
            ImageSource::Packed { pack, index } => format!("{}/{index}", pack.name()),
            ImageSource::Row { rows, row, field, number } => format!("{}, {field} {number}", rows.place(*row)),
            ImageSource::Decoded { key, .. } => key.clone(),
        }
    }

    /// Decodes it.
    pub fn open(&self) -> Result<Image> {
        match self {
            ImageSource::File(path) => Image::open(path),
            ImageSource::Packed { pack, index } => Image::decode(pack.image(*index)?, &self.key()),
            ImageSource::Row { rows, row, field, number } => {
                Image::decode(&rows.image_bytes(*row, field, *number)?, &self.key())
            }
            ImageSource::Decoded { image, .. } => Ok(image.clone()),
        }
    }
}

/// A conversation about a picture, or about nothing.
#[derive(Clone)]
pub struct Sample {
    pub id: String,
    pub image: Option<ImageSource>,
    pub turns: Vec<Turn>,
}

impl Sample {
    /// Decodes the picture, if there is one; the error names the sample.
    pub fn open_image(&self) -> Result<Option<Image>> {
        self.image.as_ref().map(ImageSource::open).transpose().context(|| format!("sample `{}`", self.id))
    }
}

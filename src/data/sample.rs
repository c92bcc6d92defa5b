//! One sample: an id, its pictures, a conversation.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::archive::Archive;
use super::pack::Pack;
use super::table::Rows;
use crate::assets::refuse_pointer;
use crate::bail;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::text::Turn;

/// Where a picture comes from; decoded when it is needed.
#[derive(Clone)]
pub enum ImageSource {
    File(PathBuf),
    /// A member of an archive.
    Member {
        archive: Arc<Archive>,
        name: String,
    },
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
            ImageSource::Member { archive, name } => format!("{}/{name}", archive.path().display()),
            ImageSource::Packed { pack, index } => format!("{}/{index}", pack.name()),
            ImageSource::Row { rows, row, field, number } => format!("{}, {field} {number}", rows.place(*row)),
            ImageSource::Decoded { key, .. } => key.clone(),
        }
    }

    /// Where it is looked for: the path of one whose bytes a table does not hold.
    pub(super) fn place(&self) -> String {
        match self {
            ImageSource::Row { rows, row, field, number } => match rows.picture_path(*row, field, *number) {
                Some(path) => rows.folder(*row).join(path).display().to_string(),
                None => self.key(),
            },
            _ => self.key(),
        }
    }

    /// Whether it is where it should be; nothing is decoded.
    ///
    /// # Errors
    /// `Decode` or `File` when a table cannot be read.
    pub(super) fn is_there(&self) -> Result<bool> {
        Ok(match self {
            ImageSource::File(path) => path.is_file(),
            ImageSource::Member { archive, name } => archive.contains(name),
            ImageSource::Row { rows, row, field, number } => rows.has_picture(*row, field, *number)?,
            ImageSource::Packed { .. } | ImageSource::Decoded { .. } => true,
        })
    }

    /// Decodes it.
    pub fn open(&self) -> Result<Image> {
        match self {
            ImageSource::Decoded { image, .. } => Ok(image.clone()),
            _ => {
                let (bytes, key) = (self.bytes()?, self.key());
                refuse_pointer(Path::new(&key), &bytes)?;
                Image::decode(&bytes, &key)
            }
        }
    }

    /// A hash over what is in the picture, wherever it lies.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        Ok(match self {
            ImageSource::Decoded { image, .. } => {
                let mut hasher = Sha256::new();
                hasher.update(format!("{} {} ", image.width, image.height));
                hasher.update(&image.pixels);
                format!("{:x}", hasher.finalize())
            }
            _ => format!("{:x}", Sha256::digest(self.bytes()?)),
        })
    }

    /// The bytes it is decoded from.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when they cannot be read; `Data` for a picture that exists as pixels only.
    pub(super) fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            ImageSource::File(path) => std::fs::read(path).map(Cow::Owned).map_err(|error| Error::file(path, error)),
            ImageSource::Member { archive, name } => archive.read(name).map(Cow::Owned),
            ImageSource::Packed { pack, index } => pack.image(*index).map(Cow::Borrowed),
            ImageSource::Row { rows, row, field, number } => rows.image_bytes(*row, field, *number).map(Cow::Owned),
            ImageSource::Decoded { .. } => bail!(Data, "`{}` has no file", self.key()),
        }
    }
}

/// A conversation about pictures, or about nothing.
#[derive(Clone)]
pub struct Sample {
    pub id: String,
    /// In the order of their marks.
    pub images: Vec<ImageSource>,
    pub turns: Vec<Turn>,
}

impl Sample {
    /// Decodes the pictures; the error names the sample.
    pub fn open_images(&self) -> Result<Vec<Image>> {
        let open = self.images.iter().map(ImageSource::open).collect::<Result<_>>();
        open.context(|| format!("sample `{}`", self.id))
    }
}

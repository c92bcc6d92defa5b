//! Where a picture comes from. What holds pictures says how by the trait [`Picture`]; a picture is decoded when it is needed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::print::Printable;
use crate::assets::refuse_pointer;
use crate::bail;
use crate::error::{Error, Result};
use crate::image::Image;

/// A picture in a file, an archive, a table, in memory.
pub(super) trait Picture: Send + Sync {
    /// What identifies it in caches and messages.
    fn key(&self) -> String;

    /// Where it is looked for.
    fn place(&self) -> String {
        self.key()
    }

    /// Whether it is where it should be; nothing is decoded.
    ///
    /// # Errors
    /// `Decode` or `File` when what should hold it cannot be read.
    fn is_there(&self) -> Result<bool> {
        Ok(true)
    }

    /// The bytes it is decoded from.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when they cannot be read; `Data` for a picture that exists as pixels only.
    fn bytes(&self) -> Result<Cow<'static, [u8]>>;

    /// The picture itself, where it exists as pixels only.
    fn pixels(&self) -> Option<&Image> {
        None
    }

    /// The files that a run looks at to see whether it is still the same; none where the data set's own hash tells.
    fn prints(&self) -> Vec<Printable> {
        Vec::new()
    }

    /// The name by which another place may hold it; `None` where its bytes are at hand. Names in `folder` are below it.
    ///
    /// # Errors
    /// `Decode` or `File` when what should hold it cannot be read.
    fn name_below(&self, _folder: &Path) -> Result<Option<String>> {
        Ok(None)
    }
}

/// Where a picture comes from; clones share it.
#[derive(Clone)]
pub struct ImageSource(Arc<dyn Picture>);

impl ImageSource {
    pub(super) fn new(picture: impl Picture + 'static) -> Self {
        ImageSource(Arc::new(picture))
    }

    /// A file.
    pub fn file(path: PathBuf) -> Self {
        ImageSource::new(FilePicture(path))
    }

    /// A picture in memory, called `key` in caches and messages.
    pub fn decoded(image: Image, key: String) -> Self {
        ImageSource::new(Decoded { image, key })
    }

    /// What identifies the picture in caches and messages.
    pub fn key(&self) -> String {
        self.0.key()
    }

    /// Where it is looked for: the path of one whose bytes a table does not hold.
    pub(super) fn place(&self) -> String {
        self.0.place()
    }

    /// Whether it is where it should be; nothing is decoded.
    ///
    /// # Errors
    /// `Decode` or `File` when a table cannot be read.
    pub(super) fn is_there(&self) -> Result<bool> {
        self.0.is_there()
    }

    /// Decodes it.
    pub fn open(&self) -> Result<Image> {
        if let Some(image) = self.0.pixels() {
            return Ok(image.clone());
        }
        let (bytes, key) = (self.bytes()?, self.key());
        refuse_pointer(Path::new(&key), &bytes)?;
        Image::decode(&bytes, &key)
    }

    /// A hash over what is in the picture, wherever it lies.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when it cannot be read.
    pub fn sha256(&self) -> Result<String> {
        Ok(match self.0.pixels() {
            Some(image) => {
                let mut hasher = Sha256::new();
                hasher.update(format!("{} {} ", image.width, image.height));
                hasher.update(&image.pixels);
                format!("{:x}", hasher.finalize())
            }
            None => format!("{:x}", Sha256::digest(self.bytes()?)),
        })
    }

    /// The bytes it is decoded from.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode` when they cannot be read; `Data` for a picture that exists as pixels only.
    pub(super) fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        self.0.bytes()
    }

    /// The picture itself, where it exists as pixels only.
    pub(super) fn pixels(&self) -> Option<&Image> {
        self.0.pixels()
    }

    /// The files that a run looks at to see whether it is still the same.
    pub(super) fn prints(&self) -> Vec<Printable> {
        self.0.prints()
    }

    /// The name by which another place may hold it; `None` where its bytes are at hand.
    ///
    /// # Errors
    /// `Decode` or `File` when a table cannot be read.
    pub(super) fn name_below(&self, folder: &Path) -> Result<Option<String>> {
        self.0.name_below(folder)
    }
}

/// A picture that is a file.
struct FilePicture(PathBuf);

impl Picture for FilePicture {
    fn key(&self) -> String {
        self.0.display().to_string()
    }

    fn is_there(&self) -> Result<bool> {
        Ok(self.0.is_file())
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        std::fs::read(&self.0).map(Cow::Owned).map_err(|error| Error::file(&self.0, error))
    }

    fn prints(&self) -> Vec<Printable> {
        vec![Printable::of_picture(&self.0)]
    }

    fn name_below(&self, folder: &Path) -> Result<Option<String>> {
        Ok(Some(self.0.strip_prefix(folder).unwrap_or(&self.0).to_string_lossy().into_owned()))
    }
}

/// A picture in memory.
struct Decoded {
    image: Image,
    key: String,
}

impl Picture for Decoded {
    fn key(&self) -> String {
        self.key.clone()
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        bail!(Data, "`{}` has no file", self.key)
    }

    fn pixels(&self) -> Option<&Image> {
        Some(&self.image)
    }
}

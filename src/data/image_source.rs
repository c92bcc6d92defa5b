//! Where a picture comes from. What holds pictures says how by the trait [`Picture`]; a picture is decoded when it is needed.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::print::Printable;
use crate::assets::refuse_pointer;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::{bail, error};

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

    /// A file by its name in a folder, as data give it. A name with `..` leads nowhere, in the sandbox or not: whoever wrote the data
    /// does not choose what else is read. An absolute name stands for itself, as in the reference.
    pub(super) fn named(folder: &Path, name: &str) -> Self {
        if stays(name) { ImageSource::file(folder.join(name)) } else { ImageSource::leading_out(folder, name) }
    }

    /// A name that leads out of the folder or archive it is for: an error when it is opened.
    pub(super) fn leading_out(place: &Path, name: &str) -> Self {
        ImageSource::new(LeadsOut { name: name.to_string(), place: place.to_path_buf() })
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
                hasher.update(image.pixels.as_slice());
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

/// The path of a picture by its name in a folder, as data give it.
///
/// # Errors
/// `Data`, naming both, for a name with `..` in it.
pub(super) fn below(folder: &Path, name: &str) -> Result<PathBuf> {
    if stays(name) { Ok(folder.join(name)) } else { Err(leads_out(name, folder)) }
}

/// Whether a name that data give has no `..` in it.
pub(super) fn stays(name: &str) -> bool {
    name.split(['/', '\\']).all(|part| part != "..")
}

fn leads_out(name: &str, folder: &Path) -> Error {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    error!(Data, "picture `{name}` leads out of `{}`: names with `..` are not followed", folder.display())
        .help("`images:` names the folder, `.zip` or `.tar` from which the names of pictures lead on")
}

/// A name that leads out of the folder it is for.
struct LeadsOut {
    name: String,
    place: PathBuf,
}

impl Picture for LeadsOut {
    fn key(&self) -> String {
        self.name.clone()
    }

    fn place(&self) -> String {
        format!("{}, which leads out of {}", self.name, self.place.display())
    }

    fn is_there(&self) -> Result<bool> {
        Ok(false)
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        Err(leads_out(&self.name, &self.place))
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
        crate::fs::read(&self.0).map(Cow::Owned).map_err(|error| Error::file(&self.0, error))
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

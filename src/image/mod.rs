//! Images: decoding to 8-bit RGB, Pillow's resampling, and the image processors of the vision towers. Pixels are
//! rows of RGB bytes, top left first.

mod config;
mod decode;
pub mod folder;
mod foreign;
mod gif;
mod jpeg;
mod png;
mod processor;
mod resize;
mod tiff;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error;
use crate::error::{Error, Result};

pub use config::Preprocessing;
pub use processor::{Aspect, ImageProcessor, Order, Resize};
pub use resize::Resample;

/// A decoded image; clones share the pixels.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
    /// RGB, `height * width * 3` bytes.
    pub pixels: Arc<Vec<u8>>,
}

impl Image {
    /// Decodes a file by its content, whatever its extension, as Pillow's `open(path).convert("RGB")` does:
    /// alpha is dropped, EXIF orientation is not applied, palettes are resolved, the first frame is taken.
    ///
    /// # Errors
    /// `Missing` or `File` when the file cannot be read, `Decode` naming the file and what was found in it.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = crate::fs::read(path).map_err(|error| Error::file(path, error))?;
        Self::decode(&bytes, &path.display().to_string())
    }

    /// The same for the bytes of a file; `name` is for messages.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        decode::decode(bytes, name)
    }

    /// Width and height from the header, without decoding.
    ///
    /// # Errors
    /// `Decode` when the bytes do not begin as an image.
    pub fn size_of(bytes: &[u8]) -> Result<(usize, usize)> {
        decode::size_of(bytes)
    }

    /// An image of one color.
    pub fn filled(width: usize, height: usize, rgb: [u8; 3]) -> Self {
        Image { width, height, pixels: rgb.repeat(width * height).into() }
    }

    /// The image as a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let failed = |error: &dyn fmt::Display| error!(Decode, "{self:?} cannot be written as PNG: {error}");
        let (width, height) = (u32::try_from(self.width), u32::try_from(self.height));
        let (width, height) = (width.map_err(|e| failed(&e))?, height.map_err(|e| failed(&e))?);
        let mut png = Vec::new();
        image::write_buffer_with_format(
            &mut std::io::Cursor::new(&mut png),
            &self.pixels,
            width,
            height,
            image::ExtendedColorType::Rgb8,
            image::ImageFormat::Png,
        )
        .map_err(|error| failed(&error))?;
        Ok(png)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} x {})", self.width, self.height)
    }
}

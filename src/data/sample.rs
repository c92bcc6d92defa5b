//! One sample: an id, its pictures, a conversation.

use super::image_source::ImageSource;
use crate::error::{Context, Result};
use crate::image::Image;
use crate::text::Turn;

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

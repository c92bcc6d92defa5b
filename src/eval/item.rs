//! One question of a benchmark: its pictures, its prompt, what is right.

use super::gold::Gold;
use crate::data::ImageSource;
use crate::text::IMAGE_MARKER;

/// One question.
#[derive(Clone)]
pub struct Item {
    pub id: String,
    /// Another id that is published with the question; empty where there is none.
    pub other_id: String,
    /// The picture's published name; empty where only its bytes tell it from others (`Benchmark::groups`).
    pub group: String,
    /// Pictures in the order in which the prompt shows them.
    pub images: Vec<ImageSource>,
    /// The task's text; where it holds no image mark, one is added when asking.
    pub prompt: String,
    pub gold: Gold,
    pub category: String,
    /// A category above the category: MMBench's L2.
    pub section: String,
}

impl Item {
    /// The pictures its prompt shows: one per mark. Without marks a question is about its first picture: of a video's
    /// frames, as in the reference.
    pub(super) fn shown(&self) -> &[ImageSource] {
        let marks = self.prompt.matches(IMAGE_MARKER).count();
        &self.images[..marks.max(1).min(self.images.len())]
    }

    /// Why it cannot be asked, if it shows pictures that are not there.
    pub(super) fn lacks_pictures(&self) -> Option<String> {
        let (marks, images) = (self.prompt.matches(IMAGE_MARKER).count(), self.images.len());
        match images {
            0 => Some("there is no picture".to_string()),
            _ if images < marks => Some(format!("its prompt shows {marks} pictures, its row has {images}")),
            _ => None,
        }
    }
}

//! Maps of a question's picture: its features in the encoder, and where the LLM looks before its first word.

use crate::error::Result;
use crate::image::Image;
use crate::show::page::Shot;
use crate::show::percent;
use crate::vlm::{Looking, Vlm};

/// The feature map and the attention map of a question about one picture.
pub(super) fn maps_of(model: &Vlm, image: &Image, question: &str) -> Result<Vec<Shot>> {
    let features = model.encoder.map(image, model.aspect())?;
    let attention = model.attention(image, question, Looking::default())?;
    let caption = format!("attention, {} on the picture", percent(attention.share()));
    Ok(vec![
        Shot { picture: features, caption: "features".to_string() },
        Shot { picture: attention.overlay()?, caption },
    ])
}

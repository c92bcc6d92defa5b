//! Maps of a question's picture: the encoder's features, and where the LLM attends before its first token.

use crate::error::Result;
use crate::image::Image;
use crate::show::page::Shot;
use crate::show::percent;
use crate::vlm::{Looking, Vlm};

/// The feature map and the attention map of a question about one picture; the first alone where the visual tokens stand for no
/// places in the picture.
pub(super) fn maps_of(model: &Vlm, image: &Image, question: &str) -> Result<Vec<Shot>> {
    let features = model.encoder.map(image, model.aspect())?;
    let attention = model.attention(image, question, Looking::default())?;
    let mut shots = vec![Shot { picture: features, caption: "features".to_string() }];
    if attention.grid.is_some() {
        let caption = format!("attention, {} on the picture", percent(attention.share()));
        shots.push(Shot { picture: attention.overlay()?, caption });
    }
    Ok(shots)
}

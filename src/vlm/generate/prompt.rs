//! Prompts as the LLM takes them: tokens, and pictures in the places of their marks.

use candle_core::Tensor;

use crate::error::Result;
use crate::nn::cache::Slot;
use crate::text::IMAGE_ID;
use crate::{bail, error};

/// What a prompt is made of.
#[derive(Clone)]
pub enum Piece {
    Token(u32),
    /// A picture's visual tokens (tokens, LLM width). The same tensor is the same picture.
    Image(Tensor),
}

impl Piece {
    /// Positions it takes.
    pub fn rows(&self) -> usize {
        match self {
            Piece::Token(_) => 1,
            Piece::Image(tokens) => tokens.dims().first().copied().unwrap_or(0),
        }
    }

    fn is(&self, other: &Piece) -> bool {
        match (self, other) {
            (Piece::Token(a), Piece::Token(b)) => a == b,
            (Piece::Image(a), Piece::Image(b)) => a.id() == b.id(),
            _ => false,
        }
    }
}

/// Rows in the cache, and what they were computed from.
pub(super) struct Prefix {
    pub pieces: Vec<Piece>,
    pub slot: Slot,
}

/// Positions of a prompt.
pub fn rows(pieces: &[Piece]) -> usize {
    pieces.iter().map(Piece::rows).sum()
}

/// Leading pieces that two prompts have in common.
pub fn common(a: &[Piece], b: &[Piece]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a.is(b)).count()
}

/// The ids of a template's prompt with a picture at every mark, in order.
///
/// # Errors
/// `Data` when there are not as many pictures as marks, naming both numbers.
pub fn pieces(ids: &[i64], images: &[Tensor]) -> Result<Vec<Piece>> {
    check_marks(ids, images.len())?;
    let mut images = images.iter();
    let piece = |&id: &i64| match u32::try_from(id) {
        Ok(id) => Ok(Piece::Token(id)),
        Err(_) if id == IMAGE_ID => match images.next() {
            Some(image) => Ok(Piece::Image(image.clone())),
            None => bail!(Data, "a mark has no image"),
        },
        Err(_) => bail!(Data, "{id} is not a token id"),
    };
    ids.iter().map(piece).collect()
}

/// Errors unless there is one mark per image.
pub fn check_marks(ids: &[i64], images: usize) -> Result<()> {
    let marks = ids.iter().filter(|&&id| id == IMAGE_ID).count();
    if marks == images {
        return Ok(());
    }
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let message = format!("the text has {} for {}", plural(marks, "`<image>` mark"), plural(images, "image"));
    Err(error!(Data, "{message}").help("every `<image>` takes the next image: give as many as there are marks"))
}

/// How many leading pieces of a prompt are kept for others: all through its last picture, except the last piece.
pub(super) fn shared(prompt: &[Piece]) -> usize {
    let image = prompt.iter().rposition(|piece| matches!(piece, Piece::Image(_)));
    image.map_or(0, |place| place + 1).min(prompt.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn image() -> Tensor {
        Tensor::zeros((4, 2), DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn every_mark_takes_the_next_image() {
        let (a, b) = (image(), image());
        let made = pieces(&[1, -200, 5, -200], &[a.clone(), b.clone()]).unwrap();
        assert_eq!(rows(&made), 10);
        assert!(made[1].is(&Piece::Image(a.clone())) && made[3].is(&Piece::Image(b.clone())));
        assert_eq!(common(&made, &pieces(&[1, -200, 5, -200], &[a.clone(), a.clone()]).unwrap()), 3);
        let error = pieces(&[1, -200], &[a, b]).err().unwrap();
        assert_eq!(error.message(), "the text has 1 `<image>` mark for 2 images");
        assert!(pieces(&[1, -7], &[]).is_err());
    }

    #[test]
    fn prompts_share_what_ends_with_their_last_image() {
        let a = image();
        let prompt = |ids: &[i64]| {
            let marks = ids.iter().filter(|&&id| id == IMAGE_ID).count();
            pieces(ids, &vec![a.clone(); marks]).unwrap()
        };
        assert_eq!(shared(&prompt(&[1, -200, 5, -200, 6])), 4);
        assert_eq!(shared(&prompt(&[1, -200])), 1);
        assert_eq!(shared(&prompt(&[1, 2])), 0);
    }
}

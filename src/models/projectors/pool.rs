//! Token reduction before the projector: neighboring patches of the grid become one visual token.

use candle_core::{Result, Tensor};

use super::{Features, Projector, VisualTokens};
use crate::error;
use crate::error::Error;

/// How neighboring tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Their mean; the width stays.
    Average,
    /// Side by side in the channels; the width grows by their number.
    PixelShuffle,
}

/// A reduction of a square grid of tokens to `tokens`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub kind: PoolKind,
    pub tokens: usize,
    /// Side of the grid before.
    grid: usize,
    /// Side of what becomes one token.
    ratio: usize,
}

impl PoolKind {
    /// The name scripts and configs use.
    pub fn name(self) -> &'static str {
        match self {
            PoolKind::Average => "average",
            PoolKind::PixelShuffle => "pixel_shuffle",
        }
    }

    /// The kind of a name.
    pub fn parse(name: &str) -> crate::error::Result<Self> {
        match name {
            "average" => Ok(PoolKind::Average),
            "pixel_shuffle" => Ok(PoolKind::PixelShuffle),
            _ => Err(Error::unknown("pooling", name, &["average", "pixel_shuffle"], "")),
        }
    }
}

impl Pool {
    /// The reduction from `from` tokens, a square grid, to `tokens`, a grid whose side divides it.
    ///
    /// # Errors
    /// `Shape`, with the numbers that are possible.
    pub fn new(kind: PoolKind, from: VisualTokens, tokens: usize) -> crate::error::Result<Self> {
        let grid = match from {
            VisualTokens::Grid { extra: 0, rows, columns } if rows == columns => Some(rows),
            _ => None,
        };
        let side = tokens.isqrt();
        match grid.filter(|grid| side > 0 && side * side == tokens && grid % side == 0) {
            Some(grid) => Ok(Pool { kind, tokens, grid, ratio: grid / side }),
            None => {
                let sides = grid.into_iter().flat_map(|grid| (1..=grid).filter(move |side| grid % side == 0));
                let fitting: Vec<String> = sides.map(|side| (side * side).to_string()).collect();
                Err(error!(Shape, "{} visual tokens cannot be pooled to {tokens}", from.count())
                    .help(format!("possible with this encoder: {}", fitting.join(", "))))
            }
        }
    }

    /// What becomes of features.
    pub(super) fn pooled(&self, features: Features) -> Features {
        Features { tokens: self.tokens(), width: self.width(features.width) }
    }

    fn tokens(&self) -> VisualTokens {
        let side = self.grid / self.ratio;
        VisualTokens::Grid { extra: 0, rows: side, columns: side }
    }

    /// The projector of pooled tokens with the pooling in front of it.
    pub(super) fn before(self, projector: Box<dyn Projector>) -> Box<dyn Projector> {
        Box::new(Pooled { pool: self, projector })
    }

    /// Width of a pooled token.
    fn width(&self, width: usize) -> usize {
        match self.kind {
            PoolKind::Average => width,
            PoolKind::PixelShuffle => width * self.ratio * self.ratio,
        }
    }

    /// (images, grid * grid, width) -> (images, tokens, pooled width)
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let (images, _, width) = features.dims3()?;
        let (side, ratio) = (self.grid / self.ratio, self.ratio);
        // (images, side, ratio, side, ratio, width) -> (images, side, side, ratio, ratio, width)
        let blocks = features.reshape((images, side, ratio, side, ratio * width))?.permute((0, 1, 3, 2, 4))?;
        let blocks = blocks.reshape((images, self.tokens, ratio * ratio, width))?;
        match self.kind {
            PoolKind::Average => blocks.mean(2),
            PoolKind::PixelShuffle => blocks.reshape((images, self.tokens, ratio * ratio * width)),
        }
    }
}

/// A projector of pooled tokens.
struct Pooled {
    pool: Pool,
    projector: Box<dyn Projector>,
}

impl Projector for Pooled {
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        self.projector.project(&self.pool.forward(features)?)
    }

    fn tokens(&self) -> VisualTokens {
        self.projector.tokens()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const FOUR: VisualTokens = VisualTokens::Grid { extra: 0, rows: 4, columns: 4 };

    /// A 4 x 4 grid of one channel whose value is its position.
    fn grid() -> Tensor {
        Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap().reshape((1, 16, 1)).unwrap()
    }

    #[test]
    fn blocks_of_neighbors_become_one_token() {
        let pool = Pool::new(PoolKind::Average, FOUR, 4).unwrap();
        let means = pool.forward(&grid()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // The first block holds 0, 1, 4, 5.
        assert_eq!(means, [2.5, 4.5, 10.5, 12.5]);
        let shuffled = Pool::new(PoolKind::PixelShuffle, FOUR, 4).unwrap().forward(&grid()).unwrap();
        assert_eq!(shuffled.dims(), [1, 4, 4]);
        assert_eq!(shuffled.get(0).unwrap().get(1).unwrap().to_vec1::<f32>().unwrap(), [2.0, 3.0, 6.0, 7.0]);
    }

    #[test]
    fn a_grid_that_does_not_divide_is_refused_with_what_would() {
        let error = Pool::new(PoolKind::Average, FOUR, 9).unwrap_err();
        assert_eq!(error.help_text(), Some("possible with this encoder: 1, 4, 16"));
        // 4 x 9 patches are 36, and no square.
        let wide = VisualTokens::Grid { extra: 0, rows: 4, columns: 9 };
        assert!(Pool::new(PoolKind::Average, wide, 4).is_err());
    }
}

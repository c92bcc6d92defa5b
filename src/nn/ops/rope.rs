//! Rotary position embedding in the half-split form ("rotate_half"): inside the first `rotary_dim` entries of a
//! head, entry i and entry i + rotary_dim / 2 are rotated by the token's angle; the rest passes through.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::common::in_f32;
use super::dispatch::{Op, apply};

/// Cosines and sines `(positions, rotary_dim / 2)` of every position's angles.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
    positions: usize,
}

impl RopeTable {
    /// The table for positions `0..positions`; angles are computed in f64 and both functions multiplied by
    /// `scale`, the attention factor of the scaled variants (1 otherwise).
    pub fn new(inv_freq: &[f64], positions: usize, scale: f64) -> Self {
        let mut table = Self { cos: Vec::new(), sin: Vec::new(), half: inv_freq.len(), positions: 0 };
        table.extend(inv_freq, 0..positions, scale);
        table
    }

    /// Appends the rows of these positions; `inv_freq` has as many frequencies as before.
    pub fn extend(&mut self, inv_freq: &[f64], positions: Range<usize>, scale: f64) {
        debug_assert_eq!(inv_freq.len(), self.half);
        self.positions += positions.len();
        for angle in positions.flat_map(|position| inv_freq.iter().map(move |f| position as f64 * f)) {
            let (sin, cos) = angle.sin_cos();
            self.cos.push((cos * scale) as f32);
            self.sin.push((sin * scale) as f32);
        }
    }

    /// How many positions the table has.
    pub fn len(&self) -> usize {
        self.positions
    }

    /// Whether the table has no position.
    pub fn is_empty(&self) -> bool {
        self.positions == 0
    }

    /// How many entries at the start of each head are rotated.
    pub fn rotary_dim(&self) -> usize {
        2 * self.half
    }

    /// Cosines and sines of a position, `rotary_dim / 2` each.
    pub(super) fn row(&self, position: u32) -> (&[f32], &[f32]) {
        let start = position as usize * self.half;
        (&self.cos[start..start + self.half], &self.sin[start..start + self.half])
    }
}

/// Rotates x `(tokens, heads * head_dim)` by each token's position.
///
/// Errors if there is not one position per token, a position is not in the table, or the heads do not fit.
pub fn rope(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<[u32]>, head_dim: usize) -> Result<Tensor> {
    let (tokens, width) = match *x.dims() {
        [tokens, width] if head_dim > 0 && width % head_dim == 0 => (tokens, width),
        _ => bail!("rope: x {:?} is not (tokens, heads * {head_dim})", x.shape()),
    };
    if positions.len() != tokens {
        bail!("rope: x {:?} has {tokens} tokens, but there are {} positions", x.shape(), positions.len());
    }
    if table.rotary_dim() > head_dim {
        bail!("rope: the table rotates {} entries, but a head of x has {head_dim}", table.rotary_dim());
    }
    if let Some(&position) = positions.iter().max().filter(|&&position| position as usize >= table.len()) {
        bail!("rope: position {position} is outside the table of {} positions", table.len());
    }
    let op = Rope { table: table.clone(), positions: positions.clone(), width, head_dim };
    apply(op, [x], || rope_reference(x, table, positions, head_dim))
}

/// [`rope`] composed of candle's primitives.
pub fn rope_reference(x: &Tensor, table: &Arc<RopeTable>, positions: &Arc<[u32]>, head_dim: usize) -> Result<Tensor> {
    in_f32(x, |x| rope_in_f32(x, table, positions, head_dim))
}

fn rope_in_f32(x: &Tensor, table: &RopeTable, positions: &[u32], head_dim: usize) -> Result<Tensor> {
    let (tokens, width) = x.dims2()?;
    let half = table.half;
    // (tokens, 1, half)
    let rows = |values: fn(&RopeTable, u32) -> &[f32]| -> Result<Tensor> {
        let rows: Vec<f32> = positions.iter().flat_map(|&p| values(table, p)).copied().collect();
        Tensor::from_vec(rows, (tokens, 1, half), x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin) = (rows(|t, p| t.row(p).0)?, rows(|t, p| t.row(p).1)?);
    // (tokens, heads, head_dim)
    let x = x.contiguous()?.reshape((tokens, width / head_dim, head_dim))?;
    let (first, second) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
    let rotated_first = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
    let rotated_second = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
    let rest = x.narrow(2, 2 * half, head_dim - 2 * half)?;
    Tensor::cat(&[rotated_first, rotated_second, rest], 2)?.reshape((tokens, width))
}

/// dx is the gradient rotated back.
pub(super) struct Rope {
    pub table: Arc<RopeTable>,
    pub positions: Arc<[u32]>,
    pub width: usize,
    pub head_dim: usize,
}

impl Op<1> for Rope {
    const NAME: &'static str = "rope";
}

#[cfg(test)]
mod tests {
    use super::super::testing::Check;
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn rope_agrees_with_its_reference() {
        for (tokens, heads, head_dim, rotary) in [(5, 2, 8, 8), (300, 3, 64, 64), (7, 2, 20, 12)] {
            let inv_freq: Vec<f64> = (0..rotary / 2).map(|i| 10_000f64.powf(-2.0 * i as f64 / rotary as f64)).collect();
            let table = Arc::new(RopeTable::new(&inv_freq, 400, 1.25));
            // Two packed sequences, the second starting again at 0.
            let positions: Arc<[u32]> = (0..tokens as u32).map(|t| if t < 3 { t } else { t - 3 }).collect();
            Check::new("rope", &[&[tokens, heads * head_dim]]).run(
                |t| rope(&t[0], &table, &positions, head_dim),
                |t| rope_reference(&t[0], &table, &positions, head_dim),
            );
        }
    }

    #[test]
    fn the_second_token_is_rotated_by_one_radian() -> Result<()> {
        let table = Arc::new(RopeTable::new(&[1.0], 2, 1.0));
        let x = Tensor::new(&[[1f32, 0.0], [1.0, 0.0]], &Device::Cpu)?;
        let rotated = rope(&x, &table, &Arc::from([0, 1]), 2)?.to_vec2::<f32>()?;
        assert_eq!(rotated, [[1.0, 0.0], [1f64.cos() as f32, 1f64.sin() as f32]]);
        Ok(())
    }

    #[test]
    fn wrong_positions_are_named() -> Result<()> {
        let table = Arc::new(RopeTable::new(&[1.0], 2, 1.0));
        let x = Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?;
        let message =
            |positions: &[u32], head_dim| rope(&x, &table, &Arc::from(positions), head_dim).unwrap_err().to_string();
        assert!(message(&[0], 2).contains("has 2 tokens, but there are 1 positions"));
        assert!(message(&[0, 2], 2).contains("position 2 is outside the table of 2 positions"));
        assert!(message(&[0, 1], 3).contains("x [2, 4] is not (tokens, heads * 3)"));
        assert!(message(&[0, 1], 1).contains("rotates 2 entries, but a head of x has 1"));
        Ok(())
    }
}

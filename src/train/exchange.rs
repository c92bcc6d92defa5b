//! What several ranks need of one step. Each computes its share of a step's leaves (`leaves.rs`); what they add up
//! goes through here, in an order that does not depend on how many there are.

use candle_core::Tensor;

use crate::error::Result;

/// Ranks that train one model together, each with weights and moments of its own that stay equal to the last bit.
///
/// Every rank calls the same methods in the same order; each call waits for all of them. Sums are those of
/// [`pairwise`](super::pairwise) over ranks 0, 1, 2, ..: `(r0 + r1) + (r2 + r3)`. Any other order gives other bits.
pub trait Exchange: Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are: a power of two.
    fn ranks(&self) -> usize;

    /// The sum over all ranks of f32 gradients in the order of the trained tensors, given to every rank. A tensor that a
    /// rank's samples did not reach is `None` and takes no part; it is `None` in the sum where no rank reached it.
    ///
    /// # Errors
    /// `Train` when a rank is gone.
    fn sum_gradients(&self, mine: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>>;

    /// The sum over all ranks of losses and counts, number by number, given to every rank.
    ///
    /// # Errors
    /// As [`sum_gradients`](Self::sum_gradients).
    fn sum_counts(&self, mine: Vec<f64>) -> Result<Vec<f64>>;

    /// Whether any rank says yes, so that all stop at the same place.
    ///
    /// # Errors
    /// As [`sum_gradients`](Self::sum_gradients).
    fn any(&self, mine: bool) -> Result<bool>;

    /// Whether this rank writes the run folder.
    fn writes(&self) -> bool {
        self.rank() == 0
    }
}

/// One rank, which has nobody to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Exchange for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum_gradients(&self, mine: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
        Ok(mine)
    }

    fn sum_counts(&self, mine: Vec<f64>) -> Result<Vec<f64>> {
        Ok(mine)
    }

    fn any(&self, mine: bool) -> Result<bool> {
        Ok(mine)
    }
}

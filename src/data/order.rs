//! Which samples a step sees: a function of (seed, epoch, step), so that a run can be resumed anywhere.

use serde::{Deserialize, Serialize};

use crate::rng::Rng;

/// How samples follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A new permutation every epoch; the last batch of an epoch may be smaller.
    Shuffle,
    /// Data-set order, epoch after epoch without a break.
    Sequential,
}

/// The positions of optimizer step `step` (from 0) over `n` samples with `batch` samples a step.
pub fn positions(order: Order, seed: u64, n: usize, batch: usize, step: u64) -> Vec<usize> {
    match order {
        Order::Sequential => {
            let start = step as usize * batch;
            (start..start + batch).map(|i| i % n).collect()
        }
        Order::Shuffle => {
            let per_epoch = n.div_ceil(batch);
            let (epoch, place) = (step as usize / per_epoch, step as usize % per_epoch);
            let permutation = Rng::new(seed, "order").split(epoch as u64).permutation(n);
            permutation.into_iter().skip(place * batch).take(batch).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_holds_every_sample_once() {
        let mut seen: Vec<usize> = (0..3).flat_map(|step| positions(Order::Shuffle, 1, 10, 4, step)).collect();
        assert_eq!(positions(Order::Shuffle, 1, 10, 4, 2).len(), 2);
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_ne!(positions(Order::Shuffle, 1, 10, 4, 0), positions(Order::Shuffle, 1, 10, 4, 3));
    }

    #[test]
    fn sequential_order_runs_on_without_a_break() {
        assert_eq!(positions(Order::Sequential, 0, 5, 3, 1), [3, 4, 0]);
    }
}

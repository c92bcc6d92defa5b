//! Which samples a step sees: a function of (seed, epoch, step), so that a run can be resumed anywhere.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::modality::grouped;
use crate::error::Result;
use crate::rng::Rng;

/// How samples follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// A new permutation every epoch; the last batch of an epoch may be smaller.
    Shuffle,
    /// Data-set order. Where a run counts epochs, the last batch of each may be smaller; where it counts steps, epoch
    /// follows epoch without a break.
    Sequential,
}

/// What the order depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    pub order: Order,
    pub seed: u64,
    /// Samples of a step, and of one of its micro-batches.
    pub batch: usize,
    pub micro_batch: usize,
    /// Whether the run counts epochs, in each of which every sample comes once, or steps.
    pub epochs: bool,
    /// Micro-batches hold samples of one modality and similar length; for a shuffled order only.
    pub group_by_modality: bool,
}

/// Gives every step its samples.
pub struct Sampler {
    sampling: Sampling,
    len: usize,
    /// Words per sample, negative without a picture, where samples are grouped.
    lengths: Vec<i32>,
    /// The order of the epoch last asked for: 4 bytes a sample.
    epoch: Mutex<Option<(u64, Arc<[u32]>)>>,
}

impl Sampler {
    /// A sampler over a data set, which is not read where it has an index.
    ///
    /// # Errors
    /// What reading a sample gives, where lengths are wanted and have to be read.
    pub fn new(dataset: &Dataset, sampling: Sampling) -> Result<Self> {
        let lengths = match sampling.group_by_modality {
            true => dataset.briefs()?.iter().map(|brief| length(brief.words, brief.has_image())).collect(),
            false => Vec::new(),
        };
        Ok(Sampler { sampling, len: dataset.len(), lengths, epoch: Mutex::default() })
    }

    /// The positions of optimizer step `step`, from 0.
    pub fn positions(&self, step: u64) -> Vec<usize> {
        let Sampling { order, batch, epochs, .. } = self.sampling;
        let per_epoch = self.len.div_ceil(batch) as u64;
        let place = (step % per_epoch) as usize * batch;
        match order {
            Order::Sequential if epochs => (place..self.len.min(place + batch)).collect(),
            Order::Sequential => {
                let start = step as usize * batch;
                (start..start + batch).map(|i| i % self.len).collect()
            }
            Order::Shuffle => {
                let order = self.epoch(step / per_epoch);
                order.iter().skip(place).take(batch).map(|&position| position as usize).collect()
            }
        }
    }

    /// The micro-batches of optimizer step `step`.
    pub fn micro_batches(&self, step: u64) -> Vec<Vec<usize>> {
        self.positions(step).chunks(self.sampling.micro_batch).map(<[usize]>::to_vec).collect()
    }

    fn epoch(&self, epoch: u64) -> Arc<[u32]> {
        let mut known = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((number, order)) if *number == epoch => order.clone(),
            _ => {
                let order: Arc<[u32]> = self.draw(epoch).into_iter().map(|position| position as u32).collect();
                *known = Some((epoch, order.clone()));
                order
            }
        }
    }

    fn draw(&self, epoch: u64) -> Vec<usize> {
        let Sampling { seed, batch, micro_batch, group_by_modality, .. } = self.sampling;
        let rng = Rng::new(seed, "order").split(epoch);
        if !group_by_modality {
            return rng.permutation(self.len);
        }
        let lengths: Vec<i64> = self.lengths.iter().map(|&length| i64::from(length)).collect();
        let mut drawn = 0..;
        let draw = |n| rng.split(drawn.next().unwrap_or(0)).permutation(n);
        grouped(&lengths, micro_batch, batch / micro_batch, draw)
    }
}

/// The reference's length of a sample; 0 would be of neither modality.
fn length(words: u32, image: bool) -> i32 {
    let words = words.clamp(1, i32::MAX as u32) as i32;
    if image { words } else { -words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(order: Order, batch: usize, len: usize) -> Sampler {
        let sampling = Sampling { order, seed: 1, batch, micro_batch: batch, epochs: false, group_by_modality: false };
        Sampler { sampling, len, lengths: Vec::new(), epoch: Mutex::default() }
    }

    #[test]
    fn an_epoch_holds_every_sample_once() {
        let sampler = sampler(Order::Shuffle, 4, 10);
        let mut seen: Vec<usize> = (0..3).flat_map(|step| sampler.positions(step)).collect();
        assert_eq!(sampler.positions(2).len(), 2);
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_ne!(sampler.positions(0), sampler.positions(3));
    }

    #[test]
    fn another_seed_is_another_order_of_the_same_samples() {
        let order = |seed: u64| {
            let mut sampler = sampler(Order::Shuffle, 10, 10);
            sampler.sampling.seed = seed;
            sampler.positions(0)
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn micro_batches_are_a_steps_positions_in_their_order() {
        let mut sampler = sampler(Order::Shuffle, 5, 10);
        sampler.sampling.micro_batch = 2;
        let micros = sampler.micro_batches(1);
        assert_eq!(micros.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(micros.concat(), sampler.positions(1));
    }

    #[test]
    fn a_length_tells_the_modality_and_is_never_zero() {
        assert_eq!([length(3, true), length(3, false), length(0, true), length(0, false)], [3, -3, 1, -1]);
        assert_eq!(length(u32::MAX, false), -i32::MAX);
    }

    #[test]
    fn steps_may_be_asked_for_in_any_order() {
        let sampler = sampler(Order::Shuffle, 4, 10);
        let forward: Vec<_> = (0..9).map(|step| sampler.positions(step)).collect();
        let backward: Vec<_> = (0..9).rev().map(|step| sampler.positions(step)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
    }

    /// `README-training.md` of the fixtures: "with `steps` it runs on without a break at the end of the data; with `epochs` the
    /// last batch of an epoch may be smaller, as with `shuffle`: no sample comes twice in an epoch".
    #[test]
    fn sequential_order_breaks_between_epochs_and_not_between_steps() {
        let mut sequential = sampler(Order::Sequential, 3, 5);
        assert_eq!(sequential.positions(1), [3, 4, 0]);
        sequential.sampling.epochs = true;
        let steps: Vec<_> = (0..4).map(|step| sequential.positions(step)).collect();
        assert_eq!(steps, [vec![0, 1, 2], vec![3, 4], vec![0, 1, 2], vec![3, 4]]);
        let mut large = sampler(Order::Sequential, 9, 5);
        large.sampling.epochs = true;
        assert_eq!(large.positions(1), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn grouped_micro_batches_have_one_modality_and_every_sample_comes_once() {
        let lengths: Vec<i32> = (0..200).map(|i| if i % 3 == 0 { -(i % 17 + 1) } else { i % 23 + 1 }).collect();
        let sampling = Sampling {
            order: Order::Shuffle,
            seed: 5,
            batch: 16,
            micro_batch: 4,
            epochs: true,
            group_by_modality: true,
        };
        let sampler = Sampler { sampling, len: 200, lengths: lengths.clone(), epoch: Mutex::default() };
        let micros: Vec<Vec<usize>> = (0..13).flat_map(|step| sampler.micro_batches(step)).collect();
        let mut seen = micros.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        // 133 pictures and 67 texts: 8 and 4 whole groups of 16, then 5 and 3 samples that are mixed at the end.
        let mixed =
            |micro: &&Vec<usize>| micro.iter().any(|&i| lengths[i] > 0) && micro.iter().any(|&i| lengths[i] < 0);
        assert!(micros[..48].iter().find(mixed).is_none());
        assert_eq!(micros[48..].concat(), {
            let mut rest = micros[48..].concat();
            rest.sort_unstable();
            rest
        });
        assert_ne!(sampler.positions(0), sampler.positions(13), "epochs differ");
    }
}

//! The order of a step's sums. Its micro-batches are cut into leaves: within a leaf they are added one after the other,
//! between leaves by a fixed binary tree, so that ranks which compute some leaves each come to the same bits as one that
//! computes all.

use std::ops::Range;

use candle_core::{Device, Tensor};

use super::options::TrainOptions;
use crate::error;
use crate::error::Result;
use crate::nn::ops;

/// Leaves of a step on a CPU, at most, where the option `leaves` is not given.
pub(super) const MOST: usize = 8;

/// How the micro-batches of a step are cut into leaves, and which leaves are this rank's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// Leaves of a step.
    pub leaves: usize,
    /// Micro-batches of a leaf in a whole step; a short step leaves the last ones empty.
    each: usize,
    /// The first leaf of this rank, and how many it has.
    first: usize,
    own: usize,
}

impl Share {
    /// # Errors
    /// `Option` when the ranks do not divide the leaves.
    pub(super) fn new(options: &TrainOptions, device: &Device, rank: usize, ranks: usize) -> Result<Self> {
        let leaves = options.leaves.unwrap_or_else(|| usual(device, options.micro_batches()));
        if !ranks.is_power_of_two() || !leaves.is_multiple_of(ranks) {
            return Err(error!(Option, "option `leaves` is {leaves}, there are {ranks} ranks")
                .help("ranks are 1, 2, 4, .. and divide the leaves; leaves divide the micro-batches of a step"));
        }
        let own = leaves / ranks;
        Ok(Share { leaves, each: options.micro_batches() / leaves, first: rank * own, own })
    }

    /// The micro-batches of each leaf of this rank, by their numbers in a whole step.
    pub(super) fn numbers(self) -> impl Iterator<Item = Range<usize>> {
        (self.first..self.first + self.own).map(move |leaf| leaf * self.each..(leaf + 1) * self.each)
    }

    /// Of a step's micro-batches those of this rank.
    pub(super) fn of(self, micros: Vec<Vec<usize>>) -> impl Iterator<Item = Vec<usize>> {
        micros.into_iter().skip(self.first * self.each).take(self.own * self.each)
    }

    /// How many micro-batches of a step this rank computes before this one.
    pub(super) fn before(self, number: usize) -> usize {
        number - self.first * self.each
    }

    /// Whether a leaf is more than one micro-batch.
    pub(super) fn adds_in_place(self) -> bool {
        self.each > 1
    }

    /// Gradients that wait, at most, while the gradient of a leaf is computed.
    pub(super) fn waiting(self) -> usize {
        self.own.ilog2() as usize
    }
}

/// The number of leaves where nobody says: the largest power of two that divides the micro-batches, up to 8 on a CPU. A GPU
/// has no memory to spare for the gradients that wait.
fn usual(device: &Device, micro_batches: usize) -> usize {
    let dividing = 1 << micro_batches.trailing_zeros();
    if device.is_cpu() { dividing.min(MOST) } else { 1 }
}

/// What can be added up.
pub trait Summand: Sized {
    /// `self + other`.
    ///
    /// # Errors
    /// `Tensor` for shapes that differ.
    fn plus(self, other: Self) -> Result<Self>;
}

/// Numbers, one by one.
impl Summand for Vec<f64> {
    fn plus(mut self, other: Self) -> Result<Self> {
        self.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
        Ok(self)
    }
}

/// Gradients, tensor by tensor and in place: whoever else holds the left ones' storage sees the sums.
impl Summand for Vec<Option<Tensor>> {
    fn plus(mut self, other: Self) -> Result<Self> {
        self.resize(self.len().max(other.len()), None);
        for (sum, gradient) in self.iter_mut().zip(other) {
            match (&sum, gradient) {
                (Some(sum), Some(gradient)) => ops::accumulate(sum, &gradient)?,
                (None, gradient) => *sum = gradient,
                (Some(_), None) => {}
            }
        }
        Ok(self)
    }
}

/// The sum of values by neighbors, neighbors of neighbors and so on: `(v0 + v1) + (v2 + v3)`; `None` of none.
///
/// # Errors
/// As [`Summand::plus`].
pub fn pairwise<T: Summand>(values: impl IntoIterator<Item = T>) -> Result<Option<T>> {
    let mut tree = Tree::default();
    values.into_iter().try_for_each(|value| tree.push(value))?;
    tree.sum()
}

/// The same for values that come one after the other; of 2^n values at most n wait for a neighbor.
pub(super) struct Tree<T>(Vec<(u32, T)>);

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree(Vec::new())
    }
}

impl<T: Summand> Tree<T> {
    pub(super) fn push(&mut self, value: T) -> Result<()> {
        let (mut level, mut sum) = (0, value);
        while let Some((_, left)) = self.0.pop_if(|(below, _)| *below == level) {
            sum = left.plus(sum)?;
            level += 1;
        }
        self.0.push((level, sum));
        Ok(())
    }

    pub(super) fn sum(self) -> Result<Option<T>> {
        let mut waiting = self.0.into_iter().rev().map(|(_, value)| value);
        let Some(last) = waiting.next() else { return Ok(None) };
        waiting.try_fold(last, |sum, left| left.plus(sum)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says in what order it was added.
    struct Said(String);

    impl Summand for Said {
        fn plus(self, other: Self) -> Result<Self> {
            Ok(Said(format!("({}{})", self.0, other.0)))
        }
    }

    fn said(names: &str) -> String {
        let values = names.chars().map(|name| Said(name.to_string()));
        pairwise(values).unwrap().map(|said| said.0).unwrap_or_default()
    }

    #[test]
    fn sums_go_by_neighbors() {
        assert_eq!(said("a"), "a");
        assert_eq!(said("abcd"), "((ab)(cd))");
        assert_eq!(said("abcdefgh"), "(((ab)(cd))((ef)(gh)))");
        assert_eq!(said(""), "");
    }

    #[test]
    fn of_eight_values_three_wait_at_most() {
        let mut tree = Tree::default();
        let mut most = 0;
        for number in 0..8 {
            tree.push(vec![f64::from(number)]).unwrap();
            // Before the next one is there.
            most = most.max(if number < 7 { tree.0.len() } else { 0 });
        }
        assert_eq!((most, tree.0.len()), (3, 1));
        assert_eq!(tree.sum().unwrap(), Some(vec![28.0]));
    }

    fn options(text: &str) -> TrainOptions {
        crate::preset::from_table(format!("train = {{ projector = 1e-3 }}\n{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn ranks_share_the_leaves_of_a_step() {
        let options = options("batch = 24\nmicro_batch = 2\nleaves = 4");
        let shares: Vec<Share> = (0..2).map(|rank| Share::new(&options, &Device::Cpu, rank, 2).unwrap()).collect();
        assert_eq!(shares[0].numbers().collect::<Vec<_>>(), [0..3, 3..6]);
        assert_eq!(shares[1].numbers().collect::<Vec<_>>(), [6..9, 9..12]);
        let short: Vec<Vec<usize>> = (0..8).map(|number| vec![number]).collect();
        assert_eq!(shares[1].of(short).collect::<Vec<_>>(), [[6], [7]]);
        assert_eq!(shares.iter().map(|share| share.waiting()).collect::<Vec<_>>(), [1, 1]);
        let error = Share::new(&options, &Device::Cpu, 0, 8).unwrap_err();
        assert!(error.message().contains("`leaves` is 4, there are 8 ranks"), "{error}");
    }

    #[test]
    fn the_usual_leaves_divide_the_micro_batches() {
        let leaves = |micro_batches| usual(&Device::Cpu, micro_batches);
        assert_eq!([1, 2, 3, 4, 6, 8, 12, 64].map(leaves), [1, 2, 1, 4, 2, 8, 4, 8]);
    }

    #[test]
    fn leaves_that_do_not_divide_are_refused_with_both_values() {
        for leaves in [0, 3, 8] {
            let error = options(&format!("batch = 12\nmicro_batch = 1\nleaves = {leaves}")).check().unwrap_err();
            let said = format!("option `leaves` is {leaves}, a step has 12 micro-batches");
            assert!(error.message().contains(&said), "{error}");
        }
        assert!(options("batch = 12\nmicro_batch = 1\nleaves = 4").check().is_ok());
    }
}

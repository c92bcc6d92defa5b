//! What goes wrong in a step is reported with the samples it happened to: errors, memory that runs out, losses that jump.

use crate::data::Dataset;
use crate::error::{Error, Kind};
use crate::events::Step;

/// Losses before a step that it is compared with, at most and at least.
const WINDOW: usize = 64;
const ENOUGH: usize = 8;
/// Samples that an error names.
const NAMED: usize = 8;

/// The ids of samples by position.
pub(super) fn ids(dataset: &Dataset, positions: &[usize], count: usize) -> Vec<String> {
    let id = |position: &usize| dataset.get(*position).ok().map(|sample| sample.id);
    positions.iter().take(count).filter_map(id).collect()
}

/// The ids of the first samples as an error names them.
fn named(ids: &[String], of: usize) -> String {
    let names: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    format!("{}{}", names.join(", "), if of > names.len() { ", ..." } else { "" })
}

/// An error with the samples it happened to and how to look at one.
pub(super) fn about_samples(dataset: &Dataset, positions: &[usize], error: Error) -> Error {
    if error.kind() == Kind::Interrupted {
        return error;
    }
    let ids = ids(dataset, positions, NAMED);
    let error = out_of_memory(error, positions.len());
    let show = ids.first().map(|id| format!("`d.show({id:?}, m)` shows the first one"));
    let help: Vec<String> = error.help_text().map(str::to_string).into_iter().chain(show).collect();
    error.context(format!("samples {}", named(&ids, positions.len()))).help(help.join("; "))
}

/// Names the first samples of which nothing is learned because all their answers lie beyond `max_length`; steps count
/// all of them.
pub(super) fn unsupervised(dataset: &Dataset, positions: &[usize], step: u64, limit: usize) -> String {
    let names = named(&ids(dataset, positions, NAMED), positions.len());
    format!(
        "step {step}: all answers of samples {names} lie beyond `max_length` {limit}, so nothing is learned from them; \
         `d.verify(m)` lists all such samples, `unsupervised` of a step counts them"
    )
}

/// The median of the losses before the last step, when its own is `factor` times as large.
pub(super) fn spike(history: &[Step], factor: f64) -> Option<f64> {
    let (last, before) = history.split_last()?;
    let losses: Vec<f64> = before.iter().rev().take(WINDOW).map(|step| step.loss).collect();
    jump(last.loss, losses, factor)
}

/// The median of the losses before, when this one is more than `factor` times as large.
fn jump(loss: f64, mut before: Vec<f64>, factor: f64) -> Option<f64> {
    if factor <= 0.0 || before.len() < ENOUGH {
        return None;
    }
    before.sort_by(f64::total_cmp);
    let median = before[before.len() / 2];
    (loss > factor * median).then_some(median)
}

/// A device without memory says so in words only.
fn out_of_memory(error: Error, samples: usize) -> Error {
    let text = error.message().to_lowercase();
    if !["out of memory", "out_of_memory", "alloc_failed"].iter().any(|sign| text.contains(sign)) {
        return error;
    }
    let help = format!("a `micro_batch` below {samples} takes less memory; `t.plan()` shows what would fit");
    error.with_kind(Kind::DoesNotFit).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;

    #[test]
    fn a_loss_is_a_spike_against_the_median() {
        let calm = vec![1.0, 1.2, 0.9, 1.1, 1.0, 5.0, 1.0, 0.8, 1.0];
        assert_eq!(jump(3.5, calm.clone(), 3.0), Some(1.0));
        assert_eq!(jump(2.9, calm.clone(), 3.0), None);
        assert_eq!(jump(99.0, calm.clone(), 0.0), None);
        // Eight losses before it are enough, and the median is the larger of the middle ones.
        assert_eq!(jump(99.0, calm[..7].to_vec(), 3.0), None);
        assert_eq!(jump(99.0, calm[..8].to_vec(), 3.0), Some(1.0));
        assert_eq!(jump(3.0, calm.clone(), 3.0), None);
    }

    #[test]
    fn running_out_of_memory_is_of_its_own_kind() {
        let error = error!(Tensor, "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        let told = out_of_memory(error, 8);
        assert_eq!(told.kind(), Kind::DoesNotFit);
        assert!(told.help_text().is_some_and(|help| help.contains("`micro_batch` below 8")));
        assert_eq!(out_of_memory(error!(Tensor, "shape mismatch"), 8).kind(), Kind::Tensor);
    }
}

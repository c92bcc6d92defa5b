//! What goes wrong in a step is told with the samples it happened to: errors, memory that runs out, losses that jump.

use super::checkpoint::checkpoints;
use super::trainer::Trainer;
use crate::error::{Error, Kind};
use crate::events::Event;

/// Losses before a step that it is compared with, at most and at least.
const WINDOW: usize = 64;
const ENOUGH: usize = 8;
/// Samples that an error names.
const NAMED: usize = 8;

impl Trainer {
    /// The ids of samples by position.
    fn ids(&self, positions: &[usize], count: usize) -> Vec<String> {
        let id = |position: &usize| self.dataset().get(*position).ok().map(|sample| sample.id);
        positions.iter().take(count).filter_map(id).collect()
    }

    /// An error with the samples it happened to and how to look at one.
    pub(super) fn about_samples(&self, positions: &[usize], error: Error) -> Error {
        if error.kind() == Kind::Interrupted {
            return error;
        }
        let ids = self.ids(positions, NAMED);
        let names: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
        let more = if positions.len() > names.len() { ", ..." } else { "" };
        let error = out_of_memory(error, positions.len());
        let show = ids.first().map(|id| format!("`d.show({id:?}, m)` shows the first one"));
        let help: Vec<String> = error.help_text().map(str::to_string).into_iter().chain(show).collect();
        error.context(format!("samples {}{more}", names.join(", "))).help(help.join("; "))
    }

    /// Names the first samples of which nothing is learned because all their answers lie beyond `max_length`; steps count
    /// all of them.
    pub(super) fn name_unsupervised(&mut self, positions: &[usize]) {
        if positions.is_empty() || std::mem::replace(&mut self.named_unsupervised, true) {
            return;
        }
        let names: Vec<String> = self.ids(positions, NAMED).iter().map(|id| format!("`{id}`")).collect();
        let more = if positions.len() > names.len() { ", ..." } else { "" };
        let (step, limit, names) = (self.step, self.limit, names.join(", "));
        let text = format!(
            "step {step}: all answers of samples {names}{more} lie beyond `max_length` {limit}, so nothing is learned from them; \
             `d.verify(m)` lists all such samples, `unsupervised` of a step counts them"
        );
        self.setup.listeners.tell(&Event::Warning { text });
    }

    /// What to say of a schedule under which nothing moves.
    pub(super) fn stands_still(&self) -> Option<String> {
        let (options, steps) = (&self.options, self.steps());
        (!options.schedule.moves(steps, options.warmup_ratio)).then(|| {
            let all = if steps == 1 { "the only step is".to_string() } else { format!("all {steps} steps are") };
            format!(
                "{all} warm-up at rate 0, so nothing is learned: give more `steps` or `epochs`, a smaller `batch`, or `warmup_ratio: 0`"
            )
        })
    }

    /// Where a run that came to numbers that are none can go back to.
    pub(super) fn earlier(&self) -> String {
        let found = self.run().and_then(|run| checkpoints(run.dir()).ok()).unwrap_or_default();
        let names: Vec<String> = found.iter().rev().map(|(_, path)| format!("`t.resume({path:?})`")).collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("; {} of a new trainer goes back", names.join(" or ")),
        }
    }

    /// Lets the model be asked and saved as it was just trained, and says so once.
    pub(super) fn adopt(&mut self) {
        let Some(text) = self.vlm().adopt(&self.setup.template, self.setup.aspect) else { return };
        if !std::mem::replace(&mut self.said_adoption, true) {
            self.setup.listeners.tell(&Event::Warning { text });
        }
    }

    /// The event of a step whose loss is `spike` times the median of those before it.
    pub(super) fn spike(&self) -> Option<Event> {
        let (last, before) = self.history.split_last()?;
        let losses: Vec<f64> = before.iter().rev().take(WINDOW).map(|step| step.loss).collect();
        let median = jump(last.loss, losses, self.options.spike)?;
        let samples = self.ids(&self.sampler.positions(last.step - 1), usize::MAX);
        Some(Event::Spike { step: last.step, loss: last.loss, median, samples })
    }
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
    let help = format!("a `micro_batch` below {samples} takes less memory; `t.plan()` tells what would fit");
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
        assert_eq!(jump(99.0, calm[..4].to_vec(), 3.0), None);
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

//! Whether a plan fits, and what would make it fit.

use std::path::Path;

use super::alternatives::RANK;
use super::disk::{disk_free, disk_plan, disk_suffices};
use super::leaves::MOST;
use super::moments::MomentKind;
use super::options::Features;
use super::plan::Plan;
use super::step::Stepper;
use crate::error;
use crate::error::{Error, Result};
use crate::memory;
use crate::show::bytes;

/// An option that takes less memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Saving {
    /// As it is written in an option map.
    pub option: String,
    /// Bytes at the peak.
    pub saves: u64,
    /// Whether it is enough alone.
    pub enough: bool,
}

impl Plan {
    /// Whether memory and disk suffice, as far as the system reports what there is.
    pub fn fits(&self) -> bool {
        self.check().is_ok()
    }

    /// # Errors
    /// `DoesNotFit`, with both values and the options that would help.
    pub fn check(&self) -> Result<()> {
        if let Some(limit) = self.memory.limit
            && self.memory.peak > limit
        {
            let error = error!(
                DoesNotFit,
                "the run needs {} of memory at its peak, there is {}: {} too little",
                bytes(self.memory.peak),
                bytes(limit),
                bytes(self.memory.peak - limit)
            );
            let savings = self.savings();
            let line = |saving: &Saving| format!("`{}` saves {}", saving.option, bytes(saving.saves));
            let (enough, rest): (Vec<_>, Vec<_>) = savings.iter().partition(|saving| saving.enough);
            let help = match (enough.is_empty(), rest.is_empty()) {
                (false, _) => enough.into_iter().map(line).collect::<Vec<_>>().join(", "),
                (true, false) => {
                    format!("no option is enough alone: {}", rest.into_iter().map(line).collect::<Vec<_>>().join(", "))
                }
                (true, true) => "a smaller model would fit".to_string(),
            };
            return Err(error.help(help));
        }
        disk_suffices(self.disk.peak, self.disk.free)
    }

    /// Options that take less memory than this plan, the largest saving first.
    pub fn savings(&self) -> Vec<Saving> {
        let memory = &self.memory;
        let over = memory.limit.map_or(0, |limit| memory.peak.saturating_sub(limit));
        let mut found: Vec<(String, u64)> = Vec::new();
        // Halved until it is enough.
        let mut micro = self.micro_batch;
        let saved = |micro: usize| memory.activations - memory.activations * micro as u64 / self.micro_batch as u64;
        while micro > 1 && (micro == self.micro_batch || saved(micro) < over) {
            micro /= 2;
        }
        if micro < self.micro_batch {
            // More micro-batches would otherwise have more leaves.
            let leaves = if self.leaves < MOST { format!(", leaves: {}", self.leaves) } else { String::new() };
            found.push((format!("micro_batch: {micro}{leaves}"), saved(micro)));
        }
        found.push(("leaves: 1".to_string(), memory.leaves));
        let narrow = self.moments_as(MomentKind::EightBit);
        found.push(("moments: \"8bit\"".to_string(), memory.moments.saturating_sub(narrow)));
        let instead = &self.alternatives;
        found.push(("checkpointing: true".to_string(), memory.activations.saturating_sub(instead.checkpointed)));
        if instead.llm > instead.adapters {
            let state = memory.gradients + memory.leaves + memory.moments + memory.masters;
            let saves = state as f64 * (instead.llm - instead.adapters) as f64 / self.trained as f64;
            found.push((format!("lora: #{{ r: {RANK} }}"), saves as u64));
        }
        if self.features.place == Features::Memory {
            found.push(("features: \"disk\"".to_string(), memory.features));
        }
        // What is a drop in the ocean is not worth naming.
        found.retain(|(_, saves)| *saves > 0 && *saves * 20 >= over);
        found.sort_by_key(|(_, saves)| std::cmp::Reverse(*saves));
        found.into_iter().map(|(option, saves)| Saving { option, saves, enough: saves >= over }).collect()
    }
}

/// Refuses to start what cannot end well: by the plan, if there is one, else by what has to be there in any case.
pub(super) fn refuse_what_does_not_fit(stepper: &Stepper, planned: Option<&Plan>, folder: &Path) -> Result<()> {
    disk_suffices(disk_plan(stepper, folder).peak, disk_free(stepper, folder))?;
    let memory = memory::of(&stepper.vlm().target().device);
    let Some(limit) = memory.limit() else { return Ok(()) };
    if let Some(plan) = planned {
        let mut plan = plan.clone();
        (plan.memory.limit, plan.disk.free) = (Some(limit), None);
        return plan.check();
    }
    if stepper.optimizer.is_allocated() {
        return Ok(());
    }
    let gradients = 4 * stepper.trained_count() as u64 * (1 + stepper.share.waiting() as u64);
    let state = stepper.optimizer.moment_bytes(stepper.options.moments) + stepper.optimizer.master_bytes();
    let (needed, free) = (gradients + state, limit - memory.taken().unwrap_or(0).min(limit));
    if needed > free {
        return Err(too_large(needed, free));
    }
    Ok(())
}

fn too_large(needed: u64, free: u64) -> Error {
    error!(DoesNotFit, "gradients and moments need {} of memory, {} are free", bytes(needed), bytes(free))
        .help("`t.plan()` shows which options would make it fit")
}

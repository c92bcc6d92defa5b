//! Whether a plan fits, and what would make it fit.

use super::checkpoint::checkpoints;
use super::moments::MomentKind;
use super::options::Features;
use super::plan::Plan;
use super::trainer::Trainer;
use crate::error;
use crate::error::{Error, Result};
use crate::memory;
use crate::process::free_disk;
use crate::show::bytes;
use crate::vlm::Part;

/// Rank of the adapters that advice counts with.
const RANK: usize = 16;

/// What other options would take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alternatives {
    /// Bytes of activations where blocks keep their inputs only: these, and one block at a time.
    pub checkpointed: u64,
    /// Weights of the LLM that are trained, and of adapters in their place.
    pub llm: usize,
    pub adapters: usize,
}

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
    /// Whether memory and disk suffice, as far as the system tells what there is.
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
            found.push((format!("micro_batch: {micro}"), saved(micro)));
        }
        let narrow = self.moments_as(MomentKind::EightBit);
        found.push(("moments: \"8bit\"".to_string(), memory.moments.saturating_sub(narrow)));
        let instead = &self.alternatives;
        found.push(("checkpointing: true".to_string(), memory.activations.saturating_sub(instead.checkpointed)));
        if instead.llm > instead.adapters {
            let state = memory.gradients + memory.moments + memory.masters;
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

fn disk_suffices(needed: u64, free: Option<u64>) -> Result<()> {
    match free {
        Some(free) if needed > free => {
            let less = bytes(needed - free);
            Err(error!(
                DoesNotFit,
                "checkpoints need {} of disk, {} are free: {less} too little",
                bytes(needed),
                bytes(free)
            )
            .help("a smaller `keep`, or another `out`"))
        }
        _ => Ok(()),
    }
}

impl Trainer {
    /// What the run would take with other options, given what it takes.
    pub(super) fn alternatives(&self, activations: u64, positions: usize) -> Alternatives {
        let llm = self.vlm().llm.model.spec();
        let inputs = positions * llm.width * llm.layers * self.vlm().target().dtype.size_in_bytes();
        let (queries, keys) = (llm.heads * llm.head_dim, llm.kv_heads * llm.head_dim);
        // In and out of query, key, value, output, gate, up, down.
        let sides = 2 * (llm.width + queries) + 2 * (llm.width + keys) + 3 * (llm.width + llm.intermediate);
        let of_llm = self.trained().iter().filter(|trained| trained.part == Part::Llm);
        Alternatives {
            checkpointed: match self.options.checkpointing {
                true => activations,
                false => (activations / llm.layers as u64 + inputs as u64).min(activations),
            },
            llm: match self.options.lora {
                Some(_) => 0,
                None => of_llm.map(|trained| trained.param.count()).sum(),
            },
            adapters: RANK * llm.layers * sides,
        }
    }

    /// Bytes of disk that checkpoints may come to: what is free, and what those of the run have already.
    pub(super) fn disk_free(&self) -> Option<u64> {
        let folder = self.folder();
        let there = checkpoints(&folder).map_or(0, |found| found.len() as u64);
        let disk = self.disk_plan();
        free_disk(&folder).map(|free| free + (there * disk.checkpoint).min(disk.peak))
    }

    /// Refuses to start what cannot end well: by the plan, if there is one, else by what has to be there in any case.
    pub(super) fn refuse_what_does_not_fit(&self) -> Result<()> {
        disk_suffices(self.disk_plan().peak, self.disk_free())?;
        let memory = memory::of(&self.vlm().target().device);
        let Some(limit) = memory.limit() else { return Ok(()) };
        if let Some(plan) = &self.planned {
            let mut plan = plan.clone();
            (plan.memory.limit, plan.disk.free) = (Some(limit), None);
            return plan.check();
        }
        if self.optimizer.is_allocated() {
            return Ok(());
        }
        let trained: usize = self.trained().iter().map(|trained| trained.param.count()).sum();
        let state = self.optimizer.moment_bytes(self.options.moments) + self.optimizer.master_bytes();
        let (needed, free) = (4 * trained as u64 + state, limit - memory.taken().unwrap_or(0).min(limit));
        if needed > free {
            return Err(too_large(needed, free));
        }
        Ok(())
    }
}

fn too_large(needed: u64, free: u64) -> Error {
    error!(DoesNotFit, "gradients and moments need {} of memory, {} are free", bytes(needed), bytes(free))
        .help("`t.plan()` tells which options would make it fit")
}

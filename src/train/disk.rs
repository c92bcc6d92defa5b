//! The disk that checkpoints of a run come to, and whether there is as much.

use std::path::Path;

use super::checkpoint::{saves_all, saves_base};
use super::run::checkpoints;
use super::step::Stepper;
use crate::error;
use crate::error::Result;
use crate::process::free_disk;
use crate::show::bytes;

/// Disk in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiskPlan {
    pub checkpoint: u64,
    /// The most that checkpoints come to: those that stay, and one that is being written.
    pub peak: u64,
    /// What is free where they go, with those that are there, where the system reports it.
    pub free: Option<u64>,
}

/// What checkpoints of a run in this folder come to.
pub(super) fn disk_plan(stepper: &Stepper, folder: &Path) -> DiskPlan {
    let size = stepper.vlm().target().dtype.size_in_bytes();
    let trained = stepper.trained_count();
    let weights = match saves_all(stepper, folder) {
        true => size * stepper.vlm().params(),
        false => size * trained,
    };
    // Checkpoints of a run share it.
    let base = if saves_base(stepper, folder) && !saves_all(stepper, folder) {
        size * stepper.vlm().llm.params.count()
    } else {
        0
    } as u64;
    let state = stepper.optimizer.moment_bytes(stepper.options.moments) + stepper.optimizer.master_bytes();
    let checkpoint = weights as u64 + state + base;
    let (keep, saves) = (stepper.options.keep as u64, saves(stepper));
    // A checkpoint is whole before an older one goes.
    let held = if saves > keep { keep + 1 } else { saves };
    DiskPlan { checkpoint, peak: (checkpoint - base) * held + base, free: None }
}

/// How many checkpoints will be written, as far as it is known.
pub(super) fn saves(stepper: &Stepper) -> u64 {
    match (stepper.options.save_every_steps, stepper.options.save_every_minutes) {
        (Some(every), _) => stepper.steps().div_ceil(every),
        (None, Some(_)) => stepper.options.keep as u64 + 1,
        (None, None) => 1,
    }
}

/// Bytes of disk that checkpoints may come to: what is free, and what those of the run have already.
pub(super) fn disk_free(stepper: &Stepper, folder: &Path) -> Option<u64> {
    let there = checkpoints(folder).map_or(0, |found| found.len() as u64);
    let disk = disk_plan(stepper, folder);
    free_disk(folder).map(|free| free + (there * disk.checkpoint).min(disk.peak))
}

/// # Errors
/// `DoesNotFit`, with both values.
pub(super) fn disk_suffices(needed: u64, free: Option<u64>) -> Result<()> {
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

//! Going on with a run: a checkpoint is loaded into a trainer that was made alike.

use std::path::{Path, absolute};

use super::checkpoint::{load, load_all_weights, load_weights, whole_before};
use super::run::{Lock, Run, checkpoints};
use super::trainer::Trainer;
use crate::error;
use crate::error::{Context, Kind, Result};
use crate::files::RUN_LOCK;
use crate::vlm::Part;
use crate::writer::Writer;

impl Trainer {
    /// Loads a checkpoint into this trainer, which must have been made alike: that of a folder `RUN/checkpoint-<step>`, or the
    /// newest complete one of a run. A run without any begins at step 0, and so does one that is not there yet where the
    /// folder is this trainer's own `out`.
    ///
    /// # Errors
    /// `Busy` while another process trains it, `Missing` for what is no run or checkpoint, `Train` when the trainer is not
    /// the one of run.lock.
    pub fn resume(&mut self, folder: &Path) -> Result<()> {
        self.resume_from(folder).context(|| format!("resuming `{}`", folder.display()))
    }

    fn resume_from(&mut self, folder: &Path) -> Result<()> {
        let out = self.options().out.as_deref();
        if !folder.join(RUN_LOCK).is_file() && out.is_some_and(|out| is_same(out, folder)) {
            self.refuse_others(folder)?;
            self.warn(format!("there is no run in `{}` yet: `fit` begins at step 0", folder.display()));
            return Ok(());
        }
        let (run, named) = of_checkpoint(folder)?;
        self.refuse_others(run.dir())?;
        self.refuse_drift(&run.lock()?, Some(&run))?;
        let all = checkpoints(run.dir())?;
        let Some((newest, _)) = all.last() else {
            self.warn(format!("`{}` has no complete checkpoint: `fit` begins at step 0", run.dir().display()));
            self.stepper.options.out = Some(run.dir().to_path_buf());
            return Ok(());
        };
        let found = all.iter().rev().find(|(step, _)| named.is_none_or(|named| named == *step));
        let Some((step, path)) = found else {
            let steps: Vec<String> = all.iter().map(|(step, _)| step.to_string()).collect();
            let (named, steps) = (named.unwrap_or_default(), steps.join(", "));
            return Err(error!(Missing, "there is no complete checkpoint of step {named}, but of {steps}"));
        };
        let loaded = load(&mut self.stepper, *step, path);
        self.history = loaded.map_err(|error| match error.kind() {
            // Never from another one than was asked for without a word.
            Kind::Decode | Kind::Missing | Kind::File => {
                let help = error.help_text().map(|help| format!("{help}; ")).unwrap_or_default();
                let whole = whole_before(run.dir(), *step).unwrap_or_default();
                error.help(format!("{help}{whole}"))
            }
            _ => error,
        })?;
        (self.place.saved, self.place.newest) = (*step, *newest);
        self.place.stopped = run.stopped()?.filter(|(at, _)| at == step);
        if let Some((step, _)) = &self.place.stopped {
            let (run, steps) = (run.dir().display(), self.steps());
            self.warn(format!("`{run}` was stopped after step {step} of {steps} by the function given to `fit`"));
        }
        self.place.run = Some(run);
        self.adopt();
        Ok(())
    }

    /// Refuses a folder that another process writes.
    fn refuse_others(&self, folder: &Path) -> Result<()> {
        match Writer::holder(folder) {
            Some(holder) => Err(error!(Busy, "it is being trained by {holder}")
                .help("`llmore watch` follows it; it can be resumed once that process has ended")),
            None => Ok(()),
        }
    }

    /// Gives the model the weights that a run of a trainer made alike ended with; nothing can be trained on from there.
    ///
    /// # Errors
    /// `Train` when the trainer is not the one of run.lock, `Missing` when the run has no checkpoint.
    pub fn restore(&mut self, folder: &Path) -> Result<()> {
        let run = Run::open(folder)?;
        self.refuse_drift(&run.lock()?, Some(&run))?;
        load_weights(&self.stepper, &run.newest()?)?;
        self.adopt();
        Ok(())
    }

    /// The same where the runs before this one are gone, which had trained some `parts`: every weight that its checkpoint
    /// holds, whoever trained it.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_all(&mut self, folder: &Path, parts: &[Part]) -> Result<()> {
        let run = Run::open(folder)?;
        let (mut then, now): (Lock, Lock) = (run.lock()?, self.lock()?);
        // What it began with, the runs that are gone had made.
        then.weights_sha256.clone_from(&now.weights_sha256);
        for key in parts.iter().map(|part| format!("{}.weights", part.name())) {
            if let (Some(then), Some(now)) = (then.identity.get_mut(&key), now.identity.get(&key)) {
                then.clone_from(now);
            }
        }
        self.refuse_drift(&then, Some(&run))?;
        load_all_weights(&self.stepper, &run.newest()?)?;
        self.adopt();
        Ok(())
    }
}

/// Whether two paths name one place, there or not.
fn is_same(a: &Path, b: &Path) -> bool {
    let plain = |path: &Path| absolute(path).unwrap_or_else(|_| path.to_path_buf());
    plain(a).components().eq(plain(b).components())
}

/// The run of a folder, which may be one of its checkpoints: then with its step.
fn of_checkpoint(folder: &Path) -> Result<(Run, Option<u64>)> {
    let step = |name: &str| name.strip_prefix("checkpoint-")?.parse().ok();
    let step = folder.file_name().and_then(|name| step(&name.to_string_lossy()));
    match (step, folder.parent()) {
        (Some(step), Some(run)) if !folder.join(RUN_LOCK).is_file() => Ok((Run::open(run)?, Some(step))),
        _ => Ok((Run::open(folder)?, None)),
    }
}

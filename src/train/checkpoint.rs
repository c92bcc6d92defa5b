//! Checkpoints of a run: the model's folder, the optimizer's moments and the place in the run, complete or not
//! there at all. `checkpoint-<step>` appears by one rename.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::run::{Run, checkpoints};
use super::step::Stepper;
use crate::error;
use crate::error::{Error, Result};
use crate::events::Step;
use crate::vlm::Part;
use crate::weights::{TensorFiles, check_folder, save_tensors, seal_more, unseal_removed};

/// AdamW's moments, and the f32 copies of narrower weights.
const MOMENTS: &str = "optimizer.safetensors";
const MASTERS: &str = "masters.safetensors";

/// The place in the run.
const STATE: &str = "trainer.json";

/// What [`STATE`] holds.
#[derive(Serialize, Deserialize)]
struct TrainerState {
    step: u64,
    steps: u64,
    /// Every step so far: what the events said, should they be lost.
    losses: Vec<Step>,
}

/// Writes `checkpoint-<step>` of a run, if it is not there, and removes the oldest beyond `keep`.
///
/// # Errors
/// `File` when it cannot be written; what was there stays.
pub(super) fn write(stepper: &Stepper, history: &[Step], run: &Run) -> Result<PathBuf> {
    let step = stepper.done();
    let path = run.dir().join(format!("checkpoint-{step}"));
    if path.is_dir() {
        return Ok(path);
    }
    let part = run.dir().join(format!(".checkpoint-{step}.part"));
    if let Err(error) = write_parts(stepper, history, &part, &path) {
        let _ = crate::fs::remove_dir_all(&part);
        let last = match checkpoints(run.dir())?.pop() {
            Some((_, path)) => format!("`{}` is whole", path.display()),
            None => "there is none before it".to_string(),
        };
        return Err(error
            .context(format!("the checkpoint of step {step} could not be written"))
            .help(format!("{last}; make room, and `t.fit()` goes on from step {step}")));
    }
    for (step, old) in checkpoints(run.dir())?.iter().rev().skip(stepper.options.keep) {
        // By one rename as well: a kill in the middle must not leave half of it under its name.
        let gone = run.dir().join(format!(".checkpoint-{step}.part"));
        crate::fs::rename(old, &gone).map_err(|error| Error::file(old, error))?;
    }
    sweep(run.dir())?;
    Ok(path)
}

/// Whether a part, or adapters on it, are in training.
fn trains(stepper: &Stepper, part: Part) -> bool {
    stepper.trained().iter().any(|trained| trained.part == part)
}

/// Whether a checkpoint in this folder holds all weights of the model.
pub(super) fn saves_all(stepper: &Stepper, folder: &Path) -> bool {
    let trains = trains(stepper, Part::Encoder) || trains(stepper, Part::Llm);
    stepper.vlm().llm.lora().is_none() && (trains || saves_base(stepper, folder))
}

/// Whether a checkpoint that would do without the LLM's weights holds them, as no name leads to them.
pub(super) fn saves_base(stepper: &Stepper, folder: &Path) -> bool {
    !matches!(stepper.vlm().llm.why_not_by_name(folder), Ok(None))
}

/// What to say before the first step of checkpoints that are larger than one might think.
pub(super) fn what_checkpoints_hold(stepper: &Stepper, folder: &Path) -> Result<Option<String>> {
    let llm = &stepper.vlm().llm;
    let adapts = llm.lora().is_some();
    if !adapts && (trains(stepper, Part::Encoder) || trains(stepper, Part::Llm)) {
        return Ok(None);
    }
    let what = if adapts { "its weights beside the adapter" } else { "all weights beside the projector" };
    Ok(llm.why_not_by_name(folder)?.map(|why| format!("{why}: checkpoints of this run hold {what}")))
}

fn write_parts(stepper: &Stepper, history: &[Step], part: &Path, path: &Path) -> Result<()> {
    if part.exists() {
        crate::fs::remove_dir_all(part).map_err(|error| Error::file(part, error))?;
    }
    // What else they hold was said before the first step.
    if stepper.vlm().llm.lora().is_some() {
        let earlier = path.parent().and_then(|run| checkpoints(run).ok()?.pop()).map(|(_, path)| path);
        stepper.vlm().save_adapter_after(earlier.as_deref(), part, trains(stepper, Part::Encoder))?;
    } else if saves_all(stepper, path.parent().unwrap_or(Path::new("."))) {
        stepper.vlm().save(part)?;
    } else {
        stepper.vlm().save_projector(part)?;
    }
    let mut added = vec![MOMENTS, STATE];
    save_tensors(&stepper.optimizer.moments()?, &part.join(MOMENTS))?;
    let masters = stepper.optimizer.masters();
    if !masters.is_empty() {
        save_tensors(&masters, &part.join(MASTERS))?;
        added.push(MASTERS);
    }
    let state = TrainerState { step: stepper.done(), steps: stepper.steps(), losses: history.to_vec() };
    let text = serde_json::to_vec(&state).map_err(|error| error!(File, "{STATE}: {error}"))?;
    crate::files::write(&part.join(STATE), &text)?;
    seal_more(part, &added)?;
    crate::fs::rename(part, path).map_err(|error| Error::file(path, error))?;
    // The rename itself must survive a power cut.
    let parent = path.parent().unwrap_or(Path::new("."));
    crate::files::sync(parent)
}

/// Gives a stepper the weights, moments and place of the checkpoint of this step; the steps so far.
///
/// # Errors
/// `Missing` for a checkpoint that holds weights only, `Decode` and `Shape` for files that are not what they should be; the
/// first before anything is changed, when the checkpoint's own hashes say so.
pub(super) fn load(stepper: &mut Stepper, step: u64, path: &Path) -> Result<Vec<Step>> {
    let moments = path.join(MOMENTS);
    if !moments.is_file() {
        return Err(error!(Missing, "`{}` holds weights only: nothing can be trained on from it", path.display())
            .help("`load(dir)` opens the model"));
    }
    // Before anything of the trainer changes.
    check_folder(path)?;
    let text = crate::fs::read(&path.join(STATE)).map_err(|error| Error::file(path.join(STATE), error))?;
    let state: TrainerState =
        serde_json::from_slice(&text).map_err(|error| error!(Decode, "`{}/{STATE}`: {error}", path.display()))?;
    load_weights_of(stepper, &TensorFiles::peek(path)?)?;
    let masters = path.join(MASTERS);
    let masters = if masters.is_file() { Some(TensorFiles::peek(&masters)?) } else { None };
    stepper.optimizer.restore(&TensorFiles::peek(&moments)?, masters.as_ref())?;
    stepper.go_on_after(step);
    Ok(state.losses)
}

/// The trained tensors of a checkpoint.
pub(super) fn load_weights(stepper: &Stepper, path: &Path) -> Result<()> {
    load_weights_of(stepper, &TensorFiles::open(path)?)
}

fn load_weights_of(stepper: &Stepper, files: &TensorFiles) -> Result<()> {
    for trained in stepper.trained() {
        let tensor = files.load(&trained.name, &trained.param.device())?;
        trained.param.assign(&tensor)?;
    }
    Ok(())
}

/// Every weight of the model that a checkpoint holds, whoever trained it.
pub(super) fn load_all_weights(stepper: &Stepper, path: &Path) -> Result<()> {
    let files = TensorFiles::open(path)?;
    for (name, _, param) in stepper.vlm().named_params() {
        if files.has(&name) {
            param.assign(&files.load(&name, &param.device())?)?;
        }
    }
    Ok(())
}

/// Removes what is no checkpoint yet, or none any more.
fn sweep(run: &Path) -> Result<()> {
    for entry in crate::fs::read_dir(run).map_err(|error| Error::file(run, error))?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with(".checkpoint-") && name.ends_with(".part") && path.is_dir() {
            crate::fs::remove_dir_all(&path).map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(())
}

/// What to say of the earlier checkpoints where one is damaged: which of them is as it was written.
pub(super) fn whole_before(run: &Path, step: u64) -> Result<String> {
    let earlier = checkpoints(run)?.into_iter().rev().filter(|(at, path)| *at < step && path.join(STATE).is_file());
    let whole = earlier.map(|(_, path)| path).find(|path| check_folder(path).is_ok());
    Ok(match whole {
        Some(path) => format!("`{}` is whole: `t.resume({path:?})` goes on from there", path.display()),
        None => "there is no whole checkpoint before it".to_string(),
    })
}

impl Run {
    /// Of a finished run keeps the weights it ended with, without older checkpoints and what training on would take.
    pub fn keep_weights(&self) -> Result<()> {
        let mut all = checkpoints(self.dir())?;
        let Some((_, last)) = all.pop() else { return Ok(()) };
        for (step, old) in all {
            let gone = self.dir().join(format!(".checkpoint-{step}.part"));
            crate::fs::rename(&old, &gone).map_err(|error| Error::file(&old, error))?;
        }
        sweep(self.dir())?;
        for path in [MOMENTS, MASTERS].map(|name| last.join(name)).iter().filter(|path| path.exists()) {
            crate::fs::remove_file(path).map_err(|error| Error::file(path, error))?;
        }
        unseal_removed(&last)?;
        self.forget_removed()
    }
}

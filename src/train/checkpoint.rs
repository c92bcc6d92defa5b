//! Checkpoints of a run: the model's folder, the optimizer's moments and the place in the run, complete or not
//! there at all. `checkpoint-<step>` appears by one rename.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Value;

use super::run::{Lock, Run};
use super::trainer::Trainer;
use crate::error;
use crate::error::{Error, Result};
use crate::events::{Event, Listeners, Step, read_events, steps};
use crate::vlm::Part;
use crate::weights::{TensorFiles, save_tensors};
use crate::writer::Writer;

/// AdamW's moments, and the f32 copies of narrower weights.
const MOMENTS: &str = "optimizer.safetensors";
const MASTERS: &str = "masters.safetensors";

/// `trainer.json` of a checkpoint.
#[derive(Serialize, Deserialize)]
struct State {
    step: u64,
    steps: u64,
    /// Every step so far: what the events said, should they be lost.
    losses: Vec<Step>,
}

impl Trainer {
    /// Writes `checkpoint-<step>` and removes the oldest beyond `keep`.
    pub(super) fn checkpoint(&mut self, listeners: &Listeners) -> Result<PathBuf> {
        let Some(run) = self.run.as_ref() else { return Err(error!(Train, "there is no run folder yet")) };
        let path = run.dir().join(format!("checkpoint-{}", self.step));
        if !path.is_dir() {
            let part = run.dir().join(format!(".checkpoint-{}.part", self.step));
            if let Err(error) = self.write_checkpoint(&part, &path) {
                let _ = std::fs::remove_dir_all(&part);
                let last = match checkpoints(run.dir())?.pop() {
                    Some((_, path)) => format!("`{}` is whole", path.display()),
                    None => "there is none before it".to_string(),
                };
                return Err(error
                    .context(format!("the checkpoint of step {} could not be written", self.step))
                    .help(format!("{last}; make room, and `t.fit()` goes on from step {}", self.step)));
            }
            for (step, old) in checkpoints(run.dir())?.iter().rev().skip(self.options.keep) {
                // By one rename as well: a kill in the middle must not leave half of it under its name.
                let gone = run.dir().join(format!(".checkpoint-{step}.part"));
                std::fs::rename(old, &gone).map_err(|error| Error::file(old, error))?;
            }
            sweep(run.dir())?;
        }
        (self.saved, self.newest) = (self.step, self.step);
        listeners.tell(&Event::Checkpoint { step: self.step, path: path.clone() });
        Ok(path)
    }

    /// Whether a part, or adapters on it, are in training.
    fn trains(&self, part: Part) -> bool {
        self.trained().iter().any(|trained| trained.part == part)
    }

    /// Whether a checkpoint holds all weights of the model.
    pub(super) fn saves_all(&self) -> bool {
        let trains = self.trains(Part::Encoder) || self.trains(Part::Llm);
        self.vlm().llm.lora().is_none() && (trains || self.saves_base())
    }

    /// Whether a checkpoint that would do without the LLM's weights holds them, as no name leads to them.
    pub(super) fn saves_base(&self) -> bool {
        !matches!(self.vlm().llm.why_not_by_name(&self.folder()), Ok(None))
    }

    /// Says before the first step that checkpoints are larger than one might think.
    pub(super) fn say_what_checkpoints_hold(&self, listeners: &Listeners) -> Result<()> {
        let adapts = self.vlm().llm.lora().is_some();
        if !adapts && (self.trains(Part::Encoder) || self.trains(Part::Llm)) {
            return Ok(());
        }
        if let Some(why) = self.vlm().llm.why_not_by_name(&self.folder())? {
            let what = if adapts { "its weights beside the adapter" } else { "all weights beside the projector" };
            listeners.tell(&Event::Warning { text: format!("{why}: checkpoints of this run hold {what}") });
        }
        Ok(())
    }

    fn write_checkpoint(&self, part: &Path, path: &Path) -> Result<()> {
        if part.exists() {
            std::fs::remove_dir_all(part).map_err(|error| Error::file(part, error))?;
        }
        // What else they hold was said before the first step.
        if self.vlm().llm.lora().is_some() {
            let earlier = path.parent().and_then(|run| checkpoints(run).ok()?.pop()).map(|(_, path)| path);
            self.vlm().save_adapter_after(earlier.as_deref(), part, self.trains(Part::Encoder))?;
        } else if self.saves_all() {
            self.vlm().save(part)?;
        } else {
            self.vlm().save_projector(part)?;
        }
        save_tensors(&self.optimizer.moments()?, &part.join(MOMENTS))?;
        let masters = self.optimizer.masters();
        if !masters.is_empty() {
            save_tensors(&masters, &part.join(MASTERS))?;
        }
        let state = State { step: self.step, steps: self.steps(), losses: self.history.clone() };
        let text = serde_json::to_vec(&state).map_err(|error| error!(File, "trainer.json: {error}"))?;
        crate::files::write(&part.join("trainer.json"), &text)?;
        std::fs::rename(part, path).map_err(|error| Error::file(path, error))?;
        // The rename itself must survive a power cut.
        let parent = path.parent().unwrap_or(Path::new("."));
        crate::files::sync(parent)
    }

    pub(super) fn resume_from(&mut self, folder: &Path) -> Result<()> {
        let (run, named) = Run::of_checkpoint(folder)?;
        if let Some(holder) = Writer::holder(run.dir()) {
            return Err(error!(Busy, "it is being trained by {holder}")
                .help("`llmore watch` follows it; it can be resumed once that process has ended"));
        }
        self.refuse_drift(&run.lock()?, Some(&run))?;
        let all = checkpoints(run.dir())?;
        let Some((newest, _)) = all.last() else {
            let text = format!("`{}` has no complete checkpoint: `fit` begins at step 0", run.dir().display());
            self.setup.listeners.tell(&Event::Warning { text });
            self.options.out = Some(run.dir().to_path_buf());
            return Ok(());
        };
        let found = all.iter().rev().find(|(step, _)| named.is_none_or(|named| named == *step));
        let Some((step, path)) = found else {
            let steps: Vec<String> = all.iter().map(|(step, _)| step.to_string()).collect();
            let (named, steps) = (named.unwrap_or_default(), steps.join(", "));
            return Err(error!(Missing, "there is no complete checkpoint of step {named}, but of {steps}"));
        };
        let text = std::fs::read(path.join("trainer.json")).map_err(|error| Error::file(path, error))?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| error!(Decode, "`{}/trainer.json`: {error}", path.display()))?;
        let moments = path.join(MOMENTS);
        if !moments.is_file() {
            return Err(error!(Missing, "`{}` holds weights only: nothing can be trained on from it", path.display())
                .help("`load(dir)` opens the model"));
        }
        self.load_weights(path)?;
        let masters = path.join(MASTERS);
        let masters = if masters.is_file() { Some(TensorFiles::open(&masters)?) } else { None };
        self.optimizer.restore(&TensorFiles::open(&moments)?, masters.as_ref())?;
        (self.step, self.saved, self.newest) = (*step, *step, *newest);
        self.history = state.losses;
        self.stopped = run.stopped()?.filter(|(at, _)| at == step);
        if let Some((step, _)) = &self.stopped {
            let (run, steps) = (run.dir().display(), self.steps());
            let text = format!("`{run}` was stopped after step {step} of {steps} by the function given to `fit`");
            self.setup.listeners.tell(&Event::Warning { text });
        }
        self.run = Some(run);
        self.adopt();
        Ok(())
    }

    /// Gives the model the weights that a run of a trainer made alike ended with; nothing can be trained on from there.
    ///
    /// # Errors
    /// `Train` when the trainer is not the one of run.lock, `Missing` when the run has no checkpoint.
    pub fn restore(&mut self, folder: &Path) -> Result<()> {
        let run = Run::open(folder)?;
        self.refuse_drift(&run.lock()?, Some(&run))?;
        match run.checkpoint()? {
            Some(path) => {
                self.load_weights(&path)?;
                self.adopt();
                Ok(())
            }
            None => Err(error!(Missing, "`{}` has no complete checkpoint", folder.display())),
        }
    }

    /// The same where the runs before this one are gone, which had trained some `parts`: every weight that its checkpoint
    /// holds, whoever trained it.
    ///
    /// # Errors
    /// As [`restore`](Self::restore).
    pub fn restore_all(&mut self, folder: &Path, parts: &[Part]) -> Result<()> {
        let run = Run::open(folder)?;
        let mut then = run.lock()?;
        // What it began with, the runs that are gone had made.
        then.weights_sha256.clone_from(&self.start_hash);
        for key in parts.iter().map(|part| format!("{}.weights", part.name())) {
            if let (Some(then), Some(now)) = (then.identity.get_mut(&key), self.identity.get(&key)) {
                then.clone_from(now);
            }
        }
        self.refuse_drift(&then, Some(&run))?;
        let Some(path) = run.checkpoint()? else {
            return Err(error!(Missing, "`{}` has no complete checkpoint", folder.display()));
        };
        let files = TensorFiles::open(&path)?;
        for (name, _, param) in self.vlm().named_params() {
            if files.has(&name) {
                param.assign(&files.load(&name, &param.device())?)?;
            }
        }
        self.adopt();
        Ok(())
    }

    /// The trained tensors of a checkpoint.
    fn load_weights(&self, path: &Path) -> Result<()> {
        let files = TensorFiles::open(path)?;
        for trained in self.trained() {
            let tensor = files.load(&trained.name, &trained.param.device())?;
            trained.param.assign(&tensor)?;
        }
        Ok(())
    }

    /// What run.lock says about this trainer.
    pub fn lock(&self) -> Result<Lock> {
        let mut lock = self.setup.lock.clone();
        lock.set_options(&self.options, self.steps(), self.setup.template.name())?;
        let resolved = [
            ("image", Value::from(self.setup.aspect.name())),
            ("max_length", Value::from(self.limit as i64)),
            ("micro_batch", Value::from(self.options.sampling().micro_batch as i64)),
            ("dtype", Value::from(self.vlm().target().dtype.as_str())),
        ];
        lock.options.extend(resolved.map(|(key, value)| (key.to_string(), value)));
        lock.dataset = self.dataset().name().to_string();
        lock.dataset_sha256 = self.dataset().sha256();
        lock.model = self.vlm().describe();
        lock.weights_sha256 = self.start_hash.clone();
        lock.identity = self.identity.clone();
        lock.identity.extend(self.data_identity()?);
        lock.device = crate::device::device_name(&self.vlm().target().device);
        Ok(lock)
    }
}

/// Removes what is no checkpoint yet, or none any more.
fn sweep(run: &Path) -> Result<()> {
    for entry in std::fs::read_dir(run).map_err(|error| Error::file(run, error))?.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_string_lossy();
        if name.starts_with(".checkpoint-") && name.ends_with(".part") && path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(())
}

/// The complete checkpoints of a run, oldest first.
pub fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(run).map_err(|error| Error::file(run, error))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("checkpoint-").and_then(|step| step.parse().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

impl Run {
    /// The run of a folder, which may be one of its checkpoints: then with its step.
    fn of_checkpoint(folder: &Path) -> Result<(Self, Option<u64>)> {
        let step = |name: &str| name.strip_prefix("checkpoint-")?.parse().ok();
        let step = folder.file_name().and_then(|name| step(&name.to_string_lossy()));
        match (step, folder.parent()) {
            (Some(step), Some(run)) if !folder.join("run.lock").is_file() => Ok((Run::open(run)?, Some(step))),
            _ => Ok((Run::open(folder)?, None)),
        }
    }

    /// Of a finished run keeps the weights it ended with, without older checkpoints and what training on would take.
    pub fn keep_weights(&self) -> Result<()> {
        let mut all = checkpoints(self.dir())?;
        let Some((_, last)) = all.pop() else { return Ok(()) };
        for (step, old) in all {
            let gone = self.dir().join(format!(".checkpoint-{step}.part"));
            std::fs::rename(&old, &gone).map_err(|error| Error::file(&old, error))?;
        }
        sweep(self.dir())?;
        for path in [MOMENTS, MASTERS].map(|name| last.join(name)).iter().filter(|path| path.exists()) {
            std::fs::remove_file(path).map_err(|error| Error::file(path, error))?;
        }
        self.forget_removed()
    }

    /// The steps of the run in order.
    pub fn steps(&self) -> Result<Vec<Step>> {
        Ok(steps(&read_events(&self.dir().join("events.jsonl"))?))
    }
}

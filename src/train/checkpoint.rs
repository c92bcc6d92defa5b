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
        listeners.tell(&Event::Checkpoint { step: self.step, path: path.clone() });
        Ok(path)
    }

    /// Whether a part, or adapters on it, are in training.
    fn trains(&self, part: Part) -> bool {
        self.trained().iter().any(|trained| trained.part == part)
    }

    /// Whether a checkpoint holds all weights of the model.
    pub(super) fn saves_all(&self) -> bool {
        self.vlm().llm.lora().is_none() && (self.trains(Part::Encoder) || self.trains(Part::Llm))
    }

    fn write_checkpoint(&self, part: &Path, path: &Path) -> Result<()> {
        if part.exists() {
            std::fs::remove_dir_all(part).map_err(|error| Error::file(part, error))?;
        }
        if self.saves_all() {
            self.vlm().save(part)?;
        } else if self.vlm().llm.lora().is_some() {
            self.vlm().save_adapter(part, self.trains(Part::Encoder))?;
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
        crate::weights::write_atomically(&part.join("trainer.json"), |file| {
            std::fs::write(file, &text).map_err(|error| Error::file(file, error))
        })?;
        std::fs::rename(part, path).map_err(|error| Error::file(path, error))?;
        // The rename itself must survive a power cut.
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| Error::file(parent, error))
    }

    pub(super) fn resume_from(&mut self, folder: &Path) -> Result<()> {
        let run = Run::open(folder)?;
        self.refuse_drift(&run.lock()?)?;
        let Some((step, path)) = checkpoints(run.dir())?.pop() else {
            return Err(error!(Missing, "there is no complete checkpoint").help("start again with `t.fit()`"));
        };
        let text = std::fs::read(path.join("trainer.json")).map_err(|error| Error::file(&path, error))?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| error!(Decode, "`{}/trainer.json`: {error}", path.display()))?;
        self.load_weights(&path)?;
        let masters = path.join(MASTERS);
        let masters = if masters.is_file() { Some(TensorFiles::open(&masters)?) } else { None };
        self.optimizer.restore(&TensorFiles::open(&path.join(MOMENTS))?, masters.as_ref())?;
        self.step = step;
        self.history = state.losses;
        self.run = Some(run);
        Ok(())
    }

    /// Gives the model the weights that a run of a trainer made alike ended with; nothing can be trained on from there.
    ///
    /// # Errors
    /// `Train` when the trainer is not the one of run.lock, `Missing` when the run has no checkpoint.
    pub fn restore(&mut self, folder: &Path) -> Result<()> {
        let run = Run::open(folder)?;
        self.refuse_drift(&run.lock()?)?;
        match run.checkpoint()? {
            Some(path) => self.load_weights(&path),
            None => Err(error!(Missing, "`{}` has no complete checkpoint", folder.display())),
        }
    }

    /// The trained tensors of a checkpoint.
    fn load_weights(&self, path: &Path) -> Result<()> {
        let files = TensorFiles::open(path)?;
        for trained in self.trained() {
            let tensor = files.load(&trained.name, trained.param.tensor().device())?;
            trained.param.assign(&tensor)?;
        }
        Ok(())
    }

    /// A run goes on only under the options, data and code it was started with.
    pub(super) fn refuse_drift(&self, then: &Lock) -> Result<()> {
        let differences = then.differences(&self.lock()?);
        if differences.is_empty() {
            return Ok(());
        }
        Err(error!(Train, "this trainer is not the one of run.lock: {}", differences.join("; "))
            .help("make the trainer with the options of run.lock, or start a new run"))
    }

    /// What run.lock says about this trainer.
    pub(super) fn lock(&self) -> Result<Lock> {
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
        Ok(())
    }

    /// The steps of the run in order.
    pub fn steps(&self) -> Result<Vec<Step>> {
        Ok(steps(&read_events(&self.dir().join("events.jsonl"))?))
    }
}

//! Run folders: `run.lock` says everything the run depends on, `events.jsonl` everything that happened.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::checkpoint::checkpoints;
use super::options::TrainOptions;
use crate::error;
use crate::error::{Error, Result};
use crate::events::{Event, EventFile, read_events};
use crate::weights::write_atomically;

/// Everything a run depends on; `run.lock` in TOML.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    pub llmore: String,
    pub device: String,
    pub threads: usize,
    pub model: String,
    /// Over all weights before step 0.
    pub weights_sha256: String,
    pub dataset: String,
    pub dataset_sha256: String,
    pub script_sha256: String,
    /// The script as it was run.
    pub script: String,
    /// What the script saw as `args`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Which trainer of the script this is, from 0.
    #[serde(default)]
    pub number: u64,
    /// `--set` of the command line.
    #[serde(default)]
    pub set: Table,
    /// Every option of the trainer with its resolved value.
    pub options: Table,
}

impl Lock {
    /// Resolves every option to the value it has in this run.
    pub(super) fn set_options(&mut self, options: &TrainOptions, steps: u64, template: &str) -> Result<()> {
        let mut table =
            Table::try_from(options).map_err(|error| error!(File, "the options cannot be written: {error}"))?;
        table.insert("steps".to_string(), Value::Integer(steps as i64));
        table.insert("template".to_string(), Value::String(template.to_string()));
        self.options = table;
        Ok(())
    }

    /// Whether it is that of a smoke run, of which nothing is worth keeping.
    pub fn is_smoke(&self) -> bool {
        self.set.get("smoke").and_then(Value::as_bool) == Some(true)
    }

    /// What differs between two locks in a way that changes results.
    pub fn differences(&self, other: &Lock) -> Vec<String> {
        let mut found = Vec::new();
        let facts = [
            ("model", &self.model, &other.model),
            ("weights_sha256", &self.weights_sha256, &other.weights_sha256),
            ("dataset_sha256", &self.dataset_sha256, &other.dataset_sha256),
            ("device", &self.device, &other.device),
            ("llmore", &self.llmore, &other.llmore),
        ];
        for (key, then, now) in facts {
            if then != now {
                found.push(format!("`{key}` was {then}, is {now}"));
            }
        }
        // Where a run is saved and how often does not change what it computes.
        let harmless = [
            "out",
            "save_every_steps",
            "save_every_minutes",
            "keep",
            "name",
            "data",
            "features",
            "features_bytes",
            "spike",
        ];
        let keys: std::collections::BTreeSet<&String> = self.options.keys().chain(other.options.keys()).collect();
        for key in keys.into_iter().filter(|key| !harmless.contains(&key.as_str())) {
            let (then, now) = (self.options.get(key), other.options.get(key));
            if then != now {
                let show = |value: Option<&Value>| value.map_or("not set".to_string(), Value::to_string);
                found.push(format!("`{key}` was {}, is {}", show(then), show(now)));
            }
        }
        found
    }
}

/// A run folder.
#[derive(Clone, Debug)]
pub struct Run {
    dir: PathBuf,
}

impl Run {
    /// Makes the folder and writes run.lock; a folder that holds a run already is refused, unless that was a smoke run.
    pub(super) fn create(dir: &Path, lock: &Lock) -> Result<Self> {
        if Run::open(dir).and_then(|run| run.lock()).is_ok_and(|lock| lock.is_smoke()) {
            remove(dir)?;
        }
        if dir.join("run.lock").exists() {
            return Err(error!(File, "`{}` holds a run already", dir.display())
                .help("go on with it by `t.resume(dir)`, or choose another `out`"));
        }
        std::fs::create_dir_all(dir).map_err(|error| {
            Error::file(dir, error).context("the run folder cannot be made").help("choose another `out`")
        })?;
        let text = toml::to_string(lock).map_err(|error| error!(File, "run.lock: {error}"))?;
        write_atomically(&dir.join("run.lock"), |file| {
            std::fs::write(file, &text).map_err(|error| Error::file(file, error))
        })?;
        Ok(Run { dir: dir.to_path_buf() })
    }

    /// Opens a run folder.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.join("run.lock").is_file() {
            return Err(error!(Missing, "`{}` is not a run folder: it has no run.lock", dir.display()));
        }
        Ok(Run { dir: dir.to_path_buf() })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was started with.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.dir.join("run.lock");
        let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        toml::from_str(&text).map_err(|error| error!(Decode, "`{}`: {}", path.display(), error.message()))
    }

    /// `done`, `paused`, or `interrupted` when no event says how it ended.
    pub fn status(&self) -> Result<String> {
        let ended = read_events(&self.dir.join("events.jsonl"))?.into_iter().rev().find_map(|event| match event {
            Event::End { status, .. } => Some(status),
            Event::Start { .. } => Some("interrupted".to_string()),
            _ => None,
        });
        Ok(ended.unwrap_or_else(|| "interrupted".to_string()))
    }

    /// The newest complete checkpoint.
    pub fn checkpoint(&self) -> Result<Option<PathBuf>> {
        Ok(checkpoints(&self.dir)?.pop().map(|(_, path)| path))
    }

    pub(super) fn event_file(&self) -> Result<EventFile> {
        EventFile::open(&self.dir.join("events.jsonl"))
    }
}

/// Removes what a run wrote; the folder may hold other things.
fn remove(dir: &Path) -> Result<()> {
    let is_its = |name: &str| {
        ["run.lock", "events.jsonl", "plots"].contains(&name)
            || ["checkpoint-", ".checkpoint-", "events.out.tfevents."].iter().any(|start| name.starts_with(start))
    };
    for entry in std::fs::read_dir(dir).map_err(|error| Error::file(dir, error))?.flatten() {
        let path = entry.path();
        if is_its(&entry.file_name().to_string_lossy()) {
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(())
}

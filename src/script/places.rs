//! Where a script's files go. A path is a path; but what is there already is not touched by a smoke run: it writes runs,
//! models and answers below a folder of its own then, and studies always, where readers of the same script find them under
//! the name the script gave. Runs that a smoke run left behind give way to any other (`train/run.rs`).

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::state::State;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::train::Run;

/// What a smoke run has written, and the folder for what had to go elsewhere.
#[derive(Default)]
pub(super) struct Places {
    elsewhere: OnceLock<PathBuf>,
    /// What the script names, and where it is.
    written: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Places {
    fn note(&self, named: &Path, place: &Path) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.push((named.to_path_buf(), place.to_path_buf()));
    }

    /// Where a path lies that is, or is in, something written.
    fn of(&self, path: &Path) -> Option<PathBuf> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |(named, place): &(PathBuf, PathBuf)| match path.strip_prefix(named).ok()? {
            rest if rest.as_os_str().is_empty() => Some(place.clone()),
            rest => Some(place.join(rest)),
        };
        written.iter().rev().find_map(inside)
    }
}

impl State {
    /// Where a folder or a file of answers is written.
    pub(super) fn written(&self, path: &Path) -> PathBuf {
        if !self.smoke() {
            return path.to_path_buf();
        }
        if let Some(place) = self.places().of(path) {
            return place;
        }
        let is_smoke_run = || Run::open(path).and_then(|run| run.lock()).is_ok_and(|lock| lock.is_smoke());
        if path.exists() && !is_smoke_run() {
            return self.elsewhere(path);
        }
        self.places().note(path, path);
        path.to_path_buf()
    }

    /// The same for a study, whose folder takes no other one later: a smoke run's is always elsewhere.
    pub(super) fn studied(&self, path: &Path) -> PathBuf {
        if self.smoke() { self.elsewhere(path) } else { path.to_path_buf() }
    }

    /// The same for a file of answers. Benchmarks that share a stand-in may share a file, too: the later one takes it.
    ///
    /// # Errors
    /// `File` when the earlier one cannot be removed.
    pub(super) fn answers_written(&self, path: &Path) -> Result<PathBuf> {
        let place = self.written(path);
        if self.smoke() && place.is_file() {
            std::fs::remove_file(&place).map_err(|error| Error::file(&place, error))?;
        }
        Ok(place)
    }

    /// The place of a path below the folder for what cannot be where the script names it.
    fn elsewhere(&self, path: &Path) -> PathBuf {
        let root = self.places().elsewhere.get_or_init(|| {
            let root = self.run_folder(&format!("smoke-run-{}", std::process::id()));
            let (path, below) = (path.display(), root.display());
            let text = format!("this smoke run writes `{path}`, and what is there already, below `{below}`");
            self.listeners().tell(&Event::Warning { text });
            root
        });
        let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
        let place = root.join(names.collect::<PathBuf>());
        self.places().note(path, &place);
        place
    }

    /// Where a figure, a report, a table of tensors or the like is written: beside the run it is about.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        self.places().of(path).unwrap_or_else(|| path.to_path_buf())
    }

    /// What this smoke run has written at a path.
    pub(super) fn made(&self, path: &Path) -> Option<PathBuf> {
        let place = self.places().of(path)?;
        if place.exists() {
            return Some(place);
        }
        // With fewer steps checkpoints have other numbers: the newest is meant.
        let is_checkpoint =
            |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
        let named = place.ancestors().find(is_checkpoint)?;
        let newest = Run::open(named.parent()?).ok()?.checkpoint().ok()??;
        let rest = place.strip_prefix(named).ok()?;
        Some(if rest.as_os_str().is_empty() { newest } else { newest.join(rest) }).filter(|place| place.exists())
    }

    /// Where something is read: what this smoke run has written, or what is there.
    pub(super) fn found(&self, path: &Path) -> PathBuf {
        self.made(path).unwrap_or_else(|| path.to_path_buf())
    }
}

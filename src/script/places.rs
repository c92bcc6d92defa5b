//! Where a script's files go. Outside smoke runs a path is a path. A smoke run writes the folders of runs, models and
//! studies, and answers, below a folder of its own, at the place the script names; so a real run is never in its way, nor
//! it in a real one's. Readers look there first. Figures, reports and the like stay where they are named, unless they lie
//! in such a folder.

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::state::State;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::train::{Run, Status};

/// What the folders of smoke runs have in their names.
const MARK: &str = "smoke-run-";

/// The folder of a smoke run, and what was written there.
#[derive(Default)]
pub(super) struct Places {
    root: OnceLock<PathBuf>,
    written: Mutex<Vec<PathBuf>>,
}

/// The place of a path below a folder; what is there already stays.
fn below(root: &Path, path: &Path) -> PathBuf {
    if path.starts_with(root) {
        return path.to_path_buf();
    }
    let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
    root.join(names.collect::<PathBuf>())
}

impl State {
    /// Where a folder or a file of answers is written.
    pub(super) fn written(&self, path: &Path) -> PathBuf {
        if !self.smoke() {
            return path.to_path_buf();
        }
        let root = self.places().root.get_or_init(|| {
            let root = self.run_folder(&format!("{MARK}{}", std::process::id()));
            let text = format!("a smoke run: runs, models and answers are written below `{}`", root.display());
            self.listeners().tell(&Event::Warning { text });
            root
        });
        let place = below(root, path);
        self.places().written.lock().unwrap_or_else(PoisonError::into_inner).push(place.clone());
        place
    }

    /// The same for a run or a file of answers. Ids that share a stand-in may share a place, too: the later one takes it.
    ///
    /// # Errors
    /// `File` when the earlier one cannot be removed.
    pub(super) fn written_anew(&self, path: &Path) -> Result<PathBuf> {
        let place = self.written(path);
        if self.smoke() {
            let done = || Run::open(&place).and_then(|run| run.status()).is_ok_and(|word| word == Status::Done.name());
            let removed = match place.is_file() {
                true => std::fs::remove_file(&place),
                false if done() => std::fs::remove_dir_all(&place),
                false => Ok(()),
            };
            removed.map_err(|error| Error::file(&place, error))?;
        }
        Ok(place)
    }

    /// Where a figure, a report, a table of tensors or the like is written.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        let Some(root) = self.places().root.get() else { return path.to_path_buf() };
        let place = below(root, path);
        let written = self.places().written.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = written.iter().any(|folder| place.starts_with(folder));
        let is_there =
            |path: &Path| path.parent().is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir());
        if inside || (!is_there(path) && is_there(&place)) { place } else { path.to_path_buf() }
    }

    /// What this smoke run has written at a path.
    pub(super) fn made(&self, path: &Path) -> Option<PathBuf> {
        let place = below(self.places().root.get()?, path);
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

    /// Where something is read: what this smoke run has written, what is there, or what the newest smoke run has.
    pub(super) fn found(&self, path: &Path) -> PathBuf {
        if !self.smoke() {
            return path.to_path_buf();
        }
        if let Some(place) = self.made(path) {
            return place;
        }
        let earlier = || {
            let entries = std::fs::read_dir(self.runs()).ok()?;
            let is_smoke = |folder: &PathBuf| folder.to_string_lossy().contains(MARK);
            let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_smoke).collect();
            folders.sort_unstable();
            folders.iter().rev().map(|root| below(root, path)).find(|place| place.exists())
        };
        let known = if path.exists() { None } else { earlier() };
        known.unwrap_or_else(|| path.to_path_buf())
    }
}

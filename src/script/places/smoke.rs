//! A smoke run: ids and paths that are not there become stand-ins, and what is there is left alone. It writes where the script
//! says as long as nothing is there but what an earlier smoke run left; else below a folder of its own, and studies always.

use std::path::{Path, PathBuf};
use std::sync::Once;

use super::log::{Log, below};
use super::{Ids, Places};
use crate::error::{Error, Result};
use crate::events::{Event, Listeners};
use crate::preset::PresetKind;
use crate::train::Run;

/// The places of a smoke run.
pub(in crate::script) struct Smoke {
    pub ids: Ids,
    /// The folder for what cannot be written where the script names it.
    pub elsewhere: PathBuf,
    /// `--set out`: the folder of a run is taken as it is.
    pub out_is_set: bool,
    pub listeners: Listeners,
    written: Log,
    warned: Once,
}

impl Smoke {
    pub(in crate::script) fn new(ids: Ids, elsewhere: PathBuf, out_is_set: bool, listeners: Listeners) -> Self {
        Smoke { ids, elsewhere, out_is_set, listeners, written: Log::default(), warned: Once::new() }
    }

    fn elsewhere(&self, path: &Path) -> PathBuf {
        self.warned.call_once(|| {
            let (path, below) = (path.display(), self.elsewhere.display());
            let text = format!("this smoke run writes `{path}`, and what is there already, below `{below}`");
            self.listeners.tell(&Event::Warning { text });
        });
        let place = below(&self.elsewhere, path);
        self.written.note(path, &place);
        place
    }
}

impl Places for Smoke {
    fn id(&self, kind: PresetKind, id: &str) -> String {
        self.ids.of(kind, id, self.made(Path::new(id)))
    }

    fn model(&self, path: &str) -> String {
        stand_in_model(self, path)
    }

    fn base(&self, base: &str) -> Option<String> {
        Some(self.read(Path::new(base))).filter(|place| place.exists()).map(|place| place.display().to_string())
    }

    fn write(&self, path: &Path) -> PathBuf {
        if let Some(place) = self.written.of(path) {
            return place;
        }
        let is_smoke_run = || Run::open(path).and_then(|run| run.lock()).is_ok_and(|lock| lock.disposable);
        if path.exists() && !is_smoke_run() {
            return self.elsewhere(path);
        }
        self.written.note(path, path);
        path.to_path_buf()
    }

    fn write_run(&self, path: &Path) -> PathBuf {
        if self.out_is_set { path.to_path_buf() } else { self.write(path) }
    }

    fn write_study(&self, path: &Path) -> PathBuf {
        self.elsewhere(path)
    }

    fn write_answers(&self, path: &Path) -> Result<PathBuf> {
        emptied(self.write(path))
    }

    fn write_beside(&self, path: &Path) -> PathBuf {
        self.written.of(path).unwrap_or_else(|| path.to_path_buf())
    }

    fn made(&self, path: &Path) -> Option<PathBuf> {
        let place = self.written.of(path)?;
        if place.exists() { Some(place) } else { newest_instead(&place) }
    }

    fn resume(&self, path: &Path) -> Option<PathBuf> {
        // A run that does not exist yet is where it will be written.
        Some(self.made(path).or_else(|| self.written.of(path)).unwrap_or_else(|| path.to_path_buf()))
    }

    fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        self.written.all()
    }
}

/// The model that is opened where there are stand-ins: a folder that is there, or what stands for the name.
pub(super) fn stand_in_model(places: &dyn Places, path: &str) -> String {
    let place = places.read(Path::new(path));
    if place.is_dir() || place != Path::new(path) {
        place.display().to_string()
    } else {
        places.id(PresetKind::Models, path)
    }
}

/// A file of answers without those of another benchmark: those that share a stand-in may share a file, too.
pub(super) fn emptied(place: PathBuf) -> Result<PathBuf> {
    if place.is_file() {
        crate::fs::remove_file(&place).map_err(|error| Error::file(&place, error))?;
    }
    Ok(place)
}

/// With fewer steps checkpoints have other numbers: in place of one that is not there the newest is meant.
pub(super) fn newest_instead(place: &Path) -> Option<PathBuf> {
    let is_checkpoint =
        |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
    let named = place.ancestors().find(is_checkpoint)?;
    let newest = Run::open(named.parent()?).ok()?.checkpoint().ok()??;
    let rest = place.strip_prefix(named).ok()?;
    Some(if rest.as_os_str().is_empty() { newest } else { newest.join(rest) }).filter(|place| place.exists())
}

//! Where a script's files are. Whatever opens or writes a path asks here first, and what is answered depends on the kind of
//! session. Plain: a path is a path. A smoke run leaves what is there alone: it writes below a folder of its own then, and
//! studies always. A rerun writes nothing but below its own folder, and sees nothing that the run it repeats has written.
//! Either reads what it has written itself under the name the script gave.

use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::state::State;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::study::{RECORD, Repeated};
use crate::train::{Lock, Run, is_part_of_run};

/// The run, or the study, that a script is to make again.
#[derive(Clone, Debug)]
pub struct Repeat {
    /// Of that run: script, arguments and `--set`, and which trainer or study of the script it is.
    pub lock: Lock,
    /// Its folder.
    pub folder: PathBuf,
    /// What of a study, if it is one.
    pub study: Option<Repeated>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Smoke,
    Rerun,
}

/// What a session has written elsewhere than the script says, and the folder for it.
#[derive(Default)]
pub(super) struct Places {
    elsewhere: OnceLock<PathBuf>,
    /// What the script names, and where it is.
    written: Mutex<Vec<(PathBuf, PathBuf)>>,
}

impl Places {
    fn note(&self, named: &Path, place: &Path) {
        let pair = (plain(named), place.to_path_buf());
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if !written.contains(&pair) {
            written.push(pair);
        }
    }

    /// Where a path lies that is, or is in, something written.
    fn of(&self, path: &Path) -> Option<PathBuf> {
        let path = plain(path);
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |(named, place): &(PathBuf, PathBuf)| match path.strip_prefix(named).ok()? {
            rest if rest.as_os_str().is_empty() => Some(place.clone()),
            rest => Some(place.join(rest)),
        };
        written.iter().rev().find_map(inside)
    }

    /// What was written, by the names the script gave, each with its place.
    pub(super) fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    fn place_kind(&self) -> Kind {
        match self.repeated() {
            Some(_) => Kind::Rerun,
            None if self.smoke() => Kind::Smoke,
            None => Kind::Plain,
        }
    }

    /// Where a folder or a file of answers is written.
    pub(super) fn written(&self, path: &Path) -> PathBuf {
        match self.place_kind() {
            Kind::Plain => path.to_path_buf(),
            Kind::Rerun => self.moved(path),
            Kind::Smoke => {
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
        }
    }

    /// The same for the folder of a run. One that `--set` names is taken as it is, but by a rerun.
    pub(super) fn run_written(&self, path: &Path) -> PathBuf {
        let is_set = self.overrides().train.contains_key("out");
        if is_set && self.place_kind() != Kind::Rerun { path.to_path_buf() } else { self.written(path) }
    }

    /// The same for a study, whose folder takes no other one later: a smoke run's is always elsewhere.
    pub(super) fn studied(&self, path: &Path) -> PathBuf {
        if self.place_kind() == Kind::Smoke { self.elsewhere(path) } else { self.written(path) }
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

    /// The place of a path below the folder for what a smoke run cannot write where the script names it.
    fn elsewhere(&self, path: &Path) -> PathBuf {
        let root = self.places().elsewhere.get_or_init(|| {
            let root = self.run_folder(&format!("smoke-run-{}", std::process::id()));
            let (path, below) = (path.display(), root.display());
            let text = format!("this smoke run writes `{path}`, and what is there already, below `{below}`");
            self.listeners().tell(&Event::Warning { text });
            root
        });
        let place = below(root, path);
        self.places().note(path, &place);
        place
    }

    /// The place of a path below the folder of a rerun.
    fn moved(&self, path: &Path) -> PathBuf {
        if self.is_in_rerun(path) {
            return path.to_path_buf();
        }
        let place = below(self.runs(), path);
        self.places().note(path, &place);
        place
    }

    /// Whether a path is in the folder of this rerun, as `run.dir` is.
    fn is_in_rerun(&self, path: &Path) -> bool {
        plain(path).starts_with(plain(self.runs()))
    }

    /// Where a figure, a report, a table of tensors or the like is written: beside the run it is about.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        match self.place_kind() {
            Kind::Rerun => self.moved(path),
            Kind::Plain | Kind::Smoke => self.places().of(path).unwrap_or_else(|| path.to_path_buf()),
        }
    }

    /// What this smoke run, or this rerun, has written at a path.
    pub(super) fn made(&self, path: &Path) -> Option<PathBuf> {
        if self.place_kind() == Kind::Rerun && self.is_in_rerun(path) {
            return Some(path.to_path_buf()).filter(|path| path.exists());
        }
        let place = self.places().of(path)?;
        if place.exists() {
            return Some(place);
        }
        if !self.smoke() {
            return None;
        }
        // With fewer steps checkpoints have other numbers: the newest is meant.
        let is_checkpoint =
            |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
        let named = place.ancestors().find(is_checkpoint)?;
        let newest = Run::open(named.parent()?).ok()?.checkpoint().ok()??;
        let rest = place.strip_prefix(named).ok()?;
        Some(if rest.as_os_str().is_empty() { newest } else { newest.join(rest) }).filter(|place| place.exists())
    }

    /// Where something is read: what this smoke run or rerun has written, or what is there. A rerun gets the place where it
    /// would have written what the run it repeats wrote: nothing is there yet.
    pub(super) fn found(&self, path: &Path) -> PathBuf {
        match self.made(path) {
            Some(place) => place,
            None if self.is_hidden(path) => below(self.runs(), path),
            None => path.to_path_buf(),
        }
    }

    /// The same for a run, or a study, that is opened as one.
    pub(super) fn run_found(&self, path: &Path) -> PathBuf {
        match self.made(path) {
            Some(place) => place,
            None if self.is_hidden(path) || self.is_repeated(path) => below(self.runs(), path),
            None => path.to_path_buf(),
        }
    }

    /// The run that a trainer goes on with; in a rerun only one that the rerun itself began, any other starts at step 0.
    pub(super) fn resumed(&self, path: &Path) -> Option<PathBuf> {
        if self.place_kind() != Kind::Rerun {
            return Some(self.found(path));
        }
        let made = self.made(path);
        if made.is_none() {
            let text = format!("this rerun starts at step 0, it does not go on with `{}`", path.display());
            self.listeners().tell(&Event::Warning { text });
        }
        made
    }

    /// Whether a rerun must not read a path: it is a part of a run that the repeated script wrote. Other files in a run's
    /// folder are what people put there.
    fn is_hidden(&self, path: &Path) -> bool {
        if self.place_kind() != Kind::Rerun || !path.exists() {
            return false;
        }
        let path = plain(path);
        let mut above = path.ancestors();
        let mut inside = above.next();
        for folder in above {
            let part = inside.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            let is_written = |part: String| is_part_of_run(&part) || [RECORD, "cells"].contains(&part.as_str());
            if part.is_some_and(is_written) && self.is_repeated(folder) {
                return true;
            }
            inside = Some(folder);
        }
        false
    }

    /// Whether a folder is one of the repeated script's: the run or study itself, one that this rerun makes again, or one
    /// that says so in its run.lock.
    fn is_repeated(&self, folder: &Path) -> bool {
        let Some(repeat) = self.repeated() else { return false };
        let folder = plain(folder);
        let is_run = folder.join("run.lock").is_file();
        if !is_run && !folder.join(RECORD).is_file() {
            return false;
        }
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(&folder).is_some_and(|folder| real(&repeat.folder).is_some_and(|asked| folder.starts_with(asked))) {
            return true;
        }
        let made_again = self.places().written().iter().any(|(named, _)| *named == folder);
        let says_so = |lock: Lock| {
            let of = |lock: &Lock| (lock.script.clone(), lock.modules.clone(), lock.args.clone(), lock.set.clone());
            of(&lock) == of(&repeat.lock)
        };
        made_again || (is_run && Run::open(&folder).and_then(|run| run.lock()).is_ok_and(says_so))
    }
}

/// The place of a path in a folder that holds what is somewhere else.
fn below(root: &Path, path: &Path) -> PathBuf {
    let (here, path) = (plain(Path::new(".")), plain(path));
    let path = path.strip_prefix(&here).unwrap_or(&path);
    let names = path.components().filter(|component| matches!(component, Component::Normal(_)));
    root.join(names.collect::<PathBuf>())
}

/// A path as one name for a place: absolute, without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_one_name() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(plain(Path::new(".")), here);
        assert_eq!(plain(Path::new("./a/../b/./c")), here.join("b/c"));
        assert_eq!(below(Path::new("root"), Path::new("./a/b")), Path::new("root/a/b"));
        assert_eq!(below(Path::new("root"), &here.join("a")), Path::new("root/a"));
        assert_eq!(below(Path::new("root"), Path::new("/x/y")), Path::new("root/x/y"));
    }
}

//! A rerun: it writes nothing but below its own folder, and sees nothing that the run it repeats has written.

use std::path::{Path, PathBuf};

use super::log::{Log, below, plain};
use super::smoke::{emptied, newest_instead, stand_in_model};
use super::{Ids, Places};
use crate::error::Result;
use crate::events::{Event, Listeners};
use crate::files::RUN_LOCK;
use crate::preset::PresetKind;
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

/// The places of a rerun.
pub(in crate::script) struct Rerun {
    repeat: Repeat,
    /// Its own folder.
    root: PathBuf,
    /// Stand-ins, where it repeats a smoke run.
    ids: Option<Ids>,
    listeners: Listeners,
    written: Log,
}

impl Rerun {
    pub(in crate::script) fn new(repeat: Repeat, root: PathBuf, ids: Option<Ids>, listeners: Listeners) -> Self {
        Rerun { repeat, root, ids, listeners, written: Log::default() }
    }

    /// Whether a path is in the folder of this rerun, as `run.dir` is.
    fn is_own(&self, path: &Path) -> bool {
        plain(path).starts_with(plain(&self.root))
    }

    /// Whether it must not be read: it is a part of a run that the repeated script wrote. Other files in a run's folder are
    /// what people put there.
    fn is_hidden(&self, path: &Path) -> bool {
        if !path.exists() {
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
        let folder = plain(folder);
        let is_run = folder.join(RUN_LOCK).is_file();
        if !is_run && !folder.join(RECORD).is_file() {
            return false;
        }
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        if real(&folder).is_some_and(|folder| real(&self.repeat.folder).is_some_and(|asked| folder.starts_with(asked)))
        {
            return true;
        }
        let made_again = self.written.all().iter().any(|(named, _)| *named == folder);
        let says_so = |lock: Lock| {
            let of = |lock: &Lock| (lock.script.clone(), lock.modules.clone(), lock.args.clone(), lock.set.clone());
            of(&lock) == of(&self.repeat.lock)
        };
        made_again || (is_run && Run::open(&folder).and_then(|run| run.lock()).is_ok_and(says_so))
    }

    /// Where it would have written what the run it repeats wrote: nothing is there yet.
    fn anew(&self, path: &Path) -> PathBuf {
        below(&self.root, path)
    }
}

impl Places for Rerun {
    fn id(&self, kind: PresetKind, id: &str) -> String {
        let made = self.made(Path::new(id));
        match &self.ids {
            Some(ids) => ids.of(kind, id, made),
            // It opens what it has made again.
            None => made.map_or(id.to_string(), |place| place.display().to_string()),
        }
    }

    fn model(&self, path: &str) -> String {
        if self.ids.is_some() {
            return stand_in_model(self, path);
        }
        let place = self.read(Path::new(path));
        if place == Path::new(path) { self.id(PresetKind::Models, path) } else { place.display().to_string() }
    }

    fn base(&self, base: &str) -> Option<String> {
        let place = self.read(Path::new(base));
        match place.exists() {
            true => Some(place.display().to_string()),
            false => Some(base.to_string()).filter(|_| self.ids.is_none()),
        }
    }

    fn write(&self, path: &Path) -> PathBuf {
        if self.is_own(path) {
            return path.to_path_buf();
        }
        let place = self.anew(path);
        self.written.note(path, &place);
        place
    }

    fn write_answers(&self, path: &Path) -> Result<PathBuf> {
        let place = self.write(path);
        if self.ids.is_some() { emptied(place) } else { Ok(place) }
    }

    fn write_beside(&self, path: &Path) -> PathBuf {
        self.write(path)
    }

    fn made(&self, path: &Path) -> Option<PathBuf> {
        if self.is_own(path) {
            return Some(path.to_path_buf()).filter(|path| path.exists());
        }
        let place = self.written.of(path)?;
        if place.exists() {
            return Some(place);
        }
        self.ids.as_ref().and_then(|_| newest_instead(&place))
    }

    fn read(&self, path: &Path) -> PathBuf {
        match self.made(path) {
            Some(place) => place,
            None if self.is_hidden(path) => self.anew(path),
            None => path.to_path_buf(),
        }
    }

    fn read_run(&self, path: &Path) -> PathBuf {
        match self.made(path) {
            Some(place) => place,
            None if self.is_hidden(path) || self.is_repeated(path) => self.anew(path),
            None => path.to_path_buf(),
        }
    }

    fn resume(&self, path: &Path) -> Option<PathBuf> {
        let made = self.made(path);
        if made.is_none() {
            let text = format!("this rerun starts at step 0, it does not go on with `{}`", path.display());
            self.listeners.tell(&Event::Warning { text });
        }
        made
    }

    fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        self.written.all()
    }
}

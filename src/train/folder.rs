//! Making run folders: each holds one run, and has one writer at a time.

use std::path::{Path, PathBuf};

use super::identity::PICTURES;
use super::run::{Lock, Run, SUMMARY, checkpoints};
use crate::error;
use crate::error::{Context, Error, Result};
use crate::files::{self, EVENTS, RUN_LOCK};
use crate::writer::Writer;

/// Where a new run goes.
#[derive(Clone, Debug)]
pub enum RunPlace {
    /// Into this folder.
    Given(PathBuf),
    /// Into a folder of this name, or with a number behind it where that is taken.
    Numbered(PathBuf),
}

/// A run that this process may write.
pub(super) struct Opened {
    pub run: Run,
    pub writer: Writer,
    /// What people should know of what was there.
    pub notes: Vec<String>,
}

impl RunPlace {
    /// The folder, as far as it is known before the run begins.
    pub fn path(&self) -> &Path {
        match self {
            RunPlace::Given(path) | RunPlace::Numbered(path) => path,
        }
    }

    /// The folder, made if it is not there. Of processes that want the same name in the same moment each gets another one.
    ///
    /// # Errors
    /// `File` when it cannot be made.
    pub fn make(&self) -> Result<PathBuf> {
        let failed = |folder: &Path, error| {
            Error::file(folder, error).context("the run folder cannot be made").help("choose another `out`")
        };
        let stem = match self {
            RunPlace::Given(folder) => {
                return crate::fs::create_dir_all(folder)
                    .map(|()| folder.clone())
                    .map_err(|error| failed(folder, error));
            }
            RunPlace::Numbered(stem) => stem,
        };
        let parent = stem.parent().unwrap_or(Path::new("."));
        crate::fs::create_dir_all(parent).map_err(|error| failed(parent, error))?;
        let mut number = 1;
        loop {
            let folder = match number {
                1 => stem.clone(),
                _ => PathBuf::from(format!("{}-{number}", stem.display())),
            };
            match crate::fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(failed(&folder, error)),
            }
        }
    }
}

impl Run {
    /// Makes the folder and writes run.lock. What another run left there is removed if that is disposable, and set aside if
    /// it came to no checkpoint.
    ///
    /// # Errors
    /// `Busy` while another process trains there; `File` for a folder that holds a run already or cannot be written.
    pub(super) fn create(place: &RunPlace, lock: &Lock) -> Result<Opened> {
        let dir = place.make()?;
        let (writer, note) = Writer::take(&dir).context(|| "the run folder cannot be made")?;
        let mut notes: Vec<String> = note.into_iter().collect();
        if let Ok(before) = Run::open(&dir) {
            let disposable = before.lock().is_ok_and(|lock| lock.disposable);
            match checkpoints(&dir)?.pop() {
                _ if disposable => remove(&dir)?,
                None => notes.push(set_aside(&dir)?),
                Some(_) => {
                    return Err(error!(File, "`{}` holds a run already", dir.display())
                        .help("go on with it by `t.resume(dir)`, or choose another `out`"));
                }
            }
        }
        let text = toml::to_string(lock).map_err(|error| error!(File, "run.lock: {error}"))?;
        files::write(&dir.join(RUN_LOCK), &text)?;
        Ok(Opened { run: Run { dir }, writer, notes })
    }

    /// Goes on with this run.
    ///
    /// # Errors
    /// `Busy` while another process trains it.
    pub(super) fn go_on(self) -> Result<Opened> {
        let (writer, note) = Writer::take(self.dir())?;
        Ok(Opened { run: self, writer, notes: note.into_iter().collect() })
    }

    /// Moves checkpoints after a step out of the way, into `aside/`, and says so.
    pub(super) fn set_later_aside(&self, step: u64) -> Result<Option<String>> {
        let later: Vec<_> = checkpoints(self.dir())?.into_iter().filter(|(at, _)| *at > step).collect();
        if later.is_empty() {
            return Ok(None);
        }
        let aside = self.dir().join("aside");
        crate::fs::create_dir_all(&aside).map_err(|error| Error::file(&aside, error))?;
        let mut names = Vec::new();
        for (at, path) in later {
            let place = free(&aside, &format!("checkpoint-{at}"));
            crate::fs::rename(&path, &place).map_err(|error| Error::file(&path, error))?;
            names.push(format!("`{}`", place.display()));
        }
        Ok(Some(format!("this goes on from step {step}; what the run had later was moved: {}", names.join(", "))))
    }
}

/// Moves what a run without a checkpoint left out of the way of a new one.
fn set_aside(dir: &Path) -> Result<String> {
    let mut kept = Vec::new();
    for name in [EVENTS, RUN_LOCK] {
        let path = dir.join(name);
        if path.is_file() {
            let place = free(dir, name);
            crate::fs::rename(&path, &place).map_err(|error| Error::file(&path, error))?;
            kept.push(format!("`{}`", place.file_name().unwrap_or_default().to_string_lossy()));
        }
    }
    let (dir, kept) = (dir.display(), kept.join(" and "));
    Ok(format!("the run in `{dir}` came to no checkpoint: it begins at step 0; what it left is in {kept}"))
}

/// The first of `name.1`, `name.2` that is not there; `name` itself in a folder where it is free.
fn free(folder: &Path, name: &str) -> PathBuf {
    let plain = folder.join(name);
    let numbered = (1u64..).map(|number| folder.join(format!("{name}.{number}")));
    let mut names = std::iter::once(plain.clone()).chain(numbered);
    names.find(|path| !path.exists()).unwrap_or(plain)
}

/// Names in a run's folder that training writes; what else is there people have put there.
pub fn is_part_of_run(name: &str) -> bool {
    [RUN_LOCK, EVENTS, "plots", "aside", PICTURES, SUMMARY].contains(&name)
        || ["checkpoint-", ".checkpoint-", "events.out.tfevents."].iter().any(|start| name.starts_with(start))
}

/// Removes what a run wrote; the folder may hold other things.
fn remove(dir: &Path) -> Result<()> {
    for entry in crate::fs::read_dir(dir).map_err(|error| Error::file(dir, error))?.flatten() {
        let path = entry.path();
        if is_part_of_run(&entry.file_name().to_string_lossy()) {
            let removed = if path.is_dir() { crate::fs::remove_dir_all(&path) } else { crate::fs::remove_file(&path) };
            removed.map_err(|error| Error::file(&path, error))?;
        }
    }
    Ok(())
}

//! Where a script's ids and files are. A script function opens no id and no path of its own: it asks [`Files`], and what the
//! answer is depends on the kind of session, which is one implementation of [`Places`]. `plain.rs`: a path is a path.
//! `smoke.rs`: ids are stand-ins, and what is there is left alone. `rerun.rs`: everything is written below the folder of the
//! rerun, and what the repeated run wrote is not seen. Each reads what it has written itself under the name the script gave.

mod ids;
mod log;
mod plain;
mod rerun;
mod smoke;

use std::ops::Deref;
use std::path::{Component, Path, PathBuf};

pub(super) use ids::Ids;
pub(super) use plain::Plain;
pub use rerun::Repeat;
pub(super) use rerun::Rerun;
pub(super) use smoke::Smoke;

use crate::error::{Error, Result};
use crate::hub::is_id;
use crate::ledger::Ledger;
use crate::preset::PresetKind;
use crate::sandbox;
use crate::vlm::model_files;

/// What a kind of session says of ids and paths.
pub(super) trait Places: Send + Sync {
    /// The id to open for an id or a path of a part, a data set, a recipe or a benchmark.
    fn id(&self, kind: PresetKind, id: &str) -> String;

    /// The id or the folder of a whole model.
    fn model(&self, path: &str) -> String;

    /// The LLM that a folder with a projector or an adapter goes with: a path, or an id.
    fn base(&self, base: &str) -> Option<String> {
        let place = self.read(Path::new(base));
        Some(if place.exists() { place.display().to_string() } else { base.to_string() })
    }

    /// Where a folder or a file of answers is written.
    fn write(&self, path: &Path) -> PathBuf;

    /// The same for the folder of a run.
    fn write_run(&self, path: &Path) -> PathBuf {
        self.write(path)
    }

    /// The same for a study, whose folder takes no other study later.
    fn write_study(&self, path: &Path) -> PathBuf {
        self.write(path)
    }

    /// The same for a file of answers.
    ///
    /// # Errors
    /// `File` when an earlier one that gives way cannot be removed.
    fn write_answers(&self, path: &Path) -> Result<PathBuf> {
        Ok(self.write(path))
    }

    /// Where a figure, a report, a table of tensors or the like is written: beside the run it is about.
    fn write_beside(&self, path: &Path) -> PathBuf;

    /// What this session has written itself at a path, where that is elsewhere.
    fn made(&self, path: &Path) -> Option<PathBuf>;

    /// Where something is read: what this session has written, or what is there.
    fn read(&self, path: &Path) -> PathBuf {
        self.made(path).unwrap_or_else(|| path.to_path_buf())
    }

    /// The same for a run, or a study, that is opened as one.
    fn read_run(&self, path: &Path) -> PathBuf {
        self.read(path)
    }

    /// The run that a trainer goes on with; `None` starts at step 0.
    fn resume(&self, path: &Path) -> Option<PathBuf> {
        Some(self.read(path))
    }

    /// What was written elsewhere, by the names the script gave, each with its place.
    fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        Vec::new()
    }
}

/// A path that may be opened or written. [`Files`] alone makes one, so no script function has a path of its own.
#[derive(Clone, Debug)]
pub(super) struct Place(PathBuf);

impl Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl From<Place> for PathBuf {
    fn from(place: Place) -> Self {
        place.0
    }
}

impl Place {
    /// Whether it is where the script says.
    pub(super) fn is(&self, path: &str) -> bool {
        self.0 == Path::new(path)
    }
}

/// The ids and files of a session, as script functions ask for them. In the sandbox a path that it refuses is an error here, so that
/// nothing is said of what lies there.
pub(super) struct Files {
    places: Box<dyn Places>,
    /// What was written for scripts.
    ledger: Ledger,
}

impl Files {
    pub(super) fn new(places: impl Places + 'static, ledger: Ledger) -> Self {
        Files { places: Box::new(places), ledger }
    }

    /// The id to open.
    ///
    /// # Errors
    /// `Refused` for a path outside of what the sandbox reads.
    pub(super) fn id(&self, kind: PresetKind, id: &str) -> Result<String> {
        let id = self.places.id(kind, id);
        readable_id(&id)?;
        Ok(id)
    }

    /// The id or the folder of a whole model, and that folder.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub(super) fn model(&self, path: &str) -> Result<(String, Place)> {
        let id = self.places.model(path);
        readable_id(&id)?;
        let place = Place(PathBuf::from(&id));
        Ok((id, place))
    }

    /// The LLM that a folder with a projector or an adapter goes with.
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub(super) fn base(&self, base: &str) -> Result<Option<String>> {
        let base = self.places.base(base);
        base.as_deref().map_or(Ok(()), readable_id)?;
        Ok(base)
    }

    /// Where a run is written.
    ///
    /// # Errors
    /// `Refused` outside of where the sandbox writes.
    pub(super) fn write_run(&self, path: impl AsRef<Path>) -> Result<Place> {
        writable(self.places.write_run(path.as_ref()))
    }

    /// Where a study is written.
    ///
    /// # Errors
    /// `Refused` outside of where the sandbox writes.
    pub(super) fn write_study(&self, path: impl AsRef<Path>) -> Result<Place> {
        writable(self.places.write_study(path.as_ref()))
    }

    /// Where a file of answers is written. What is there is looked at, and gone on with, by whoever writes it.
    ///
    /// # Errors
    /// `Refused` outside of where the sandbox writes; `File` when an earlier one that gives way cannot be removed.
    pub(super) fn write_answers(&self, path: impl AsRef<Path>) -> Result<Place> {
        writable(self.places.write_answers(path.as_ref())?)
    }

    /// Where a folder of kept answers, or the plots of a run, are written.
    ///
    /// # Errors
    /// `Refused` outside of where the sandbox writes.
    pub(super) fn write_beside(&self, path: impl AsRef<Path>) -> Result<Place> {
        writable(self.places.write_beside(path.as_ref()))
    }

    /// Lets `write` make a file; one of somebody else is left alone, unless `overwrite`.
    ///
    /// # Errors
    /// `Refused` outside of where the sandbox writes, `File` for somebody else's file, or what `write` gives.
    pub(super) fn write_file<T>(
        &self,
        path: &str,
        overwrite: bool,
        write: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let place = self.write_beside(path)?;
        if !overwrite {
            self.ledger.may_replace(&place)?;
        }
        let done = write(&place)?;
        self.ledger.note(&place);
        Ok(done)
    }

    /// Lets `write` make the folder of a model; files of a model of somebody else's are left alone, unless `overwrite`.
    ///
    /// # Errors
    /// As [`write_file`](Self::write_file).
    pub(super) fn write_model<T>(
        &self,
        path: &str,
        overwrite: bool,
        write: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let place = writable(self.places.write(path.as_ref()))?;
        if !overwrite {
            model_files(&place)?.iter().try_for_each(|file| self.ledger.may_replace(file))?;
        }
        let done = write(&place)?;
        model_files(&place)?.iter().for_each(|file| self.ledger.note(file));
        Ok(done)
    }

    /// Remembers a file that was written at a place: it may be replaced.
    pub(super) fn note(&self, place: &Path) {
        self.ledger.note(place);
    }

    /// Where something is read.
    ///
    /// # Errors
    /// `Refused` outside of what the sandbox reads.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Result<Place> {
        let place = self.places.read(path.as_ref());
        // An id of the hub looks like a path; what it leads to is asked about where it is opened.
        let is_id = place.to_str().is_some_and(is_id) && !place.exists();
        if is_id { Ok(Place(place)) } else { readable(place) }
    }

    /// The text of a UTF-8 file.
    ///
    /// # Errors
    /// `Missing` or `File`; `Refused` outside of what the sandbox reads.
    pub(super) fn text(&self, path: &str) -> Result<String> {
        crate::fs::read_to_string(&self.read(path)?).map_err(|error| Error::file(path, error))
    }

    /// Where a run is read.
    ///
    /// # Errors
    /// `Refused` outside of what the sandbox reads.
    pub(super) fn read_run(&self, path: impl AsRef<Path>) -> Result<Place> {
        readable(self.places.read_run(path.as_ref()))
    }

    /// The run that a trainer goes on with.
    ///
    /// # Errors
    /// `Refused` outside of what the sandbox reads.
    pub(super) fn resume(&self, path: impl AsRef<Path>) -> Result<Option<Place>> {
        self.places.resume(path.as_ref()).map(readable).transpose()
    }

    /// What was written elsewhere, by the names the script gave, each with its place.
    pub(super) fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        self.places.written()
    }
}

fn readable(path: PathBuf) -> Result<Place> {
    sandbox::readable(&path).map(|()| Place(path))
}

fn writable(path: PathBuf) -> Result<Place> {
    sandbox::writable(&path).map(|()| Place(path))
}

/// An id that is a path is asked about as one; a name that is neither there nor leads anywhere is one of a preset or of the hub.
fn readable_id(id: &str) -> Result<()> {
    let path = Path::new(id);
    let leads = path.is_absolute() || path.components().any(|part| part == Component::ParentDir);
    if leads || path.exists() { sandbox::readable(path) } else { Ok(()) }
}

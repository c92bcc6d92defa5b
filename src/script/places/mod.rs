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
use std::path::{Path, PathBuf};

pub(super) use ids::Ids;
pub(super) use plain::Plain;
pub use rerun::Repeat;
pub(super) use rerun::Rerun;
pub(super) use smoke::Smoke;

use crate::error::{Error, Result};
use crate::preset::PresetKind;

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

/// The ids and files of a session, as script functions ask for them.
pub(super) struct Files(Box<dyn Places>);

impl Files {
    pub(super) fn new(places: impl Places + 'static) -> Self {
        Files(Box::new(places))
    }

    /// The id to open.
    pub(super) fn id(&self, kind: PresetKind, id: &str) -> String {
        self.0.id(kind, id)
    }

    /// The id or the folder of a whole model, and that folder.
    pub(super) fn model(&self, path: &str) -> (String, Place) {
        let id = self.0.model(path);
        let place = Place(PathBuf::from(&id));
        (id, place)
    }

    /// The LLM that a folder with a projector or an adapter goes with.
    pub(super) fn base(&self, base: &str) -> Option<String> {
        self.0.base(base)
    }

    /// Where a folder is written.
    pub(super) fn write(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.write(path.as_ref()))
    }

    /// Where a run is written.
    pub(super) fn write_run(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.write_run(path.as_ref()))
    }

    /// Where a study is written.
    pub(super) fn write_study(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.write_study(path.as_ref()))
    }

    /// Where a file of answers is written.
    pub(super) fn write_answers(&self, path: impl AsRef<Path>) -> Result<Place> {
        self.0.write_answers(path.as_ref()).map(Place)
    }

    /// Where a figure, a report or the like is written.
    pub(super) fn write_beside(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.write_beside(path.as_ref()))
    }

    /// Where something is read.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.read(path.as_ref()))
    }

    /// The text of a UTF-8 file.
    pub(super) fn text(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(&*self.read(path)).map_err(|error| Error::file(path, error))
    }

    /// Where a run is read.
    pub(super) fn read_run(&self, path: impl AsRef<Path>) -> Place {
        Place(self.0.read_run(path.as_ref()))
    }

    /// The run that a trainer goes on with.
    pub(super) fn resume(&self, path: impl AsRef<Path>) -> Option<Place> {
        self.0.resume(path.as_ref()).map(Place)
    }

    /// What was written elsewhere, by the names the script gave, each with its place.
    pub(super) fn written(&self) -> Vec<(PathBuf, PathBuf)> {
        self.0.written()
    }
}

//! Data sets of the hub: of a repository that may hold many configurations and splits, only the wanted files are fetched.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

use super::{Failure, Hub, Inner, Wanted, split, status};
use crate::error;
use crate::error::{Context, Error, Result};
use crate::sandbox;

/// Picks the wanted files out of the names of all files (with slashes between folders); the error says why none fits.
pub type Choose<'a> = &'a dyn Fn(&BTreeSet<String>) -> Result<Vec<String>>;

impl Hub {
    /// The folder with those files of a data set `owner/name` (or `owner/name@revision`) that `choose` picks from the hub's
    /// list of files. Files that are in the cache already are not fetched again. Where access to the hub is switched off or it
    /// cannot be reached, `choose` picks from the files in the cache.
    ///
    /// # Errors
    /// The error of `choose`; `Missing` when the data set is neither in the cache nor on the hub, `File` when the hub
    /// cannot be reached or its answers are inconsistent.
    pub fn dataset(&self, id: &str, choose: Choose) -> Result<PathBuf> {
        let (repo, revision) = split(id);
        let wanted = Wanted { kind: RepoType::Dataset, id, repo, revision, files: &[], weights: false };
        let Some(inner) = &self.0 else {
            return Err(error!(Missing, "no file or folder `{id}`, and this session has no access to the hub"));
        };
        let here = || format!("data set `{id}` of {}", inner.settings.endpoint);
        if inner.settings.offline || sandbox::is_on() {
            return match inner.cached(&wanted).filter(|path| sandbox::readable(path).is_ok()) {
                Some(snapshot) => inner.choose_cached(snapshot, choose).context(here),
                None if sandbox::is_on() => Err(inner.refused(&wanted)),
                None => Err(inner.offline(&wanted, &["its data".to_string()])),
            };
        }
        inner.fetch_dataset(&wanted, choose).context(here)
    }
}

impl Inner {
    fn fetch_dataset(&self, wanted: &Wanted, choose: Choose) -> Result<PathBuf> {
        let api = self.api().map_err(|error| self.failed(wanted, error))?;
        let (names, commit) = match self.list(&api, wanted) {
            Ok(listed) => listed,
            Err(failure) => {
                let unreachable = matches!(&failure, Failure::Hub(error) if status(error).is_none());
                return match self.cached(wanted).filter(|_| unreachable) {
                    Some(snapshot) => self.choose_cached(snapshot, choose),
                    None => Err(failure.told(|error| self.failed(wanted, error))),
                };
            }
        };
        let place = self.place(&api, wanted, &commit);
        for name in choose(&names)? {
            // A name that leads out of the folder is refused.
            if !names.contains(&name) || !is_inside(&name) {
                return Err(error!(File, "the hub names the file `{name}`"));
            }
            self.file(&place, &name)?;
        }
        self.keep(wanted, &commit)?;
        Ok(place.snapshot)
    }

    fn choose_cached(&self, snapshot: PathBuf, choose: Choose) -> Result<PathBuf> {
        let mut names = BTreeSet::new();
        list(&snapshot, "", &mut names)?;
        choose(&names)?;
        Ok(snapshot)
    }
}

/// Whether a name stays below its folder.
fn is_inside(name: &str) -> bool {
    !name.contains('\\') && name.split('/').all(|part| !["", ".", ".."].contains(&part))
}

/// Names of all files below a folder.
fn list(folder: &Path, prefix: &str, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in crate::fs::read_dir(folder).map_err(|error| Error::file(folder, error))? {
        let entry = entry.map_err(|error| Error::file(folder, error))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => list(&entry.path(), &format!("{name}/"), names)?,
            false => drop(names.insert(name)),
        }
    }
    Ok(())
}

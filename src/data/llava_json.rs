//! LLaVA's JSON, a list of records or one record a line. Only an index is held; a sample is read when it is asked for.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::dataset::Items;
use super::index::{Index, malformed};
use super::pictures::Pictures;
use super::record::{Brief, Record};
use super::sample::Sample;
use super::scan::Layout;
use crate::error;
use crate::error::{Context, Error, Result};

/// A file of conversations.
pub(super) struct LlavaJson {
    file: File,
    path: PathBuf,
    index: Index,
    pictures: Pictures,
}

impl LlavaJson {
    /// Reads the file once to index and check it.
    pub(super) fn open(path: &Path, layout: Layout, pictures: Pictures) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::file(path, error))?;
        let index = Index::build(&file, path, layout)?;
        Ok(LlavaJson { file, path: path.to_path_buf(), index, pictures })
    }
}

impl Items for LlavaJson {
    fn len(&self) -> usize {
        self.index.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let here = || format!("`{}`", self.path.display());
        let bytes = self.index.read(&self.file, index).context(here)?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|found| {
            let at = self.index.span(index).map_or(0, |(start, _)| start);
            malformed(&self.path, index, at, &found).context("the file has changed since it was opened")
        })?;
        record.sample(|name| self.pictures.find(name)).context(here)
    }

    fn brief(&self, index: usize) -> Result<Brief> {
        self.index.brief(index).ok_or_else(|| error!(Data, "no sample {index}"))
    }

    fn sha256(&self) -> String {
        self.index.sha256.clone()
    }
}

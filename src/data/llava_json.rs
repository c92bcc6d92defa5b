//! LLaVA's JSON, a list of records or one record a line. Only an index is held; a sample is read when it is asked for.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::brief::Brief;
use super::index::{Index, malformed};
use super::items::Items;
use super::lfs;
use super::pictures::Pictures;
use super::record::Record;
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
    /// Reads the file once to index and check it. How it begins says whether it is a list or one record a line,
    /// not its name: `datasets` and DuckDB write lines into `.json` files.
    pub(super) fn open(path: &Path, pictures: Pictures) -> Result<Self> {
        let layout = Layout::of(&lfs::refuse_file(path)?);
        let file = crate::fs::open(path).map_err(|error| Error::file(path, error))?;
        let index = Index::build(&file, path, layout).map_err(|error| match layout {
            Layout::Lines => error.help(
                "expected one record { image, conversations: [{ from, value }] } a line, or a list of them: `[` at the beginning",
            ),
            Layout::List => error,
        })?;
        Ok(LlavaJson { file, path: path.to_path_buf(), index, pictures })
    }

    /// Gives a record to a function.
    fn with<T>(&self, index: usize, take: impl FnOnce(Record<'_>) -> Result<T>) -> Result<T> {
        let here = || format!("`{}`", self.path.display());
        let bytes = self.index.read(&self.file, index).context(here)?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|found| {
            let at = self.index.span(index).map_or(0, |(start, _)| start);
            malformed(&self.path, index, at, &found).context("the file has changed since it was opened")
        })?;
        take(record).context(here)
    }
}

impl Items for LlavaJson {
    fn len(&self) -> usize {
        self.index.len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        self.with(index, |record| record.sample(index, |name| self.pictures.find(name)))
    }

    fn brief(&self, index: usize) -> Result<Brief> {
        self.index.brief(index).ok_or_else(|| error!(Data, "no sample {index}"))
    }

    fn unread(&self, index: usize) -> Result<Vec<String>> {
        self.with(index, |record| Ok(record.unread()))
    }

    fn sha256(&self) -> String {
        self.index.sha256.clone()
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

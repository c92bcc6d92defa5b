//! Kinds of files that hold data: tables of rows, archives of pictures. A new one is a file here, a `mod` line and a line in
//! `ALL`.

mod arrow;
mod json;
mod parquet;
mod tar;
mod tsv;
mod zip;

use std::path::Path;

use super::archive::{Archive, Members};
use super::read_at::read_up_to;
use super::table::file::{Keep, TableParts};
use crate::error;
use crate::error::{Error, Result};

/// A kind of file.
pub(super) trait Container: Sync {
    /// How names of such files end, in lower case.
    fn endings(&self) -> &'static [&'static str];

    /// Whether a file with one of the endings holds data: what stands before the ending may say that it does not.
    fn is_named(&self, _stem: &str) -> bool {
        true
    }

    /// How its members are found, of an archive.
    fn members(&self) -> Option<&'static dyn Members> {
        None
    }

    /// The rows of a file, of a table; `keep` says which fields are read, `None` stands for all of all.
    ///
    /// # Errors
    /// `Missing`, `File` or `Decode`, naming the file.
    fn rows(&self, _path: &Path, _keep: Option<Keep>) -> Option<Result<Box<dyn TableParts>>> {
        None
    }

    /// Why a folder `root` of such files is not read, where that is so.
    fn refused(&self, _root: &str) -> Option<Error> {
        None
    }
}

/// All kinds. Where a folder has several kinds of tables, the first of them here is read.
const ALL: [&dyn Container; 7] =
    [&parquet::Parquet, &arrow::Arrow, &json::JsonLines, &tsv::Tsv, &json::Json, &zip::Zip, &tar::Tar];

/// A kind of table by its place in the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableKind(usize);

impl TableKind {
    /// What a file of unknown name is taken for.
    const OTHER: TableKind = TableKind(2);

    /// What a path's name says; `None` for what is no table.
    pub(super) fn of(path: &str) -> Option<Self> {
        let (stem, ending) = path.rsplit('/').next()?.rsplit_once('.')?;
        let ending = ending.to_lowercase();
        let is = |kind: &&dyn Container| kind.endings().contains(&ending.as_str()) && kind.is_named(stem);
        ALL.iter().position(|kind| kind.members().is_none() && is(kind)).map(TableKind)
    }

    /// Why a folder of such files is not read, where that is so.
    pub(super) fn refused(self, root: &str) -> Option<Error> {
        ALL[self.0].refused(root)
    }
}

fn ends_as(path: &Path, kind: &dyn Container) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| kind.endings().contains(&ending.as_str()))
}

/// Whether a name ends as those of tables do, whatever stands before.
pub(super) fn is_table(path: &Path) -> bool {
    ALL.iter().any(|kind| kind.members().is_none() && ends_as(path, *kind))
}

/// The rows of a file, by its name; files of unknown names are taken for JSON lines.
///
/// # Errors
/// `Missing`, `File` or `Decode`, naming the file.
pub(super) fn rows(path: &Path, keep: Option<Keep>) -> Result<Box<dyn TableParts>> {
    let kind = TableKind::of(&path.to_string_lossy()).unwrap_or(TableKind::OTHER);
    let rows = ALL[kind.0].rows(path, keep);
    rows.unwrap_or_else(|| Err(error!(Decode, "`{}` is of a kind that is not read", path.display())))
}

impl Archive {
    /// Whether a path's name says that it is an archive.
    pub fn is_one(path: &Path) -> bool {
        ALL.iter().any(|kind| kind.members().is_some() && ends_as(path, *kind))
    }

    /// Lists the members, by content whatever the name ends in.
    ///
    /// # Errors
    /// `Missing` or `File` when it cannot be read, `Decode` when it is no archive, damaged or cut off.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        let file = crate::fs::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut head = [0; 512];
        let read = read_up_to(&file, &mut head, 0).map_err(failed)?;
        let kind = ALL.iter().filter_map(|kind| kind.members()).find(|kind| kind.begins(&head[..read]));
        match kind {
            Some(kind) => Archive::list(kind, path, file, length),
            None => Err(error!(Decode, "`{}` is neither a zip nor a tar file", path.display())
                .help("compressed tar files have no random access: unpack the compression first")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_kind_of_table_a_file_is() {
        let endings = |path: &str| TableKind::of(path).map(|kind| ALL[kind.0].endings()[0]);
        assert_eq!(endings("a/b.c/train-0.PARQUET"), Some("parquet"));
        assert_eq!(endings("x.ndjson"), Some("jsonl"));
        assert_eq!(
            (endings("x.json"), endings("a/config.json"), endings("a.zip"), endings("json")),
            (Some("json"), None, None, None)
        );
        assert_eq!(ALL[TableKind::OTHER.0].endings(), ["jsonl", "ndjson"]);
        assert!(
            TableKind::of("a.parquet") < TableKind::of("a.jsonl") && TableKind::of("a.tsv") < TableKind::of("a.json")
        );
        assert!(Archive::is_one(Path::new("a.Tar")) && !Archive::is_one(Path::new("a.parquet")));
    }
}

//! Arrow files, in which the library `datasets` keeps what it has loaded: known by name, not read.

use super::Container;
use crate::error;
use crate::error::Error;

/// Of a library's own folder, not a published set.
pub(super) struct Arrow;

impl Container for Arrow {
    fn endings(&self) -> &'static [&'static str] {
        &["arrow"]
    }

    fn refused(&self, root: &str) -> Option<Error> {
        Some(error!(Missing, "`{root}` holds .arrow files, as the library `datasets` keeps them").help(
            "write it as parquet: `datasets.load_from_disk(folder)` or `load_dataset(..)`, then `.to_parquet(\"test.parquet\")`",
        ))
    }
}

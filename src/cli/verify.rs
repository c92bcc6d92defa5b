//! `llmore verify`: checks whether what a run or a study was made from, and what it wrote, is unchanged.

use std::path::Path;

use super::output::print_table;
use crate::error::Result;
use crate::show::{Cell, Table, count};
use crate::study::{Folder, RECORD};
use crate::train::{Run, Verified};

/// Prints what changed and how much was checked; returns 1 when something changed.
pub(super) fn verify(folder: &Path, json: bool) -> Result<i32> {
    let found = if folder.join(RECORD).is_file() { Folder::verify(folder)? } else { Run::open(folder)?.verify()? };
    print_table(&table(folder, &found), json);
    Ok(i32::from(!found.moved.is_empty()))
}

fn table(folder: &Path, found: &Verified) -> Table {
    let mut table = Table::new(format!("what moved since `{}` ended", folder.display()))
        .column("what")
        .column("then")
        .column("now");
    for moved in &found.moved {
        // The first digits of a hash are enough to see whether it is the same.
        let short = |hash: &str| hash.chars().take(16).collect::<String>();
        table.push([Cell::from(moved.what.as_str()), short(&moved.then).into(), short(&moved.now).into()]);
    }
    let mut note = match found.moved.len() {
        0 => format!("nothing: {} files, pictures and texts are as they were", count(found.looked_at)),
        moved => format!("{} of {} files, pictures and texts moved", count(moved), count(found.looked_at)),
    };
    if let Some(build) = &found.other_build {
        note = format!("{note}; it was made by build {build} of llmore, this is {}", crate::build::SOURCES);
    }
    table.note(note)
}

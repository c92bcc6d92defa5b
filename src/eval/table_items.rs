//! All items of a file or folder: repeated ids are numbered, rows that cannot be used left out. No row is a repeat of another
//! one: published sets ask the same question twice (ChartQA), or in each of three splits (POPE), and count each.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::benchmark::Item;
use super::source::{Source, required};
use crate::data::table::Rows;
use crate::error;
use crate::error::{Context, Error, Result};

/// A second table of pictures, by id.
pub(super) struct Pictures {
    pub(super) rows: Arc<Rows>,
    pub(super) places: HashMap<String, usize>,
}

/// The items of a file or folder, and why rows were left out.
pub(super) fn table_items(
    source: &Source,
    data: &Path,
    split: Option<&str>,
    images: Option<&Path>,
) -> Result<(Vec<Item>, Vec<Error>)> {
    let rows = Rows::open_split(data, split)?;
    let pictures = images.map(pictures).transpose()?;
    let mut left_out = rows.broken().to_vec();
    let (mut items, mut places): (Vec<Item>, Vec<usize>) = (Vec::new(), Vec::new());
    for row in 0..rows.len() {
        match source.item(&rows, row, pictures.as_ref()) {
            Ok(item) => {
                items.push(item);
                places.push(row);
            }
            Err(error) => left_out.push(error),
        }
    }
    number_repeated(&mut items);
    // Data without any picture are for scoring; where others have theirs, a question without is not asked blind.
    if items.iter().any(|item| !item.images.is_empty()) {
        let mut places = places.into_iter();
        items.retain(|item| {
            let place = places.next().unwrap_or_default();
            let why = item.lacks_pictures();
            left_out.extend(why.iter().map(|why| error!(Data, "{}: {why}", rows.place(place))));
            why.is_none()
        });
    }
    Ok((items, left_out))
}

/// Items that share an id become `id#0`, `id#1`, ... in file order.
fn number_repeated(items: &mut [Item]) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    items.iter().for_each(|item| *counts.entry(item.id.clone()).or_default() += 1);
    let mut next: HashMap<String, usize> = HashMap::new();
    for item in items.iter_mut().filter(|item| counts.get(&item.id).is_some_and(|count| *count > 1)) {
        let number = next.entry(item.id.clone()).or_default();
        item.id = format!("{}#{number}", item.id);
        *number += 1;
    }
}

fn pictures(path: &Path) -> Result<Pictures> {
    let rows = Rows::open(path)?;
    let place = |row| Ok((required(&rows, row, "id")?, row));
    let places = (0..rows.len()).map(place).collect::<Result<_>>().context(|| "table of pictures")?;
    Ok(Pictures { rows, places })
}

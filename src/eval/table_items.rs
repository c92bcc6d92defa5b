//! All items of a set's files: repeated ids are numbered, rows that cannot be used left out. No row is a repeat of another
//! one: published sets ask the same question twice (ChartQA), or in each of three splits (POPE), and count each.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::item::Item;
use super::item_reader::ItemReader;
use super::layout::Set;
use crate::data::table::parts;
use crate::error;
use crate::error::{Error, Result};

/// The items of a set's files, and why rows were left out. Rows are read part by part, and their texts are not kept.
pub(super) fn table_items(
    reader: &ItemReader,
    set: &Set,
    files: &[PathBuf],
    images: Option<&Path>,
) -> Result<(Vec<Item>, Vec<Error>)> {
    let pictures = set.pictures(files, images)?;
    let (mut items, mut left_out): (Vec<Item>, Vec<Error>) = (Vec::new(), Vec::new());
    // Why items cannot be asked, by their place in the list.
    let mut blind: BTreeMap<usize, Error> = BTreeMap::new();
    let label = |path: &Path| set.label(path);
    for rows in parts(files, &set.reading, &label) {
        let rows = rows.map_err(|error| set.with_help(error))?;
        set.check(&rows)?;
        left_out.extend_from_slice(rows.broken());
        let pictures = pictures.as_ref().filter(|(_, given)| *given || !set.has_pictures(&rows));
        for row in rows.range() {
            match reader.item(&rows, row, pictures.map(|(pictures, _)| pictures)) {
                Ok(item) => {
                    let why = item.lacks_pictures();
                    blind.extend(why.map(|why| (items.len(), error!(Data, "{}: {why}", rows.place(row)))));
                    items.push(item);
                }
                Err(error) => left_out.push(error),
            }
        }
    }
    number_repeated(&mut items);
    // Data without any picture are for scoring; where others have theirs, a question without is not asked blind.
    if items.iter().any(|item| !item.images.is_empty()) {
        let mut place = 0..;
        items.retain(|_| place.next().is_none_or(|place| !blind.contains_key(&place)));
        left_out.extend(blind.into_values());
    }
    Ok((items, left_out))
}

/// Items that share an id become `id#0`, `id#1`, ... in file order.
fn number_repeated(items: &mut [Item]) {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    items.iter().for_each(|item| *counts.entry(&item.id).or_default() += 1);
    let repeated: Vec<usize> = (0..items.len())
        .filter(|place| counts.get(items[*place].id.as_str()).is_some_and(|count| *count > 1))
        .collect();
    let mut next: HashMap<String, usize> = HashMap::new();
    for place in repeated {
        let item = &mut items[place];
        let number = next.entry(item.id.clone()).or_default();
        item.id = format!("{}#{number}", item.id);
        *number += 1;
    }
}

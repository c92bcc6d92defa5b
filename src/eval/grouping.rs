//! What counts as one draw: the picture. Its name where one is published with the set, else a hash of its encoded bytes, so
//! that equal pictures are one group in every layout, whatever their files are called. A question that shows several
//! pictures belongs with every other one that shows one of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

use super::benchmark::{Benchmark, Item};
use super::metrics::{Metric, question};
use super::results::Results;
use crate::data::ImageSource;

/// Pictures that are hashed at a time: they lie side by side in their file, and threads share what is read of it.
const READ: usize = 64;
/// Digits of a hash in a group's name.
const DIGITS: usize = 16;

/// What was found out about pictures; clones share it.
#[derive(Clone, Default)]
pub struct Grouping(Arc<Known>);

#[derive(Default)]
struct Known {
    /// Hashes, by where the pictures are.
    hashes: Mutex<HashMap<String, String>>,
    /// Whether questions show several pictures.
    several: OnceLock<bool>,
    /// Groups by id, where they depend on more than one question.
    groups: OnceLock<HashMap<String, String>>,
}

impl Grouping {
    /// Hashes the pictures that were not read yet. One that cannot be read keeps its name.
    fn read<'a>(&self, sources: impl Iterator<Item = &'a ImageSource>) {
        let mut seen = HashSet::new();
        let hashes = || self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let sources: Vec<(String, &ImageSource)> = {
            let known = hashes();
            let keyed = sources.map(|source| (source.key(), source));
            keyed.filter(|(key, _)| !known.contains_key(key) && seen.insert(key.clone())).collect()
        };
        for some in sources.chunks(READ) {
            let hash = |(key, source): &(String, &ImageSource)| Some((key.clone(), source.sha256().ok()?));
            let read: Vec<(String, String)> = some.par_iter().filter_map(hash).collect();
            hashes().extend(read);
        }
    }

    /// What a picture is called.
    fn name(&self, source: &ImageSource) -> String {
        let key = source.key();
        let hashes = self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.get(&key).map_or(key, |hash| format!("sha256:{}", hash.get(..DIGITS).unwrap_or(hash)))
    }
}

impl Benchmark {
    /// The group of each of some questions. Pictures without a published name are read, once.
    pub fn groups(&self, items: &[&Item]) -> Vec<String> {
        self.grouping.read(items.iter().filter(|item| item.group.is_empty()).flat_map(|item| item.shown()));
        let keys: Vec<Vec<String>> = items.iter().map(|item| self.draws(item)).collect();
        joined(&keys)
    }

    /// The group of one question.
    pub fn group(&self, item: &Item) -> String {
        let is_circular = self.scorer.metric() == Metric::Circular;
        let known = &self.grouping.0;
        let several = || self.items.iter().any(|item| item.group.is_empty() && item.shown().len() > 1);
        if !is_circular && (!item.group.is_empty() || !*known.several.get_or_init(several)) {
            return self.groups(&[item]).pop().unwrap_or_default();
        }
        let all = || {
            let items: Vec<&Item> = self.items.iter().collect();
            self.items.iter().map(|item| item.id.clone()).zip(self.groups(&items)).collect()
        };
        known.groups.get_or_init(all).get(&item.id).cloned().unwrap_or_default()
    }

    /// What a question shares with others of its group: its pictures; and what the metric counts as one.
    fn draws(&self, item: &Item) -> Vec<String> {
        let mut keys: Vec<String> = match item.group.is_empty() {
            true => item.shown().iter().map(|source| self.grouping.name(source)).collect(),
            false => vec![item.group.clone()],
        };
        if self.scorer.metric() == Metric::Circular {
            keys.extend(question(&item.id));
        }
        if keys.is_empty() {
            keys.push(item.id.clone());
        }
        keys
    }

    /// Whether nothing tells which questions share a picture.
    pub(super) fn is_ungrouped(&self) -> bool {
        self.items.iter().all(|item| item.group.is_empty() && item.images.is_empty())
    }
}

/// Names for sets of things that share a key with one another, directly or through others: the first key of the first.
fn joined<K: AsRef<[String]>>(keys: &[K]) -> Vec<String> {
    let mut parents: Vec<usize> = (0..keys.len()).collect();
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (place, keys) in keys.iter().enumerate() {
        for key in keys.as_ref() {
            let other = *first.entry(key).or_insert(place);
            let (a, b) = (root(&mut parents, place), root(&mut parents, other));
            // The earlier one stands for both.
            parents[a.max(b)] = a.min(b);
        }
    }
    let name = |place: usize| keys[place].as_ref().first().cloned().unwrap_or_default();
    (0..keys.len()).map(|place| name(root(&mut parents, place))).collect()
}

fn root(parents: &mut [usize], mut place: usize) -> usize {
    while parents[place] != place {
        parents[place] = parents[parents[place]];
        place = parents[place];
    }
    place
}

/// Groups by question that hold for all of some results about the same questions, where the results do not agree: a file
/// of an older version took each question for a group, or pictures could not be read. What is one draw to any of them is one.
pub fn shared(all: &[&Results]) -> Option<HashMap<String, String>> {
    let (first, others) = all.split_first()?;
    let known: HashMap<&str, &str> = first.rows.iter().map(|row| (row.id.as_str(), row.group.as_str())).collect();
    let agrees = |results: &&Results| {
        results.rows.iter().all(|row| known.get(row.id.as_str()).is_none_or(|group| *group == row.group))
    };
    if others.iter().all(agrees) {
        return None;
    }
    let mut keys: HashMap<&str, Vec<String>> = HashMap::new();
    for (number, results) in all.iter().enumerate() {
        for row in &results.rows {
            keys.entry(&row.id).or_default().push(format!("{} ({number})", row.group));
        }
    }
    let mut keys: Vec<(&str, Vec<String>)> = keys.into_iter().collect();
    keys.sort_unstable();
    let (ids, keys): (Vec<&str>, Vec<Vec<String>>) = keys.into_iter().unzip();
    Some(ids.into_iter().map(str::to_string).zip(joined(&keys)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shares_a_key_is_one_group() {
        let keys = |all: &[&[&str]]| -> Vec<Vec<String>> {
            all.iter().map(|keys| keys.iter().map(|key| key.to_string()).collect()).collect()
        };
        let apart = keys(&[&["a"], &["b"], &["a"], &["c", "d"]]);
        assert_eq!(joined(&apart), ["a", "b", "a", "c"]);
        // The last one shows both pictures, so all of them are one draw.
        let chained = keys(&[&["a"], &["b"], &["c"], &["c", "b"], &["b", "a"]]);
        assert_eq!(joined(&chained), ["a"; 5]);
    }
}

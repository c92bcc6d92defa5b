//! What counts as one draw: the picture. Its name where one is published with the set, else a hash of its encoded bytes, so
//! that equal pictures are one group in every layout, whatever their files are called. A question that shows several
//! pictures belongs with every other one that shows one of them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rayon::prelude::*;

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
    pub(super) fn read<'a>(&self, sources: impl Iterator<Item = &'a ImageSource>) {
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

    /// Whether questions show several pictures; `find` is asked once.
    pub(super) fn shows_several(&self, find: impl FnOnce() -> bool) -> bool {
        *self.0.several.get_or_init(find)
    }

    /// The group of a question out of those of all, which are made once.
    pub(super) fn known(&self, id: &str, all: impl FnOnce() -> HashMap<String, String>) -> String {
        self.0.groups.get_or_init(all).get(id).cloned().unwrap_or_default()
    }

    /// What a picture is called.
    pub(super) fn name(&self, source: &ImageSource) -> String {
        let key = source.key();
        let hashes = self.0.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.get(&key).map_or(key, |hash| format!("sha256:{}", hash.get(..DIGITS).unwrap_or(hash)))
    }
}

/// Names for sets of things that share a key with one another, directly or through others: the first key of the first.
pub(super) fn joined<K: AsRef<[String]>>(keys: &[K]) -> Vec<String> {
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

//! What is in pictures, by hashes of their bytes: an answer is about what its picture showed then, not about a file's name.
//! A run reads each picture's hash once.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::item::Item;
use crate::data::ImageSource;
use crate::error::Result;

/// Digits of a hash in a row.
const DIGITS: usize = 16;

/// Hashes of pictures, by where they are.
#[derive(Default)]
pub struct Contents(HashMap<String, Result<String>>);

impl Contents {
    /// Hashes the pictures of questions that were not seen yet.
    pub fn read<'a>(&mut self, items: impl Iterator<Item = &'a Item>) {
        let mut keys = HashSet::new();
        let sources = items.flat_map(Item::shown).map(|source| (source.key(), source));
        let new: Vec<(String, &ImageSource)> =
            sources.filter(|(key, _)| !self.0.contains_key(key) && keys.insert(key.clone())).collect();
        let read: Vec<_> = new.into_par_iter().map(|(key, source)| (key, source.sha256())).collect();
        self.0.extend(read);
    }

    /// The hash of a picture that was read.
    pub(super) fn get(&self, key: &str) -> Option<Result<String>> {
        self.0.get(key).cloned()
    }

    /// What a row says of the pictures its question shows; nothing where one of them cannot be read.
    pub fn of(&self, item: &Item) -> Vec<String> {
        let short = |source: &ImageSource| -> Option<String> {
            let hash = self.0.get(&source.key())?.as_ref().ok()?;
            Some(hash.chars().take(DIGITS).collect())
        };
        item.shown().iter().map(short).collect::<Option<_>>().unwrap_or_default()
    }
}

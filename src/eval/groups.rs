//! The groups of questions that count as one draw: of a benchmark, and of results that do not agree about them.

use std::collections::HashMap;

use super::benchmark::Benchmark;
use super::grouping::joined;
use super::item::Item;
use super::results::Results;

impl Benchmark {
    /// The group of each of some questions. Pictures without a published name are read, once.
    pub fn groups(&self, items: &[&Item]) -> Vec<String> {
        self.grouping.read(items.iter().filter(|item| item.group.is_empty()).flat_map(|item| item.shown()));
        let keys: Vec<Vec<String>> = items.iter().map(|item| self.draws(item)).collect();
        joined(&keys)
    }

    /// The group of one question.
    pub fn group(&self, item: &Item) -> String {
        let several = || self.items.iter().any(|item| item.group.is_empty() && item.shown().len() > 1);
        let is_alone = self.scorer.metric().draw(&item.id).is_none();
        if is_alone && (!item.group.is_empty() || !self.grouping.shows_several(several)) {
            return self.groups(&[item]).pop().unwrap_or_default();
        }
        let all = || {
            let items: Vec<&Item> = self.items.iter().collect();
            self.items.iter().map(|item| item.id.clone()).zip(self.groups(&items)).collect()
        };
        self.grouping.known(&item.id, all)
    }

    /// What a question shares with others of its group: its pictures; and what the metric counts as one.
    fn draws(&self, item: &Item) -> Vec<String> {
        let mut keys: Vec<String> = match item.group.is_empty() {
            true => item.shown().iter().map(|source| self.grouping.name(source)).collect(),
            false => vec![item.group.clone()],
        };
        keys.extend(self.scorer.metric().draw(&item.id));
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

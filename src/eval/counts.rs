//! How many questions there are: what the data hold, how many are published, and what `limit` takes.

use std::collections::{HashMap, HashSet};

use super::item::Item;
use super::metrics::Metric;
use crate::show::grouped;

/// The number of questions of a benchmark's data beside the published one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Numbers that are published; some sets have two publications. Empty where nothing is.
    pub published: Vec<usize>,
    /// Questions of the data, before `limit`.
    pub found: usize,
    /// The limit that holds.
    pub limit: Option<usize>,
}

impl Counts {
    /// What to say of a number of questions, unless it is a published one.
    pub fn note(&self, metric: Metric, questions: usize, limit: Option<usize>) -> Option<String> {
        if self.published.is_empty() || self.published.contains(&questions) {
            return None;
        }
        let list = |counts: &[usize]| counts.iter().map(|n| grouped(*n)).collect::<Vec<_>>().join(" or ");
        let mut text = format!("{} of {} published questions", grouped(questions), list(&self.published));
        if let Some(limit) = limit.or(self.limit) {
            let whole = match metric {
                Metric::Circular => ", in all their orders",
                Metric::Mme => ", whole pictures",
                _ => "",
            };
            let data = match self.published.contains(&self.found) {
                true => String::new(),
                false => format!("; the data hold {}", grouped(self.found)),
            };
            text += &format!(" (limit: the first {}{whole}{data})", grouped(limit));
        }
        Some(text)
    }
}

/// The first `n` questions, with everything that the metric counts together with them: a question of MMBench in all its
/// orders is one question, and of MME the other question about a picture comes along.
pub fn first(metric: Metric, items: &[Item], n: usize) -> Vec<&Item> {
    let unit = |item: &Item| metric.unit(&item.id, &item.group, &item.category);
    let Some(units) = items.iter().map(unit).collect::<Option<Vec<String>>>() else {
        return items.iter().take(n).collect();
    };
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    units.iter().for_each(|unit| *sizes.entry(unit).or_default() += 1);
    let (mut chosen, mut taken) = (HashSet::new(), 0);
    for unit in &units {
        if taken < n && chosen.insert(unit.as_str()) {
            taken += if metric == Metric::Circular { 1 } else { sizes.get(unit.as_str()).copied().unwrap_or(1) };
        }
    }
    items.iter().zip(&units).filter(|(_, unit)| chosen.contains(unit.as_str())).map(|(item, _)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_published_are_said() {
        let counts = Counts { published: vec![4329, 4377], found: 4329, limit: None };
        assert_eq!(counts.note(Metric::Circular, 4377, None), None);
        let note = |counts: &Counts, questions, limit| counts.note(Metric::Circular, questions, limit).unwrap();
        assert_eq!(note(&counts, 8658, None), "8,658 of 4,329 or 4,377 published questions");
        let limited = "40 of 4,329 or 4,377 published questions (limit: the first 10, in all their orders)";
        assert_eq!(note(&counts, 40, Some(10)), limited);
        let pope = Counts { published: vec![9000], found: 360, limit: Some(20) };
        let text = "20 of 9,000 published questions (limit: the first 20; the data hold 360)";
        assert_eq!(pope.note(Metric::YesNo, 20, None).unwrap(), text);
        assert_eq!(Counts::default().note(Metric::YesNo, 20, None), None);
    }
}

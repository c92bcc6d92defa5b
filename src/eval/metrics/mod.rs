//! Metrics: what rows add up to, and the same as sums per group for the statistics. Source: LLaVA-MORE 2460d39,
//! `src/lmms_eval/tasks/*/utils.py`; `fixtures/scorers/how.md` names what is counted otherwise.

mod circular;
mod mme;
#[cfg(test)]
mod tests;
mod yes_no;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::row::Row;
use super::stats::{Finish, Groups};

/// How a benchmark's rows add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The mean score under this name, and by category.
    Mean(&'static str),
    /// POPE: accuracy, precision, recall, F1.
    YesNo,
    /// MME: per image the accuracy and, when all is right, as much again; summed over categories, in points.
    Mme,
    /// MMBench: a question counts when it is right in every order of its choices.
    Circular,
    /// SEED-Bench: images, videos, all.
    Seed,
    /// MMMU: over all rows, and by subject.
    Mmmu,
    /// There is no automatic score.
    None,
}

impl Metric {
    /// Whether the headline is in points, not a fraction.
    pub fn is_points(self) -> bool {
        self == Metric::Mme
    }

    /// The headline: a fraction of 1, or the points of MME.
    pub fn headline(self, rows: &[Row]) -> f64 {
        match self {
            Metric::YesNo => yes_no::f1(rows),
            Metric::None => f64::NAN,
            _ => self.groups(rows).value(),
        }
    }

    /// Every metric under the names that `fixtures/README.md` fixes.
    pub fn values(self, rows: &[Row]) -> Map<String, Value> {
        let mut values = match self {
            Metric::None => Map::new(),
            Metric::Mean(name) => named([(name, mean(rows.iter())), ("by_category", by(rows, |row| &row.category))]),
            Metric::YesNo => yes_no::values(rows),
            Metric::Mme => mme::values(rows),
            Metric::Circular => circular::values(rows),
            Metric::Seed => {
                let all = categories(rows, |row| &row.category).into_iter();
                let mut values: Map<String, Value> =
                    all.map(|(name, rows)| (format!("seed_{name}"), mean(rows.into_iter()))).collect();
                values.insert("seed_all".to_string(), mean(rows.iter()));
                values
            }
            Metric::Mmmu => named([("mmmu_acc", mean(rows.iter())), ("by_subject", by(rows, |row| &row.category))]),
        };
        values.retain(|_, value| !value.is_null());
        let unparsed = rows.iter().filter(|row| row.is_unread()).count();
        values.insert("unparsed".to_string(), unparsed.into());
        values
    }

    /// The headline as sums per group. Groups are in the order of their first ids, so that no number depends on what a
    /// layout calls its pictures.
    pub fn groups(self, rows: &[Row]) -> Groups {
        let mut first: HashMap<&str, &str> = HashMap::new();
        for row in rows {
            let id = first.entry(&row.group).or_insert(&row.id);
            *id = (*id).min(&row.id);
        }
        self.sums(rows).ordered(|name| first.get(name).copied().unwrap_or_default().to_string())
    }

    fn sums(self, rows: &[Row]) -> Groups {
        match self {
            Metric::YesNo => yes_no::groups(rows),
            Metric::Mme => mme::groups(rows),
            Metric::Circular => circular::groups(rows),
            _ => {
                let rows = rows.iter().map(|row| (row.group.as_str(), 0, vec![row.score, 1.0]));
                Groups::collect(Finish::Ratio, 1.0, rows)
            }
        }
    }

    /// The headline of every category, with the number of rows; nothing when there are fewer than two.
    pub fn by_category(self, rows: &[Row]) -> Vec<(String, usize, Groups)> {
        let mut names: Vec<&str> = rows.iter().map(|row| row.category.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() < 2 || self == Metric::None {
            return Vec::new();
        }
        let of = |name: &str| {
            let rows: Vec<Row> = rows.iter().filter(|row| row.category == name).cloned().collect();
            (name.to_string(), rows.len(), self.groups(&rows))
        };
        names.into_iter().map(of).collect()
    }

    /// What a row's neighbors mean for its share in the metric.
    pub fn context(self, rows: &[Row], index: usize) -> Option<String> {
        let row = rows.get(index)?;
        let of = |row: &Row| self.unit(&row.id, &row.group, &row.category);
        let unit = of(row)?;
        let beside = rows.iter().filter(|other| of(other).is_some_and(|other| other == unit));
        let (right, all) = beside.fold((0, 0), |(right, all), row| (right + usize::from(row.score >= 1.0), all + 1));
        match self {
            Metric::Circular => {
                Some(format!("question {unit}: {right} of {all} orders right, counts {}", u8::from(right == all)))
            }
            Metric::Mme => Some(format!("picture {}: {right} of {all} questions right", row.group)),
            _ => None,
        }
    }

    /// What a question has in common with others beside a picture, so that they are one draw: all orders of its choices.
    pub(super) fn draw(self, id: &str) -> Option<String> {
        match self {
            Metric::Circular => circular::question(id),
            _ => None,
        }
    }

    /// What the metric counts as one thing, of a question's id, group and category: all orders of a question, the questions
    /// about a picture in one task. `None` where it is the question itself.
    pub fn unit(self, id: &str, group: &str, category: &str) -> Option<String> {
        match self {
            Metric::Circular => Some(circular::question(id).unwrap_or_else(|| id.to_string())),
            Metric::Mme => Some(format!("{category}\n{group}")),
            _ => None,
        }
    }
}

fn mean<'a>(rows: impl Iterator<Item = &'a Row>) -> Value {
    let (sum, count) = rows.fold((0.0, 0usize), |(sum, count), row| (sum + row.score, count + 1));
    if count == 0 { Value::Null } else { json!(sum / count as f64) }
}

fn named<const N: usize>(values: [(&str, Value); N]) -> Map<String, Value> {
    values.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

/// Rows by what they say; those that say nothing are in none.
fn categories<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> &'a String) -> BTreeMap<&'a str, Vec<&'a Row>> {
    let mut categories: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !of(row).is_empty()) {
        categories.entry(of(row)).or_default().push(row);
    }
    categories
}

/// Means by category; null when there are no categories.
fn by<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> &'a String) -> Value {
    let means = categories(rows, of).into_iter().map(|(name, rows)| (name.to_string(), mean(rows.into_iter())));
    let means: Map<String, Value> = means.collect();
    if means.is_empty() { Value::Null } else { Value::Object(means) }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

//! POPE: accuracy, precision, recall, F1, pooled and by split.

use serde_json::{Map, Value, json};

use super::{categories, named, ratio};
use crate::eval::row::Row;
use crate::eval::stats::{Finish, Groups};

/// Counts of POPE. A gold "yes" that was answered with neither yes nor no is no miss, as in the reference.
#[derive(Default)]
struct YesNo {
    hits: f64,
    false_alarms: f64,
    misses: f64,
    said_yes: f64,
    yes: f64,
    right: f64,
    rows: f64,
}

impl YesNo {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut counts = YesNo::default();
        for row in rows {
            let gold = row.gold.answer.first().trim().eq_ignore_ascii_case("yes");
            match (gold, row.extracted.as_deref()) {
                (true, Some("yes")) => counts.hits += 1.0,
                (false, Some("yes")) => counts.false_alarms += 1.0,
                (true, Some("no")) => counts.misses += 1.0,
                _ => {}
            }
            counts.said_yes += f64::from(u8::from(row.extracted.as_deref() == Some("yes")));
            counts.yes += f64::from(u8::from(gold));
            counts.right += row.score;
            counts.rows += 1.0;
        }
        counts
    }

    fn f1(&self) -> f64 {
        // As often as precision and recall say, in whole numbers.
        ratio(2.0 * self.hits, 2.0 * self.hits + self.false_alarms + self.misses)
    }

    fn precision(&self) -> f64 {
        ratio(self.hits, self.hits + self.false_alarms)
    }

    fn recall(&self) -> f64 {
        ratio(self.hits, self.hits + self.misses)
    }

    fn values(&self) -> Map<String, Value> {
        named([
            ("accuracy", json!(ratio(self.right, self.rows))),
            ("precision", json!(self.precision())),
            ("recall", json!(self.recall())),
            ("f1", json!(self.f1())),
            ("yes_ratio", json!(ratio(self.said_yes, self.rows))),
            ("yes_ratio_reference", json!(ratio(self.yes, self.rows))),
        ])
    }
}

/// Every metric.
pub(super) fn values(rows: &[Row]) -> Map<String, Value> {
    let mut values = YesNo::of(rows.iter()).values();
    let counts: Vec<(&str, YesNo)> = categories(rows, |row| &row.category)
        .into_iter()
        .map(|(name, rows)| (name, YesNo::of(rows.into_iter())))
        .collect();
    if !counts.is_empty() {
        let mean = counts.iter().map(|(_, counts)| counts.f1()).sum::<f64>() / counts.len() as f64;
        values.insert("f1_mean".to_string(), json!(mean));
        let of = counts.iter().map(|(name, counts)| (name.to_string(), Value::Object(counts.values())));
        values.insert("by_category".to_string(), Value::Object(of.collect()));
    }
    values
}

/// F1 over all rows.
pub(super) fn f1(rows: &[Row]) -> f64 {
    YesNo::of(rows.iter()).f1()
}

/// What F1 is made of, per image.
pub(super) fn groups(rows: &[Row]) -> Groups {
    let sums = |row: &Row| {
        let counts = YesNo::of(std::iter::once(row));
        vec![counts.hits, counts.false_alarms, counts.misses]
    };
    Groups::collect(Finish::F1, 1.0, rows.iter().map(|row| (row.group.as_str(), 0, sums(row))))
}

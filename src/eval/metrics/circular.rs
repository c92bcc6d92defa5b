//! MMBench: a question counts when it is right in every order of its choices.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{named, ratio};
use crate::eval::row::Row;
use crate::eval::stats::{Finish, Groups};

/// The orders of one question differ by this much in their index.
const CIRCULAR: i64 = 1_000_000;

/// The question that an id is an order of: the index of its first order. `None` where the id is no index.
pub(super) fn question(id: &str) -> Option<String> {
    let index = id.split('#').next()?.parse::<i64>().ok().filter(|index| *index >= 0)?;
    Some((index % CIRCULAR).to_string())
}

/// A question of MMBench, in all orders of its choices.
struct Question<'a> {
    base: &'a Row,
    hit: f64,
}

/// The questions that have their first order (an index below a million) among the rows.
fn questions(rows: &[Row]) -> Vec<Question<'_>> {
    let mut groups: BTreeMap<String, (Option<&Row>, bool)> = BTreeMap::new();
    for row in rows {
        let number = question(&row.id).unwrap_or_else(|| row.id.clone());
        let is_first = row.id.split('#').next() == Some(number.as_str());
        let (base, hit) = groups.entry(number).or_insert((None, true));
        if is_first {
            *base = Some(row);
        }
        *hit &= row.score >= 1.0;
    }
    let question = |(base, hit): (Option<_>, bool)| Some(Question { base: base?, hit: f64::from(u8::from(hit)) });
    groups.into_values().filter_map(question).collect()
}

/// Every metric.
pub(super) fn values(rows: &[Row]) -> Map<String, Value> {
    let questions = questions(rows);
    let accuracy = |questions: &[&Question]| ratio(questions.iter().map(|q| q.hit).sum(), questions.len() as f64);
    let by = |of: &dyn Fn(&Row) -> String| {
        let mut categories: BTreeMap<String, Vec<&Question>> = BTreeMap::new();
        for question in &questions {
            categories.entry(of(question.base)).or_default().push(question);
        }
        categories.remove("");
        let values: Map<String, Value> =
            categories.into_iter().map(|(name, questions)| (name, json!(accuracy(&questions)))).collect();
        if values.is_empty() { Value::Null } else { Value::Object(values) }
    };
    named([
        ("accuracy", json!(accuracy(&questions.iter().collect::<Vec<_>>()))),
        ("by_category", by(&|row| row.category.clone())),
        ("by_l2_category", by(&|row| row.section.clone())),
    ])
}

/// Hits and questions per picture.
pub(super) fn groups(rows: &[Row]) -> Groups {
    let questions = questions(rows);
    let rows = questions.iter().map(|question| (question.base.group.as_str(), 0, vec![question.hit, 1.0]));
    Groups::collect(Finish::Ratio, 1.0, rows)
}

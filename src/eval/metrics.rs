//! Metrics: what rows add up to, and the same as sums per group for the statistics. Source: LLaVA-MORE 2460d39,
//! `src/lmms_eval/tasks/*/utils.py`; `fixtures/scorers/how.md` names what is counted otherwise.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::results::Row;
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

/// MME's tasks of perception; all others are cognition.
const PERCEPTION: [&str; 10] =
    ["existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"];

/// Points an image of MME can give.
const MME_POINTS: f64 = 200.0;

impl Metric {
    /// Whether the headline is in points, not a fraction.
    pub fn is_points(self) -> bool {
        self == Metric::Mme
    }

    /// The headline: a fraction of 1, or the points of MME.
    pub fn headline(self, rows: &[Row]) -> f64 {
        match self {
            Metric::YesNo => YesNo::of(rows.iter()).f1(),
            Metric::None => f64::NAN,
            _ => self.groups(rows).value(),
        }
    }

    /// Every metric under the names that `fixtures/README.md` fixes.
    pub fn values(self, rows: &[Row]) -> Map<String, Value> {
        let mut values = match self {
            Metric::None => Map::new(),
            Metric::Mean(name) => named([(name, mean(rows.iter())), ("by_category", by(rows, |row| &row.category))]),
            Metric::YesNo => yes_no(rows),
            Metric::Mme => mme(rows),
            Metric::Circular => circular(rows),
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
        let unparsed = rows.iter().filter(|row| row.extracted.is_none()).count();
        values.insert("unparsed".to_string(), unparsed.into());
        values
    }

    /// The headline as sums per group.
    pub fn groups(self, rows: &[Row]) -> Groups {
        match self {
            Metric::YesNo => {
                let sums = |row: &Row| {
                    let counts = YesNo::of(std::iter::once(row));
                    vec![counts.hits, counts.false_alarms, counts.misses]
                };
                Groups::collect(Finish::F1, 1.0, rows.iter().map(|row| (row.group.as_str(), 0, sums(row))))
            }
            Metric::Mme => {
                let images = images(rows);
                let names: BTreeSet<&str> = images.iter().map(|image| image.category).collect();
                let place: BTreeMap<&str, usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
                let rows = images.iter().map(|image| {
                    let at = place[image.category];
                    let mut sums = vec![0.0; 2 * names.len()];
                    (sums[2 * at], sums[2 * at + 1]) = (image.points, 1.0);
                    (image.group, at as u32, sums)
                });
                Groups::collect(Finish::Points(names.len()), MME_POINTS * names.len().max(1) as f64, rows)
            }
            Metric::Circular => {
                let questions = questions(rows);
                let rows = questions.iter().map(|question| (question.base.group.as_str(), 0, vec![question.hit, 1.0]));
                Groups::collect(Finish::Ratio, 1.0, rows)
            }
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
        let beside = rows.iter().filter(|other| other.group == row.group && other.category == row.category);
        let (right, all) = beside.fold((0, 0), |(right, all), row| (right + usize::from(row.score >= 1.0), all + 1));
        match self {
            Metric::Circular => Some(format!(
                "question {}: {right} of {all} orders right, counts {}",
                row.group,
                u8::from(right == all)
            )),
            Metric::Mme => Some(format!("picture {}: {right} of {all} questions right", row.group)),
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
        let (precision, recall) = (self.precision(), self.recall());
        if precision + recall > 0.0 { 2.0 * (precision * recall) / (precision + recall) } else { 0.0 }
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

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

fn yes_no(rows: &[Row]) -> Map<String, Value> {
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

/// An image of MME with its questions.
struct MmeImage<'a> {
    category: &'a str,
    group: &'a str,
    points: f64,
}

fn images(rows: &[Row]) -> Vec<MmeImage<'_>> {
    let mut scores: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for row in rows {
        scores.entry((&row.category, &row.group)).or_default().push(row.score);
    }
    let image = |((category, group), scores): ((_, _), Vec<f64>)| {
        let right: f64 = scores.iter().sum();
        let all_right = if right == scores.len() as f64 { 100.0 } else { 0.0 };
        MmeImage { category, group, points: 100.0 * right / scores.len() as f64 + all_right }
    };
    scores.into_iter().map(image).collect()
}

fn mme(rows: &[Row]) -> Map<String, Value> {
    let mut points: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for image in images(rows) {
        let category = points.entry(image.category).or_default();
        *category = (category.0 + image.points, category.1 + 1.0);
    }
    let points: BTreeMap<&str, f64> = points.into_iter().map(|(name, (sum, count))| (name, sum / count)).collect();
    let sum = |perception: bool| {
        let of = points.iter().filter(|(name, _)| PERCEPTION.contains(name) == perception);
        json!(of.map(|(_, points)| points).sum::<f64>())
    };
    named([("perception", sum(true)), ("cognition", sum(false)), ("by_category", json!(points))])
}

/// A question of MMBench, in all orders of its choices.
struct Question<'a> {
    base: &'a Row,
    hit: f64,
}

/// The questions that have their first order (an index below a million) among the rows.
fn questions(rows: &[Row]) -> Vec<Question<'_>> {
    let mut groups: BTreeMap<&str, (Option<&Row>, bool)> = BTreeMap::new();
    for row in rows {
        let (base, hit) = groups.entry(&row.group).or_insert((None, true));
        // The group is the index of the first order.
        if row.id.split('#').next() == Some(row.group.as_str()) {
            *base = Some(row);
        }
        *hit &= row.score >= 1.0;
    }
    let question = |(base, hit): (Option<_>, bool)| Some(Question { base: base?, hit: f64::from(u8::from(hit)) });
    groups.into_values().filter_map(question).collect()
}

fn circular(rows: &[Row]) -> Map<String, Value> {
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

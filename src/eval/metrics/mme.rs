//! MME: points by task, and their sums over perception and cognition.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::named;
use crate::eval::row::Row;
use crate::eval::stats::{Finish, Groups};

/// MME's tasks of perception; all others are cognition.
const PERCEPTION: [&str; 10] =
    ["existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR"];

/// Points an image of MME can give.
const MME_POINTS: f64 = 200.0;

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

/// Every metric.
pub(super) fn values(rows: &[Row]) -> Map<String, Value> {
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

/// Points per image, by task; the tasks are strata.
pub(super) fn groups(rows: &[Row]) -> Groups {
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

//! Headlines and metrics of few rows, by arithmetic that fits in a comment: what the statistics go by is what tables show.

use serde_json::json;

use super::Metric;
use crate::eval::gold::Gold;
use crate::eval::row::Row;
use crate::eval::rules::Rules;

/// A question about a picture, in a category: what is right, what was read, its score.
fn row(id: &str, place: (&str, &str), gold: &str, extracted: Option<&str>, score: f64) -> Row {
    let (group, category) = (place.0.to_string(), place.1.to_string());
    Row {
        benchmark: "x".to_string(),
        model: "m".to_string(),
        id: id.to_string(),
        group,
        category,
        section: String::new(),
        prompt: String::new(),
        pictures: Vec::new(),
        output: String::new(),
        likelihoods: Vec::new(),
        extracted: extracted.map(str::to_string),
        gold: Gold::new(gold),
        score,
        scorer: "s/1".to_string(),
        rules: Rules::default(),
    }
}

/// Rows that are right or wrong: id, picture, category, score.
fn scored(rows: &[(&str, &str, &str, f64)]) -> Vec<Row> {
    rows.iter().map(|(id, group, category, score)| row(id, (group, category), "A", Some("A"), *score)).collect()
}

fn answered(rows: &[(&str, &str, &str)]) -> Vec<Row> {
    let row = |(number, (category, gold, read)): (usize, &(&str, &str, &str))| {
        let (id, extracted) = (number.to_string(), Some(*read).filter(|read| !read.is_empty()));
        row(&id, (&format!("p{}", number / 2), category), gold, extracted, f64::from(u8::from(gold == read)))
    };
    rows.iter().enumerate().map(row).collect()
}

#[test]
fn the_headline_of_pope_is_f1() {
    // 3 hits, 1 false alarm, 1 miss, 4 rightly refused, and a "yes" that was not answered: no miss, but not right.
    let rows = answered(&[
        ("a", "yes", "yes"),
        ("a", "yes", "yes"),
        ("a", "no", "yes"),
        ("a", "no", "no"),
        ("b", "yes", "yes"),
        ("b", "yes", "no"),
        ("b", "no", "no"),
        ("b", "no", "no"),
        ("b", "no", "no"),
        ("b", "yes", ""),
    ]);
    let is = |a: f64, b: f64| (a - b).abs() < 1e-12;
    // 2 * 3 / (2 * 3 + 1 + 1); right are 7 of 10.
    assert!(is(Metric::YesNo.headline(&rows), 0.75));
    assert!(is(Metric::YesNo.groups(&rows).value(), 0.75), "intervals and comparisons are about the headline");
    let values = Metric::YesNo.values(&rows);
    let expected = [
        ("accuracy", 0.7),
        ("precision", 0.75),
        ("recall", 0.75),
        ("f1", 0.75),
        ("yes_ratio", 0.4),
        ("yes_ratio_reference", 0.5),
        // Of "a" 4 / 5, of "b" 2 / 3.
        ("f1_mean", (0.8 + 2.0 / 3.0) / 2.0),
    ];
    for (name, expected) in expected {
        assert!(is(values[name].as_f64().unwrap(), expected), "{name}: {}", values[name]);
    }
    assert_eq!(values["unparsed"], json!(1));
    assert!(is(values["by_category"]["b"]["precision"].as_f64().unwrap(), 1.0), "{}", values["by_category"]);
    // Five pictures of two questions each.
    assert_eq!(Metric::YesNo.groups(&rows).len(), 5);
}

#[test]
fn mme_counts_pictures_by_task_and_sums_tasks() {
    let rows = scored(&[
        // Both right: 100 + 100 points. One of two: 50. Count is perception, code_reasoning is cognition.
        ("1", "p", "count", 1.0),
        ("2", "p", "count", 1.0),
        ("3", "q", "count", 1.0),
        ("4", "q", "count", 0.0),
        // The same picture in another task is another one: none right.
        ("5", "p", "code_reasoning", 0.0),
        ("6", "p", "code_reasoning", 0.0),
        ("7", "r", "code_reasoning", 1.0),
        ("8", "r", "code_reasoning", 1.0),
    ]);
    let values = Metric::Mme.values(&rows);
    assert_eq!((&values["perception"], &values["cognition"]), (&json!(125.0), &json!(100.0)));
    assert_eq!(values["by_category"], json!({ "code_reasoning": 100.0, "count": 125.0 }));
    assert_eq!(Metric::Mme.headline(&rows), 225.0);
    let groups = Metric::Mme.groups(&rows);
    assert_eq!((groups.scale, groups.len(), groups.strata), (400.0, 4, vec![0, 0, 1, 1]));
    assert_eq!(Metric::Mme.context(&rows, 2).unwrap(), "picture q: 1 of 2 questions right");
    assert_eq!(Metric::Mme.context(&rows, 0).unwrap(), "picture p: 2 of 2 questions right");
}

#[test]
fn mmbench_counts_questions_that_are_right_in_every_order() {
    let mut rows = scored(&[
        ("7", "p", "c", 1.0),
        ("1000007", "p", "c", 1.0),
        ("2000007", "p", "c", 1.0),
        ("8", "q", "c", 1.0),
        ("1000008", "q", "c", 0.0),
        ("9", "r", "d", 0.0),
        // Without its first order a question is none.
        ("1000010", "s", "d", 1.0),
    ]);
    rows[0].section = "l".to_string();
    let values = Metric::Circular.values(&rows);
    let third = 1.0 / 3.0;
    assert_eq!(values["accuracy"], json!(third));
    assert_eq!(values["by_category"], json!({ "c": 0.5, "d": 0.0 }));
    assert_eq!(values["by_l2_category"], json!({ "l": 1.0 }));
    assert_eq!((Metric::Circular.headline(&rows), Metric::Circular.groups(&rows).len()), (third, 3));
    assert_eq!(Metric::Circular.context(&rows, 3).unwrap(), "question 8: 1 of 2 orders right, counts 0");
    assert_eq!(Metric::Circular.context(&rows, 1).unwrap(), "question 7: 3 of 3 orders right, counts 1");
    assert_eq!(Metric::Circular.unit("3000007#2", "", ""), Some("7".to_string()));
    assert_eq!(Metric::Circular.unit("999999", "", ""), Some("999999".to_string()));
    assert_eq!(Metric::Circular.unit("-5", "", ""), Some("-5".to_string()));
}

#[test]
fn means_are_over_rows_and_by_what_a_row_says() {
    let rows = scored(&[("3", "p", "a", 1.0), ("2", "q", "a", 0.5), ("1", "p", "b", 0.0), ("4", "q", "", 1.0)]);
    let metric = Metric::Mean("exact_match");
    let values = metric.values(&rows);
    assert_eq!((&values["exact_match"], &values["by_category"]), (&json!(0.625), &json!({ "a": 0.75, "b": 0.0 })));
    assert_eq!(Metric::Seed.values(&rows)["seed_a"], json!(0.75));
    assert_eq!(Metric::Seed.values(&rows)["seed_all"], json!(0.625));
    assert_eq!(Metric::Mmmu.values(&rows)["mmmu_acc"], json!(0.625));
    assert_eq!((metric.headline(&rows), metric.groups(&rows).scale), (0.625, 1.0));
    assert!(Metric::None.headline(&rows).is_nan() && metric.context(&rows, 0).is_none());
    // Groups are in the order of their first ids, wherever these stand: p has question 1, q has 2.
    let groups = metric.groups(&rows);
    assert_eq!((groups.names.join(" "), groups.sums), ("p q".to_string(), vec![1.0, 2.0, 1.5, 2.0]));
    // By category: the rows of each, and nothing where there is only one.
    let by: Vec<(String, usize, f64)> =
        metric.by_category(&rows).into_iter().map(|(name, count, groups)| (name, count, groups.value())).collect();
    assert_eq!(by, [(String::new(), 1, 1.0), ("a".to_string(), 2, 0.75), ("b".to_string(), 1, 0.0)]);
    assert!(metric.by_category(&rows[..2]).is_empty() && Metric::None.by_category(&rows).is_empty());
}

//! DocVQA's ANLS: 1 - edit distance / length to the nearest gold answer, 0 below a half. Source: lmms-eval 0.7.3,
//! `api/metrics.py`.

use super::{Entry, Gold, Verdict};
use crate::eval::metrics::Metric;
use crate::eval::python::{strip, words};

pub(super) const SCORER: Entry =
    Entry { name: "anls", metric: Metric::Mean("anls"), score: |_, output, gold| score(output, gold), ..Entry::PLAIN };

/// Below this similarity the score is 0.
const THRESHOLD: f64 = 0.5;

/// The similarity to the nearest answer.
fn score(output: &str, gold: &Gold) -> Verdict {
    let extracted = plain(output);
    let similarity = |answer: &String| {
        let distance = strsim::levenshtein(&plain(answer), &extracted) as f64;
        // The lengths are those before white space was evened out.
        let length = answer.to_uppercase().chars().count().max(output.to_uppercase().chars().count());
        if length == 0 { 1.0 } else { 1.0 - distance / length as f64 }
    };
    let nearest = gold.answer.all().iter().map(|answer| (similarity(answer), answer));
    let Some((similarity, answer)) = nearest.max_by(|a, b| a.0.total_cmp(&b.0)) else {
        return Verdict { extracted: Some(extracted), score: 0.0, why: "there is no gold answer -> 0".to_string() };
    };
    let score = if similarity < THRESHOLD { 0.0 } else { similarity };
    let why = format!("{extracted:?} is {similarity:.3} like {answer:?} -> {score:.3}");
    Verdict { extracted: Some(extracted), score, why }
}

fn plain(text: &str) -> String {
    words(&strip(text).to_lowercase()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::gold::RightAnswers;

    #[test]
    fn half_of_an_answer_is_enough() {
        // Two of four letters, and two of five.
        assert_eq!(score("abxy", &Gold::new("abcd")).score, 0.5);
        assert_eq!(score("abxyz", &Gold::new("abcde")).score, 0.0);
    }

    // Expected values were printed by lmms-eval 0.7.3.
    #[test]
    fn the_nearest_answer_counts() {
        let gold = Gold { answer: RightAnswers::Several(vec!["ITC  Limited".into(), "Itc".into()]), ..Gold::new("") };
        let cases = [("itc limited", 1.0), ("ITC limted", 1.0 - 1.0 / 12.0), ("itd", 1.0 - 1.0 / 3.0), ("no", 0.0)];
        for (output, expected) in cases {
            assert!((score(output, &gold).score - expected).abs() < 1e-12, "{output}: {:?}", score(output, &gold));
        }
    }
}

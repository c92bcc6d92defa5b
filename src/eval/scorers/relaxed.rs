//! ChartQA's relaxed accuracy: numbers within 5 % of the gold, anything else equal without case. Source: lmms-eval
//! 0.7.3, `chartqa/utils.py`.

use super::{Entry, Gold, Verdict};
use crate::eval::metrics::Metric;
use crate::eval::python::float;

pub(super) const SCORER: Entry = Entry {
    name: "relaxed",
    metric: Metric::Mean("relaxed_overall"),
    score: |_, output, gold| score(output, gold),
    ..Entry::PLAIN
};

const TOLERANCE: f64 = 0.05;

/// 1 for a number that is near enough, or the same text.
fn score(output: &str, gold: &Gold) -> Verdict {
    let answer = gold.answer.first();
    match (number(output), number(answer)) {
        (Some(value), Some(target)) if target != 0.0 => {
            let change = (value - target).abs() / target.abs();
            let score = f64::from(u8::from(change <= TOLERANCE));
            let why = format!("{value} is {:.1} % off {target} (5 % are allowed) -> {score}", 100.0 * change);
            Verdict { extracted: Some(value.to_string()), score, why }
        }
        _ => Verdict::equal(output.to_lowercase(), &answer.to_lowercase(), "lower-cased"),
    }
}

/// A number, a percentage as a fraction.
fn number(text: &str) -> Option<f64> {
    match text.ends_with('%') {
        true => float(text.trim_end_matches('%')).map(|value| value / 100.0),
        false => float(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values were printed by lmms-eval 0.7.3.
    #[test]
    fn numbers_are_compared_with_tolerance() {
        let cases = [
            ("104", "100", 1.0),
            ("106", "100", 0.0),
            ("105", "100", 1.0),
            ("10.6", "10", 0.0),
            ("-104", "-100", 1.0),
            ("10%", "0.1", 1.0),
            ("Yes", "yes", 1.0),
            ("0", "0", 1.0),
            ("0.0", "0", 0.0),
            ("12.0 m", "12", 0.0),
        ];
        for (output, answer, expected) in cases {
            assert_eq!(score(output, &Gold::new(answer)).score, expected, "{output} {answer}");
        }
    }
}

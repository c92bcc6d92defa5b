//! VQA accuracy: agreement with at least three of the others who were asked. Source: LLaVA-MORE 2460d39,
//! `textvqa/utils.py`, `vqav2/utils.py`.

use super::vqa_text::normalized;
use super::{Entry, Gold, Rules, Verdict};

pub(super) const SCORER: Entry = Entry {
    name: "vqa",
    strict: None,
    score: |rules, output, gold| score(rules, output, gold, normalized),
    ..Entry::PLAIN
};

/// The mean over the people of min(1, others who gave this answer / 3).
pub(super) fn score(rules: Rules, output: &str, gold: &Gold, normalized: fn(&str) -> String) -> Verdict {
    let plain = |text: &str| crate::eval::python::strip(text).to_lowercase();
    let normalized = if rules == Rules::Strict { plain } else { normalized };
    let extracted = normalized(output);
    let answers: Vec<bool> = gold.answer.all().iter().map(|answer| normalized(answer) == extracted).collect();
    let same = answers.iter().filter(|same| **same).count();
    let others = |agrees: &bool| ((same - usize::from(*agrees)) as f64 / 3.0).min(1.0);
    let score = match answers.len() {
        0 => 0.0,
        // Summed in one go over thirds, so that a full agreement is exactly 1.
        count => exact_mean(answers.iter().map(others), count),
    };
    let why = format!("normalized {extracted:?}; {same} of {} people gave this answer -> {score}", answers.len());
    Verdict { extracted: Some(extracted), score, why }
}

/// The mean of multiples of a third.
fn exact_mean(values: impl Iterator<Item = f64>, count: usize) -> f64 {
    let thirds: f64 = values.map(|value| (value * 3.0).round()).sum();
    thirds / (3.0 * count as f64)
}

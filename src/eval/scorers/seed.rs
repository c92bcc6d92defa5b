//! SEED-Bench: the first character is the answer. Source: LLaVA-MORE 2460d39, `seedbench/utils.py`.

use super::letters;
use super::{Entry, Gold, Rules, Verdict, is_letter};
use crate::eval::metrics::Metric;

pub(super) const SCORER: Entry = Entry {
    name: "seed",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    metric: Metric::Seed,
    is_answer: is_letter,
    score,
    ..Entry::PLAIN
};

/// 1 for the right letter.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = gold.answer.first();
    let first: String = output.chars().take(1).collect();
    match rules {
        Rules::VlmEvalKit => Verdict::letter(letters::vlmevalkit(output, &gold.choices), answer, "VLMEvalKit reads"),
        Rules::LmmsEval => {
            let (first, answer) = (first.to_lowercase(), crate::eval::python::strip(answer).to_lowercase());
            Verdict::equal(first.trim().to_string(), &answer, "the first character, lower-cased,")
        }
        _ => Verdict::equal(first, answer, "the first character"),
    }
}

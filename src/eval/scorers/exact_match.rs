//! Exact match after lower-casing and deleting ASCII punctuation. Source: LLaVA-MORE 2460d39, `gqa.yaml` and `ai2d.yaml`
//! (`exact_match` with ignore_case and ignore_punctuation).

use super::letters;
use super::{Entry, Gold, Rules, Verdict, is_letter};

pub(super) const SCORER: Entry = Entry {
    name: "exact_match",
    version: 2,
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    is_answer: is_letter,
    score,
    ..Entry::PLAIN
};

/// 1 when output and answer agree, else 0.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = gold.answer.first();
    if rules == Rules::VlmEvalKit && !gold.choices.is_empty() {
        return Verdict::letter(letters::vlmevalkit(output, &gold.choices), answer, "VLMEvalKit reads");
    }
    // lmms-eval 0.7.3 takes the letter out of "B. some text" where there are choices.
    let letter = (rules == Rules::LmmsEval && !gold.choices.is_empty()).then(|| letters::before_full_stop(output));
    let letter = letter.flatten().map(|letter| letter.to_string());
    let output = letter.as_deref().unwrap_or(output);
    Verdict::equal(normalized(output), &normalized(answer), "without case and punctuation")
}

fn normalized(text: &str) -> String {
    text.to_lowercase().replace(|c: char| c.is_ascii_punctuation(), "")
}

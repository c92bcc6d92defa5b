//! POPE: yes or no. Source: LLaVA-MORE 2460d39, `pope/utils.py`; the other rules from LLaVA 1.2.2 `eval_pope.py` and
//! VLMEvalKit (nvidia-vlmeval 26.3) `yorn.py`.

use super::vqa_text::without_punctuation;
use super::{Entry, Gold, Rules, Verdict, is_yes_or_no};
use crate::eval::metrics::Metric;
use crate::eval::python::{strip, words};

pub(super) const SCORER: Entry = Entry {
    name: "yes_no",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::Llava, Rules::VlmEvalKit],
    metric: Metric::YesNo,
    is_answer: is_yes_or_no,
    score,
    ..Entry::PLAIN
};

/// 1 when the answers agree. `extracted` is what was read, which may be neither yes nor no.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = strip(gold.answer.first()).to_lowercase();
    match rules {
        Rules::Llava => Verdict::equal(llava(output).to_string(), &answer, "LLaVA's script reads"),
        Rules::VlmEvalKit => Verdict::equal(vlmevalkit(output).to_string(), &answer, "VLMEvalKit reads"),
        _ => Verdict::equal(output.to_lowercase(), &answer, "lower-cased"),
    }
}

/// "no" when the first sentence holds No, not or no, else "yes".
fn llava(output: &str) -> &'static str {
    let sentence = output.split('.').next().unwrap_or_default().replace(',', "");
    if sentence.split(' ').any(|word| ["No", "not", "no"].contains(&word)) { "no" } else { "yes" }
}

/// The one of the two words that is there while the other is not.
pub(super) fn vlmevalkit(output: &str) -> &'static str {
    let plain = without_punctuation(&output.to_lowercase());
    let has = |wanted: &str| words(&plain).any(|word| word == wanted);
    match (has("yes"), has("no")) {
        (true, false) => "yes",
        (false, true) => "no",
        _ => "unknown",
    }
}

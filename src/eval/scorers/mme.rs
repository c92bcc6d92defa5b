//! MME: yes or no, whole or in the first four letters. Source: LLaVA-MORE 2460d39, `mme/utils.py`.

use super::{Entry, Gold, Rules, Verdict, is_yes_or_no, yes_no};
use crate::eval::metrics::Metric;
use crate::eval::python::strip;

pub(super) const SCORER: Entry = Entry {
    name: "mme",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    metric: Metric::Mme,
    is_answer: is_yes_or_no,
    score,
    ..Entry::PLAIN
};

/// 1 when the answers agree.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = plain(gold.answer.first());
    match rules {
        Rules::VlmEvalKit => Verdict::equal(yes_no::vlmevalkit(output).to_string(), &answer, "VLMEvalKit reads"),
        _ => Verdict::equal(read(output).to_string(), &answer, "the beginning reads"),
    }
}

fn plain(text: &str) -> String {
    strip(&text.to_lowercase()).replace('.', "")
}

fn read(output: &str) -> &'static str {
    let output = plain(output);
    let beginning: String = output.chars().take(4).collect();
    match output.as_str() {
        "y" => "yes",
        "n" => "no",
        _ if beginning.contains("yes") => "yes",
        _ if beginning.contains("no") => "no",
        _ => "other",
    }
}

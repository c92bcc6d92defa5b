//! MMMU, multiple choice: a letter in brackets, before a space, before a full stop, or a choice's text; of several the
//! last. Source: LLaVA-MORE 2460d39, `mmmu/utils.py`; where that picks at random, nothing is read here.

use super::letters;
use super::mmmu_open;
use super::{Entry, Gold, Rules, Verdict};
use crate::eval::gold::Choice;
use crate::eval::metrics::Metric;
use crate::eval::python::words;

pub(super) const SCORER: Entry = Entry {
    name: "mmmu",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    metric: Metric::Mmmu,
    differs: &[(Rules::LmmsEval, " (where no letter can be read, it draws one at random; here that counts as wrong)")],
    score: |rules, output, gold| match gold.open {
        true => mmmu_open::score(output, gold),
        false => score(rules, output, gold),
    },
    ..Entry::PLAIN
};

/// 1 for the right letter.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let letter = match rules {
        Rules::VlmEvalKit => letters::vlmevalkit(output, &gold.choices),
        _ => read(output, &gold.choices),
    };
    let answer = gold.answer.all().iter().find(|answer| letter.is_some_and(|l| answer.chars().eq([l])));
    Verdict::letter(letter, answer.map_or(gold.answer.first(), String::as_str), "reads")
}

fn read(output: &str, choices: &[Choice]) -> Option<char> {
    let mut text = output;
    for mark in [',', '.', '!', '?', ';', ':', '\''] {
        text = text.trim_matches(mark);
    }
    let text = format!(" {text} ");
    let with = |before: &str, after: &str| -> Vec<&Choice> {
        choices.iter().filter(|choice| text.contains(&format!("{before}{}{after}", choice.letter))).collect()
    };
    let bracketed = with("(", ")");
    if !bracketed.is_empty() {
        return last(&bracketed, |choice| text.rfind(&format!("({})", choice.letter)));
    }
    // Of several the last, by the letter between spaces; those that stand otherwise count as before the text.
    let spaced = |choice: &Choice| text.rfind(&format!(" {} ", choice.letter));
    for found in [with("", " "), with("", ".")] {
        if !found.is_empty() {
            return last(&found, spaced);
        }
    }
    if words(&text).count() <= 5 {
        return None;
    }
    let text = text.to_lowercase();
    let found: Vec<&Choice> = choices.iter().filter(|choice| text.contains(&choice.text.to_lowercase())).collect();
    last(&found, |choice| text.rfind(&choice.text.to_lowercase()))
}

/// The choice that stands last; the first of those that stand nowhere.
fn last(found: &[&Choice], at: impl Fn(&Choice) -> Option<usize>) -> Option<char> {
    let mut best: Option<(Option<usize>, char)> = None;
    for choice in found {
        let at = at(choice);
        if best.is_none_or(|(before, _)| at > before) {
            best = Some((at, choice.letter));
        }
    }
    best.map(|(_, letter)| letter)
}

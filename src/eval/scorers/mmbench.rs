//! MMBench: a letter that stands alone or in a usual pair of marks, else the only choice whose text is contained.
//! Source: LLaVA-MORE 2460d39, `mmbench/mmbench_evals.py`, its deterministic part (`can_infer`). lmms-eval 0.7.3 has a task
//! that asks no judge, `mmbench_en_dev_static`: what is not read so, is read in any of many forms.

use super::letters;
use super::realworld::in_any_form;
use super::{Entry, Gold, Rules, Verdict};
use crate::eval::metrics::Metric;
use crate::eval::python::words;

pub(super) const SCORER: Entry = Entry {
    name: "mmbench",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    metric: Metric::Circular,
    differs: &[(
        Rules::LmmsEval,
        " (as its task `mmbench_en_dev_static`: no judge is asked, no letter is drawn at random)",
    )],
    score,
    ..Entry::PLAIN
};

const MARKS: [(&str, &str); 12] = [
    ("", "."),
    ("", ","),
    ("", ":"),
    ("", ")"),
    ("", ")."),
    ("(", ")"),
    ("(", ")."),
    (":", ""),
    (":", ","),
    (":", "."),
    (":", ")"),
    (":", ")."),
];

/// 1 for the right letter.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let letter = match rules {
        Rules::VlmEvalKit => letters::vlmevalkit(output, &gold.choices),
        _ => by_letter(output).or_else(|| by_text(output, gold)),
    };
    let letters = || gold.choices.iter().map(|choice| choice.letter).filter(|letter| *letter < 'E').collect::<Vec<_>>();
    let letter = letter.or_else(|| (rules == Rules::LmmsEval).then(|| in_any_form(output, &letters())).flatten());
    Verdict::letter(letter, gold.answer.first(), "reads")
}

/// Letters A to E, whatever choices there are.
fn by_letter(output: &str) -> Option<char> {
    let words: Vec<&str> = words(output).collect();
    let alone = |before: &str, after: &str| {
        let is_there = |letter: &char| words.contains(&format!("{before}{letter}{after}").as_str());
        let mut found = ('A'..='E').filter(is_there);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    };
    // A lone "A" in a longer answer may be the article.
    let letter = alone("", "").filter(|letter| !(*letter == 'A' && words.len() > 3));
    letter.or_else(|| MARKS.iter().find_map(|(before, after)| alone(before, after)))
}

/// The reference looks at the choices A to D.
fn by_text(output: &str, gold: &Gold) -> Option<char> {
    let choices: Vec<_> = gold.choices.iter().filter(|choice| choice.letter < 'E').cloned().collect();
    letters::only_text(output, &choices)
}

//! RealWorldQA: a letter in any of many forms where the answer is one, else equal texts. Source: lmms-eval 0.7.3,
//! `realworldqa/utils.py` and `_task_utils/mcq_extract.py`.

use super::letters;
use super::{Entry, Gold, Rules, Verdict};
use crate::eval::gold::Choice;
use crate::eval::python::strip;

pub(super) const SCORER: Entry = Entry {
    name: "realworld",
    version: 2,
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::VlmEvalKit],
    score,
    ..Entry::PLAIN
};

const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// What answers begin with, in the original's order.
const PHRASES: [&str; 27] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    "\u{c635}\u{c158}",
    "\u{c815}\u{b2f5}\u{c740}",
    "\u{b2f5}\u{c740}",
    "\u{b2f5}:",
    "\u{7b54}\u{6848}\u{662f}",
    "\u{7b54}\u{6848}\u{4e3a}",
    "\u{9009}",
    "\u{7b54}\u{3048}\u{306f}",
];

/// 1 for the right letter or the same text.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = strip(gold.answer.first());
    let upper = answer.to_uppercase();
    if LETTERS.iter().any(|letter| upper.chars().eq([*letter])) {
        let choices = LETTERS.map(|letter| Choice { letter, text: "\u{0}".to_string() });
        let letter = match rules {
            Rules::VlmEvalKit => letters::vlmevalkit(output, &choices),
            _ => in_any_form(output, &LETTERS),
        };
        return Verdict::letter(letter, &upper, "reads");
    }
    let output = output.to_lowercase();
    Verdict::equal(strip(&output).trim_end_matches('.').to_string(), &answer.to_lowercase(), "lower-cased")
}

/// Of all places where one of some letters stands in one of the forms, the surest form; of equals the last.
pub(super) fn in_any_form(output: &str, letters: &[char]) -> Option<char> {
    let mut text = strip(output);
    for mark in [',', '.', '!', '?', ';', ':', '\'', '"'] {
        text = text.trim_matches(mark);
    }
    let stripped = strip(text);
    let text = format!(" {text} ");
    let lower = text.to_lowercase();
    let mut found: Vec<(u32, usize, char)> = Vec::new();
    for &letter in letters {
        let mut form = |sureness: u32, form: String| {
            found.extend(text.rfind(&form).map(|at| (sureness, at, letter)));
        };
        form(6, format!("({letter})"));
        form(5, format!("{letter}."));
        form(4, format!("{letter}:"));
        form(3, format!("{letter})"));
        form(2, format!("{letter} "));
        let after = |phrase: &&str| lower.find(*phrase).map(|at| at + phrase.len());
        for start in PHRASES.iter().filter_map(after) {
            // Lower-casing may move positions in rare scripts; then nothing is read there.
            let place = text.get(start..).and_then(|rest| rest.find(letter));
            found.extend(place.map(|at| (7, start + at, letter)));
        }
        let mut ends = stripped.chars();
        if ends.next() == Some(letter) && !ends.next().is_some_and(char::is_alphabetic) {
            found.push((10, 0, letter));
        }
        let mut ends = stripped.chars().rev();
        if ends.next() == Some(letter) && !ends.next().is_some_and(char::is_alphabetic) {
            found.push((9, text.len(), letter));
        }
    }
    if found.is_empty() {
        found = letters.iter().filter_map(|letter| Some((0, text.rfind(*letter)?, *letter))).collect();
    }
    // The first of equals, as a stable sort leaves it.
    found.into_iter().rev().max_by_key(|(sureness, at, _)| (*sureness, *at)).map(|(_, _, letter)| letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values were printed by lmms-eval 0.7.3.
    #[test]
    fn letters_in_many_forms() {
        let cases = [
            ("B", Some('B')),
            ("The answer is (C).", Some('C')),
            ("A or B? I choose D", Some('A')),
            ("C. the left one, not (A)", Some('C')),
            ("none", None),
            ("xAy", Some('A')),
        ];
        for (output, expected) in cases {
            assert_eq!(in_any_form(output, &LETTERS), expected, "{output}");
        }
    }
}

//! ScienceQA: the letter, or the letter before a full stop. Source: LLaVA-MORE 2460d39, `scienceqa/utils.py`.

use super::letters;
use super::{Entry, Gold, Rules, Verdict, is_letter};

pub(super) const SCORER: Entry = Entry {
    name: "science_qa",
    rules: &[Rules::Reference, Rules::Strict, Rules::LmmsEval, Rules::Llava, Rules::VlmEvalKit],
    is_answer: is_letter,
    score,
    ..Entry::PLAIN
};

/// 1 for the right letter.
fn score(rules: Rules, output: &str, gold: &Gold) -> Verdict {
    let answer = gold.answer.first();
    match rules {
        Rules::VlmEvalKit => Verdict::letter(letters::vlmevalkit(output, &gold.choices), answer, "VLMEvalKit reads"),
        Rules::Llava => Verdict::letter(llava(output), answer, "LLaVA's script reads"),
        _ => {
            // lmms-eval 0.7.3 forgives the case of a lone letter, the fork does not.
            let alone = output == answer || (rules == Rules::LmmsEval && output.eq_ignore_ascii_case(answer));
            let mut chars = output.chars();
            let prefix = chars.next().filter(|c| c.is_uppercase()).filter(|_| chars.next() == Some('.'));
            match (alone, prefix) {
                (true, _) => Verdict::equal(answer.to_string(), answer, "the letter alone,"),
                (false, Some(letter)) => Verdict::equal(letter.to_string(), answer, "the letter before a full stop,"),
                (false, None) => Verdict::equal(output.to_string(), answer, "the whole output,"),
            }
        }
    }
}

/// A letter A to E alone, before ". ", or once after "The answer is ". Source: LLaVA 1.2.2, `eval_science_qa.py`.
fn llava(output: &str) -> Option<char> {
    let first = output.chars().next().filter(|c| ('A'..='E').contains(c));
    if first.is_some() && (output.len() == 1 || output[1..].starts_with(". ")) {
        return first;
    }
    let phrase = "The answer is ";
    let mut found = output.match_indices(phrase).filter_map(|(at, _)| {
        // One more character has to follow, whatever it is but a new line.
        let mut rest = output[at + phrase.len()..].chars();
        let letter = rest.next().filter(char::is_ascii_uppercase)?;
        rest.next().filter(|c| *c != '\n').map(|_| letter)
    });
    let letter = found.next()?;
    found.next().is_none().then_some(letter)
}

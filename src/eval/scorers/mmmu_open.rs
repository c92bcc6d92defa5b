//! MMMU, open questions: the tails of sentences after key phrases and the numbers in them, compared with the normalized
//! gold answers. Source: LLaVA-MORE 2460d39, `mmmu/utils.py`.

use std::sync::LazyLock;

use fancy_regex::Regex;

use super::{Gold, Verdict};
use crate::eval::python::{float, round2, strip};

const KEYS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];

/// A text in lower case, or a number with two decimals.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
}

/// 1 when a gold text is contained in a predicted one or a number is equal.
pub(super) fn score(output: &str, gold: &Gold) -> Verdict {
    let mut predicted: Vec<Value> = Vec::new();
    for tail in tails(output) {
        predicted.extend(normalized(&tail));
        for number in numbers(&tail) {
            predicted.extend(normalized(&number));
        }
    }
    let answers: Vec<Value> = gold.answer.all().iter().flat_map(|answer| normalized(answer)).collect();
    let hit = predicted.iter().find(|value| match value {
        Value::Text(text) => {
            answers.iter().any(|answer| matches!(answer, Value::Text(answer) if text.contains(answer.as_str())))
        }
        Value::Number(_) => answers.contains(value),
    });
    let score = f64::from(u8::from(hit.is_some()));
    let shown: Vec<String> = predicted.iter().map(Value::shown).collect();
    let extracted = hit.or(predicted.first()).map(Value::shown).unwrap_or_default();
    let why = match hit {
        Some(hit) => format!("of {shown:?}, {:?} holds an answer of {:?} -> 1", hit.shown(), gold.answer.all()),
        None => format!("none of {shown:?} holds an answer of {:?} -> 0", gold.answer.all()),
    };
    Verdict { extracted: Some(extracted), score, why }
}

impl Value {
    fn shown(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
        }
    }
}

/// The shortest tail after a key phrase, for each line that has one; the whole text when none has.
fn tails(output: &str) -> Vec<String> {
    let text = strip(output).trim_matches('.').to_lowercase();
    let lines: Vec<&str> = text.split('\n').collect();
    let mut tails = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        // The last line may be an equation.
        let equation = (number + 1 == lines.len()).then_some("=");
        let after = |key: &str| line.rfind(key).map(|at| strip(&line[at + key.len()..]));
        let mut shortest: Option<&str> = None;
        for tail in KEYS.into_iter().chain(equation).filter_map(after) {
            // An empty tail is forgotten as soon as another key phrase is found.
            if shortest.is_none_or(|shortest| shortest.is_empty() || tail.chars().count() < shortest.chars().count()) {
                shortest = Some(tail);
            }
        }
        let trivial = ["", ":", ",", ".", "!", "?", ";", "'"];
        tails.extend(shortest.filter(|tail| !trivial.contains(tail)).map(str::to_string));
    }
    if tails.is_empty() { vec![text] } else { tails }
}

/// A number with two decimals, or the text in lower case; a single character gets a space on either side.
fn normalized(text: &str) -> Vec<Value> {
    let text = strip(text);
    if let Some(number) = float(&text.replace(',', "")) {
        return vec![Value::Number(round2(number))];
    }
    let text = text.to_lowercase();
    match text.chars().count() {
        1 => vec![Value::Text(format!(" {text}")), Value::Text(format!("{text} "))],
        _ => vec![Value::Text(text)],
    }
}

/// Numbers with commas, in scientific notation, and plain ones, in that order.
fn numbers(text: &str) -> Vec<String> {
    static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
        let patterns = [
            r"-?\b\d{1,3}(?:,\d{3})+\b",
            r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
            r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
        ];
        patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
    });
    let found = PATTERNS.iter().flat_map(|pattern| pattern.find_iter(text).flatten());
    found.map(|number| number.as_str().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values were printed by the reference's `extract_numbers` and `get_key_subresponses`.
    #[test]
    fn numbers_and_tails_as_in_the_reference() {
        let got = numbers("between 1,000 and -2.5e3, or 7. then .5 and 12,34 x3");
        assert_eq!(got, ["1,000", "-2.5e3", "000", "-2", "7", ".5", "34", "3"]);
        assert_eq!(tails("So the value is 5.\nThus it is = 7."), ["5.", "7"]);
        assert_eq!(tails("Paris."), ["paris"]);
    }
}

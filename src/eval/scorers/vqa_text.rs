//! How VQA answers are normalized: punctuation, number words, articles, contractions. Source: LLaVA-MORE 2460d39,
//! `_task_utils/vqa_eval_metric.py`, which follows the VQA challenge's evaluation, quirks included.

use crate::eval::python::{strip, words};

/// Contractions without their apostrophes. Entries of the original that hold capitals never match and are left out.
#[rustfmt::skip]
const CONTRACTIONS: &[(&str, &str)] = &[
    ("aint", "ain't"), ("arent", "aren't"), ("cant", "can't"), ("couldve", "could've"), ("couldnt", "couldn't"),
    ("couldn'tve", "couldn't've"), ("couldnt've", "couldn't've"), ("didnt", "didn't"), ("doesnt", "doesn't"),
    ("dont", "don't"), ("hadnt", "hadn't"), ("hadnt've", "hadn't've"), ("hadn'tve", "hadn't've"), ("hasnt", "hasn't"),
    ("havent", "haven't"), ("hed", "he'd"), ("hed've", "he'd've"), ("he'dve", "he'd've"), ("hes", "he's"),
    ("howd", "how'd"), ("howll", "how'll"), ("hows", "how's"), ("isnt", "isn't"), ("itd", "it'd"),
    ("itd've", "it'd've"), ("it'dve", "it'd've"), ("itll", "it'll"), ("maam", "ma'am"), ("mightnt", "mightn't"),
    ("mightnt've", "mightn't've"), ("mightn'tve", "mightn't've"), ("mightve", "might've"), ("mustnt", "mustn't"),
    ("mustve", "must've"), ("neednt", "needn't"), ("notve", "not've"), ("oclock", "o'clock"), ("oughtnt", "oughtn't"),
    ("ow's'at", "'ow's'at"), ("'ows'at", "'ow's'at"), ("'ow'sat", "'ow's'at"), ("shant", "shan't"),
    ("shed've", "she'd've"), ("she'dve", "she'd've"), ("shouldve", "should've"), ("shouldnt", "shouldn't"),
    ("shouldnt've", "shouldn't've"), ("shouldn'tve", "shouldn't've"), ("somebody'd", "somebodyd"),
    ("somebodyd've", "somebody'd've"), ("somebody'dve", "somebody'd've"), ("somebodyll", "somebody'll"),
    ("somebodys", "somebody's"), ("someoned", "someone'd"), ("someoned've", "someone'd've"),
    ("someone'dve", "someone'd've"), ("someonell", "someone'll"), ("someones", "someone's"),
    ("somethingd", "something'd"), ("somethingd've", "something'd've"), ("something'dve", "something'd've"),
    ("somethingll", "something'll"), ("thats", "that's"), ("thered", "there'd"), ("thered've", "there'd've"),
    ("there'dve", "there'd've"), ("therere", "there're"), ("theres", "there's"), ("theyd", "they'd"),
    ("theyd've", "they'd've"), ("they'dve", "they'd've"), ("theyll", "they'll"), ("theyre", "they're"),
    ("theyve", "they've"), ("twas", "'twas"), ("wasnt", "wasn't"), ("wed've", "we'd've"), ("we'dve", "we'd've"),
    ("weve", "we've"), ("werent", "weren't"), ("whatll", "what'll"), ("whatre", "what're"), ("whats", "what's"),
    ("whatve", "what've"), ("whens", "when's"), ("whered", "where'd"), ("wheres", "where's"), ("whereve", "where've"),
    ("whod", "who'd"), ("whod've", "who'd've"), ("who'dve", "who'd've"), ("wholl", "who'll"), ("whos", "who's"),
    ("whove", "who've"), ("whyll", "why'll"), ("whyre", "why're"), ("whys", "why's"), ("wont", "won't"),
    ("wouldve", "would've"), ("wouldnt", "wouldn't"), ("wouldnt've", "wouldn't've"), ("wouldn'tve", "wouldn't've"),
    ("yall", "y'all"), ("yall'll", "y'all'll"), ("y'allll", "y'all'll"), ("yall'd've", "y'all'd've"),
    ("y'alld've", "y'all'd've"), ("y'all'dve", "y'all'd've"), ("youd", "you'd"), ("youd've", "you'd've"),
    ("you'dve", "you'd've"), ("youll", "you'll"), ("youre", "you're"), ("youve", "you've"),
];

const NUMBERS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

const PUNCTUATION: [char; 21] =
    [';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!'];

/// Full stops that are deleted at most: the original hands a flag (32) where the count stands.
const FULL_STOPS: usize = 32;

/// TextVQA, VizWiz, OK-VQA.
pub(super) fn normalized(text: &str) -> String {
    let text = text.to_lowercase().replace([',', '?'], "").replace("'s", " 's");
    words_normalized(&without_punctuation(strip(&strip(&text).replace(['\n', '\t'], " "))))
}

/// VQAv2: commas, question marks and possessives stay for the steps after.
pub(super) fn normalized_v2(text: &str) -> String {
    words_normalized(&without_punctuation(strip(&text.replace(['\n', '\t'], " "))))
}

/// A mark that touches a space anywhere is deleted everywhere, else it becomes a space; with a comma between digits
/// all are deleted. Then full stops that no digit follows.
pub(super) fn without_punctuation(text: &str) -> String {
    let digits_comma = has_digits_comma(text);
    let mut plain = text.to_string();
    for mark in PUNCTUATION {
        if !plain.contains(mark) {
            continue;
        }
        let touches = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        plain = plain.replace(mark, if touches || digits_comma { "" } else { " " });
    }
    let mut result = String::with_capacity(plain.len());
    let mut deleted = 0;
    let mut chars = plain.chars().peekable();
    while let Some(c) = chars.next() {
        let number = chars.peek().is_some_and(char::is_ascii_digit);
        if c == '.' && !number && deleted < FULL_STOPS {
            deleted += 1;
        } else {
            result.push(c);
        }
    }
    result
}

/// A digit, commas, a digit.
fn has_digits_comma(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (1..chars.len()).any(|i| {
        let run = chars[i..].iter().take_while(|c| **c == ',').count();
        run > 0 && chars[i - 1].is_ascii_digit() && chars.get(i + run).is_some_and(char::is_ascii_digit)
    })
}

/// Lower case, number words as digits, no articles, contractions with apostrophes.
fn words_normalized(text: &str) -> String {
    let text = text.to_lowercase();
    let numbered = words(&text).map(|word| match NUMBERS.iter().position(|number| *number == word) {
        Some(number) => number.to_string(),
        None if word == "none" => "0".to_string(),
        None => word.to_string(),
    });
    let kept = numbered.filter(|word| !["a", "an", "the"].contains(&word.as_str()));
    let contracted = kept.map(|word| match CONTRACTIONS.iter().find(|(plain, _)| *plain == word) {
        Some((_, contracted)) => contracted.to_string(),
        None => word,
    });
    contracted.collect::<Vec<_>>().join(" ")
}

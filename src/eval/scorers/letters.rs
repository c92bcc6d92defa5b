//! Ways other tools read a choice's letter out of an output.

use crate::eval::gold::Choice;
use crate::eval::python::words;

/// The letter of "B. some text". Source: lmms-eval 0.7.3, `ai2d/utils.py`.
pub(super) fn before_full_stop(output: &str) -> Option<char> {
    let mut chars = output.chars();
    let letter = chars.next().filter(char::is_ascii_uppercase)?;
    (chars.next() == Some('.')).then_some(letter)
}

/// The only letter that stands alone, else the only choice whose text is contained. Source: VLMEvalKit
/// (nvidia-vlmeval 26.3), `matching_util.py`, without its call of a language model.
pub(super) fn vlmevalkit(output: &str, choices: &[Choice]) -> Option<char> {
    let plain = output.replace(['.', '(', ')', '[', ']', ',', ':', ';', '!', '*', '#', '{', '}'], " ");
    let is_word = |letter: char| words(&plain).any(|word| word.chars().eq([letter]));
    let alone: Vec<char> = choices.iter().map(|choice| choice.letter).filter(|letter| is_word(*letter)).collect();
    match alone[..] {
        [letter] => Some(letter),
        _ => only_text(output, choices),
    }
}

/// The only choice whose text, in lower case, is contained in the output.
pub(super) fn only_text(output: &str, choices: &[Choice]) -> Option<char> {
    let output = output.to_lowercase();
    let mut contained = choices.iter().filter(|choice| output.contains(&choice.text.to_lowercase()));
    let first = contained.next()?;
    contained.next().is_none().then_some(first.letter)
}

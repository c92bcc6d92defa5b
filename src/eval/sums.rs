//! A sum at the end of each line of a file, `"sum":"..."`: a hash of the line without it. A byte that changed since the line
//! was written is found when it is read.

use sha2::{Digest, Sha256};

const BEFORE: &[u8] = b",\"sum\":\"";
const AFTER: &[u8] = b"\"}";
/// Digits of a sum.
const DIGITS: usize = 16;

/// What a line's sum says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    Right,
    Wrong,
    /// It has none: an older version or another program wrote it.
    None,
}

/// Puts the sum into the JSON object that begins at `start` and is all of the text from there on.
pub(super) fn add(text: &mut Vec<u8>, start: usize) {
    let sum = of(&text[start..]);
    text.pop();
    text.extend_from_slice(BEFORE);
    text.extend_from_slice(sum.as_bytes());
    text.extend_from_slice(AFTER);
}

/// Compares a line with its sum.
pub(super) fn look(line: &[u8]) -> Sum {
    let found = line.strip_suffix(AFTER).and_then(|line| line.split_at_checked(line.len().checked_sub(DIGITS)?));
    let Some((object, sum)) = found.and_then(|(rest, sum)| Some((rest.strip_suffix(BEFORE)?, sum))) else {
        return Sum::None;
    };
    match of(&[object, b"}"].concat()).as_bytes() == sum {
        true => Sum::Right,
        false => Sum::Wrong,
    }
}

fn of(object: &[u8]) -> String {
    let mut sum = format!("{:x}", Sha256::digest(object));
    sum.truncate(DIGITS);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_makes_a_sum_wrong_or_no_sum() {
        let mut line = br#"{"id":"1","output":"cat"}"#.to_vec();
        assert_eq!(look(&line), Sum::None);
        let mut text = b"before\n".to_vec();
        text.extend(&line);
        add(&mut text, 7);
        add(&mut line, 0);
        assert_eq!((&text[7..], look(&line)), (&line[..], Sum::Right));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((&value["id"], value["sum"].as_str().map(str::len)), (&"1".into(), Some(DIGITS)));
        for place in 0..line.len() {
            for bit in [1, 2, 64] {
                let mut other = line.clone();
                other[place] ^= bit;
                assert_ne!(look(&other), Sum::Right, "byte {place}");
            }
        }
    }
}

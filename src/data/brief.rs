//! What is known of a sample without reading it again, and the reference's measure of its length.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::sample::Sample;
use crate::text::Role;

const EMPTY_ANSWER: u8 = 1;
const UNSUPERVISED: u8 = 2;
const UNKNOWN_ROLE: u8 = 4;

/// What is known of a sample without reading it again: 16 bytes, so that millions of them fit anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// A hash of the id; equal ids have equal hashes.
    pub id: u64,
    /// Words of all turns, markers included: the length by which the reference groups samples.
    pub words: u32,
    /// Bytes of all turns in units of [`Brief::BYTES`]: what words do not tell of texts without spaces.
    size: u16,
    /// How many pictures; 255 stands for all that are more.
    pub images: u8,
    flags: u8,
}

impl Brief {
    /// The facts of a sample in memory.
    pub fn of(sample: &Sample) -> Self {
        let turns = sample.turns.iter().map(|turn| (Some(turn.role), turn.value.as_str(), turn.supervised));
        Brief::from_parts(&sample.id, sample.images.len(), turns)
    }

    /// The facts of a conversation: for each turn who speaks (`None`: somebody unknown), what, and whether it is learned.
    pub(super) fn from_parts<'a>(
        id: &str,
        images: usize,
        turns: impl Iterator<Item = (Option<Role>, &'a str, bool)>,
    ) -> Self {
        let (mut asked, mut learned, mut hidden) = (false, false, false);
        let mut brief = Brief { id: id_hash(id), words: 0, size: 0, images: images.min(255) as u8, flags: 0 };
        let mut bytes = 0;
        for (role, value, supervised) in turns {
            brief.words = brief.words.saturating_add(words(value) as u32);
            bytes += value.len();
            brief.set(UNKNOWN_ROLE, role.is_none());
            asked |= role == Some(Role::Human);
            if role == Some(Role::Gpt) {
                brief.set(EMPTY_ANSWER, is_blank(value));
                // An answer before the first question is dropped.
                learned |= supervised && asked;
                hidden |= !supervised;
            }
        }
        brief.set(UNSUPERVISED, hidden && !learned);
        brief.size = bytes.div_ceil(Brief::BYTES).min(usize::from(u16::MAX)) as u16;
        brief
    }

    /// The unit in which the size of the text is kept.
    const BYTES: usize = 16;

    fn set(&mut self, flag: u8, is_so: bool) {
        self.flags |= if is_so { flag } else { 0 };
    }

    /// Bytes of all turns, rounded up; at most a megabyte.
    pub fn bytes(&self) -> usize {
        usize::from(self.size) * Brief::BYTES
    }

    /// Whether an answer has no text; training skips such a sample.
    pub fn empty_answer(&self) -> bool {
        self.flags & EMPTY_ANSWER != 0
    }

    /// Whether no answer is to be learned; training skips such a sample, too.
    pub fn unsupervised(&self) -> bool {
        self.flags & UNSUPERVISED != 0
    }

    /// Whether a turn is from somebody unknown.
    pub fn unknown_role(&self) -> bool {
        self.flags & UNKNOWN_ROLE != 0
    }

    /// The same with this many pictures.
    pub(super) fn with_images(self, images: usize) -> Self {
        Brief { images: images.min(255) as u8, ..self }
    }

    /// Whether there is a picture.
    pub fn has_image(&self) -> bool {
        self.images > 0
    }

    /// Why training leaves the sample out, if it does.
    pub fn skipped(&self) -> Option<&'static str> {
        match (self.empty_answer(), self.unsupervised()) {
            (true, _) => Some("an empty answer"),
            (false, true) => Some("no answer that is to be learned"),
            (false, false) => None,
        }
    }
}

/// The hash of an id in a [`Brief`].
pub(super) fn id_hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Whether a turn has no text.
pub(super) fn is_blank(text: &str) -> bool {
    text.chars().all(is_space)
}

/// The number of words as Python's `str.split` counts them, which is how the reference measures length.
fn words(text: &str) -> usize {
    if text.is_ascii() {
        // What is_space takes of ASCII; bytes are several times faster than characters.
        let space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | 0x1c..=b' ');
        let begins = text.as_bytes().windows(2).filter(|pair| space(&pair[0]) && !space(&pair[1])).count();
        return begins + usize::from(text.as_bytes().first().is_some_and(|byte| !space(byte)));
    }
    let mut inside = false;
    let begins = |c: char| {
        let before = std::mem::replace(&mut inside, !is_space(c));
        inside && !before
    };
    text.chars().map(begins).filter(|begins| *begins).count()
}

/// White space as Python has it: the separators U+001C to U+001F count.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_python() {
        // len("a\x1cb\u00a0c  d\n".split()) == 4 and len("   ".split()) == 0
        assert_eq!(words("a\u{1c}b\u{a0}c  d\n"), 4);
        assert_eq!(words("   "), 0);
        assert_eq!(words("a\u{1c}b\u{1f}c\x0bd \x0c"), 4);
        assert_eq!(words("\u{7f}"), 1);
        assert_eq!(words("<image>\nWhat is it?"), 4);
    }

    #[test]
    fn a_sample_of_which_nothing_is_learned_is_known_by_its_brief() {
        let brief = |turns: &[(Role, bool)]| {
            let turns = turns.iter().map(|(role, supervised)| (Some(*role), "a", *supervised));
            Brief::from_parts("x", 0, turns).unsupervised()
        };
        let (human, gpt) = (Role::Human, Role::Gpt);
        assert!(brief(&[(human, true), (gpt, false)]));
        assert!(brief(&[(gpt, true), (human, true), (gpt, false)]), "an answer before the first question counts not");
        assert!(!brief(&[(human, true), (gpt, false), (human, true), (gpt, true)]));
        assert!(!brief(&[(human, true)]), "this is the template's to refuse");
    }
}

//! One record of a data set as files hold it: `{id, image?, conversations: [{from, value}]}`. Brief facts are taken
//! without copying a text; a `Sample` is made when somebody asks for it.
//! Source: LLaVA-MORE 2460d39, `docs/Finetune_Custom_Data.md` and `train.py`.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::sample::{ImageSource, Sample};
use crate::error;
use crate::error::Result;
use crate::text::{Role, Turn};

/// What is known of a sample without reading it again: 16 bytes, so that millions of them fit anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief {
    /// A hash of the id; equal ids have equal hashes.
    pub id: u64,
    /// Words of all turns, markers included: the length by which the reference groups samples.
    pub words: u32,
    /// Whether there is a picture.
    pub image: bool,
    /// Whether an answer has no text; training skips such a sample.
    pub empty_answer: bool,
    /// Whether a turn is from somebody else than `human` and `gpt`.
    pub unknown_role: bool,
}

impl Brief {
    /// The facts of a sample in memory.
    pub fn of(sample: &Sample) -> Self {
        let turns = sample.turns.iter().map(|turn| (turn.role.name(), turn.value.as_str()));
        Brief::from_parts(&sample.id, sample.image.is_some(), turns)
    }

    fn from_parts<'a>(id: &str, image: bool, turns: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut brief = Brief { id: id_hash(id), words: 0, image, empty_answer: false, unknown_role: false };
        for (from, value) in turns {
            brief.words = brief.words.saturating_add(words(value) as u32);
            brief.unknown_role |= role(from).is_none();
            brief.empty_answer |= from == Role::Gpt.name() && is_blank(value);
        }
        brief
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

fn role(from: &str) -> Option<Role> {
    [Role::Human, Role::Gpt].into_iter().find(|role| role.name() == from)
}

/// A record whose texts are still those of the file where they need no unescaping.
#[derive(Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    id: Id<'a>,
    #[serde(default)]
    image: Option<String>,
    #[serde(borrow)]
    conversations: Vec<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    /// `null` in some published files: an answer without text.
    #[serde(borrow, default, deserialize_with = "nullable")]
    value: Cow<'a, str>,
}

impl<'a> Record<'a> {
    /// A record from the fields of a table's row: `conversations` as a list of structs.
    pub(super) fn from_row(id: String, conversations: &'a Value) -> serde_json::Result<Self> {
        Ok(Record { id: Id(id.into()), image: None, conversations: Vec::deserialize(conversations)? })
    }

    /// Its facts.
    pub(super) fn brief(&self) -> Brief {
        let turns = self.conversations.iter().map(|message| (&*message.from, &*message.value));
        Brief::from_parts(&self.id.0, self.image.is_some(), turns)
    }

    /// The sample; `picture` says where a picture of that name is.
    ///
    /// # Errors
    /// `Data`, naming the sample, when a turn is from somebody unknown.
    pub(super) fn sample(self, picture: impl FnOnce(&str) -> ImageSource) -> Result<Sample> {
        let image = self.image.as_deref().map(picture);
        self.with_image(image)
    }

    /// The sample with a picture that the record itself does not name.
    pub(super) fn with_image(self, image: Option<ImageSource>) -> Result<Sample> {
        let id = self.id.0.into_owned();
        let mut turns = Vec::with_capacity(self.conversations.len());
        for (number, message) in self.conversations.into_iter().enumerate() {
            let Some(role) = role(&message.from) else {
                return Err(error!(Data, "sample `{id}`: turn {} is from `{}`", number + 1, message.from)
                    .help("turns are from `human` or `gpt`"));
            };
            turns.push(Turn { role, value: message.value.into_owned() });
        }
        Ok(Sample { id, image, turns })
    }
}

/// A string or a number; published files have both.
struct Id<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Text { what: "a string or a number" }).and_then(|text| match text {
            Some(text) => Ok(Id(text)),
            None => Err(D::Error::custom("`id` is null")),
        })
    }
}

fn nullable<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Cow<'a, str>, D::Error> {
    Ok(deserializer.deserialize_any(Text { what: "a string" })?.unwrap_or_default())
}

/// Text or nothing; numbers become their text.
struct Text {
    what: &'static str,
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_string())))
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<Self::Value, E> {
        Ok(Some(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Self::Value, E> {
        Ok(Some(Cow::Owned(serde_json::Value::from(number).to_string())))
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brief(text: &str) -> Brief {
        serde_json::from_str::<Record>(text).unwrap().brief()
    }

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
    fn a_record_says_what_it_lacks() {
        let one = brief(
            r#"{"id": 7, "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nx"},
                {"from": "gpt", "value": null}], "model": "unused"}"#,
        );
        assert_eq!((one.words, one.image, one.empty_answer, one.unknown_role), (2, true, true, false));
        assert_eq!(one.id, id_hash("7"));
        let other = brief(r#"{"id": "7", "image": null, "conversations": [{"from": "user", "value": ""}]}"#);
        assert_eq!((other.words, other.image, other.empty_answer, other.unknown_role), (0, false, false, true));
        assert_eq!(other.id, one.id);
    }

    #[test]
    fn a_record_becomes_a_sample_or_an_error_that_names_it() {
        let text = r#"{"id": 1.5, "image": "a\/b.jpg", "conversations": [{"from": "human", "value": "caf\u00e9"}]}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let sample = record.sample(|name| ImageSource::File(name.into())).unwrap();
        assert_eq!((sample.id.as_str(), sample.turns[0].value.as_str()), ("1.5", "caf\u{e9}"));
        assert_eq!(sample.image.unwrap().key(), "a/b.jpg");

        let text = r#"{"id": "x", "conversations": [{"from": "human", "value": "a"}, {"from": "bot", "value": "b"}]}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        let error = record.sample(|_| unreachable!()).err().unwrap().to_string();
        assert!(error.contains("sample `x`: turn 2 is from `bot`"), "{error}");
    }
}

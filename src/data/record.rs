//! One record of a data set as files hold it: `{id?, image?, conversations: [{from, value}]}`, or `images` and `messages`,
//! with `system` beside the turns. Brief facts are taken without copying a text; a `Sample` is made when somebody asks
//! for it. A record without an id is known by its position.
//! Source: LLaVA-MORE 2460d39, `docs/Finetune_Custom_Data.md` and `train.py`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::brief::{Brief, is_blank};
use super::flags;
use super::image_source::ImageSource;
use super::message::{Message, Nullable, Text, Turns};
use super::sample::Sample;
use crate::error;
use crate::error::Result;
use crate::text::{Role, Turn};

/// Where the turns are, in the order in which they are looked for.
pub(super) const CONVERSATIONS: [&str; 2] = ["conversations", "messages"];
/// Where the pictures are.
pub(super) const IMAGES: [&str; 2] = ["image", "images"];
/// Where a system text is.
pub(super) const SYSTEM: [&str; 3] = ["system", "system_prompt", "system_message"];
/// Flags of a whole sample, or of its turns in a list.
pub(super) const FLAGS: [&str; 6] = ["weight", "loss_weight", "sample_weight", "loss_scale", "loss_mask", "train"];
/// Keys of published files that say nothing about training: `model` is who wrote the answers.
const HARMLESS: [&str; 1] = ["model"];

/// A record whose texts are still those of the file where they need no unescaping.
pub(super) struct Record<'a> {
    id: Option<Cow<'a, str>>,
    images: Vec<Cow<'a, str>>,
    system: Option<Cow<'a, str>>,
    turns: Vec<Message<'a>>,
    unread: Vec<String>,
}

impl<'a> Record<'a> {
    /// A record from the fields of a table's row, which names its pictures apart.
    pub(super) fn from_row(id: Option<String>, system: Option<&'a str>, turns: &'a Value) -> serde_json::Result<Self> {
        let Turns(turns) = Turns::deserialize(turns)?;
        let record = Record {
            id: id.map(Cow::Owned),
            images: Vec::new(),
            system: system.map(Cow::Borrowed),
            turns,
            unread: Vec::new(),
        };
        record.checked()
    }

    /// The record with the pictures that its turns name, and one system text.
    fn checked<E: serde::de::Error>(mut self) -> std::result::Result<Self, E> {
        let named: Vec<_> = self.turns.iter_mut().flat_map(|turn| std::mem::take(&mut turn.images)).collect();
        if !named.is_empty() {
            if !self.images.is_empty() {
                return Err(E::custom("pictures are named beside the turns and inside them"));
            }
            self.images = named;
        }
        self.system = self.system.filter(|text| !is_blank(text));
        let told = self.turns.first().is_some_and(|turn| turn.role == Some(Role::System));
        if told && is_blank(&self.turns[0].value) {
            self.turns.remove(0);
        } else if told && self.system.is_some() {
            return Err(E::custom("`system` stands beside the turns and inside them"));
        }
        Ok(self)
    }

    /// Takes a flag of the whole sample, or a list of one for each turn.
    ///
    /// # Errors
    /// A sentence for what is neither.
    pub(super) fn take_flag(&mut self, key: &str, value: &Value) -> std::result::Result<(), String> {
        let values = match value {
            Value::Array(list) if list.len() == self.turns.len() => list.clone(),
            Value::Array(list) => {
                return Err(format!("`{key}` lists {} values for {} turns", list.len(), self.turns.len()));
            }
            value => vec![value.clone(); self.turns.len()],
        };
        for (turn, value) in self.turns.iter_mut().zip(&values) {
            let says = flags::read(key, value).map_err(|_| {
                format!(
                    "`{key}` of the sample is {value}: a sample is learned whole or not at all (true, false, 1 or 0)"
                )
            })?;
            // Questions are never learned, whatever their flag.
            turn.supervised &= says.unwrap_or(true) || turn.role != Some(Role::Gpt);
        }
        Ok(())
    }

    /// Its facts; `number` is its position.
    pub(super) fn brief(&self, number: usize) -> Brief {
        let system = self.system.as_deref().map(|text| (Some(Role::System), text, true));
        let turns = self.turns.iter().map(|turn| (turn.role, &*turn.value, turn.supervised));
        let id = self.id.as_deref().map_or_else(|| number.to_string().into(), Cow::Borrowed);
        Brief::from_parts(&id, self.images.len(), system.into_iter().chain(turns))
    }

    /// Keys that nothing reads, those of turns named as such.
    pub(super) fn unread(self) -> Vec<String> {
        let of_turn = |key: String| format!("`{key}` of a turn");
        let turns = self.turns.into_iter().flat_map(|turn| turn.unread).map(of_turn);
        let mut keys: Vec<String> = self.unread.iter().map(|key| format!("`{key}`")).chain(turns).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The sample; `picture` says where a picture of that name is.
    ///
    /// # Errors
    /// `Data`, naming the sample, when a turn is from somebody unknown.
    pub(super) fn sample(self, number: usize, picture: impl Fn(&str) -> ImageSource) -> Result<Sample> {
        let images = self.images.iter().map(|name| picture(name)).collect();
        self.with_images(number, images)
    }

    /// Names of pictures that stand in the record.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|name| &**name)
    }

    /// The sample with pictures that the record itself does not name.
    pub(super) fn with_images(self, number: usize, images: Vec<ImageSource>) -> Result<Sample> {
        let id = self.id.map_or_else(|| number.to_string(), Cow::into_owned);
        let mut turns = Vec::with_capacity(self.turns.len() + 1);
        turns.extend(self.system.map(|text| Turn::of(Role::System, text)));
        for (number, message) in self.turns.into_iter().enumerate() {
            let Some(role) = message.role else {
                return Err(error!(Data, "sample `{id}`: turn {} is from `{}`", number + 1, message.from)
                    .help("turns are from `human` or `gpt`"));
            };
            turns.push(Turn { role, value: message.value.into_owned(), supervised: message.supervised });
        }
        Ok(Sample { id, images, turns })
    }
}

/// Whether a key of a record is used, or known to say nothing.
pub(super) fn is_known(key: &str) -> bool {
    key == "id" || [&CONVERSATIONS[..], &IMAGES, &SYSTEM, &FLAGS, &HARMLESS].iter().any(|keys| keys.contains(&key))
}

impl<'de: 'a, 'a> Deserialize<'de> for Record<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Record<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a record `{ image, conversations }`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut id, mut system, mut turns) = (None, None, [None, None]);
        let mut images: [Option<Vec<Cow<'de, str>>>; 2] = [None, None];
        let (mut unread, mut flags) = (Vec::new(), Vec::new());
        while let Some(Text(key)) = map.next_key()? {
            let place = |keys: &[&str]| keys.iter().position(|known| *known == key);
            if key == "id" {
                put(&mut id, "id", map.next_value::<Nullable>()?)?;
            } else if let Some(place) = place(&CONVERSATIONS) {
                put(&mut turns[place], CONVERSATIONS[place], map.next_value::<Option<Turns>>()?)?;
            } else if let Some(place) = place(&IMAGES) {
                put(&mut images[place], IMAGES[place], map.next_value::<Names>()?.0)?;
            } else if place(&SYSTEM).is_some() {
                put(&mut system, "system", map.next_value::<Nullable>()?)?;
            } else if place(&FLAGS).is_some() {
                flags.push((key, map.next_value::<Value>()?));
            } else {
                map.next_value::<IgnoredAny>()?;
                if !is_known(&key) {
                    unread.push(key.into_owned());
                }
            }
        }
        let [single, several] = images.map(Option::unwrap_or_default);
        if !single.is_empty() && !several.is_empty() && single != several {
            return Err(A::Error::custom("`image` and `images` name different pictures"));
        }
        let named = turns.iter().any(Option::is_some);
        let Some(Turns(turns)) = turns.into_iter().flatten().flatten().next() else {
            return Err(match named {
                true => A::Error::custom("`conversations` is null"),
                false => A::Error::missing_field("conversations"),
            });
        };
        let mut record = Record {
            id: id.and_then(|Nullable(id)| id),
            images: if single.is_empty() { several } else { single },
            system: system.and_then(|Nullable(text)| text),
            turns,
            unread,
        };
        for (key, value) in &flags {
            record.take_flag(key, value).map_err(A::Error::custom)?;
        }
        record.checked()
    }
}

/// Takes a value that may be there once.
fn put<T, E: serde::de::Error>(place: &mut Option<T>, key: &'static str, value: T) -> std::result::Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(key)),
    }
}

/// Names of pictures: one, a list, or none (null and the empty text say so in published files).
struct Names<'a>(Vec<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Shapes).map(Names)
    }
}

struct Shapes;

impl<'de> Visitor<'de> for Shapes {
    type Value = Vec<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a picture's path or a list of them")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> std::result::Result<Self::Value, E> {
        Ok(if is_blank(name) { Vec::new() } else { vec![Cow::Borrowed(name)] })
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<Self::Value, E> {
        Ok(if is_blank(name) { Vec::new() } else { vec![Cow::Owned(name.to_string())] })
    }

    fn visit_unit<E>(self) -> std::result::Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(Names(more)) = list.next_element()? {
            names.extend(more);
        }
        Ok(names)
    }

    /// A picture as `datasets` writes it into JSON.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let (mut path, mut bytes) = (None, false);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "path" => path = map.next_value::<Nullable>()?.0,
                "bytes" => bytes = map.next_value::<Option<IgnoredAny>>()?.is_some(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        match path {
            Some(path) if !bytes => Ok(vec![path]),
            None if !bytes => Ok(Vec::new()),
            _ => Err(A::Error::custom("a picture's bytes in JSON are not read; write parquet, or a file and its path")),
        }
    }
}

#[cfg(test)]
mod tests;

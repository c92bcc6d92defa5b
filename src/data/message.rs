//! The turns of a record as files have them: `{from, value}` or `{role, content}`, as a list, as a struct of lists (what
//! `datasets` makes of a `Sequence`), or as JSON in a text. Texts stay those of the file where they need no unescaping.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::flags;
use crate::text::{IMAGE_MARKER, Role};

/// One turn.
pub(super) struct Message<'a> {
    /// The word of the file.
    pub from: Cow<'a, str>,
    /// Who that is, if it is known.
    pub role: Option<Role>,
    pub value: Cow<'a, str>,
    pub supervised: bool,
    /// Pictures that parts of the turn name.
    pub images: Vec<Cow<'a, str>>,
    /// Keys that nothing reads.
    pub unread: Vec<String>,
}

/// All turns of a record.
pub(super) struct Turns<'a>(pub Vec<Message<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Turns<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shapes;

        impl<'de> Visitor<'de> for Shapes {
            type Value = Turns<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of turns")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut turns = Vec::with_capacity(list.size_hint().unwrap_or(2));
                while let Some(turn) = list.next_element::<Message>()? {
                    turns.push(turn);
                }
                Ok(Turns(turns))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut lists: A) -> Result<Self::Value, A::Error> {
                let mut turns: Vec<Map<String, Value>> = Vec::new();
                while let Some((key, values)) = lists.next_entry::<String, Option<Vec<Value>>>()? {
                    let Some(values) = values else { continue };
                    if !turns.is_empty() && turns.len() != values.len() {
                        let (are, were) = (values.len(), turns.len());
                        return Err(A::Error::custom(format!("`{key}` lists {are} values for {were} turns")));
                    }
                    turns.resize_with(values.len(), Map::new);
                    turns.iter_mut().zip(values).for_each(|(turn, value)| drop(turn.insert(key.clone(), value)));
                }
                let turn = |turn| Message::deserialize(Value::Object(turn)).map_err(A::Error::custom);
                turns.into_iter().map(turn).collect::<Result<_, _>>().map(Turns)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if !text.trim_start().starts_with(['[', '{']) {
                    let start: String = text.chars().take(40).collect();
                    return Err(E::invalid_type(Unexpected::Str(&start), &self));
                }
                let value: Value = serde_json::from_str(text)
                    .map_err(|error| E::custom(format!("turns in a text that is no whole JSON: {error}")))?;
                Turns::deserialize(value).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Shapes)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a turn `{ from, value }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut from, mut role, mut content) = (None, None, None);
                let (mut supervised, mut flag): (Option<bool>, Option<String>) = (None, None);
                let mut unread = Vec::new();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "from" if from.is_none() => from = map.next_value::<Nullable>()?.0,
                        "role" if role.is_none() => role = map.next_value::<Nullable>()?.0,
                        // Where a table has both, one of them is null.
                        "value" | "content" => {
                            let found = map.next_value::<Content>()?;
                            if found.given || content.is_none() {
                                content = Some(found);
                            }
                        }
                        name if flags::is_one(name) => {
                            let says = flags::read(name, &map.next_value()?).map_err(A::Error::custom)?;
                            if supervised.is_some() && says.is_some() && supervised != says {
                                let other = flag.unwrap_or_default();
                                let told = format!("`{other}` and `{name}` of a turn say the opposite of each other");
                                return Err(A::Error::custom(told));
                            }
                            (supervised, flag) = (says.or(supervised), Some(name.to_string()));
                        }
                        name => {
                            unread.push(name.to_string());
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let (from, role, content) = match (from, role) {
                    (Some(from), _) => {
                        let role = Role::of(&from);
                        (from, role, content.unwrap_or_default())
                    }
                    (None, Some(word)) => {
                        let role = role_of(&word);
                        (word, role, content.ok_or_else(|| A::Error::missing_field("content"))?)
                    }
                    (None, None) => return Err(A::Error::missing_field("from")),
                };
                // A question is never learned.
                if let (Some(true), Some(Role::Human | Role::System), Some(flag)) = (supervised, role, flag) {
                    unread.push(flag);
                }
                let Content { text, images, .. } = content;
                Ok(Message { from, role, value: text, supervised: supervised.unwrap_or(true), images, unread })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// The words of `role`, as chat formats have them.
fn role_of(word: &str) -> Option<Role> {
    match word {
        "user" => Some(Role::Human),
        "assistant" => Some(Role::Gpt),
        _ => Role::of(word),
    }
}

/// What is said: a text, or a list of parts.
#[derive(Default)]
struct Content<'a> {
    text: Cow<'a, str>,
    images: Vec<Cow<'a, str>>,
    /// It was not null.
    given: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = Content<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let (mut text, mut images) = (String::new(), Vec::new());
                while let Some(part) = list.next_element::<Value>()? {
                    let image = add_part(&mut text, &part).map_err(A::Error::custom)?;
                    images.extend(image.map(Cow::Owned));
                }
                Ok(Content { text: text.into(), images, given: true })
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content { text: text.into(), images: Vec::new(), given: true })
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content { text: text.to_string().into(), images: Vec::new(), given: true })
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self::Value, E> {
                self.visit_str(&Value::from(number).to_string())
            }

            /// `null` in some published files: an answer without text.
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Content::default())
            }
        }
        deserializer.deserialize_any(Parts)
    }
}

/// Adds a part to the text of its turn, a picture as a marker; gives the picture's name where the part has one.
fn add_part(text: &mut String, part: &Value) -> Result<Option<String>, String> {
    let named = |key: &str| part.get(key).filter(|value| !value.is_null());
    let kind = named("type").and_then(Value::as_str).unwrap_or("text");
    match (part, kind) {
        (Value::String(words), _) => text.push_str(words),
        (Value::Object(_), "text") => match named("text").and_then(Value::as_str) {
            Some(words) => text.push_str(words),
            None => return Err(format!("a part of a turn has no `text`: {part}")),
        },
        (Value::Object(_), "image" | "image_url") => {
            text.push_str(IMAGE_MARKER);
            let place = ["image", "image_url", "path", "url"].into_iter().find_map(named);
            return match place.map(|place| place.get("url").or(place.get("path")).unwrap_or(place)) {
                None => Ok(None),
                Some(Value::String(name)) if !name.starts_with("data:") => Ok(Some(name.clone())),
                Some(_) => Err("a picture inside a part of a turn is not read; name its file".to_string()),
            };
        }
        _ => return Err(format!("a part of a turn is neither text nor picture: {part}")),
    }
    Ok(None)
}

/// A text; numbers become their text.
pub(super) struct Text<'a>(pub Cow<'a, str>);

/// A text or null.
pub(super) struct Nullable<'a>(pub Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Nullable(text) = Nullable::deserialize(deserializer)?;
        text.map(Text).ok_or_else(|| D::Error::custom("null, expected a string"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Nullable<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl<'de> Visitor<'de> for Scalar {
            type Value = Option<Cow<'de, str>>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Some(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(text.to_string())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(number.to_string())))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(number.to_string())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Some(Cow::Owned(Value::from(number).to_string())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
        }
        deserializer.deserialize_any(Scalar).map(Nullable)
    }
}

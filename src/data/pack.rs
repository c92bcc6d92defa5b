//! The embedded data: pictures and questions in one safetensors file (`stdlib/data/README.md` says how they were
//! made), and the samples that are made of them.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use safetensors::SafeTensors;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::image_source::{ImageSource, Picture};
use super::items::Items;
use super::sample::Sample;
use crate::assets;
use crate::error::Result;
use crate::text::Turn;
use crate::{bail, error};

/// A pack: pictures as encoded bytes, and either captions or questions with answers.
pub struct Pack {
    name: String,
    bytes: &'static [u8],
    images: &'static [u8],
    offsets: Vec<usize>,
    /// One per picture, or none.
    captions: Vec<String>,
    /// What kind of thing each picture shows, or none.
    groups: Vec<String>,
    /// (question, answer) of every picture in file order.
    questions: Vec<Vec<(String, String)>>,
}

/// What a preset makes of a pack.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PackItems {
    /// "describe the image" and the caption; for question packs the caption their answers add up to.
    Captions,
    /// All questions of a picture in one conversation.
    Conversations,
}

impl Pack {
    /// Opens `embedded:data/x.safetensors`.
    pub fn open(source: &str) -> Result<Arc<Self>> {
        let Some(path) = source.strip_prefix("embedded:") else {
            bail!(Missing, "`{source}` is not an embedded pack");
        };
        let bytes = assets::embedded(path).ok_or_else(|| error!(Missing, "no embedded pack `{path}`"))?;
        let broken = |error: &dyn std::fmt::Display| error!(Decode, "embedded pack `{path}`: {error}");
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| broken(&error))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| broken(&error))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let data = |name: &str| tensors.tensor(name).map(|view| view.data()).map_err(|error| broken(&error));
        let list = |key: &str| -> Result<Vec<String>> {
            metadata.get(key).map_or(Ok(Vec::new()), |text| serde_json::from_str(text).map_err(|error| broken(&error)))
        };
        let offsets: Vec<usize> = integers(data("offsets")?).collect();
        let (texts, answers) = (list("questions")?, list("answers")?);
        let mut questions = vec![Vec::new(); offsets.len().saturating_sub(1)];
        if !texts.is_empty() {
            let images: Vec<usize> = integers(data("image")?).collect();
            for ((&question, &answer), image) in data("question")?.iter().zip(data("answer")?).zip(images) {
                let pair = texts.get(usize::from(question)).zip(answers.get(usize::from(answer)));
                match (pair, questions.get_mut(image)) {
                    (Some((question, answer)), Some(of)) => of.push((question.clone(), answer.clone())),
                    _ => return Err(broken(&"an index is out of range")),
                }
            }
        }
        let name = path.trim_start_matches("data/").trim_end_matches(".safetensors").to_string();
        Ok(Arc::new(Pack {
            name,
            bytes,
            images: data("images")?,
            offsets,
            captions: list("captions")?,
            groups: list("groups")?,
            questions,
        }))
    }

    /// The file's stem: `easy-vqa-test`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The encoded bytes of a picture.
    pub fn image(&self, index: usize) -> Result<&'static [u8]> {
        let range = self.offsets.get(index).zip(self.offsets.get(index + 1));
        range
            .and_then(|(&start, &end)| self.images.get(start..end))
            .ok_or_else(|| error!(Data, "pack `{}` has {} pictures, there is no number {index}", self.name, self.len()))
    }

    /// Picture `index`.
    pub fn picture(self: &Arc<Self>, index: usize) -> ImageSource {
        ImageSource::new(PackPicture { pack: self.clone(), index })
    }

    /// Questions and answers of a picture.
    pub fn questions(&self, index: usize) -> &[(String, String)] {
        self.questions.get(index).map_or(&[], Vec::as_slice)
    }

    /// What kind of thing a picture shows; empty where the pack does not say.
    pub fn group(&self, index: usize) -> &str {
        self.groups.get(index).map_or("", String::as_str)
    }

    /// The caption of a picture, or what its answers add up to: "a blue rectangle", "a blue shape".
    pub fn caption(&self, index: usize) -> String {
        match self.captions.get(index) {
            Some(caption) => caption.clone(),
            None => described(self.questions(index)),
        }
    }
}

/// A picture of a pack.
struct PackPicture {
    pack: Arc<Pack>,
    index: usize,
}

impl Picture for PackPicture {
    fn key(&self) -> String {
        format!("{}/{}", self.pack.name(), self.index)
    }

    fn bytes(&self) -> Result<Cow<'static, [u8]>> {
        self.pack.image(self.index).map(Cow::Borrowed)
    }
}

impl PackItems {
    /// The samples of a pack: every picture `orders` times, each time with its questions begun at another place.
    pub fn of(self, pack: Arc<Pack>, orders: usize) -> Arc<dyn Items> {
        Arc::new(PackSamples { pack, items: self, orders: orders.max(1) })
    }
}

struct PackSamples {
    pack: Arc<Pack>,
    items: PackItems,
    orders: usize,
}

impl Items for PackSamples {
    fn len(&self) -> usize {
        self.pack.len() * self.orders
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let (order, index) = (index / self.pack.len(), index % self.pack.len());
        let mut pairs = match self.items {
            PackItems::Captions => vec![("describe the image".to_string(), self.pack.caption(index))],
            PackItems::Conversations => self.pack.questions(index).to_vec(),
        };
        let first = order * pairs.len() / self.orders;
        pairs.rotate_left(first);
        let mut turns = Vec::with_capacity(2 * pairs.len());
        for (i, (question, answer)) in pairs.into_iter().enumerate() {
            let value = if i == 0 { format!("<image>\n{question}") } else { question };
            turns.push(Turn::human(value));
            turns.push(Turn::gpt(answer));
        }
        let image = self.pack.picture(index);
        let id = match order {
            0 => format!("{}/{index}", self.pack.name),
            _ => format!("{}/{index}#{order}", self.pack.name),
        };
        Ok(Sample { id, images: vec![image], turns })
    }

    fn sha256(&self) -> String {
        format!("{:x} {:?} {}", Sha256::digest(self.pack.bytes), self.items, self.orders)
    }
}

const COLORS: [&str; 8] = ["red", "green", "blue", "yellow", "black", "gray", "teal", "brown"];
const SHAPES: [&str; 3] = ["circle", "rectangle", "triangle"];

/// The attributes that questions and answers state: answers of "what", and words of a "yes" without "not" or "no".
fn described(questions: &[(String, String)]) -> String {
    let mut stated: BTreeSet<&str> = BTreeSet::new();
    for (question, answer) in questions {
        let words: Vec<&str> = question.trim_end_matches('?').split_whitespace().collect();
        let negated = words.iter().any(|word| ["not", "no"].contains(word));
        if words.first() == Some(&"what") || (answer == "yes") != negated {
            stated.extend(words);
        }
        stated.insert(answer);
    }
    let known = |words: &[&'static str]| words.iter().find(|word| stated.contains(*word)).copied();
    match (known(&COLORS), known(&SHAPES)) {
        (Some(color), Some(shape)) => format!("a {color} {shape}"),
        (Some(color), None) => format!("a {color} shape"),
        (None, Some(shape)) => format!("a {shape}"),
        (None, None) => "a shape".to_string(),
    }
}

/// Little-endian i64 values.
fn integers(data: &[u8]) -> impl Iterator<Item = usize> + '_ {
    data.chunks_exact(8).map(|bytes| {
        let mut value = [0u8; 8];
        value.copy_from_slice(bytes);
        u64::from_le_bytes(value) as usize
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_follow_from_answers() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|(q, a)| (q.to_string(), a.to_string())).collect::<Vec<_>>();
        let cases = [
            (pairs(&[("what is the red shape?", "triangle")]), "a red triangle"),
            (pairs(&[("is there not a circle in the image?", "no"), ("is a blue shape present?", "no")]), "a circle"),
            (pairs(&[("is a blue shape present?", "yes"), ("is no circle present?", "yes")]), "a blue shape"),
        ];
        for (questions, expected) in cases {
            assert_eq!(described(&questions), expected);
        }
    }
}

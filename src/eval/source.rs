//! From rows of a published set to items: which field is what, and when a value counts as absent. A row that lacks
//! something is left out with an error that names file, row and field; the others are kept.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::benchmark::Item;
use super::gold::{Answers, Choice, Gold, lettered};
use super::metrics::question;
use super::prompt::Recipe;
use super::python;
use super::scorers::Scorer;
use super::second_table::Pictures;
use crate::data::ImageSource;
use crate::data::table::Rows;
use crate::error;
use crate::error::Result;

/// Which field of a row is what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Without one, the row's number is the id.
    id: Option<String>,
    /// Another field with ids, of which the published ones may be meant.
    other_id: Option<String>,
    /// The picture's name, where one is published.
    group: Option<String>,
    category: Option<String>,
    section: Option<String>,
    answer: Option<String>,
    /// Whether the answer is the position of a choice, from 0.
    #[serde(default)]
    answer_is_position: bool,
    /// One field with all choices, or one field each.
    choices: Option<OneOrMany<String>>,
    /// Says "open" where a question has no choices.
    question_type: Option<String>,
    #[serde(default = "image_field")]
    image: String,
    /// Whether prompts hold marks like `<image 2>`, each with a field `image_2`.
    #[serde(default)]
    image_marks: bool,
    /// The key of a second table of pictures.
    image_key: Option<String>,
    /// Fields whose text "nan" the reference takes for a text.
    #[serde(default)]
    nan_quirk: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    /// All of them.
    pub(super) fn all(&self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        }
    }
}

fn image_field() -> String {
    "image".to_string()
}

/// The largest number of a picture in a prompt.
const MARKS: u32 = 7;

impl Fields {
    /// Names of all fields that are read besides those of prompts: those that every row has to have, and the others.
    pub(super) fn names(&self) -> (Vec<String>, Vec<String>) {
        // Each by name, so that a new field is not forgotten here.
        let Fields {
            id,
            other_id,
            group,
            category,
            section,
            answer,
            answer_is_position: _,
            choices,
            question_type,
            image,
            image_marks,
            image_key,
            nan_quirk: _,
        } = self;
        let mut needed: Vec<String> = [id, answer, question_type].into_iter().flatten().cloned().collect();
        let mut others: Vec<String> =
            [other_id, group, category, section, image_key].into_iter().flatten().cloned().collect();
        match choices {
            Some(OneOrMany::One(field)) => needed.push(field.clone()),
            // Not every question has the last ones.
            Some(OneOrMany::Many(fields)) => {
                needed.extend(fields.first().cloned());
                others.extend(fields.iter().skip(1).cloned());
            }
            None => {}
        }
        match image_marks {
            true => others.extend((1..=MARKS).map(|number| format!("{image}_{number}"))),
            false => others.push(image.clone()),
        }
        (needed, others)
    }

    /// The field with the answer.
    pub(super) fn answer(&self) -> Option<&String> {
        self.answer.as_ref()
    }

    /// What the rows of one of the set's files have in common, where its name says it.
    pub(super) fn category(&self) -> Option<&String> {
        self.category.as_ref()
    }

    /// Whether the pictures are a table of their own.
    pub(super) fn second_table(&self) -> bool {
        self.image_key.is_some()
    }

    /// The field with pictures; of numbered ones the first.
    pub(super) fn image(&self) -> String {
        if self.image_marks { format!("{}_1", self.image) } else { self.image.clone() }
    }
}

/// How rows become items.
pub(super) struct Source<'a> {
    fields: &'a Fields,
    prompt: Recipe,
    prompt_open: Option<Recipe>,
    scorer: Scorer,
    quirks: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        fields: &'a Fields,
        prompt: &str,
        prompt_open: Option<&str>,
        scorer: Scorer,
        quirks: bool,
    ) -> Result<Self> {
        let prompt_open = prompt_open.map(Recipe::parse).transpose()?;
        Ok(Source { fields, prompt: Recipe::parse(prompt)?, prompt_open, scorer, quirks })
    }

    /// The item of a row.
    pub(super) fn item(&self, rows: &Arc<Rows>, row: usize, pictures: Option<&Pictures>) -> Result<Item> {
        let fields = self.fields;
        let id = match &fields.id {
            Some(field) => required(rows, row, field)?,
            None => row.to_string(),
        };
        let choices = self.choices(rows, row)?;
        let open = match &fields.question_type {
            Some(field) => required(rows, row, field)? != "multiple-choice",
            None => false,
        };
        let answer = self.answer(rows, row, &choices)?;
        let recipe = self.prompt_open.as_ref().filter(|_| open).unwrap_or(&self.prompt);
        let prompt = recipe
            .fill(&choices, &|field| self.text(rows, row, field))
            .map_err(|error| error.context(rows.place(row)))?;
        let (prompt, images) = self.images(rows, row, prompt, pictures)?;
        let optional = |field: &Option<String>| -> Result<String> {
            match field {
                Some(field) => Ok(self.text(rows, row, spelled(rows.fields(), field))?.unwrap_or_default()),
                None => Ok(String::new()),
            }
        };
        if self.scorer == Scorer::Mmbench && question(&id).is_none() {
            return Err(rows.unexpected(row, fields.id.as_deref().unwrap_or("id"), "an index"));
        }
        let category = match self.scorer {
            Scorer::Mmmu => subject(&id),
            _ => optional(&fields.category)?,
        };
        let (group, other_id) = (optional(&fields.group)?, optional(&fields.other_id)?);
        let (section, gold) = (optional(&fields.section)?, Gold { answer, choices, open });
        Ok(Item { id, other_id, group, images, prompt, gold, category, section })
    }

    /// A field as text; `None` when it is absent: null, NaN, or the text "nan".
    fn text(&self, rows: &Rows, row: usize, field: &str) -> Result<Option<String>> {
        let nan = !(self.quirks && self.fields.nan_quirk.iter().any(|name| name == field));
        Ok(match rows.value(row, field) {
            None => None,
            Some(Value::String(text)) if nan && text == "nan" => None,
            Some(value) => Some(plain(value).ok_or_else(|| rows.unexpected(row, field, "text"))?),
        })
    }

    fn choices(&self, rows: &Rows, row: usize) -> Result<Vec<Choice>> {
        let (field, texts) = match &self.fields.choices {
            None => return Ok(Vec::new()),
            Some(OneOrMany::Many(fields)) => {
                let texts = fields.iter().map(|field| self.text(rows, row, field)).collect::<Result<Vec<_>>>()?;
                (fields.join(", "), texts)
            }
            Some(OneOrMany::One(field)) => {
                let wrong = || rows.unexpected(row, field, "a list of texts");
                let texts = match rows.require(row, field)? {
                    Value::String(literal) => python::list(literal).ok_or_else(wrong)?.into_iter().map(Some).collect(),
                    Value::Array(list) => {
                        let text = |value: &Value| if value.is_null() { Some(None) } else { plain(value).map(Some) };
                        list.iter().map(|value| text(value).ok_or_else(wrong)).collect::<Result<Vec<_>>>()?
                    }
                    _ => return Err(wrong()),
                };
                (field.clone(), texts)
            }
        };
        if texts.len() > 26 {
            return Err(error!(Data, "{}: field `{field}` has {} choices", rows.place(row), texts.len()));
        }
        // Separate fields for choices: an empty one is none, as in MMBench.
        let separate = matches!(self.fields.choices, Some(OneOrMany::Many(_)));
        let there = |text: &String| text != "nan" && !(separate && text.is_empty());
        Ok(lettered(texts.into_iter().map(|text| text.filter(there))))
    }

    fn answer(&self, rows: &Rows, row: usize, choices: &[Choice]) -> Result<Answers> {
        let Some(field) = &self.fields.answer else { return Ok(Answers::Several(Vec::new())) };
        let value = rows.require(row, field)?;
        if self.fields.answer_is_position {
            let position = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            let letter = position.and_then(|position| char::from_u32(u32::try_from(position).ok()? + u32::from('A')));
            let known = letter.filter(|letter| choices.iter().any(|choice| choice.letter == *letter));
            let expected = format!("a position among {} choices", choices.len());
            return known
                .map(|letter| Answers::One(letter.to_string()))
                .ok_or_else(|| rows.unexpected(row, field, &expected));
        }
        let wrong = || rows.unexpected(row, field, "an answer or a list of answers");
        let answers = match value {
            Value::Array(list) if !list.is_empty() => {
                let text = |value: &Value| plain(value.get("answer").unwrap_or(value));
                let mut answers: Vec<String> = list.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
                // Ten for each of some hundred thousand questions.
                answers.shrink_to_fit();
                Answers::Several(answers)
            }
            Value::Array(_) | Value::Object(_) => return Err(wrong()),
            Value::String(text) if self.scorer.has_several_answers() && python::strip(text).starts_with('[') => {
                // A list written as text, as some of MMMU's published answers are: each of its items is right.
                match python::list(text) {
                    Some(list) if list.iter().any(|answer| answer.starts_with('{')) => return Err(wrong()),
                    Some(list) if !list.is_empty() => Answers::Several(list),
                    _ => Answers::One(text.clone()),
                }
            }
            value => Answers::One(plain(value).ok_or_else(wrong)?),
        };
        match answers.all() {
            [only] if python::strip(only).is_empty() || only == "nan" => {
                Err(error!(Data, "{}: field `{field}` is empty", rows.place(row)))
            }
            _ => Ok(answers),
        }
    }

    /// The pictures of a row, and the prompt with plain marks.
    fn images(
        &self,
        rows: &Arc<Rows>,
        row: usize,
        prompt: String,
        pictures: Option<&Pictures>,
    ) -> Result<(String, Vec<ImageSource>)> {
        if self.fields.image_marks {
            let (prompt, mut numbers) = marks(&prompt);
            if numbers.is_empty() {
                // A text that names none of its pictures is about the first.
                numbers.push('1');
            }
            let mut images = Vec::new();
            for number in numbers {
                images.extend(rows.image(row, &format!("{}_{number}", self.fields.image), 0)?);
            }
            return Ok((prompt, images));
        }
        if let (Some(pictures), Some(key)) = (pictures, &self.fields.image_key) {
            let key = required(rows, row, key)?;
            let images = pictures
                .of(&key, &self.fields.image)?
                .ok_or_else(|| error!(Data, "{}: there is no picture `{key}` among the pictures", rows.place(row)))?;
            return Ok((prompt, images));
        }
        Ok((prompt, rows.images(row, &self.fields.image)?))
    }
}

/// A text or number that must be there.
pub(super) fn required(rows: &Rows, row: usize, field: &str) -> Result<String> {
    plain(rows.require(row, field)?).ok_or_else(|| rows.unexpected(row, field, "text"))
}

/// A field by the name it has in the data: publications spell `L2-category` also `l2-category` and `l2_category`. It
/// holds for what a row can do without, as a name that is not there is an error elsewhere.
fn spelled<'a>(fields: &'a [String], name: &'a str) -> &'a str {
    let plain = |name: &str| name.replace(['-', '_', ' '], "").to_lowercase();
    if fields.iter().any(|field| field == name) {
        return name;
    }
    fields.iter().find(|field| plain(field) == plain(name)).map_or(name, String::as_str)
}

/// Texts, numbers, and lists of them with commas between.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => {
            let whole = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 9e15);
            Some(whole.map_or_else(|| number.to_string(), |value| format!("{value:.0}")))
        }
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(list) => {
            let texts: Option<Vec<String>> = list.iter().map(plain).collect();
            texts.map(|texts| texts.join(", "))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// `validation_Art_Theory_4` -> `Art_Theory`.
fn subject(id: &str) -> String {
    let inner = id.split_once('_').and_then(|(_, rest)| rest.rsplit_once('_')).map(|(subject, _)| subject);
    inner.unwrap_or_default().to_string()
}

/// Replaces `<image 1>` to `<image 7>` by plain marks; gives the numbers in the order of the text.
fn marks(prompt: &str) -> (String, Vec<char>) {
    let (mut text, mut numbers, mut rest) = (String::new(), Vec::new(), prompt);
    while let Some(at) = rest.find("<image ") {
        let after = &rest[at + "<image ".len()..];
        let mut chars = after.chars();
        text.push_str(&rest[..at]);
        match (chars.next().filter(|c| ('1'..='7').contains(c)), chars.next()) {
            (Some(number), Some('>')) => {
                text.push_str("<image>");
                numbers.push(number);
                rest = &after[2..];
            }
            _ => {
                text.push_str("<image ");
                rest = after;
            }
        }
    }
    (text + rest, numbers)
}

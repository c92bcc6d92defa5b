//! From rows of a published set to items: what a value is, and when it counts as absent. A row that lacks
//! something is left out with an error that names file, row and field; the others are kept.

use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, OneOrMany, plain, required, spelled};
use super::gold::{Choice, Gold, RightAnswers, lettered};
use super::item::Item;
use super::prompt::Recipe;
use super::python;
use super::second_table::SecondTable;
use crate::data::ImageSource;
use crate::data::table::Rows;
use crate::error;
use crate::error::Result;

/// How rows become items.
pub(super) struct ItemReader<'a> {
    fields: &'a Fields,
    prompt: Recipe,
    prompt_open: Option<Recipe>,
    quirks: bool,
}

impl<'a> ItemReader<'a> {
    pub(super) fn new(fields: &'a Fields, prompt: &str, prompt_open: Option<&str>, quirks: bool) -> Result<Self> {
        let prompt_open = prompt_open.map(Recipe::parse).transpose()?;
        Ok(ItemReader { fields, prompt: Recipe::parse(prompt)?, prompt_open, quirks })
    }

    /// The item of a row.
    pub(super) fn item(&self, rows: &Arc<Rows>, row: usize, pictures: Option<&SecondTable>) -> Result<Item> {
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
        if fields.id_is_index && !is_index(&id) {
            return Err(rows.unexpected(row, fields.id.as_deref().unwrap_or("id"), "an index"));
        }
        let category = match &fields.category_in_id {
            Some(mark) => between(&id, mark),
            None => optional(&fields.category)?,
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

    fn answer(&self, rows: &Rows, row: usize, choices: &[Choice]) -> Result<RightAnswers> {
        let fields = self.fields;
        let Some(field) = &fields.answer else { return Ok(RightAnswers::Several(Vec::new())) };
        let value = rows.require(row, field)?;
        if fields.answer_is_position {
            let position = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            let letter = |position: i64| char::from_u32(u32::try_from(position).ok()?.checked_add(u32::from('A'))?);
            let letter = position.and_then(letter);
            let known = letter.filter(|letter| choices.iter().any(|choice| choice.letter == *letter));
            let expected = format!("a position among {} choices", choices.len());
            return known
                .map(|letter| RightAnswers::One(letter.to_string()))
                .ok_or_else(|| rows.unexpected(row, field, &expected));
        }
        let wrong = || rows.unexpected(row, field, "an answer or a list of answers");
        let answers = match value {
            Value::Array(list) if !list.is_empty() => {
                let text = |value: &Value| plain(value.get("answer").unwrap_or(value));
                let mut answers: Vec<String> = list.iter().map(text).collect::<Option<_>>().ok_or_else(wrong)?;
                // Ten for each of some hundred thousand questions.
                answers.shrink_to_fit();
                RightAnswers::Several(answers)
            }
            Value::Array(_) | Value::Object(_) => return Err(wrong()),
            Value::String(text) if fields.several_answers && python::strip(text).starts_with('[') => {
                // A list written as text, as some of MMMU's published answers are: each of its items is right.
                match python::list(text) {
                    Some(list) if list.iter().any(|answer| answer.starts_with('{')) => return Err(wrong()),
                    Some(list) if !list.is_empty() => RightAnswers::Several(list),
                    _ => RightAnswers::One(text.clone()),
                }
            }
            value => RightAnswers::One(plain(value).ok_or_else(wrong)?),
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
        pictures: Option<&SecondTable>,
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

/// Whether an id is a whole number from 0 on.
fn is_index(id: &str) -> bool {
    id.parse::<i64>().is_ok_and(|index| index >= 0)
}

/// What stands between the first and the last of some marks: `validation_Art_Theory_4` -> `Art_Theory`.
fn between(id: &str, mark: &str) -> String {
    let inner = id.split_once(mark).and_then(|(_, rest)| rest.rsplit_once(mark)).map(|(inner, _)| inner);
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

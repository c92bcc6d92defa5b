//! Which field of a row is what, as a preset says it, and texts of rows.

use serde::Deserialize;
use serde_json::Value;

use crate::data::table::Rows;
use crate::error::Result;

/// Which field of a row is what.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    /// Without one, the row's number is the id.
    pub(super) id: Option<String>,
    /// Whether ids are whole numbers from 0 on, as those of which a metric makes one question of several rows.
    #[serde(default)]
    pub(super) id_is_index: bool,
    /// Another field with ids, of which the published ones may be meant.
    pub(super) other_id: Option<String>,
    /// The picture's name, where one is published.
    pub(super) group: Option<String>,
    pub(super) category: Option<String>,
    /// The category is written in the id, between the first and the last of these marks.
    pub(super) category_in_id: Option<String>,
    pub(super) section: Option<String>,
    pub(super) answer: Option<String>,
    /// Whether the answer is the position of a choice, from 0.
    #[serde(default)]
    pub(super) answer_is_position: bool,
    /// Whether a question may have several right answers, or those of several people: a text that is a list is one, too.
    #[serde(default)]
    pub(super) several_answers: bool,
    /// One field with all choices, or one field each.
    pub(super) choices: Option<OneOrMany<String>>,
    /// Says "open" where a question has no choices.
    pub(super) question_type: Option<String>,
    #[serde(default = "image_field")]
    pub(super) image: String,
    /// Whether prompts hold marks like `<image 2>`, each with a field `image_2`.
    #[serde(default)]
    pub(super) image_marks: bool,
    /// The key of a second table of pictures.
    pub(super) image_key: Option<String>,
    /// Fields whose text "nan" the reference takes for a text.
    #[serde(default)]
    pub(super) nan_quirk: Vec<String>,
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
            id_is_index: _,
            other_id,
            group,
            category,
            category_in_id: _,
            section,
            answer,
            answer_is_position: _,
            several_answers: _,
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

/// A text or number that must be there.
pub(super) fn required(rows: &Rows, row: usize, field: &str) -> Result<String> {
    plain(rows.require(row, field)?).ok_or_else(|| rows.unexpected(row, field, "text"))
}

/// A field by the name it has in the data: publications spell `L2-category` also `l2-category` and `l2_category`. It
/// holds for what a row can do without, as a name that is not there is an error elsewhere.
pub(super) fn spelled<'a>(fields: &'a [String], name: &'a str) -> &'a str {
    let plain = |name: &str| name.replace(['-', '_', ' '], "").to_lowercase();
    if fields.iter().any(|field| field == name) {
        return name;
    }
    fields.iter().find(|field| plain(field) == plain(name)).map_or(name, String::as_str)
}

/// Texts, numbers, and lists of them with commas between.
pub(super) fn plain(value: &Value) -> Option<String> {
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

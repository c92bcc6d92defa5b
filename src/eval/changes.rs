//! What became of a benchmark since answers to it were kept. An answer stays one as long as its prompt and its pictures are
//! the same; the right answer may be put right, and then the answer is scored again.

use std::collections::HashMap;

use super::contents::Contents;
use super::item::Item;
use super::row::Row;
use crate::error;
use crate::error::{Error, Result};

/// What differs, by the ids of questions.
#[derive(Default)]
pub struct Changes {
    /// Another prompt: id.
    pub prompts: Vec<String>,
    /// Another right answer, or other choices: id, what it was, what it is.
    pub golds: Vec<(String, String, String)>,
    /// Another picture: id, where it is, its hash then and now.
    pub pictures: Vec<(String, String, String, String)>,
}

impl Changes {
    /// Compares kept rows with the questions of today. Pictures are read where rows say what they showed.
    pub fn new<'a>(rows: &[Row], items: impl Iterator<Item = &'a Item>, contents: &mut Contents) -> Self {
        let known: HashMap<&str, &Row> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
        let both: Vec<(&Row, &Item)> = items.filter_map(|item| Some((*known.get(item.id.as_str())?, item))).collect();
        contents.read(both.iter().filter(|(row, _)| !row.pictures.is_empty()).map(|(_, item)| *item));
        let mut changes = Changes::default();
        for (row, item) in both {
            if row.prompt != item.prompt {
                changes.prompts.push(row.id.clone());
            }
            if row.gold != item.gold {
                let text = |gold: &super::Gold| match gold.choices.is_empty() {
                    true => gold.answer.to_string(),
                    false => {
                        let choice = |choice: &super::Choice| format!("{}. {}", choice.letter, choice.text);
                        let choices: Vec<String> = gold.choices.iter().map(choice).collect();
                        format!("{} of {}", gold.answer, choices.join(", "))
                    }
                };
                changes.golds.push((row.id.clone(), text(&row.gold), text(&item.gold)));
            }
            let now = contents.of(item);
            if !row.pictures.is_empty() && !now.is_empty() && row.pictures != now {
                let hash = |all: &[String], place: usize| all.get(place).cloned().unwrap_or("none".to_string());
                let place = (0..now.len().max(row.pictures.len())).find(|at| row.pictures.get(*at) != now.get(*at));
                let place = place.unwrap_or(0);
                let source = item.shown().get(place).map_or(String::new(), |source| source.key());
                changes.pictures.push((row.id.clone(), source, hash(&row.pictures, place), hash(&now, place)));
            }
        }
        changes
    }

    /// Refuses answers to other prompts or about other pictures; `whose` says where they are.
    ///
    /// # Errors
    /// `Data`, naming the first such question and how many more there are.
    pub fn refuse_asked(&self, whose: &str) -> Result<()> {
        if let Some((first, more)) = self.prompts.split_first() {
            return Err(error!(Data, "{whose}: the prompt of question `{first}` is another one now{}", and(more)));
        }
        let Some(((id, source, then, now), more)) = self.pictures.split_first() else { return Ok(()) };
        Err(error!(
            Data,
            "{whose}: the picture of question `{id}` is another one now (`{source}`: sha256 {then}.., now {now}..){}",
            and(more)
        ))
    }

    /// The first question with another right answer, in words.
    pub fn told_golds(&self) -> Option<String> {
        let ((id, then, now), more) = self.golds.split_first()?;
        Some(format!("the right answer of question `{id}` was `{then}`, is `{now}`{}", and(more)))
    }

    /// The same as an error.
    pub fn refuse_golds(&self, whose: &str) -> Result<()> {
        self.told_golds().map_or(Ok(()), |told| Err(Error::new(crate::error::Kind::Data, format!("{whose}: {told}"))))
    }
}

/// How many more there are.
fn and<T>(more: &[T]) -> String {
    match more.len() {
        0 => String::new(),
        1 => ", and so is that of 1 more".to_string(),
        n => format!(", and so are those of {n} more"),
    }
}

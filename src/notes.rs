//! Notes: what people should know of something that was opened, where it is no error: a value that was guessed, a file
//! that another one overrules, a convention that depends on the version that wrote it.

use std::sync::{Arc, Mutex, PoisonError};

/// A list of notes that clones share; a note that is there already is not added again.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// Adds one sentence that names the thing, what was done with it, and, if there is one, the next step.
    pub fn add(&self, text: impl Into<String>) {
        let (text, mut notes) = (text.into(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !notes.contains(&text) {
            notes.push(text);
        }
    }

    /// Adds those of another list.
    pub fn extend(&self, others: &Notes) {
        others.list().into_iter().for_each(|text| self.add(text));
    }

    /// All of them, in the order they were added.
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_kept_once_and_shared_by_clones() {
        let (notes, others) = (Notes::default(), Notes::default());
        let shared = notes.clone();
        shared.add("`a` is not read");
        others.add("`b` was guessed");
        others.add("`a` is not read");
        notes.extend(&others);
        notes.extend(&shared);
        assert_eq!(notes.list(), ["`a` is not read", "`b` was guessed"]);
    }
}

//! Answers that need not be asked for twice. The key is a hash of everything that decides an answer; what is kept in a
//! folder is one file of JSON lines for each state of a model, to which runs append.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// What a model said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub output: String,
    /// Of every choice, where the answer is the likeliest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub likelihoods: Vec<Likelihood>,
}

/// How likely a choice's letter is as the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likelihood {
    pub letter: char,
    /// Natural logarithm, the mean over the letter's tokens.
    pub log_probability: f64,
}

/// Where answers are kept; clones share it.
#[derive(Clone)]
pub enum AnswerCache {
    Memory(Arc<Mutex<HashMap<String, Answer>>>),
    Folder(PathBuf),
}

/// An open cache.
pub(super) struct KeptAnswers {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    file: Option<(PathBuf, File)>,
    /// What decides answers beside the questions.
    model: String,
}

/// A line of a file.
#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    #[serde(flatten)]
    answer: Answer,
}

impl AnswerCache {
    /// An empty cache that lives as long as its clones.
    pub fn in_memory() -> Self {
        AnswerCache::Memory(Arc::default())
    }

    /// Opens it for a model, whose state `model` is a hash of.
    pub(super) fn open(&self, model: &str) -> Result<KeptAnswers> {
        let model = model.to_string();
        match self {
            AnswerCache::Memory(answers) => Ok(KeptAnswers { answers: answers.clone(), file: None, model }),
            AnswerCache::Folder(folder) => {
                let path = folder.join(format!("{model}.jsonl"));
                let (answers, file) = open_file(folder, &path).map_err(|error| Error::file(&path, error))?;
                Ok(KeptAnswers { answers: Arc::new(Mutex::new(answers)), file: Some((path, file)), model })
            }
        }
    }
}

/// A file's answers, and the file to append to. A line torn by a kill is passed over and closed.
fn open_file(folder: &Path, path: &Path) -> std::io::Result<(HashMap<String, Answer>, File)> {
    crate::fs::create_dir_all(folder)?;
    let mut file = crate::fs::open_with(path, |how| how.create(true).append(true))?;
    let text = crate::fs::read(path)?;
    let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let answers = lines.map(|line| (line.key, line.answer)).collect();
    if text.last().is_some_and(|byte| *byte != b'\n') {
        file.write_all(b"\n")?;
    }
    Ok((answers, file))
}

impl KeptAnswers {
    /// The key of a question: how it is asked, the ids of its prompt, hashes of its pictures.
    pub(super) fn key(&self, how: &str, ids: &[i64], pictures: &[String]) -> String {
        format!("{:x}", Sha256::digest(format!("{} {how} {ids:?} {pictures:?}", self.model)))
    }

    pub(super) fn get(&self, key: &str) -> Option<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps answers. After an error of writing nothing more is written.
    ///
    /// # Errors
    /// `File`, once.
    pub(super) fn add(&mut self, new: Vec<(String, Answer)>) -> Result<()> {
        let mut written = Ok(());
        if let Some((path, file)) = &mut self.file {
            let mut text = Vec::new();
            for (key, answer) in &new {
                let line = Line { key: key.clone(), answer: answer.clone() };
                if serde_json::to_writer(&mut text, &line).is_ok() {
                    text.push(b'\n');
                }
            }
            written = file.write_all(&text).map_err(|error| Error::file(path, error));
        }
        if written.is_err() {
            self.file = None;
        }
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_answers_and_survives_a_torn_line() {
        let folder = std::env::temp_dir().join(format!("llmore-answers-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let cache = AnswerCache::Folder(folder.clone());
        let answer = |output: &str| Answer { output: output.to_string(), likelihoods: Vec::new() };
        let mut first = cache.open("m").unwrap();
        let keys: Vec<String> = (0..3).map(|id| first.key("generate 4", &[id], &[])).collect();
        first.add(vec![(keys[0].clone(), answer("a\nb")), (keys[1].clone(), answer("c"))]).unwrap();
        let path = folder.join("m.jsonl");
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 4).unwrap();
        let mut second = cache.open("m").unwrap();
        assert_eq!((second.get(&keys[0]), second.get(&keys[1])), (Some(answer("a\nb")), None));
        second.add(vec![(keys[2].clone(), answer("d"))]).unwrap();
        let third = cache.open("m").unwrap();
        assert_eq!(third.get(&keys[2]), Some(answer("d")));
        assert!(cache.open("other").unwrap().get(&keys[0]).is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn keys_tell_what_differs() {
        let open = |model: &str| AnswerCache::in_memory().open(model).unwrap();
        let key = open("m").key("generate 4", &[1, -200], &["x".to_string()]);
        assert_eq!(open("m").key("generate 4", &[1, -200], &["x".to_string()]), key);
        for other in [
            open("n").key("generate 4", &[1, -200], &["x".to_string()]),
            open("m").key("generate 5", &[1, -200], &["x".to_string()]),
            open("m").key("generate 4", &[1, -201], &["x".to_string()]),
            open("m").key("generate 4", &[1, -200], &["gray x".to_string()]),
        ] {
            assert_ne!(other, key);
        }
    }
}

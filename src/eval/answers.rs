//! Answers that need not be asked for twice. The key is a hash of everything that decides an answer; what is kept in a
//! folder is one file of JSON lines for each state of a model, to which runs append.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sums::{self, Sum};
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
    /// What people should know of the file.
    pub(super) told: Option<String>,
}

/// Stands at the end of a line that a kill has torn, before the next run begins a line of its own.
const TORN: u8 = 0x18;

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
            AnswerCache::Memory(answers) => Ok(KeptAnswers { answers: answers.clone(), file: None, model, told: None }),
            AnswerCache::Folder(folder) => {
                let path = folder.join(format!("{model}.jsonl"));
                let (answers, file, damaged) = open_file(folder, &path).map_err(|error| Error::file(&path, error))?;
                let told = (damaged > 0).then(|| {
                    format!(
                        "`{}`: {damaged} kept answers are not as they were written: their questions are asked again",
                        path.display()
                    )
                });
                Ok(KeptAnswers { answers: Arc::new(Mutex::new(answers)), file: Some((path, file)), model, told })
            }
        }
    }
}

/// A file's answers, the file to append to, and how many lines are damaged. A line torn by a kill is passed over and closed.
fn open_file(folder: &Path, path: &Path) -> std::io::Result<(HashMap<String, Answer>, File, usize)> {
    crate::fs::create_dir_all(folder)?;
    let mut file = crate::fs::open_with(path, |how| how.create(true).append(true))?;
    let text = crate::fs::read(path)?;
    let is_open = text.last().is_some_and(|byte| *byte != b'\n');
    let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // What is behind the last line break: nothing, or what a kill left.
    lines.pop();
    let (mut answers, mut damaged) = (HashMap::new(), 0);
    for line in lines.into_iter().filter(|line| line.last() != Some(&TORN)) {
        // All lines have a sum: another build of llmore has files of its own.
        let whole = Some(line).filter(|line| sums::look(line) == Sum::Right);
        match whole.and_then(|line| serde_json::from_slice::<Line>(line).ok()) {
            Some(line) => drop(answers.insert(line.key, line.answer)),
            None => damaged += 1,
        }
    }
    if is_open {
        file.write_all(&[TORN, b'\n'])?;
    }
    Ok((answers, file, damaged))
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
                let start = text.len();
                if serde_json::to_writer(&mut text, &line).is_ok() {
                    sums::add(&mut text, start);
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
        let folder = crate::scratch::scratch_path("answers");
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
        assert_eq!(third.told, None, "a kill damages nothing");
        assert_eq!(third.get(&keys[2]), Some(answer("d")));
        assert!(cache.open("other").unwrap().get(&keys[0]).is_none());
    }

    #[test]
    fn a_changed_byte_of_a_kept_answer_is_told_and_the_answer_is_not_used() {
        let folder = crate::scratch::scratch("flip");
        let cache = AnswerCache::Folder(folder.clone());
        let answer = |output: &str| Answer { output: output.to_string(), likelihoods: Vec::new() };
        let mut first = cache.open("m").unwrap();
        let keys: Vec<String> = (0..2).map(|id| first.key("generate 4", &[id], &[])).collect();
        first.add(vec![(keys[0].clone(), answer("cat")), (keys[1].clone(), answer("dog"))]).unwrap();
        let path = folder.join("m.jsonl");
        let bytes = std::fs::read(&path).unwrap();
        // The last line break may be gone: then the line counts as torn.
        for place in 0..bytes.len() - 1 {
            let mut other = bytes.clone();
            other[place] ^= 2;
            std::fs::write(&path, other).unwrap();
            let opened = cache.open("m").unwrap();
            let told = opened.told.clone().unwrap_or_default();
            assert!(told.contains("m.jsonl") && told.contains("asked again"), "byte {place}: {told}");
            let kept = keys.iter().filter_map(|key| opened.get(key)).collect::<Vec<_>>();
            assert!(kept.len() < 2 && kept.iter().all(|one| ["cat", "dog"].contains(&&*one.output)), "byte {place}");
        }
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(cache.open("m").unwrap().told, None);
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

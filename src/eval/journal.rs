//! A results file that grows while questions are answered, and from which a run that was stopped goes on. A line that was
//! cut off in the middle is taken away; everything before it counts.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::answers::Answer;
use super::benchmark::Benchmark;
use super::result_file::{Facts, LeftOut, parse, push, push_facts};
use super::results::{Results, Row};
use crate::error::{Error, Result};
use crate::{bail, error};

/// An open results file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Answers by id.
    pub(super) done: HashMap<String, Answer>,
    left_out: HashSet<LeftOut>,
    /// For the first line, until it is written.
    facts: Option<Facts>,
    /// For a line before new answers, where those that are there do not tell of this run.
    later: Option<Facts>,
}

impl Journal {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// `Data` when it holds answers to another benchmark, of another model or of other weights, or another prompt under
    /// the same id.
    pub(super) fn open(path: &Path, benchmark: &Benchmark, model: &str, facts: &Facts) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let prompts: HashMap<&str, &str> =
            benchmark.items.iter().map(|item| (item.id.as_str(), item.prompt.as_str())).collect();
        let lines = parse(path, &bytes[..whole])?;
        let mut done = HashMap::new();
        for row in lines.rows {
            if row.benchmark != benchmark.id || row.model != model {
                return Err(error!(
                    Data,
                    "`{}` holds answers of `{}` to `{}`, not of `{model}` to `{}`",
                    path.display(),
                    row.model,
                    row.benchmark,
                    benchmark.id
                )
                .help("choose another `out`, or remove the file"));
            }
            if (&row.scorer, row.rules) != (&benchmark.scorer.version(), benchmark.rules) {
                return Err(error!(
                    Data,
                    "`{}` holds answers scored by {} with rules {}, not by {} with rules {}",
                    path.display(),
                    row.scorer,
                    row.rules.name(),
                    benchmark.scorer.version(),
                    benchmark.rules.name()
                )
                .help("`results(path).rescore(#{ rules })` scores them again; or choose another `out`"));
            }
            match prompts.get(row.id.as_str()) {
                Some(prompt) if *prompt != row.prompt => {
                    bail!(Data, "`{}`: the prompt of question `{}` is another one now", path.display(), row.id)
                }
                _ => done.insert(row.id, Answer { output: row.output, likelihoods: row.likelihoods }),
            };
        }
        check_facts(path, &lines.facts, facts)?;
        if !is_cut_line(&bytes[whole..]) {
            return Err(error!(Data, "`{}` is not a results file", path.display()).help("choose another `out`"));
        }
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        // A file says what was asked; where this run asks otherwise, a line of its own says so.
        let (facts, later) = match whole {
            0 => (Some(facts.clone()), None),
            // What the answers of a file without facts go by is not known.
            _ if lines.facts == Facts::default() => (None, None),
            _ => (None, Some(facts.clone()).filter(|now| !lines.facts.covers(now))),
        };
        let left_out = lines.left_out.into_iter().collect();
        Ok(Journal { path: path.to_path_buf(), file, done, left_out, facts, later })
    }

    /// Adds lines, in one write.
    pub(super) fn add(&mut self, rows: &[Row]) -> Result<()> {
        let mut text = self.later()?;
        for row in rows {
            push(&mut text, row, self.facts.take().as_ref())?;
        }
        self.write(&text)
    }

    /// Adds the questions that results leave out, those that the file does not name yet; at the end of a run.
    pub(super) fn leave_out(&mut self, results: &Results) -> Result<()> {
        let mut text = self.later()?;
        for left_out in results.left_out.iter().filter(|left_out| !self.left_out.contains(left_out)) {
            push(&mut text, left_out, self.facts.take().as_ref())?;
        }
        if let Some(facts) = self.facts.take() {
            push_facts(&mut text, &facts)?;
        }
        self.write(&text)
    }

    fn later(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        self.later.take().map_or(Ok(()), |facts| push_facts(&mut text, &facts))?;
        Ok(text)
    }

    fn write(&mut self, text: &[u8]) -> Result<()> {
        self.file.write_all(text).and_then(|()| self.file.flush()).map_err(|error| Error::file(&self.path, error))
    }
}

/// Whether the end of a file after its last whole line can be what a stopped run left of a line.
fn is_cut_line(end: &[u8]) -> bool {
    let begins = |start: &[u8]| end.starts_with(start) || start.starts_with(end);
    begins(br#"{"benchmark":"#) || begins(br#"{"id":"#) || begins(br#"{"facts":"#)
}

/// Refuses to go on with answers of another state of the model. A file of an older version does not say.
fn check_facts(path: &Path, file: &Facts, now: &Facts) -> Result<()> {
    let path = path.display();
    if file.answers_sha256.is_empty() {
        return Ok(());
    }
    let error = if file.choices != now.choices {
        error!(Data, "`{path}` holds answers with `choices` {:?}, not {:?}", file.choices, now.choices)
    } else if !file.template.is_empty() && file.template != now.template {
        error!(
            Data,
            "`{path}` holds answers of this model asked by template `{}`, not by `{}`", file.template, now.template
        )
    } else if !file.image.is_empty() && file.image != now.image {
        error!(Data, "`{path}` holds answers to pictures under `image` \"{}\", not \"{}\"", file.image, now.image)
    } else if file.answers_sha256 != now.answers_sha256 {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let (file, now) = (short(&file.answers_sha256), short(&now.answers_sha256));
        error!(Data, "`{path}` holds answers of other weights or settings of this model: {file}, now {now}")
    } else {
        return Ok(());
    };
    Err(error.help("choose another `out`, or remove the file"))
}

//! A results file that grows while questions are answered, and from which a run that was stopped goes on. A line that was
//! cut off in the middle is taken away; everything before it counts.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::answers::Answer;
use super::benchmark::Benchmark;
use super::changes::Changes;
use super::contents::Contents;
use super::item::Item;
use super::result_file::{Facts, LeftOut, Lines, parse, push, push_facts};
use super::results::Results;
use super::row::Row;
use crate::error;
use crate::error::{Error, Result};
use crate::files;

/// What writing and reading may change of a score.
const SAME: f64 = 1e-12;

/// An open results file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Kept answers by id.
    pub(super) done: HashMap<String, Done>,
    /// What people should know of the kept answers.
    pub(super) told: Vec<String>,
    left_out: HashSet<LeftOut>,
    /// For the first line, until it is written.
    facts: Option<Facts>,
    /// For a line before new answers, where those that are there do not tell of this run.
    later: Option<Facts>,
}

/// A kept answer.
#[derive(Clone)]
pub(super) struct Done {
    pub(super) answer: Answer,
    /// Hashes of the pictures it is about, where the file says so.
    pub(super) pictures: Vec<String>,
}

/// What a run is about to ask.
pub(super) struct Planned<'a> {
    /// Its questions with their groups.
    pub(super) items: &'a [(&'a Item, &'a str)],
    /// Those of all its parts.
    pub(super) all: &'a [(&'a Item, &'a str)],
    pub(super) contents: &'a mut Contents,
}

impl Journal {
    /// Opens or makes the file. Kept answers to questions whose right answer, category or group is another one now are
    /// scored again, in the file as well.
    ///
    /// # Errors
    /// `Data` when it holds answers to another benchmark, of another model or of other weights, or another prompt or
    /// picture under the same id.
    pub(super) fn open(
        path: &Path,
        benchmark: &Benchmark,
        model: &str,
        facts: &Facts,
        planned: Planned,
    ) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        if let Some(folder) = path.parent() {
            crate::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = crate::fs::open_with(path, |how| how.read(true).write(true).create(true).truncate(false))
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = parse(path, &bytes[..whole])?;
        for row in &lines.rows {
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
        }
        check_facts(path, &lines.facts, facts)?;
        if !is_cut_line(&bytes[whole..]) {
            return Err(error!(Data, "`{}` is not a results file", path.display()).help("choose another `out`"));
        }
        let told = settle(path, &mut lines, benchmark, model, planned)?;
        if told.is_empty() {
            file.set_len(whole as u64).map_err(failed)?;
        } else {
            rewrite(path, &lines)?;
            file = crate::fs::open_with(path, |how| how.read(true).write(true)).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        // A file says what was asked; where this run asks otherwise, a line of its own says so.
        let (facts, later) = match whole {
            0 => (Some(facts.clone()), None),
            // What the answers of a file without facts go by is not known.
            _ if lines.facts == Facts::default() => (None, None),
            _ => (None, Some(facts.clone()).filter(|now| !lines.facts.covers(now))),
        };
        let left_out = lines.left_out.into_iter().collect();
        let done = |row: Row| {
            let answer = Answer { output: row.output, likelihoods: row.likelihoods };
            (row.id, Done { answer, pictures: row.pictures })
        };
        let done = lines.rows.into_iter().map(done).collect();
        Ok(Journal { path: path.to_path_buf(), file, done, told, left_out, facts, later })
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

/// Brings kept answers up to date with what is asked now; gives back what changed.
fn settle(path: &Path, lines: &mut Lines, benchmark: &Benchmark, model: &str, planned: Planned) -> Result<Vec<String>> {
    let (path, help) =
        (format!("`{}`", path.display()), "choose another `out`, or remove the file to ask everything again");
    let Planned { items, all, contents } = planned;
    let changes = Changes::new(&lines.rows, items.iter().map(|(item, _)| *item), contents);
    changes.refuse_asked(&path).map_err(|error| error.help(help))?;
    let now: HashMap<&str, &(&Item, &str)> = all.iter().map(|asked| (asked.0.id.as_str(), asked)).collect();
    let gone = lines.rows.iter().find(|row| all.len() >= benchmark.counts.found && !now.contains_key(row.id.as_str()));
    if let Some(row) = gone {
        return Err(
            error!(Data, "{path} answers question `{}`, which the data do not hold any more", row.id).help(help)
        );
    }
    // What is one draw depends on all questions: only with all of the file's at hand it is known.
    let regroup = lines.rows.iter().all(|row| now.contains_key(row.id.as_str()));
    let mut moved: Vec<String> = Vec::new();
    for row in &mut lines.rows {
        let Some((item, group)) = now.get(row.id.as_str()).copied() else { continue };
        let group = if regroup { *group } else { row.group.as_str() };
        let answer = Answer { output: row.output.clone(), likelihoods: row.likelihoods.clone() };
        let mut new = benchmark.row(model, (item, group), &answer, row.pictures.clone());
        if (new.score - row.score).abs() < SAME {
            new.score = row.score;
        }
        if new != *row && row.prompt == item.prompt {
            moved.push(row.id.clone());
            *row = new;
        }
    }
    let mut told = Vec::new();
    let (rows, mut seen) = (lines.rows.len(), HashSet::new());
    lines.rows.retain(|row| seen.insert(row.id.clone()));
    if let more @ 1.. = rows - lines.rows.len() {
        told.push(format!("{path}: {more} answers are there twice, the first of each counts"));
    }
    let scored = "kept answers are scored by what the data say now";
    told.extend(changes.told_golds().map(|golds| format!("{path}: {golds}; {scored}")));
    moved.retain(|id| !changes.golds.iter().any(|(other, ..)| other == id));
    if let Some(first) = moved.first() {
        let more = if moved.len() > 1 { format!(" and {} more", moved.len() - 1) } else { String::new() };
        told.push(format!(
            "{path}: the category, group or score of question `{first}`{more} is another one now; {scored}"
        ));
    }
    Ok(told)
}

/// Writes a file anew.
fn rewrite(path: &Path, lines: &Lines) -> Result<()> {
    let (mut text, mut facts) = (Vec::new(), Some(&lines.facts).filter(|facts| **facts != Facts::default()));
    for row in &lines.rows {
        push(&mut text, row, facts.take())?;
    }
    for left_out in &lines.left_out {
        push(&mut text, left_out, facts.take())?;
    }
    files::write(path, &text)
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
    } else if let (true, Some(what)) = (file.answers_sha256 != now.answers_sha256, other_facts(file, now)) {
        error!(Data, "`{path}` holds answers of another state of this model: {what}")
    } else if file.answers_sha256 != now.answers_sha256 {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let (file, now) = (short(&file.answers_sha256), short(&now.answers_sha256));
        error!(Data, "`{path}` holds answers of other weights or settings of this model: {file}, now {now}")
    } else {
        return Ok(());
    };
    Err(error.help("choose another `out`, or remove the file"))
}

/// What the files say of two models of one name that is not the same, beside where they were opened.
fn other_facts(file: &Facts, now: &Facts) -> Option<String> {
    let differ = file.made.iter().filter_map(|(key, then)| {
        let now = now.made.get(key).filter(|now| *now != then && !["folder", "made of"].contains(&key.as_str()))?;
        Some(format!("{key} {then}, now {now}"))
    });
    let differ: Vec<String> = differ.collect();
    (!differ.is_empty()).then(|| differ.join("; "))
}

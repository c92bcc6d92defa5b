//! `llmore rerun`: runs the script of a run, a study or a study's cell again, in a folder of its own, and compares the outcome
//! with the original. Nothing is written into the folder of the original, and nothing there is continued.

use std::path::{Path, PathBuf};

use super::args::Args;
use super::compared::Comparison;
use super::say::tell;
use super::{OpenedSession, session_repeating};
use crate::error;
use crate::error::Result;
use crate::files::RUN_LOCK;
use crate::script::{Overrides, Repeat, folder_name};
use crate::settings::Settings;
use crate::study::Repeated;
use crate::train::{Run, RunPlace};

/// The depth to which runs are looked for in a folder.
const DEPTH: usize = 6;

/// Makes a run again and compares the two.
pub(super) fn rerun(args: &Args, settings: &Settings, path: &Path) -> Result<i32> {
    let asked = asked(path)?;
    let lock = asked.lock.clone();
    if lock.script_hash() != lock.script_sha256 {
        return Err(error!(Decode, "the script in run.lock of `{}` was changed", path.display())
            .help("what it computed can only be made again by the script that made it"));
    }
    let root = new_folder(Path::new("runs"), path)?;
    if !args.quiet {
        tell(&format!("making `{}` again in `{}`", path.display(), root.display()));
    }
    let overrides = Overrides::of_table(&lock.set)?;
    let mut opened =
        session_repeating(args, settings, overrides, lock.args.clone(), Some((asked.clone(), root.clone())))?;
    let ended = opened.evaluate(RUN_LOCK, &lock.script);
    let code = opened.code(ended);
    if opened.interrupt.is_set() {
        // Half of a run is no answer to whether it is the same.
        return Ok(code);
    }
    let compared = compared(&asked, path, &root, &opened)?;
    // The folder is missing when the script failed early.
    let _ = crate::fs::remove_dir(&root);
    match compared {
        Some(compared) => Ok(match (code, compared.print(args.json)) {
            (0, verdict) => verdict,
            (failed, _) => failed,
        }),
        None if code != 0 => Ok(code),
        None => Err(error!(
            Data,
            "nothing was compared: the script, run again, did not train what `{}` holds",
            path.display()
        )
        .help("it may have read what it found instead of training; or look at what it wrote yourself")),
    }
}

/// What a path names: a run, a study, or a cell of one.
fn asked(path: &Path) -> Result<Repeat> {
    if let Some(study) = Repeated::of(path)? {
        let lock = study.lock()?;
        return Ok(Repeat { lock, folder: study.folder.clone(), study: Some(study) });
    }
    let run = open(path)?;
    Ok(Repeat { lock: run.lock()?, folder: path.to_path_buf(), study: None })
}

/// Opens a run folder; for a folder that only contains runs or studies, the error lists them.
pub(super) fn open(path: &Path) -> Result<Run> {
    Run::open(path).map_err(|error| {
        let studies = studies_below(path);
        let mut found = below(path);
        found.retain(|run| !studies.iter().any(|study| run.starts_with(study)));
        let names = studies.iter().chain(&found).take(3).map(|run| format!("`{}`", run.display()));
        let names: Vec<String> = names.collect();
        if names.is_empty() { error } else { error.help(format!("runs in it: {}", names.join(", "))) }
    })
}

/// A new folder for what a rerun writes.
fn new_folder(runs: &Path, asked: &Path) -> Result<PathBuf> {
    let real = std::fs::canonicalize(asked).unwrap_or_else(|_| asked.to_path_buf());
    let name = real.file_name().map_or("run".to_string(), |name| name.to_string_lossy().into_owned());
    RunPlace::Numbered(runs.join(folder_name(&format!("rerun-{name}")))).make()
}

/// The comparison of the rerun with the original; `None` when the rerun did not train what was asked for.
fn compared(asked: &Repeat, path: &Path, root: &Path, opened: &OpenedSession) -> Result<Option<Comparison>> {
    let written = opened.session.rewritten();
    let mut compared = match &asked.study {
        Some(study) => {
            let is_again = |place: &&PathBuf| Repeated::of(place).is_ok_and(|found| found.is_some());
            let made = written.iter().map(|(_, place)| place.clone()).chain(studies_below(root));
            let number = |place: &PathBuf| {
                let found = Repeated { folder: place.clone(), cell: study.cell.clone() };
                found.lock().is_ok_and(|lock| lock.number == asked.lock.number)
            };
            match made.into_iter().find(|place| is_again(&place) && number(place)) {
                Some(again) => Comparison::studies(&study.folder, &again, study.cell.as_deref())?,
                None => return Ok(None),
            }
        }
        None => {
            let runs = below(root).into_iter().filter_map(|folder| Run::open(&folder).ok());
            let is_again = |run: &Run| {
                let of_study = Repeated::of(run.dir()).is_ok_and(|study| study.is_some());
                !of_study && run.lock().is_ok_and(|lock| lock.number == asked.lock.number)
            };
            match runs.into_iter().find(is_again) {
                Some(again) => Comparison::runs(&Run::open(path)?, &again, &["out"])?,
                None => return Ok(None),
            }
        }
    };
    // A smoke run writes its answers elsewhere: the file that has the name in the script belongs to another run.
    if !asked.lock.disposable && asked.study.is_none() {
        let is_answers = |path: &Path| path.extension().is_some_and(|e| e == "jsonl") && path.is_file();
        for (named, place) in written.iter().filter(|(named, place)| is_answers(named) && is_answers(place)) {
            // Relative to the working folder, as people write it.
            let here = std::env::current_dir().unwrap_or_default();
            compared.answers(named.strip_prefix(&here).unwrap_or(named), place)?;
        }
    }
    if compared.count == 0 {
        compared.print(false);
        return Ok(None);
    }
    Ok(Some(compared))
}

/// The run folders in a folder, itself included.
fn below(folder: &Path) -> Vec<PathBuf> {
    search(folder, RUN_LOCK, DEPTH)
}

fn studies_below(folder: &Path) -> Vec<PathBuf> {
    search(folder, crate::study::RECORD, DEPTH)
}

/// Folders that contain a file of this name, in order.
fn search(folder: &Path, file: &str, depth: usize) -> Vec<PathBuf> {
    let mut found = if folder.join(file).is_file() { vec![folder.to_path_buf()] } else { Vec::new() };
    let Some(deeper) = depth.checked_sub(1) else { return found };
    let entries = crate::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    found.extend(folders.iter().flat_map(|folder| search(folder, file, deeper)));
    found
}

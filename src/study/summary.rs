//! `summary.json` of a study: for each cell its runs, which have summaries of their own, and the hashes of its answers. Written
//! whenever `run` ends; `verify` checks whether all of it is still there and unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cells::below;
use super::folder::Folder;
use super::record::Record;
use crate::error;
use crate::error::{Context, Error, Result};
use crate::files::{self, RUN_LOCK};
use crate::train::{Moved, Run, SUMMARY, Verified};
use crate::weights::sha256_of;

/// The outcome of a study.
#[derive(Serialize, Deserialize)]
struct Summary {
    llmore: String,
    build: String,
    /// The signal that ended it early, or what else asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interrupted: Option<String>,
    cells: BTreeMap<String, CellSummary>,
}

#[derive(Serialize, Deserialize)]
struct CellSummary {
    encoder: String,
    llm: String,
    seed: u64,
    done: bool,
    /// Run folders, relative to the study's.
    stages: Vec<String>,
    /// Files of answers, relative to the study's folder, with their SHA-256.
    answers: BTreeMap<String, String>,
}

/// Writes the summary of the study in a folder.
pub(super) fn write(
    dir: &Path,
    record: &Record,
    (llmore, build): (&str, &str),
    interrupted: Option<&str>,
) -> Result<()> {
    let mut cells = BTreeMap::new();
    for cell in &record.cells {
        let mut answers = BTreeMap::new();
        for result in &cell.results {
            let path = below(dir, &result.file)?;
            if path.is_file() {
                let hash = sha256_of(&path).map_err(|error| Error::file(&path, error))?;
                answers.insert(result.file.clone(), hash);
            }
        }
        let summary = CellSummary {
            encoder: cell.encoder.clone(),
            llm: cell.llm.clone(),
            seed: cell.seed,
            done: record.left(cell).is_empty(),
            stages: cell.stages.clone(),
            answers,
        };
        cells.insert(cell.id.clone(), summary);
    }
    let summary = Summary {
        llmore: llmore.to_string(),
        build: build.to_string(),
        interrupted: interrupted.map(str::to_string),
        cells,
    };
    let text = serde_json::to_vec_pretty(&summary).map_err(|error| error!(File, "{SUMMARY}: {error}"))?;
    files::write(&dir.join(SUMMARY), &text)
}

impl Folder {
    /// Checks everything of which the summaries of the study and of its runs have a hash.
    ///
    /// # Errors
    /// `Missing` for a study whose `run` has not ended yet, `Decode` for files that cannot be read as summaries.
    pub fn verify(dir: &Path) -> Result<Verified> {
        let path = dir.join(SUMMARY);
        if !path.is_file() {
            return Err(error!(Missing, "`{}` has no {SUMMARY}: the study's `run` has not ended", dir.display())
                .help("`run()` of the study writes one whenever it ends"));
        }
        let text = crate::fs::read(&path).map_err(|error| Error::file(&path, error))?;
        let summary: Summary =
            serde_json::from_slice(&text).map_err(|error| error!(Decode, "`{}`: {error}", path.display()))?;
        let mut found = Verified::of(&summary.build);
        let mut seen = BTreeSet::new();
        for cell in summary.cells.values() {
            for (file, then) in &cell.answers {
                let now = sha256_of(&below(dir, file)?).unwrap_or_else(|_| "not there".to_string());
                found.add(file.clone(), then.clone(), now);
            }
            // Cells share runs, so each is checked once.
            for stage in cell.stages.iter().filter(|stage| seen.insert(stage.to_string())) {
                let folder = below(dir, stage)?;
                if !folder.exists() && !cell.done {
                    continue;
                }
                match Run::open(&folder).and_then(|run| run.verify()) {
                    Ok(run) => found.take(stage, run),
                    Err(_) if folder.join(RUN_LOCK).is_file() && !cell.done => {}
                    Err(error) if !folder.join(RUN_LOCK).is_file() => {
                        found.moved.push(Moved {
                            what: stage.clone(),
                            then: "a run".to_string(),
                            now: error.message(),
                        });
                    }
                    Err(error) => return Err(error).context(|| format!("`{stage}`")),
                }
            }
        }
        Ok(found)
    }
}

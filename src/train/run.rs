//! Run folders: `run.lock` says everything the run depends on, `events.jsonl` everything that happened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::options::{TrainOptions, changes_results};
use crate::error::{Error, Result};
use crate::events::{Event, EventFile, Step, read_events, steps};
use crate::files::{EVENTS, RUN_LOCK};
use crate::writer::Writer;
use crate::{error, guard};

/// What a run folder, or a study's, holds of what came of it.
pub const SUMMARY: &str = "summary.json";

/// Everything a run depends on; `run.lock` in TOML.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    pub llmore: String,
    /// A hash of the sources it was built from, which is what two builds are compared by.
    #[serde(default)]
    pub build: String,
    /// The commit it was built at, `-dirty` behind it where files were changed: for people, compared by nobody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    pub device: String,
    pub threads: usize,
    pub model: String,
    /// Over all weights before step 0.
    pub weights_sha256: String,
    pub dataset: String,
    pub dataset_sha256: String,
    pub script_sha256: String,
    /// The script as it was run.
    pub script: String,
    /// What the script saw as `args`.
    #[serde(default)]
    pub args: Vec<String>,
    /// Which trainer of the script this is, from 0.
    #[serde(default)]
    pub number: u64,
    /// Whether another run may take its place: nothing of it is worth keeping.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disposable: bool,
    /// What the script imports, by path from the script's folder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
    /// `--set` of the command line.
    #[serde(default)]
    pub set: Table,
    /// Every option of the trainer with its resolved value.
    pub options: Table,
    /// What the model and the data were at step 0, by name (`Vlm::identity`, and of the data their length and pictures);
    /// empty in a file of an older version.
    #[serde(default)]
    pub identity: BTreeMap<String, String>,
}

impl Lock {
    /// Resolves every option to the value it has in this run.
    pub(super) fn set_options(&mut self, options: &TrainOptions, steps: u64, template: &str) -> Result<()> {
        let mut table =
            Table::try_from(options).map_err(|error| error!(File, "the options cannot be written: {error}"))?;
        table.insert("steps".to_string(), Value::Integer(steps as i64));
        table.insert("template".to_string(), Value::String(template.to_string()));
        self.options = table;
        Ok(())
    }

    /// A hash of the script and what it imports.
    pub fn script_hash(&self) -> String {
        let mut hash = Sha256::new_with_prefix(&self.script);
        for (name, text) in &self.modules {
            hash.update(format!("\n{name}\n{}\n{text}", text.len()));
        }
        format!("{:x}", hash.finalize())
    }

    /// What differs between two locks in a way that changes results: which option, which key of a config, which part's
    /// weights, each with both values.
    pub fn differences(&self, other: &Lock) -> Vec<String> {
        let mut found = Vec::new();
        // What identifies a model also tells two files of the same name apart, and knows the same files under two names.
        let known = !self.identity.is_empty() && !other.identity.is_empty();
        let mut facts = vec![
            ("dataset_sha256", &self.dataset_sha256, &other.dataset_sha256),
            ("device", &self.device, &other.device),
            ("llmore", &self.llmore, &other.llmore),
        ];
        if !self.build.is_empty() && !other.build.is_empty() {
            facts.push(("build of llmore", &self.build, &other.build));
        }
        if !known {
            facts.push(("model", &self.model, &other.model));
            facts.push(("weights_sha256", &self.weights_sha256, &other.weights_sha256));
        }
        for (key, then, now) in facts {
            if then != now {
                let of =
                    if key == "dataset_sha256" { format!(" (data set `{}`)", other.dataset) } else { String::new() };
                found.push(format!("{}{of}", differs(key, then, now)));
            }
        }
        if known {
            found.extend(self.identity_differences(other, ""));
        }
        let keys: std::collections::BTreeSet<&String> = self.options.keys().chain(other.options.keys()).collect();
        for key in keys.into_iter().filter(|key| changes_results(key)) {
            let (then, now) = (self.options.get(key), other.options.get(key));
            if then != now {
                let show = |value: Option<&Value>| value.map_or("not set".to_string(), Value::to_string);
                found.push(format!("`{key}` was {}, is {}", show(then), show(now)));
            }
        }
        found
    }

    /// What differs between two of what model and data were, of the facts whose names begin so (`encoder.`, `llm.`, `data.`,
    /// or all).
    pub fn identity_differences(&self, other: &Lock, prefix: &str) -> Vec<String> {
        let (then, now) = (&self.identity, &other.identity);
        let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let missing = "not there".to_string();
        let value = |of: &BTreeMap<String, String>, key: &String| of.get(key).unwrap_or(&missing).clone();
        keys.into_iter()
            .filter(|key| key.starts_with(prefix) && then.get(*key) != now.get(*key))
            .map(|key| differs(key, &value(then, key), &value(now, key)))
            .collect()
    }
}

/// A sentence about a value that changed; the beginning of a hash tells as much as all of it.
fn differs(key: &str, then: &str, now: &str) -> String {
    let short = |value: &str| match value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => format!("{}..", &value[..12]),
        false => value.to_string(),
    };
    format!("`{key}` was {}, is {}", short(then), short(now))
}

/// A run folder.
#[derive(Clone, Debug)]
pub struct Run {
    pub(super) dir: PathBuf,
}

impl Run {
    /// Opens a run folder.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.join(RUN_LOCK).is_file() {
            return Err(error!(Missing, "`{}` is not a run folder: it has no run.lock", dir.display())
                .help("`t.fit()` makes run folders, `llmore ls runs` lists those in `runs/`"));
        }
        Ok(Run { dir: dir.to_path_buf() })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was started with.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.dir.join(RUN_LOCK);
        let text = crate::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        guard::read("toml", &path.display(), || {
            toml::from_str(&text).map_err(|error| error!(Decode, "`{}`: {}", path.display(), error.message()))
        })
    }

    /// `running` while somebody trains it; else how it ended: `done`, `paused` (by Ctrl-C), `stopped` (by the function given
    /// to `fit`), `failed`, or `interrupted` when no event says how.
    pub fn status(&self) -> Result<String> {
        if Writer::holder(&self.dir).is_some() {
            return Ok("running".to_string());
        }
        let ended = read_events(&self.dir.join(EVENTS))?.into_iter().rev().find_map(|event| match event {
            Event::End { status, .. } => Some(status),
            Event::Start { .. } => Some("interrupted".to_string()),
            _ => None,
        });
        Ok(ended.unwrap_or_else(|| "interrupted".to_string()))
    }

    /// The newest complete checkpoint.
    pub fn checkpoint(&self) -> Result<Option<PathBuf>> {
        Ok(checkpoints(&self.dir)?.pop().map(|(_, path)| path))
    }

    /// The same.
    ///
    /// # Errors
    /// `Missing` when there is none.
    pub(super) fn newest(&self) -> Result<PathBuf> {
        self.checkpoint()?.ok_or_else(|| error!(Missing, "`{}` has no complete checkpoint", self.dir.display()))
    }

    /// The function given to `fit` that ended the run for good, as a hash, and after which step.
    pub(super) fn stopped(&self) -> Result<Option<(u64, String)>> {
        let (path, mut stopped) = (self.dir.join(EVENTS), None);
        // Events that are lost cannot say; the checkpoint is what a run goes on from.
        let events = if path.is_file() { read_events(&path)? } else { Vec::new() };
        for event in events {
            match event {
                Event::Start { .. } => stopped = None,
                Event::Stopped { step, by } => stopped = Some((step, by)),
                _ => {}
            }
        }
        Ok(stopped)
    }

    /// The steps of the run in order.
    pub fn steps(&self) -> Result<Vec<Step>> {
        Ok(steps(&read_events(&self.dir().join(EVENTS))?))
    }

    pub(super) fn event_file(&self) -> Result<EventFile> {
        EventFile::open(&self.dir.join(EVENTS))
    }
}

/// The complete checkpoints of a run, oldest first.
pub fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in crate::fs::read_dir(run).map_err(|error| Error::file(run, error))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("checkpoint-").and_then(|step| step.parse().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

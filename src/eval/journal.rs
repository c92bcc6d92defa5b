//! A results file that grows while questions are answered, and from which a run that was stopped goes on. A line that was
//! cut off in the middle is taken away; everything before it counts.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::benchmark::Benchmark;
use super::results::Row;
use crate::error::{Error, Result};
use crate::{bail, error};

/// An open results file.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Outputs by id.
    pub(super) done: HashMap<String, String>,
}

impl Journal {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// `Data` when it holds another benchmark's or model's answers, or another prompt under the same id.
    pub(super) fn open(path: &Path, benchmark: &Benchmark, model: &str) -> Result<Self> {
        let failed = |error| Error::file(path, error);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let prompts: HashMap<&str, &str> =
            benchmark.items.iter().map(|item| (item.id.as_str(), item.prompt.as_str())).collect();
        let mut done = HashMap::new();
        for (line, text) in bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, text)| !text.is_empty())
        {
            let row: Row = serde_json::from_slice(text)
                .map_err(|error| error!(Decode, "`{}`, line {}: {error}", path.display(), line + 1))?;
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
            match prompts.get(row.id.as_str()) {
                Some(prompt) if *prompt != row.prompt => {
                    bail!(Data, "`{}`: the prompt of question `{}` is another one now", path.display(), row.id)
                }
                _ => done.insert(row.id, row.output),
            };
        }
        Ok(Journal { path: path.to_path_buf(), file, done })
    }

    /// Adds lines, in one write.
    pub(super) fn add(&mut self, rows: &[Row]) -> Result<()> {
        let mut text = Vec::new();
        for row in rows {
            serde_json::to_writer(&mut text, row)
                .map_err(|error| error!(File, "`{}`: {error}", self.path.display()))?;
            text.push(b'\n');
        }
        self.file.write_all(&text).and_then(|()| self.file.flush()).map_err(|error| Error::file(&self.path, error))
    }
}

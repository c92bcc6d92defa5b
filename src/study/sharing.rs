//! Several processes working on one study. Each cell is run by one of them at a time; study.toml is read, merged with
//! what is new and written under a lock of the folder, so that no process overwrites what another has recorded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Study;
use super::asked::AskedQuestions;
use super::cells::{StudyCell, below};
use super::record::{FILE, Record};
use super::run::{Progress, progress};
use super::standing::{look, look_at_cell};
use crate::error::{Context, Kind, Result};
use crate::events::Event;
use crate::writer::{Holder, Writer};

/// How long to wait for other processes that hold study.toml.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

impl Study {
    /// Merges this study with the current record in its folder, and writes the result.
    pub(super) fn begin(&mut self) -> Result<()> {
        let dir = self.options.out.clone();
        let _lock = folder(&dir)?;
        let mut joined = None;
        if let Some(there) = record(&dir)? {
            there
                .refuse_drift(&self.record, &AskedQuestions::open(&dir)?, &self.asked)
                .context(|| format!("the study in `{}`", dir.display()))?;
            self.record.cells = self.record.lay_out(&there.cells);
            look(&dir, &mut self.record, &self.asked)?;
            let own: Vec<usize> = (0..self.record.cells.len()).collect();
            joined = Some(self.record.joined(&there, &own));
        }
        joined.as_ref().unwrap_or(&self.record).write(&dir)?;
        self.asked.write(&dir)
    }

    /// Records the outcome of a cell.
    pub(super) fn note(&mut self, number: usize) -> Result<()> {
        let dir = self.options.out.clone();
        let _lock = folder(&dir)?;
        let joined = record(&dir)?.map(|there| self.record.joined(&there, &[number]));
        joined.as_ref().unwrap_or(&self.record).write(&dir)
    }

    /// Takes over what other processes did in the meantime, and reports which cells they are working on.
    pub(super) fn end(&mut self) -> Result<()> {
        let dir = self.options.out.clone();
        look(&dir, &mut self.record, &self.asked)?;
        if let Some(there) = record(&dir)? {
            for cell in &mut self.record.cells {
                if let Some(there) = there.cells.iter().find(|there| there.id == cell.id) {
                    cell.error.clone_from(&there.error);
                }
            }
        }
        let left = self.record.cells.iter().filter(|cell| !self.record.left(cell).is_empty());
        let held: Vec<String> =
            left.filter_map(|cell| Some(format!("{} by {}", cell.id, self.holder(cell)?))).collect();
        if !held.is_empty() {
            let text = format!("left to other processes, which are running them now: {}", held.join("; "));
            self.setup.listeners.tell(&Event::Warning { text });
        }
        Ok(())
    }

    /// Whether anything of a cell is left to do, judged by its files as they are now.
    pub(super) fn is_left_now(&mut self, number: usize) -> Result<bool> {
        look_at_cell(&self.options.out, &mut self.record, &self.asked, number)?;
        Ok(!self.record.left(&self.record.cells[number]).is_empty())
    }

    /// The locks for running a cell: its own and those of cells whose unfinished stages it shares; `None` when
    /// another process holds one of them.
    pub(super) fn take(&self, number: usize) -> Result<Option<Vec<Writer>>> {
        let cell = &self.record.cells[number];
        let mut folders = vec![below(&self.options.out, &cell.folder)?];
        for stage in 0..cell.stages.len() {
            let owner = below(&self.options.out, &self.record.owner(cell, stage).folder)?;
            if !folders.contains(&owner) && progress(&self.run_folder(cell, stage)?)? != Progress::Done {
                folders.push(owner);
            }
        }
        let mut writers = Vec::with_capacity(folders.len());
        let mut notes = BTreeSet::new();
        for folder in &folders {
            match Writer::take(folder) {
                Ok((writer, note)) => {
                    writers.push(writer);
                    notes.extend(note);
                }
                Err(error) if error.kind() == Kind::Busy => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        for text in notes {
            self.setup.listeners.tell(&Event::Warning { text });
        }
        Ok(Some(writers))
    }

    /// The process that runs a cell now, or the stage that the cell waits for.
    pub(super) fn holder(&self, cell: &StudyCell) -> Option<Holder> {
        let mut folders: Vec<&String> = vec![&cell.folder];
        folders.extend((0..cell.stages.len()).map(|stage| &self.record.owner(cell, stage).folder));
        let path = |folder: &String| -> Option<PathBuf> { below(&self.options.out, folder).ok() };
        folders.into_iter().find_map(|folder| Writer::holder(&path(folder)?))
    }
}

/// The record in the folder, if it is the folder of a study already.
fn record(dir: &Path) -> Result<Option<Record>> {
    if dir.join(FILE).is_file() { Record::open(dir).map(Some) } else { Ok(None) }
}

/// The lock for writing in the folder itself; waits, because others hold it for moments only.
fn folder(dir: &Path) -> Result<Writer> {
    let start = Instant::now();
    loop {
        match Writer::take(dir) {
            Ok((writer, _)) => return Ok(writer),
            Err(error) if error.kind() == Kind::Busy && start.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.context(format!("writing `{}`", dir.join(FILE).display()))),
        }
    }
}

//! Running a study: cell after cell, stage after stage, benchmark after benchmark. What is on disk is not done again: a
//! run goes on from its last checkpoint, a results file from its last line, and of a finished run the weights are read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Study;
use super::cells::{Cell, below};
use super::parts::Kept;
use super::titled::Titled;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::eval::{self, AnswerCache, Choices, Control, RunOptions};
use crate::events::{Event, Listeners};
use crate::show::Table;
use crate::train::{Run, Status, Trainer, checkpoints};
use crate::vlm::Vlm;

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// There is a checkpoint of this step.
    At(u64),
    New,
}

impl Study {
    /// Does what is left to do and gives the summary. A cell that fails is written down with its error, and the others go
    /// on; the next `run` tries it again.
    ///
    /// # Errors
    /// `Interrupted` when somebody asked for it: everything done is on disk. What the folder itself gives.
    pub fn run(&mut self) -> Result<Table> {
        self.record.write(&self.options.out)?;
        let mut kept = Kept::default();
        for number in 0..self.record.cells.len() {
            let cell = &self.record.cells[number];
            if cell.error.is_none() && self.record.left(cell).is_empty() {
                continue;
            }
            let title = format!("cell {} of {}, {}", number + 1, self.record.cells.len(), self.record.short_name(cell));
            let ran = self.run_cell(number, &mut kept, &Titled::listeners(title.clone(), &self.setup.listeners));
            let stopped = |error: &Error| error.kind() == Kind::Interrupted || self.setup.interrupt.is_set();
            if let Some(error) = ran.as_ref().err().filter(|error| stopped(error)) {
                return Err(error!(Interrupted, "{title}: {}", error.message()).help(
                    "what was done is on disk; `run()` of the same study with the same `out` goes on from there",
                ));
            }
            self.record.cells[number].error = ran.as_ref().err().map(Error::message);
            if let Err(error) = ran {
                let text = format!("{title} failed, the others go on: {}", error.message());
                self.setup.listeners.tell(&Event::Warning { text });
            }
            self.record.write(&self.options.out)?;
        }
        Ok(self.summary())
    }

    fn run_cell(&mut self, number: usize, kept: &mut Kept, listeners: &Listeners) -> Result<()> {
        let cell = self.record.cells[number].clone();
        let vlm = self.compose(&cell, kept)?;
        for stage in 0..self.stages.len() {
            self.run_stage(&vlm, (&cell, stage), kept, listeners).context(|| self.stage_name(stage))?;
        }
        for place in self.record.left(&cell) {
            self.stop_if_asked()?;
            let result = &cell.results[place];
            let Some(benchmark) = self.options.benchmarks.iter().find(|b| b.id == result.benchmark) else { continue };
            let out = below(&self.options.out, &result.file)?;
            let results = eval::run(&vlm, benchmark, &self.asking(Some(out), listeners.clone()))?;
            if let Some(first) = results.left_out.first() {
                let (n, id) = (results.left_out.len(), &result.benchmark);
                let text = format!("{id}: {n} questions were left out, the first: {}", first.why);
                listeners.tell(&Event::Warning { text });
            }
            self.record.cells[number].results[place].answered = Some(results.rows.len());
            self.record.write(&self.options.out)?;
        }
        Ok(())
    }

    /// Brings the model to the end of a stage.
    fn run_stage(
        &self,
        vlm: &Arc<Vlm>,
        (cell, stage): (&Cell, usize),
        kept: &mut Kept,
        listeners: &Listeners,
    ) -> Result<()> {
        self.stop_if_asked()?;
        let folder = self.run_folder(cell, stage)?;
        let mut trainer = self.trainer(vlm, (cell, stage), kept, listeners.clone())?;
        match progress(&folder)? {
            Progress::Done => {
                trainer.restore(&folder)?;
                return Run::open(&folder)?.keep_weights();
            }
            Progress::At(_) => trainer.resume(&folder)?,
            // A run that came to no checkpoint holds nothing to go on from.
            Progress::New if folder.exists() => {
                std::fs::remove_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
            }
            Progress::New => {}
        }
        if trainer.done() == 0 {
            self.same_data(stage, &trainer)?;
        }
        let (steps, status) = (trainer.steps(), trainer.fit(&mut |_| Ok(true))?);
        let Some(run) = trainer.run().filter(|_| status == Status::Done) else {
            return Err(error!(Interrupted, "stopped after {} of {steps} steps", trainer.done()));
        };
        run.keep_weights()
    }

    /// How benchmarks are asked.
    pub(super) fn asking(&self, out: Option<PathBuf>, listeners: Listeners) -> RunOptions {
        RunOptions {
            batch: self.options.batch,
            name: None,
            control: Control::Off,
            choices: Choices::default(),
            cache: Some(AnswerCache::in_memory()),
            out,
            limit: None,
            shard: None,
            listeners,
            interrupt: self.setup.interrupt.clone(),
        }
    }

    /// Refuses data of other contents than those that another cell was trained on.
    fn same_data(&self, stage: usize, trainer: &Trainer) -> Result<()> {
        for cell in &self.record.cells {
            let Ok(run) = Run::open(&self.run_folder(cell, stage)?) else { continue };
            if run.lock()?.dataset_sha256 != trainer.dataset().sha256() {
                return Err(error!(Data, "the data are not those that {} was trained on", cell.id)
                    .help("give `data` what it had, or choose another `out` for another study"));
            }
        }
        Ok(())
    }

    pub(super) fn stop_if_asked(&self) -> Result<()> {
        match self.setup.interrupt.is_set() {
            true => Err(error!(Interrupted, "stopped before it began")),
            false => Ok(()),
        }
    }

    /// What the recipe calls a stage.
    pub(super) fn stage_name(&self, stage: usize) -> String {
        let name = self.stages[stage].get("name").and_then(toml::Value::as_str);
        name.map_or_else(|| format!("stage {}", stage + 1), str::to_string)
    }
}

/// How far the run in a folder is.
///
/// # Errors
/// What reading the folder gives: only what was read is known to be new.
pub(super) fn progress(folder: &Path) -> Result<Progress> {
    if !folder.exists() {
        return Ok(Progress::New);
    }
    let Some((step, _)) = checkpoints(folder)?.pop() else { return Ok(Progress::New) };
    let is_done = Run::open(folder)?.status()? == Status::Done.name();
    Ok(if is_done { Progress::Done } else { Progress::At(step) })
}

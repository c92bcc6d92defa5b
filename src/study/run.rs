//! Running a study: cell after cell, stage after stage, benchmark after benchmark. What is on disk is not done again: a
//! run resumes from its last checkpoint, a results file from its last line, and the weights of a finished run are read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Study;
use super::cells::{StudyCell, below};
use super::parts::{SharedParts, rate};
use super::titled::Titled;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::eval::{self, AnswerCache, Choices, Control, Results, RunOptions};
use crate::events::{Event, Listeners};
use crate::show::Table;
use crate::text::Template;
use crate::train::{Run, Status, checkpoints};
use crate::vlm::{Part, Vlm};
use crate::weights::TensorFiles;

/// The progress of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// There is a checkpoint of this step.
    At(u64),
    New,
}

impl Study {
    /// Does what is left to do and returns the summary. A cell that fails is recorded with its error, and the others
    /// continue; the next `run` tries it again. Cells that another process works on are left to it and listed.
    ///
    /// # Errors
    /// `Interrupted` on request: everything done is on disk. The errors of the folder itself.
    pub fn run(&mut self) -> Result<Table> {
        self.begin()?;
        self.check_questions()?;
        let (mut kept, mut tried) = (SharedParts::default(), BTreeSet::new());
        loop {
            let (mut busy, mut worked) = (false, false);
            for number in 0..self.record.cells.len() {
                let is_wanted = self.is_wanted(&self.record.cells[number]);
                if tried.contains(&number) || !is_wanted || !self.is_left_now(number)? {
                    continue;
                }
                let Some(_writers) = self.take(number)? else {
                    busy = true;
                    continue;
                };
                // Another process may have finished it just now.
                if !self.is_left_now(number)? {
                    continue;
                }
                tried.insert(number);
                worked = true;
                self.try_cell(number, &mut kept).inspect_err(|error| self.note_stop(error))?;
            }
            // Cells held by another process may be free by now, done or not.
            if !(busy && worked) {
                break;
            }
        }
        self.end()?;
        self.write_summary(None)?;
        Ok(self.summary())
    }

    /// Writes what the study came to; `interrupted` says what ended it early.
    fn write_summary(&self, interrupted: Option<&str>) -> Result<()> {
        let by = (self.setup.lock.llmore.as_str(), self.setup.lock.build.as_str());
        super::summary::write(&self.options.out, &self.record, by, interrupted)
    }

    /// Notes in the summary that the study was stopped. The error is told either way.
    fn note_stop(&self, error: &Error) {
        let cause = self.setup.interrupt.cause().filter(|_| error.kind() == Kind::Interrupted);
        if let Some(cause) = cause {
            let _ = self.write_summary(Some(cause.name()));
        }
    }

    /// Runs a cell and records the outcome.
    fn try_cell(&mut self, number: usize, kept: &mut SharedParts) -> Result<()> {
        let cell = &self.record.cells[number];
        let title = format!("cell {} of {}, {}", number + 1, self.record.cells.len(), self.record.short_name(cell));
        let ran = self.run_cell(number, kept, &Titled::listeners(title.clone(), &self.setup.listeners));
        let stopped = |error: &Error| error.kind() == Kind::Interrupted || self.setup.interrupt.is_set();
        if let Some(error) = ran.as_ref().err().filter(|error| stopped(error)) {
            return Err(error!(Interrupted, "{title}: {}", error.message())
                .help("what was done is on disk; `run()` of the same study with the same `out` goes on from there"));
        }
        self.record.cells[number].error = ran.as_ref().err().map(Error::message);
        if let Err(error) = ran {
            let text = format!("{title} failed, the others go on: {error}");
            self.setup.listeners.tell(&Event::Warning { text });
        }
        self.note(number)
    }

    fn run_cell(&mut self, number: usize, kept: &mut SharedParts, listeners: &Listeners) -> Result<()> {
        let cell = self.record.cells[number].clone();
        let vlm = self.compose(&cell, kept)?;
        let (first, mut trained) = (self.later_stage(&vlm, &cell, kept)?, false);
        for stage in first..self.stages.len() {
            let ran = self.run_stage(&vlm, (&cell, stage), kept, listeners);
            trained |= ran.context(|| self.stage_name(stage))?;
        }
        for place in self.record.left(&cell) {
            self.stop_if_asked()?;
            let result = &cell.results[place];
            let Some(benchmark) = self.options.benchmarks.iter().find(|b| b.id == result.benchmark) else { continue };
            let out = below(&self.options.out, &result.file)?;
            if trained {
                self.remove_stale(&out, &vlm, listeners)?;
            }
            let results = eval::run(&vlm, benchmark, &self.asking(Some(out), listeners.clone()))?;
            if let Some(first) = results.left_out.first() {
                let (n, id) = (results.left_out.len(), &result.benchmark);
                let text = format!("{id}: {n} questions were left out, the first: {}", first.why);
                listeners.tell(&Event::Warning { text });
            }
            self.record.cells[number].results[place].answered = Some(results.rows.len());
            self.note(number)?;
        }
        Ok(())
    }

    /// Removes answers given by weights that no longer exist, or by another build: what takes their place need not be equal to
    /// the last bit.
    fn remove_stale(&self, file: &Path, vlm: &Vlm, listeners: &Listeners) -> Result<()> {
        if !file.is_file() {
            return Ok(());
        }
        let then = Results::open(file).map_or_else(|_| "?".to_string(), |results| results.facts.answers_sha256);
        if then == vlm.answers_sha256()? {
            return Ok(());
        }
        let text = format!(
            "`{}` held answers of other weights or of another build of llmore: all questions are asked again",
            file.display()
        );
        listeners.tell(&Event::Warning { text });
        crate::fs::remove_file(file).map_err(|error| Error::file(file, error))
    }

    /// The last finished stage whose checkpoint holds all weights trained so far, where the runs before it are gone.
    pub(super) fn whole_at(&self, cell: &StudyCell) -> Result<Option<usize>> {
        let state = |stage| progress(&self.run_folder(cell, stage)?);
        let states = (0..self.stages.len()).map(state).collect::<Result<Vec<Progress>>>()?;
        let last = states.iter().rposition(|state| *state == Progress::Done).unwrap_or(0);
        if states[..last].iter().all(|state| *state == Progress::Done) {
            return Ok(None);
        }
        let Some(checkpoint) = Run::open(&self.run_folder(cell, last)?)?.checkpoint()? else { return Ok(None) };
        let names = TensorFiles::peek(&checkpoint)?.names();
        let (tower, projector) = (Part::Encoder.prefix(), Part::Projector.prefix());
        let is_of = |part: Part, name: &String| match part {
            Part::Llm => !name.starts_with(tower) && !name.starts_with(projector) && !Vlm::is_adapter(name),
            part => name.starts_with(part.prefix()),
        };
        let holds = |part: Part| names.iter().any(|name| is_of(part, name));
        Ok(self.trained_before(last).into_iter().all(holds).then_some(last))
    }

    /// The parts that the stages before this one train.
    fn trained_before(&self, stage: usize) -> Vec<Part> {
        let trained = |part: &Part| self.stages[..stage].iter().any(|stage| rate(stage, *part) > 0.0);
        Part::ALL.into_iter().filter(trained).collect()
    }

    /// Loads the weights of [`whole_at`](Self::whole_at) into the model; returns the stage to continue with.
    fn later_stage(&self, vlm: &Arc<Vlm>, cell: &StudyCell, kept: &mut SharedParts) -> Result<usize> {
        let Some(last) = self.whole_at(cell)? else { return Ok(0) };
        let folder = self.run_folder(cell, last)?;
        let mut trainer = self.trainer(vlm, (cell, last), kept, Listeners::default())?;
        // The weights do not record the template that earlier stages set.
        for name in self.stages[..last].iter().filter_map(|options| options.get("template")?.as_str()) {
            vlm.adopt(&Template::load(&self.setup.presets, name)?, vlm.aspect());
        }
        trainer.restore_all(&folder, &self.trained_before(last)).context(|| self.stage_name(last))?;
        Run::open(&folder)?.keep_weights()?;
        Ok(last + 1)
    }

    /// Trains a stage to its end; returns whether a step was made.
    fn run_stage(
        &self,
        vlm: &Arc<Vlm>,
        (cell, stage): (&StudyCell, usize),
        kept: &mut SharedParts,
        listeners: &Listeners,
    ) -> Result<bool> {
        self.stop_if_asked()?;
        let folder = self.run_folder(cell, stage)?;
        let mut trainer = self.trainer(vlm, (cell, stage), kept, listeners.clone())?;
        match progress(&folder)? {
            Progress::Done => {
                trainer.restore(&folder)?;
                return Run::open(&folder)?.keep_weights().map(|()| false);
            }
            Progress::At(_) => trainer.resume(&folder)?,
            // A run that ended before its first checkpoint has nothing to resume from.
            Progress::New if folder.exists() => {
                crate::fs::remove_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
            }
            Progress::New => {}
        }
        if trainer.done() == 0 {
            self.refuse_others((cell, stage), &trainer)?;
        }
        let (steps, status) = (trainer.steps(), trainer.fit(&mut |_| Ok(true))?);
        let Some(run) = trainer.run().filter(|_| status == Status::Done) else {
            return Err(error!(Interrupted, "stopped after {} of {steps} steps", trainer.done()));
        };
        run.keep_weights().map(|()| true)
    }

    /// The options of evaluation.
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

    pub(super) fn stop_if_asked(&self) -> Result<()> {
        match self.setup.interrupt.is_set() {
            true => Err(error!(Interrupted, "stopped before it began")),
            false => Ok(()),
        }
    }

    /// The recipe's name of a stage.
    pub(super) fn stage_name(&self, stage: usize) -> String {
        let name = self.stages[stage].get("name").and_then(toml::Value::as_str);
        name.map_or_else(|| format!("stage {}", stage + 1), str::to_string)
    }
}

/// The progress of the run in a folder.
///
/// # Errors
/// The errors of reading the folder: an unreadable folder must not count as a new one.
pub(super) fn progress(folder: &Path) -> Result<Progress> {
    if !folder.exists() {
        return Ok(Progress::New);
    }
    let Some((step, path)) = checkpoints(folder)?.pop() else { return Ok(Progress::New) };
    // Without run.lock and events a checkpoint cannot be identified, nor whether it is the last.
    let Some(status) = Run::open(folder).ok().and_then(|run| run.status().ok()) else { return Ok(Progress::New) };
    Ok(match status == Status::Done.name() {
        // A checkpoint whose weights are missing or truncated does not count.
        true if TensorFiles::peek(&path).is_err() => Progress::New,
        true => Progress::Done,
        false => Progress::At(step),
    })
}

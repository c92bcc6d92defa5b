//! Running a study: cell after cell, stage after stage, benchmark after benchmark. What is on disk is not done again: a
//! run goes on from its last checkpoint, a results file from its last line, and of a finished run the weights are read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Study;
use super::cells::{Cell, below};
use super::parts::{Kept, rate};
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
    /// on; the next `run` tries it again. Cells that another process makes are left to it and named.
    ///
    /// # Errors
    /// `Interrupted` when somebody asked for it: everything done is on disk. What the folder itself gives.
    pub fn run(&mut self) -> Result<Table> {
        self.begin()?;
        self.check_questions()?;
        let (mut kept, mut tried) = (Kept::default(), BTreeSet::new());
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
                // Somebody may have ended it just before.
                if !self.is_left_now(number)? {
                    continue;
                }
                tried.insert(number);
                worked = true;
                self.try_cell(number, &mut kept)?;
            }
            // What another process held may be free by now, and done or not.
            if !(busy && worked) {
                break;
            }
        }
        self.end()?;
        super::summary::write(&self.options.out, &self.record, (&self.setup.lock.llmore, &self.setup.lock.build))?;
        Ok(self.summary())
    }

    /// Makes a cell and notes what became of it.
    fn try_cell(&mut self, number: usize, kept: &mut Kept) -> Result<()> {
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

    fn run_cell(&mut self, number: usize, kept: &mut Kept, listeners: &Listeners) -> Result<()> {
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

    /// Removes answers of weights that are gone: those that were trained in their place need not be the same to the last bit.
    fn remove_stale(&self, file: &Path, vlm: &Vlm, listeners: &Listeners) -> Result<()> {
        if !file.is_file() {
            return Ok(());
        }
        let then = Results::open(file).map_or_else(|_| "?".to_string(), |results| results.facts.answers_sha256);
        if then == vlm.answers_sha256()? {
            return Ok(());
        }
        let text = format!("`{}` held answers of weights that are gone: all questions are asked again", file.display());
        listeners.tell(&Event::Warning { text });
        std::fs::remove_file(file).map_err(|error| Error::file(file, error))
    }

    /// The last finished stage, where runs before it are gone and it holds all that they trained.
    pub(super) fn whole_at(&self, cell: &Cell) -> Result<Option<usize>> {
        let state = |stage| progress(&self.run_folder(cell, stage)?);
        let states = (0..self.stages.len()).map(state).collect::<Result<Vec<Progress>>>()?;
        let last = states.iter().rposition(|state| *state == Progress::Done).unwrap_or(0);
        if states[..last].iter().all(|state| *state == Progress::Done) {
            return Ok(None);
        }
        let Some(checkpoint) = Run::open(&self.run_folder(cell, last)?)?.checkpoint()? else { return Ok(None) };
        let names = TensorFiles::open(&checkpoint)?.names();
        let (tower, projector) = (Part::Encoder.prefix(), Part::Projector.prefix());
        let is_of = |part: Part, name: &String| match part {
            Part::Llm => !name.starts_with(tower) && !name.starts_with(projector) && !Vlm::is_adapter(name),
            part => name.starts_with(part.prefix()),
        };
        let holds = |part: Part| names.iter().any(|name| is_of(part, name));
        Ok(self.trained_before(last).into_iter().all(holds).then_some(last))
    }

    /// The parts that the stages before one train.
    fn trained_before(&self, stage: usize) -> Vec<Part> {
        let trained = |part: &Part| self.stages[..stage].iter().any(|stage| rate(stage, *part) > 0.0);
        Part::ALL.into_iter().filter(trained).collect()
    }

    /// Gives the model the weights of [`whole_at`](Self::whole_at); gives back the stage to go on with.
    fn later_stage(&self, vlm: &Arc<Vlm>, cell: &Cell, kept: &mut Kept) -> Result<usize> {
        let Some(last) = self.whole_at(cell)? else { return Ok(0) };
        let folder = self.run_folder(cell, last)?;
        let mut trainer = self.trainer(vlm, (cell, last), kept, Listeners::default())?;
        // What earlier stages made of how it is asked, their weights do not tell.
        for name in self.stages[..last].iter().filter_map(|options| options.get("template")?.as_str()) {
            vlm.adopt(&Template::load(&self.setup.presets, name)?, vlm.aspect());
        }
        trainer.restore_all(&folder, &self.trained_before(last)).context(|| self.stage_name(last))?;
        Run::open(&folder)?.keep_weights()?;
        Ok(last + 1)
    }

    /// Brings the model to the end of a stage; says whether a step was made.
    fn run_stage(
        &self,
        vlm: &Arc<Vlm>,
        (cell, stage): (&Cell, usize),
        kept: &mut Kept,
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
            // A run that came to no checkpoint holds nothing to go on from.
            Progress::New if folder.exists() => {
                std::fs::remove_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
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
    let Some((step, path)) = checkpoints(folder)?.pop() else { return Ok(Progress::New) };
    // Without its lock nobody knows what it is a checkpoint of, and without its events whether it is the last.
    let Some(status) = Run::open(folder).ok().and_then(|run| run.status().ok()) else { return Ok(Progress::New) };
    Ok(match status == Status::Done.name() {
        // Weights that are gone or cut off are no weights.
        true if TensorFiles::open(&path).is_err() => Progress::New,
        true => Progress::Done,
        false => Progress::At(step),
    })
}

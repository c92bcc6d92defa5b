//! `fit`: audit, run folder, steps with their events and checkpoints, and how it ended.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::checkpoints;
use super::folder::Place;
use super::run::Run;
use super::tensorboard::TensorBoard;
use super::trainer::Trainer;
use crate::error;
use crate::error::{Context, Result};
use crate::events::{Event, EventFile, Listener, Listeners, Step};
use crate::writer::Writer;

/// How `fit` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    /// Ctrl-C; the last whole step is on disk.
    Paused,
    /// The function that sees every step said so; the last whole step is on disk.
    Stopped,
}

impl Status {
    /// The word in `run.status`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Done => "done",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A `fit` under way.
pub struct Fit {
    listeners: Listeners,
    events: Arc<EventFile>,
    start: Instant,
    /// Steps that were done before.
    before: u64,
    saved: Instant,
    /// Set when the function that sees every step ended the run: a hash of it.
    stopped: Option<String>,
    /// The run folder is this process's own as long as this lives.
    _writer: Writer,
}

impl Fit {
    /// Ends the run after the last step; `by` says what function did, so that the same one need not again.
    pub fn stop(&mut self, by: &str) {
        self.stopped = Some(by.to_string());
    }
}

impl Trainer {
    /// Runs to the end: audit, run folder, steps, checkpoints. `each` sees every step; `false` stops.
    pub fn fit(&mut self, each: &mut dyn FnMut(&Step) -> Result<bool>) -> Result<Status> {
        let mut fit = self.begin()?;
        while let Some(step) = self.advance(&mut fit)? {
            if !each(&step)? {
                fit.stop("");
                break;
            }
        }
        self.finish(fit)
    }

    /// The first third of `fit`: audit and run folder. Apart, so that a script's callback can use the trainer.
    pub fn begin(&mut self) -> Result<Fit> {
        self.refuse_what_does_not_fit()?;
        if !self.audited {
            if let Some(error) = self.audit()?.error() {
                let help = format!("{}{}", error.help_text().unwrap_or_default(), self.earlier());
                return Err(if self.step > 0 { error.help(help) } else { error });
            }
            self.audited = true;
        }
        let (listeners, events, writer) = self.open_run()?;
        self.stopped = None;
        let (task, unit) = (self.options.name.clone(), "steps".to_string());
        listeners.tell(&Event::Start { task, done: self.step, total: self.steps, unit });
        self.write_earlier_steps(&events)?;
        if let Some(text) = self.stands_still() {
            listeners.tell(&Event::Warning { text });
        }
        self.say_what_checkpoints_hold(&listeners)?;
        let total = self.dataset().len() + self.skipped.values().map(Vec::len).sum::<usize>();
        for (why, samples) in &self.skipped {
            listeners.tell(&Event::Skipped { samples: samples.clone(), total: total as u64, why: why.to_string() });
        }
        let (start, before) = (Instant::now(), self.step);
        Ok(Fit { listeners, events, start, before, saved: start, stopped: None, _writer: writer })
    }

    /// The next step with its event and, when it is time, its checkpoint; `None` at the end or when interrupted. After an
    /// error the last checkpoint and the steps done are what they were: `fit` goes on.
    pub fn advance(&mut self, fit: &mut Fit) -> Result<Option<Step>> {
        if self.step >= self.steps || self.setup.interrupt.is_set() {
            return Ok(None);
        }
        let advanced = self.next_step(fit);
        if advanced.is_err() {
            self.end(fit, "failed")?;
        }
        advanced
    }

    fn next_step(&mut self, fit: &mut Fit) -> Result<Option<Step>> {
        let Some(step) = self.try_step()? else { return Ok(None) };
        self.tell(fit, &Event::Step(step.clone()));
        if let Some(spike) = self.spike() {
            self.tell(fit, &spike);
        }
        let by_steps = self.options.save_every_steps.is_some_and(|every| self.step.is_multiple_of(every));
        let minutes = self.options.save_every_minutes;
        let by_time = minutes.is_some_and(|m| fit.saved.elapsed() >= Duration::from_secs_f64(60.0 * m));
        if by_steps || by_time {
            self.checkpoint(&fit.listeners)?;
            fit.saved = Instant::now();
        }
        Ok(Some(step))
    }

    /// The last third of `fit`: the checkpoint of the last whole step, and how it ended.
    pub fn finish(&mut self, fit: Fit) -> Result<Status> {
        let status = match &fit.stopped {
            _ if self.step >= self.steps => Status::Done,
            Some(_) => Status::Stopped,
            None => Status::Paused,
        };
        if self.step > 0
            && let Err(error) = self.checkpoint(&fit.listeners)
        {
            self.end(&fit, "failed")?;
            return Err(error);
        }
        self.tell_what_it_took(&fit);
        if let Some(by) = fit.stopped.as_ref().filter(|_| status == Status::Stopped) {
            self.tell(&fit, &Event::Stopped { step: self.step, by: by.clone() });
        }
        self.end(&fit, status.name())?;
        // The events are whole now.
        if let Some(run) = &self.run {
            self.write_summary(run, status)?;
        }
        Ok(status)
    }

    fn end(&mut self, fit: &Fit, status: &str) -> Result<()> {
        self.vlm.freeze()?;
        self.feed.clear();
        let event = Event::End {
            task: self.options.name.clone(),
            done: self.step,
            total: self.steps,
            unit: "steps".to_string(),
            status: status.to_string(),
            seconds: fit.start.elapsed().as_secs_f64(),
        };
        self.tell(fit, &event);
        Ok(())
    }

    /// Tells an event; when `events.jsonl` cannot be written, that too, once.
    fn tell(&self, fit: &Fit, event: &Event) {
        fit.listeners.tell(event);
        if let Some(error) = fit.events.fault() {
            let text = format!("events are no longer written: {}", error.message());
            self.setup.listeners.tell(&Event::Warning { text });
        }
    }

    /// What the steps of this `fit` took beside what the plan said of them.
    fn tell_what_it_took(&self, fit: &Fit) {
        let memory = crate::memory::of(&self.vlm().target().device);
        if let (Some(plan), Some(peak)) = (&self.planned, memory.most()) {
            let (planned_bytes, seconds) = (plan.memory.peak, fit.start.elapsed().as_secs_f64());
            let planned_seconds = plan.time.of_steps(self.step - fit.before);
            self.tell(fit, &Event::Took { planned_bytes, peak_bytes: peak, planned_seconds, seconds });
        }
    }

    /// Opens (or goes on in) the run folder and gives the listeners with its event file.
    fn open_run(&mut self) -> Result<(Listeners, Arc<EventFile>, Writer)> {
        let opened = match self.run.take() {
            Some(run) => {
                self.run = Some(run.clone());
                let mut opened = run.go_on()?;
                self.refuse_what_another_did(&opened.run)?;
                opened.notes.extend(opened.run.set_later_aside(self.saved)?);
                opened
            }
            None => {
                if let Some(repeated) = &self.setup.repeats {
                    self.refuse_drift(repeated, None).context(|| "this would not be the same run".to_string())?;
                }
                let opened = Run::create(&self.place(), &self.lock()?)?;
                opened.run.write_pictures(&self.prints()?)?;
                opened
            }
        };
        let (events, board) = (Arc::new(opened.run.event_file()?), TensorBoard::create(opened.run.dir())?);
        self.newest = self.saved;
        self.run = Some(opened.run);
        let listeners = self.setup.listeners.with(events.clone()).with(Arc::new(board));
        for text in opened.notes {
            listeners.tell(&Event::Warning { text });
        }
        Ok((listeners, events, opened.writer))
    }

    /// Refuses to go on where another process has trained since this trainer last looked.
    fn refuse_what_another_did(&self, run: &Run) -> Result<()> {
        match checkpoints(run.dir())?.pop() {
            Some((step, _)) if step > self.newest => Err(error!(
                Busy,
                "another process trained `{}` on to step {step}; this trainer is at step {}",
                run.dir().display(),
                self.step
            )
            .help("`t.resume(dir)` of a new trainer goes on from there")),
            _ => Ok(()),
        }
    }

    /// Steps that the run's events lack: those of `step()` before there was a run folder, and lost ones.
    fn write_earlier_steps(&self, events: &EventFile) -> Result<()> {
        let Some(run) = self.run.as_ref().filter(|_| !self.history.is_empty()) else { return Ok(()) };
        let known: HashSet<u64> = run.steps()?.iter().map(|step| step.step).collect();
        // Readers take a step that comes after a later one for the beginning of a repetition.
        for step in self.history.iter().skip_while(|step| known.contains(&step.step)) {
            events.hear(&Event::Step(step.clone()));
        }
        Ok(())
    }

    /// Where the run is or will be.
    pub(super) fn folder(&self) -> PathBuf {
        match &self.run {
            Some(run) => run.dir().to_path_buf(),
            None => self.place().path().to_path_buf(),
        }
    }

    /// Where a new run goes.
    fn place(&self) -> Place {
        self.options.out.clone().map_or_else(|| self.setup.folder.clone(), Place::Given)
    }
}

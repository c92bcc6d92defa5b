//! `fit`: audit, run folder, steps with their events and checkpoints, and how it ended.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::Run;
use super::tensorboard::TensorBoard;
use super::trainer::Trainer;
use crate::error::{Context, Result};
use crate::events::{Event, EventFile, Listener, Listeners, Step};

/// How `fit` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    /// Ctrl-C, or the callback said so; the last whole step is on disk.
    Paused,
}

impl Status {
    /// The word in `run.status`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Done => "done",
            Status::Paused => "paused",
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
}

impl Trainer {
    /// Runs to the end: audit, run folder, steps, checkpoints. `each` sees every step; `false` stops.
    pub fn fit(&mut self, each: &mut dyn FnMut(&Step) -> Result<bool>) -> Result<Status> {
        let mut fit = self.begin()?;
        while let Some(step) = self.advance(&mut fit)? {
            if !each(&step)? {
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
                return Err(error);
            }
            self.audited = true;
        }
        let (listeners, events) = self.open_run()?;
        let (task, unit) = (self.options.name.clone(), "steps".to_string());
        listeners.tell(&Event::Start { task, done: self.step, total: self.steps, unit });
        self.write_earlier_steps(&events)?;
        let total = self.dataset().len() + self.skipped.values().map(Vec::len).sum::<usize>();
        for (why, samples) in &self.skipped {
            listeners.tell(&Event::Skipped { samples: samples.clone(), total: total as u64, why: why.to_string() });
        }
        Ok(Fit { listeners, events, start: Instant::now(), before: self.step, saved: Instant::now() })
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
        let status = if self.step < self.steps { Status::Paused } else { Status::Done };
        if self.step > 0
            && let Err(error) = self.checkpoint(&fit.listeners)
        {
            self.end(&fit, "failed")?;
            return Err(error);
        }
        self.tell_what_it_took(&fit);
        self.end(&fit, status.name())?;
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
        if let (Some(plan), Some(peak)) = (&self.planned, crate::device::peak_memory()) {
            let (planned_bytes, seconds) = (plan.memory.peak, fit.start.elapsed().as_secs_f64());
            let planned_seconds = plan.time.of_steps(self.step - fit.before);
            self.tell(fit, &Event::Took { planned_bytes, peak_bytes: peak, planned_seconds, seconds });
        }
    }

    /// Opens (or goes on in) the run folder and gives the listeners with its event file.
    fn open_run(&mut self) -> Result<(Listeners, Arc<EventFile>)> {
        let folder = self.folder();
        let run = match self.run.take() {
            Some(run) => run,
            None => {
                if let Some(repeated) = &self.setup.repeats {
                    self.refuse_drift(repeated).context(|| "this would not be the same run".to_string())?;
                }
                Run::create(&folder, &self.lock()?)?
            }
        };
        let (events, board) = (Arc::new(run.event_file()?), TensorBoard::create(run.dir())?);
        self.run = Some(run);
        Ok((self.setup.listeners.with(events.clone()).with(Arc::new(board)), events))
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
            None => self.options.out.clone().unwrap_or_else(|| self.setup.folder.clone()),
        }
    }
}

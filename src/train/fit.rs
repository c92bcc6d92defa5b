//! `fit`: audit, run folder, steps with their events and checkpoints, and how it ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::checkpoint::{what_checkpoints_hold, write};
use super::fits::refuse_what_does_not_fit;
use super::run::{Run, checkpoints};
use super::summary::write_summary;
use super::tensorboard::TensorBoard;
use super::trainer::Trainer;
use super::trouble::{ids, spike};
use crate::error;
use crate::error::Result;
use crate::events::{Cause, Event, EventFile, Listener, Listeners, Step};
use crate::writer::Writer;

/// How `fit` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Done,
    /// Ctrl-C or another signal; the last whole step is on disk.
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

/// The event file of a run, and the hold on its folder.
type Written = (Arc<EventFile>, Writer);

/// A `fit` under way.
pub struct Fit {
    listeners: Listeners,
    /// The run's event file; another rank may write it.
    events: Option<Arc<EventFile>>,
    start: Instant,
    /// Steps that were done before.
    before: u64,
    saved: Instant,
    /// Set when the function that sees every step ended the run: a hash of it.
    stopped: Option<String>,
    /// The run folder is this process's own as long as this lives.
    _writer: Option<Writer>,
}

impl Fit {
    /// Ends the run after the last step; `by` says what function did, so that the same one need not again.
    pub fn stop(&mut self, by: &str) {
        self.stopped = Some(by.to_string());
    }
}

impl Trainer {
    /// Runs to the end: audit, run folder, steps, checkpoints. `each` sees every step; `false` stops.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), [`advance`](Self::advance) and [`finish`](Self::finish).
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
    ///
    /// # Errors
    /// `DoesNotFit`, `Train` for an audit that fails or a run that would not be the repeated one, `Busy` and `File` of the
    /// run folder.
    pub fn begin(&mut self) -> Result<Fit> {
        refuse_what_does_not_fit(&self.stepper, self.planned.as_ref(), &self.folder())?;
        if !self.audited {
            if let Some(error) = self.audit()?.error() {
                let help = format!("{}{}", error.help_text().unwrap_or_default(), self.earlier());
                return Err(if self.done() > 0 { error.help(help) } else { error });
            }
            self.audited = true;
        }
        let (listeners, opened) = self.open_run()?;
        self.place.stopped = None;
        let (task, unit) = (self.options().name.clone(), "steps".to_string());
        listeners.tell(&Event::Start { task, done: self.done(), total: self.steps(), unit });
        let (events, writer) = opened.unzip();
        if let Some(events) = &events {
            self.write_earlier_steps(events)?;
        }
        let notes = [self.stepper.stands_still(), what_checkpoints_hold(&self.stepper, &self.folder())?];
        for text in notes.into_iter().flatten() {
            listeners.tell(&Event::Warning { text });
        }
        let total = self.dataset().len() + self.skipped.values().map(Vec::len).sum::<usize>();
        for (why, samples) in &self.skipped {
            listeners.tell(&Event::Skipped { samples: samples.clone(), total: total as u64, why: why.to_string() });
        }
        let (start, before) = (Instant::now(), self.done());
        Ok(Fit { listeners, events, start, before, saved: start, stopped: None, _writer: writer })
    }

    /// The next step with its event and, when it is time, its checkpoint; `None` at the end or when interrupted. After an
    /// error the last checkpoint and the steps done are what they were: `fit` goes on.
    ///
    /// # Errors
    /// What a step gives, and `File` for a checkpoint that cannot be written.
    pub fn advance(&mut self, fit: &mut Fit) -> Result<Option<Step>> {
        if self.done() >= self.steps() || self.stepper.exchange().any(self.interrupt.is_set())? {
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
        if let Some(median) = spike(&self.history, self.options().spike) {
            let samples = ids(self.dataset(), &self.stepper.sampler.positions(step.step - 1), usize::MAX);
            self.tell(fit, &Event::Spike { step: step.step, loss: step.loss, median, samples });
        }
        let by_steps = self.options().save_every_steps.is_some_and(|every| step.step.is_multiple_of(every));
        let by_time = match self.options().save_every_minutes {
            Some(minutes) => self.stepper.exchange().any(is_due(fit.saved.elapsed(), minutes))?,
            None => false,
        };
        if by_steps || by_time {
            self.checkpoint(&fit.listeners)?;
            fit.saved = Instant::now();
        }
        Ok(Some(step))
    }

    /// The last third of `fit`: the checkpoint of the last whole step, and how it ended.
    ///
    /// # Errors
    /// `File` for a checkpoint or summary that cannot be written.
    pub fn finish(&mut self, fit: Fit) -> Result<Status> {
        let status = match &fit.stopped {
            _ if self.done() >= self.steps() => Status::Done,
            Some(_) => Status::Stopped,
            None => Status::Paused,
        };
        if self.done() > 0
            && let Err(error) = self.checkpoint(&fit.listeners)
        {
            self.end(&fit, "failed")?;
            return Err(error);
        }
        self.tell_what_it_took(&fit);
        if let Some(by) = fit.stopped.as_ref().filter(|_| status == Status::Stopped) {
            self.tell(&fit, &Event::Stopped { step: self.done(), by: by.clone() });
        }
        self.end(&fit, status.name())?;
        // The events are whole now.
        if let Some(run) = self.run().filter(|_| fit.events.is_some()) {
            let interrupted = self.interrupt.cause().filter(|_| status == Status::Paused).map(Cause::name);
            write_summary(self, run, status.name(), interrupted)?;
        }
        Ok(status)
    }

    /// The checkpoint of the last step, written by one of the ranks; all end with an error when that one does.
    fn checkpoint(&mut self, listeners: &Listeners) -> Result<()> {
        let exchange = self.stepper.exchange();
        let written = match &self.place.run {
            _ if !exchange.writes() => Ok(None),
            Some(run) => write(&self.stepper, &self.history, run).map(Some),
            None => Err(error!(Train, "there is no run folder yet")),
        };
        let failed = exchange.any(written.is_err())?;
        match written? {
            Some(path) => listeners.tell(&Event::Checkpoint { step: self.done(), path }),
            None if failed => {
                return Err(error!(File, "another rank could not write the checkpoint of step {}", self.done()));
            }
            None => {}
        }
        (self.place.saved, self.place.newest) = (self.done(), self.done());
        Ok(())
    }

    fn end(&mut self, fit: &Fit, status: &str) -> Result<()> {
        self.stepper.rest()?;
        let event = Event::End {
            task: self.options().name.clone(),
            done: self.done(),
            total: self.steps(),
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
        if let Some(error) = fit.events.as_ref().and_then(|events| events.fault()) {
            self.warn(format!("events are no longer written: {}", error.message()));
        }
    }

    /// What the steps of this `fit` took beside what the plan said of them.
    fn tell_what_it_took(&self, fit: &Fit) {
        let memory = crate::memory::of(&self.vlm().target().device);
        if let (Some(plan), Some(peak)) = (&self.planned, memory.most()) {
            let (planned_bytes, seconds) = (plan.memory.peak, fit.start.elapsed().as_secs_f64());
            let planned_seconds = plan.time.of_steps(self.done() - fit.before);
            self.tell(fit, &Event::Took { planned_bytes, peak_bytes: peak, planned_seconds, seconds });
        }
    }

    /// Opens (or goes on in) the run folder, if this rank writes it, and gives the listeners with its event file.
    fn open_run(&mut self) -> Result<(Listeners, Option<Written>)> {
        if !self.stepper.exchange().writes() {
            return Ok((self.listeners.clone(), None));
        }
        let opened = match self.place.run.clone() {
            Some(run) => {
                let mut opened = run.go_on()?;
                self.refuse_what_another_did(&opened.run)?;
                opened.notes.extend(opened.run.set_later_aside(self.place.saved)?);
                opened
            }
            None => {
                self.refuse_to_differ()?;
                let opened = Run::create(&self.new_folder(), &self.lock()?)?;
                opened.run.write_pictures(&self.prints()?)?;
                opened
            }
        };
        let (events, board) = (Arc::new(opened.run.event_file()?), TensorBoard::create(opened.run.dir())?);
        self.place.newest = self.place.saved;
        self.place.run = Some(opened.run);
        let listeners = self.listeners.with(events.clone()).with(Arc::new(board));
        for text in opened.notes {
            listeners.tell(&Event::Warning { text });
        }
        Ok((listeners, Some((events, opened.writer))))
    }

    /// Refuses to go on where another process has trained since this trainer last looked.
    fn refuse_what_another_did(&self, run: &Run) -> Result<()> {
        match checkpoints(run.dir())?.pop() {
            Some((step, _)) if step > self.place.newest => Err(error!(
                Busy,
                "another process trained `{}` on to step {step}; this trainer is at step {}",
                run.dir().display(),
                self.done()
            )
            .help("`t.resume(dir)` of a new trainer goes on from there")),
            _ => Ok(()),
        }
    }

    /// Steps that the run's events lack: those of `step()` before there was a run folder, and lost ones.
    fn write_earlier_steps(&self, events: &EventFile) -> Result<()> {
        let Some(run) = self.run().filter(|_| !self.history.is_empty()) else { return Ok(()) };
        let known: HashSet<u64> = run.steps()?.iter().map(|step| step.step).collect();
        // Readers take a step that comes after a later one for the beginning of a repetition.
        for step in self.history.iter().skip_while(|step| known.contains(&step.step)) {
            events.hear(&Event::Step(step.clone()));
        }
        Ok(())
    }
}

/// Whether so many minutes have passed.
fn is_due(passed: Duration, minutes: f64) -> bool {
    passed.as_secs_f64() >= 60.0 * minutes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_have_sixty_seconds() {
        let due = |seconds: u64, minutes: f64| is_due(Duration::from_secs(seconds), minutes);
        assert!(due(90, 1.5) && !due(89, 1.5) && due(0, 0.0));
    }
}

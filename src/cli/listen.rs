//! Events as progress lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::progress::{Progress, Update};
use crate::events::{Event, Listener};
use crate::memory::{DeviceMemory, Host};
use crate::show::{bytes, count, number, percent, seconds};

/// Turns a session's events into updates of the progress display.
pub(super) struct ProgressListener {
    progress: Arc<Progress>,
    /// The running tasks, the innermost last: a callback may evaluate within a training run.
    tasks: Mutex<Vec<Current>>,
    worked: AtomicBool,
}

/// A running task, its unit, and the facts shown on its line.
#[derive(Default)]
struct Current {
    task: String,
    unit: String,
    facts: Vec<(&'static str, String)>,
    /// Supervised positions and seconds, for the mean speed.
    tokens: u64,
    seconds: f64,
    /// Samples whose answers were truncated, and those among them without a supervised token left.
    cut: u64,
    unsupervised: u64,
}

impl ProgressListener {
    pub(super) fn new(progress: Arc<Progress>) -> Self {
        ProgressListener { progress, tasks: Mutex::default(), worked: AtomicBool::new(false) }
    }

    /// Whether a task has begun: a run, an evaluation, a walk over data.
    pub(super) fn has_worked(&self) -> bool {
        self.worked.load(Ordering::SeqCst)
    }
}

impl Listener for ProgressListener {
    fn hear(&self, event: &Event) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Event::Start { task, unit, .. } = event {
            self.worked.store(true, Ordering::SeqCst);
            tasks.retain(|known| known.task != *task);
            tasks.push(Current { task: task.clone(), unit: unit.clone(), ..Current::default() });
        }
        // A task that failed sent no `End`: when an outer task sends an event, the tasks inside it are over.
        let sends = |known: &Current| match event {
            Event::Scored { task, .. } | Event::Progress { task, .. } | Event::End { task, .. } => known.task == *task,
            Event::Step(_) => known.unit == "steps",
            _ => true,
        };
        if let Some(place) = tasks.iter().rposition(sends) {
            tasks.truncate(place + 1);
        }
        let mut none = Current::default();
        let current = tasks.last_mut().unwrap_or(&mut none);
        let (done, total, finished) = match event {
            Event::Start { done, total, .. } => (*done, *total, false),
            Event::Step(step) => {
                current.tokens += step.positions;
                current.seconds += step.seconds;
                current.cut += step.cut;
                current.unsupervised += step.unsupervised;
                let speed = (current.tokens as f64 / current.seconds.max(1e-9)) as usize;
                current.facts = vec![("loss", number(step.loss)), ("", format!("{} tokens/s", count(speed))), memory()];
                (step.step, step.steps, false)
            }
            Event::Scored { done, total, score, cached, .. } => {
                current.facts = vec![("score", percent(*score)), memory()];
                if *cached > 0 {
                    current.facts.push(("", format!("{} from the cache", count(*cached as usize))));
                }
                (*done, *total, false)
            }
            Event::Progress { done, total, .. } => (*done, *total, false),
            Event::Checkpoint { .. } | Event::Stopped { .. } => return,
            Event::Skipped { .. } | Event::Spike { .. } | Event::Warning { .. } | Event::Took { .. } => {
                note(event).into_iter().for_each(|text| self.progress.note(&text));
                return;
            }
            Event::End { done, total, .. } => {
                if current.cut > 0 {
                    let cut = count(current.cut as usize);
                    let nothing = match current.unsupervised {
                        0 => String::new(),
                        of => format!("; nothing was left to learn of {} of them", count(of as usize)),
                    };
                    self.progress
                        .note(&format!("{cut} samples had answers that end beyond `max_length` and were cut{nothing}"));
                }
                (*done, *total, true)
            }
        };
        let (task, unit, facts) = (&current.task, &current.unit, &current.facts);
        self.progress.update(&Update { task, done, total, unit, facts, finished });
        if finished {
            tasks.pop();
        }
    }
}

/// What is said of an event beside the line that moves.
fn note(event: &Event) -> Option<String> {
    let list = |samples: &[String], shown: usize| {
        let ids: Vec<String> = samples.iter().take(shown).map(|id| format!("`{id}`")).collect();
        let more = if samples.len() > ids.len() { ", ..." } else { "" };
        format!("{}{more}", ids.join(", "))
    };
    Some(match event {
        Event::Skipped { samples, total, why } => {
            let (skipped, total) = (count(samples.len()), count(*total as usize));
            format!("skipped {skipped} of {total} samples with {why}: {}", list(samples, 3))
        }
        Event::Spike { step, loss, median, samples } => {
            let (loss, median) = (number(*loss), number(*median));
            format!("step {step}: loss {loss}, the median before is {median}: samples {}", list(samples, 8))
        }
        Event::Warning { text } => format!("warning: {text}"),
        Event::Took { planned_bytes, peak_bytes, planned_seconds, seconds: took } => {
            let (bytes_planned, bytes_taken) = (bytes(*planned_bytes), bytes(*peak_bytes));
            let (planned, taken) = (seconds(*planned_seconds), seconds(*took));
            format!("plan: peak memory {bytes_planned}, was {bytes_taken}; time {planned}, was {taken}")
        }
        _ => return None,
    })
}

fn memory() -> (&'static str, String) {
    ("peak", Host.most().map_or_else(|| "?".to_string(), bytes))
}

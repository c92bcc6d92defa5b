//! What a run tells the world while it goes on. The JSON-lines file in the run folder is the source of every
//! plot and table; the progress bar is another listener on the same events.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run or an evaluation begins: `total` of `unit` are to come, `done` of them are behind it already.
    Start { task: String, done: u64, total: u64, unit: String },
    /// One optimizer step.
    Step(Step),
    /// An evaluation has answered this many questions, `cached` of them without asking; `score` is the mean so far.
    Scored {
        task: String,
        done: u64,
        total: u64,
        score: f64,
        #[serde(default)]
        cached: u64,
    },
    /// A walk over a data set or a download has come this far, in the unit of its start.
    Progress { task: String, done: u64, total: u64 },
    /// Samples (by id) of `total` that training leaves out.
    Skipped { samples: Vec<String>, total: u64, why: String },
    /// A step's loss stands far above the median of those before it; `samples` (by id) are what it was made of.
    Spike { step: u64, loss: f64, median: f64, samples: Vec<String> },
    /// Something that people should know and that does not end the task.
    Warning { text: String },
    /// What a plan said before and what the run took: bytes of memory at the peak, where the system tells, and seconds.
    Took { planned_bytes: u64, peak_bytes: u64, planned_seconds: f64, seconds: f64 },
    /// A checkpoint is complete on disk.
    Checkpoint { step: u64, path: PathBuf },
    /// The function given to `fit` ended the run after this step; `by` is a hash of the function.
    Stopped { step: u64, by: String },
    /// The task ended (`done`, `paused`, `stopped`, `failed`) after this many seconds.
    End { task: String, done: u64, total: u64, unit: String, status: String, seconds: f64 },
}

/// What one optimizer step did; the map that `t.step()` gives to scripts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// From 1.
    pub step: u64,
    /// Of all steps.
    pub steps: u64,
    /// Before the update.
    pub loss: f64,
    /// The largest rate of any part in this step.
    pub lr: f64,
    /// Over all trained tensors, before clipping.
    pub grad_norm: f64,
    /// Supervised positions.
    pub tokens: u64,
    /// All positions after splicing.
    pub positions: u64,
    /// Samples in the step.
    pub samples: u64,
    /// Of these, samples whose answers do not end within `max_length`.
    #[serde(default)]
    pub cut: u64,
    /// And those of which nothing is learned, as all their answers lie beyond it.
    #[serde(default)]
    pub unsupervised: u64,
    /// Wall-clock time.
    pub seconds: f64,
}

/// Something that hears every event.
pub trait Listener: Send + Sync {
    /// Called in the order things happen; must not fail the run.
    fn hear(&self, event: &Event);
}

/// What asked for a stop, the weightiest last: of several it is the one that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A person pressed Ctrl-C.
    CtrlC,
    /// Nobody reads standard output any more.
    ClosedOutput,
    /// The terminal was closed.
    Hangup,
    User2,
    User1,
    /// A scheduler wants the machine back.
    Terminate,
}

impl Cause {
    const ALL: [Cause; 6] =
        [Cause::CtrlC, Cause::ClosedOutput, Cause::Hangup, Cause::User2, Cause::User1, Cause::Terminate];

    /// The signal's name, or what happened instead of one; as in `summary.json`.
    pub fn name(self) -> &'static str {
        match self {
            Cause::CtrlC => "SIGINT",
            Cause::ClosedOutput => "closed output",
            Cause::Hangup => "SIGHUP",
            Cause::User2 => "SIGUSR2",
            Cause::User1 => "SIGUSR1",
            Cause::Terminate => "SIGTERM",
        }
    }

    /// Its place among all, from 1.
    fn weight(self) -> u8 {
        self as u8 + 1
    }
}

/// Set by a signal, or when standard output is closed; long work looks at it between micro-batches and batches.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// Asks whatever runs to save and stop, as Ctrl-C does.
    pub fn set(&self) {
        self.set_by(Cause::CtrlC);
    }

    /// The same, saying why.
    pub fn set_by(&self, cause: Cause) {
        self.0.fetch_max(cause.weight(), Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_set(&self) -> bool {
        self.cause().is_some()
    }

    /// Why, if somebody asked.
    pub fn cause(&self) -> Option<Cause> {
        let weight = self.0.load(Ordering::SeqCst);
        Cause::ALL.into_iter().find(|cause| cause.weight() == weight)
    }

    /// Forgets a Ctrl-C, before the next evaluation. Whatever else there is ends the session too.
    pub fn clear(&self) {
        let _ = self.0.compare_exchange(Cause::CtrlC.weight(), 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

/// The listeners of a session, passed down to whatever runs.
#[derive(Clone, Default)]
pub struct Listeners(Vec<Arc<dyn Listener>>);

impl Listeners {
    /// These listeners and one more.
    pub fn with(&self, listener: Arc<dyn Listener>) -> Self {
        let mut all = self.0.clone();
        all.push(listener);
        Listeners(all)
    }

    /// Tells all of them.
    pub fn tell(&self, event: &Event) {
        for listener in &self.0 {
            listener.hear(event);
        }
    }
}

/// Appends events to a JSON-lines file.
pub struct EventFile {
    path: PathBuf,
    file: Mutex<File>,
    fault: Mutex<Fault>,
}

/// What became of writing.
#[derive(Default)]
enum Fault {
    #[default]
    None,
    /// Nobody was told yet.
    New(Error),
    Told,
}

impl EventFile {
    /// Opens the file for appending. A line torn by a kill is closed, so that what follows is readable.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = crate::fs::open_with(path, |how| how.create(true).read(true).append(true))?;
            if file.metadata()?.len() > 0 {
                file.seek(SeekFrom::End(-1))?;
                let mut last = [0u8];
                file.read_exact(&mut last)?;
                if last != *b"\n" {
                    file.write_all(b"\n")?;
                }
            }
            Ok(file)
        };
        let file = open().map_err(|error| Error::file(path, error))?;
        Ok(EventFile { path: path.to_path_buf(), file: Mutex::new(file), fault: Mutex::default() })
    }

    /// The first error of writing, once: the run goes on, with events missing from the file.
    pub fn fault(&self) -> Option<Error> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *fault, Fault::Told) {
            Fault::New(error) => Some(error),
            other => {
                *fault = other;
                None
            }
        }
    }
}

impl Listener for EventFile {
    fn hear(&self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // A full disk must not end the run.
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*fault, Fault::None) {
            // The line before may be torn.
            line.insert(0, b'\n');
        }
        let written = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        if let (Err(error), Fault::None) = (written, &*fault) {
            *fault = Fault::New(Error::file(&self.path, error));
        }
    }
}

/// The events of a run folder; a torn line is passed over.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let text = crate::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The steps of a run in order. A step that was repeated after a resume counts once, as last written.
pub fn steps(events: &[Event]) -> Vec<Step> {
    let steps = events.iter().filter_map(|event| match event {
        Event::Step(step) => Some(step),
        _ => None,
    });
    last_written(steps, |step| step.step).into_iter().cloned().collect()
}

/// What was written, without what a smaller or equal number behind it repeats. Numbers that stay rise, so only the end has
/// to be looked at: every item goes in once and out at most once.
fn last_written<T>(written: impl Iterator<Item = T>, number: impl Fn(&T) -> u64) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for item in written {
        let from = number(&item);
        while kept.last().is_some_and(|known| number(known) >= from) {
            kept.pop();
        }
        kept.push(item);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64, loss: f64) -> Event {
        Event::Step(Step {
            step,
            steps: 9,
            loss,
            lr: 0.1,
            grad_norm: 1.0,
            tokens: 2,
            positions: 3,
            samples: 1,
            cut: 0,
            unsupervised: 0,
            seconds: 0.5,
        })
    }

    #[test]
    fn of_several_causes_the_weightiest_counts() {
        let interrupt = Interrupt::default();
        assert_eq!((interrupt.is_set(), interrupt.cause()), (false, None));
        interrupt.set();
        assert_eq!(interrupt.cause(), Some(Cause::CtrlC));
        interrupt.clear();
        assert!(!interrupt.is_set());
        interrupt.set_by(Cause::Terminate);
        interrupt.set();
        interrupt.clear();
        assert_eq!(interrupt.cause().map(Cause::name), Some("SIGTERM"));
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(cause.weight()), place + 1, "{cause:?}");
        }
    }

    #[test]
    fn repeated_steps_count_once() {
        let events = [step(1, 3.0), step(2, 2.0), step(3, 1.5), step(2, 1.9)];
        let losses: Vec<f64> = steps(&events).iter().map(|s| s.loss).collect();
        assert_eq!(losses, [3.0, 1.9]);
    }

    #[test]
    fn steps_are_sorted_out_in_linear_time() {
        const STEPS: u64 = 10_000;
        let looked = std::cell::Cell::new(0);
        let number = |step: &u64| {
            looked.set(looked.get() + 1);
            *step
        };
        // A run that was stopped at its end and resumed in the middle.
        let kept = last_written((1..=STEPS).chain(STEPS / 2..=STEPS), number);
        assert_eq!(kept, (1..=STEPS).collect::<Vec<_>>());
        assert!(looked.get() <= 5 * STEPS, "{} looks at {STEPS} steps", looked.get());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once() {
        let file = EventFile::open(Path::new("/dev/full")).unwrap();
        assert!(file.fault().is_none());
        file.hear(&step(1, 3.0));
        file.hear(&step(2, 3.0));
        let error = file.fault().unwrap().to_string();
        assert!(error.contains("no space left on the disk of `/dev/full`"), "{error}");
        file.hear(&step(3, 3.0));
        assert!(file.fault().is_none());
    }

    #[test]
    fn a_torn_line_is_closed_and_passed_over() {
        let path = crate::scratch::scratch_path("events.jsonl");
        std::fs::write(&path, "{\"event\":\"step\",\"st").unwrap();
        EventFile::open(&path).unwrap().hear(&step(1, 3.0));
        let events = read_events(&path).unwrap();
        assert_eq!(steps(&events).len(), 1);
    }
}

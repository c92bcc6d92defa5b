//! What an evaluation in the sandbox may take. Whoever runs scripts says when one begins; a thread of the program watches it and
//! says here what was exceeded, and the script ends at its next operation.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::limits as of_sandbox;
use crate::error::{Error, Kind};

/// The limits of an evaluation: a script, or a line at the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of the script.
    pub operations: u64,
    /// Bytes of the process.
    pub memory: u64,
    /// From the beginning to the end.
    pub time: Duration,
}

/// What was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    Memory,
    Time,
}

/// When the evaluation began.
static BEGAN: Mutex<Option<Instant>> = Mutex::new(None);
/// What it has exceeded: asked for at every operation of a script.
static EXCEEDED: AtomicU8 = AtomicU8::new(NOTHING);
const NOTHING: u8 = 0;
const MEMORY: u8 = 1;
const TIME: u8 = 2;

/// An evaluation, until it is dropped.
pub struct Evaluation(());

impl Evaluation {
    /// Begins one: its limits count from now.
    pub fn begin() -> Self {
        EXCEEDED.store(NOTHING, Ordering::SeqCst);
        *BEGAN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Evaluation(())
    }
}

impl Drop for Evaluation {
    fn drop(&mut self) {
        *BEGAN.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// How long an evaluation has been running; `None` between two of them.
pub fn running() -> Option<Duration> {
    let began = *BEGAN.lock().unwrap_or_else(PoisonError::into_inner);
    began.map(|began| began.elapsed())
}

/// Says that the evaluation exceeds a limit.
pub fn exceed(what: Exceeded) {
    let what = match what {
        Exceeded::Memory => MEMORY,
        Exceeded::Time => TIME,
    };
    // What was exceeded first is told.
    let _ = EXCEEDED.compare_exchange(NOTHING, what, Ordering::SeqCst, Ordering::SeqCst);
}

/// The error of the limit that this evaluation, or the last one, has exceeded.
pub fn exceeded() -> Option<Error> {
    let what = EXCEEDED.load(Ordering::Relaxed);
    let limits = if what == NOTHING { return None } else { of_sandbox()? };
    let (message, help) = match what {
        MEMORY => {
            let most = limits.memory >> 20;
            let message = format!("the script took more memory than the sandbox gives it: {most} MiB");
            (message, "`--memory-limit MIB` gives more")
        }
        _ => {
            let most = limits.time.as_secs();
            let message = format!("the script ran longer than the sandbox lets it: {most} s");
            (message, "`--time-limit SECONDS` gives more")
        }
    };
    Some(Error::new(Kind::Refused, message).help(help))
}

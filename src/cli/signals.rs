//! What ends a run early: signals, and an output that nobody reads any more (`say.rs`). The first of them asks for a stop with
//! everything saved. After it a Ctrl-C ends the process at once; SIGTERM and the like do not, as SLURM and mpirun send them
//! two or three times within a second, and SIGKILL when their patience ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::query::Cooked;
use crate::error::Result;
use crate::events::{Cause, Interrupt};
use crate::process::is_ignored;

/// Exit code after Ctrl-C, with everything saved.
pub(super) const INTERRUPTED: i32 = 130;
/// Exit code after another signal: unfinished and saved, to be run again. A job that ended with 0 would not come back.
pub(super) const UNFINISHED: i32 = 99;
/// Exit code where nobody reads the output any more: what the shell reports of `yes | head`.
pub(super) const UNREAD: i32 = 141;

const SIGNALS: [(i32, Cause); 5] = [
    (SIGINT, Cause::CtrlC),
    (SIGTERM, Cause::Terminate),
    (SIGHUP, Cause::Hangup),
    (SIGUSR1, Cause::User1),
    (SIGUSR2, Cause::User2),
];

/// The exit code of what was asked to stop.
pub(super) fn exit_code(cause: Cause) -> i32 {
    match cause {
        Cause::CtrlC => INTERRUPTED,
        Cause::ClosedOutput => UNREAD,
        Cause::Hangup | Cause::User2 | Cause::User1 | Cause::Terminate => UNFINISHED,
    }
}

/// Whether the process waits for a line of the prompt: then nothing runs that could be saved, and a signal ends it at once.
#[derive(Clone, Default)]
pub(super) struct Prompt {
    waits: Arc<AtomicBool>,
    /// How the terminal was before the prompt took it over.
    terminal: Arc<Mutex<Option<Cooked>>>,
}

impl Prompt {
    /// Runs `read`, which waits for a person.
    pub(super) fn wait<R>(&self, read: impl FnOnce() -> R) -> R {
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = Cooked::now();
        self.waits.store(true, Ordering::SeqCst);
        let line = read();
        self.waits.store(false, Ordering::SeqCst);
        line
    }

    fn end(&self, code: i32) -> ! {
        if let Some(before) = self.terminal.lock().unwrap_or_else(PoisonError::into_inner).take() {
            before.restore();
        }
        std::process::exit(code)
    }
}

/// Listens for signals from now on. A SIGHUP that is ignored, as under `nohup`, stays so.
///
/// # Errors
/// `File` when the system refuses.
pub(super) fn listen(interrupt: &Interrupt, prompt: &Prompt) -> Result<()> {
    let heard = SIGNALS.iter().map(|(signal, _)| *signal).filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP));
    let mut signals = signal_hook::iterator::Signals::new(heard)
        .map_err(|error| crate::error!(File, "signals cannot be listened to: {error}"))?;
    let (interrupt, prompt) = (interrupt.clone(), prompt.clone());
    std::thread::spawn(move || {
        for signal in &mut signals {
            let Some((_, cause)) = SIGNALS.iter().find(|(known, _)| *known == signal) else { continue };
            if *cause == Cause::CtrlC && interrupt.is_set() {
                prompt.end(INTERRUPTED);
            }
            interrupt.set_by(*cause);
            if *cause != Cause::CtrlC && prompt.waits.load(Ordering::SeqCst) {
                prompt.end(exit_code(*cause));
            }
        }
    });
    Ok(())
}

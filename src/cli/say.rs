//! Writing to standard output and error. A reader that went away (`| head`, a closed terminal) is no error and no panic: it
//! asks what runs to save and stop.

use std::io::{ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::events::{Cause, Interrupt};

/// What is asked to stop when nobody reads any more; nothing until there is a session.
static STOP: OnceLock<Interrupt> = OnceLock::new();
/// Whether it was said that output is lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Sets what is asked to stop when nobody reads the output any more; the first of a process counts.
pub(super) fn stops(interrupt: &Interrupt) {
    let _ = STOP.set(interrupt.clone());
}

/// A line to standard output.
pub(super) fn say(text: &str) {
    write(&format!("{text}\n"));
}

/// A text to standard output as it is.
pub(super) fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(out);
    let Err(error) = written else { return };
    match error.kind() {
        ErrorKind::BrokenPipe => stop(Cause::ClosedOutput),
        _ if error.raw_os_error() == Some(libc::EIO) => stop(Cause::Hangup),
        // A full disk, say. What is computed is worth more than what is printed.
        _ if !LOST.swap(true, Ordering::SeqCst) => {
            tell(&format!("warning: standard output cannot be written: {error}"))
        }
        _ => {}
    }
}

/// A line to standard error.
pub(super) fn tell(text: &str) {
    tell_raw(&format!("{text}\n"));
}

/// A text to standard error as it is.
pub(super) fn tell_raw(text: &str) {
    let Err(error) = std::io::stderr().lock().write_all(text.as_bytes()) else { return };
    // `2>&1 | head`: a run that prints nothing but progress ends as well. Progress alone may go unread.
    if error.kind() == ErrorKind::BrokenPipe && is_unread() {
        stop(Cause::ClosedOutput);
    }
    if error.raw_os_error() == Some(libc::EIO) {
        stop(Cause::Hangup);
    }
}

fn stop(cause: Cause) {
    if let Some(interrupt) = STOP.get() {
        interrupt.set_by(cause);
    }
}

/// Whether standard output is a pipe that nobody reads.
fn is_unread() -> bool {
    let mut poll = libc::pollfd { fd: libc::STDOUT_FILENO, events: libc::POLLOUT, revents: 0 };
    // SAFETY: `poll` is an array of one pollfd, as the 1 says, borrowed for the call; a timeout of 0 does not wait.
    let ready = unsafe { libc::poll(&mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLERR != 0
}

//! The one guard around foreign libraries that read what is in people's files. A panic inside becomes an error that names the
//! file and the library, and prints nothing; what a file declares is checked before memory is taken for it; and a call that
//! may never end runs beside the caller, who gives up on it. Calls nest: the innermost guard answers.
//!
//! A guard cannot stop what ends a process at once: a stack that overflows, memory the system refuses, a C library's fault.
//! So depth and sizes are checked before the call, where the library does not do so itself.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error;
use crate::error::{Error, Result};

/// The stack of a thread of its own: room for data that is nested deeply. It is taken as it is used.
const STACK: usize = 64 << 20;

thread_local! {
    /// Guarded calls under way on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last guarded panic of this thread began.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why a foreign library gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    library: &'static str,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// It panicked: what it said, and where.
    Panicked { said: Option<String>, place: Option<String> },
    /// It was not done in time.
    Endless(Duration),
    /// The system gave no thread to run it on.
    NoThread(String),
}

impl Failure {
    /// The text of the panic, where there was one that had a text.
    pub fn said(&self) -> Option<&str> {
        match &self.what {
            What::Panicked { said, .. } => said.as_deref(),
            What::Endless(_) | What::NoThread(_) => None,
        }
    }

    /// The error of a file, or of whatever `name` stands for.
    pub fn error(&self, name: &dyn fmt::Display) -> Error {
        let error = error!(Decode, "`{name}`: {self}");
        match self.what {
            What::NoThread(_) => error.help("end other programs, or raise the limit of threads (`ulimit -u`)"),
            _ => error.help(
                "the file is damaged, or of a form that library was not made for: fetch it again, or write it anew",
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let library = self.library;
        match &self.what {
            What::Panicked { said, place } => {
                let at = place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                match said {
                    Some(said) => write!(f, "the library {library} broke off{at}: {said}"),
                    None => write!(f, "the library {library} broke off{at} and did not say why"),
                }
            }
            What::Endless(limit) => write!(f, "the library {library} was not done with it after {limit:?}"),
            What::NoThread(error) => write!(f, "no thread to run the library {library} on: {error}"),
        }
    }
}

/// Runs a foreign library's code; `library` is its name. What the call was working on may be half changed after a failure
/// and is not to be used again.
///
/// # Errors
/// What the library said, if it panicked.
pub fn catch<T>(library: &'static str, call: impl FnOnce() -> T) -> std::result::Result<T, Failure> {
    silence();
    let caught = {
        let _inside = Inside::enter();
        catch_unwind(AssertUnwindSafe(call))
    };
    caught.map_err(|payload| {
        let place = PLACE.try_with(|place| place.borrow_mut().take()).ok().flatten();
        Failure { library, what: What::Panicked { said: text(payload), place } }
    })
}

/// [`catch`] for a call that fails with this program's errors; `name` is the file, for the message.
///
/// # Errors
/// Those of the call; `Decode` if the library panicked.
pub fn read<T>(library: &'static str, name: &dyn fmt::Display, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch(library, call).map_err(|failure| failure.error(name))?
}

/// [`catch`] on a thread of its own, for calls that cannot be interrupted and are known not to end on some files. When
/// `limit` is over the caller goes on without an answer; **the thread goes on too, with its memory, until it ends by itself
/// or with the process**. So this is for calls that take milliseconds, of which there are few.
///
/// # Errors
/// What the library said, if it panicked; or that it was not done within `limit`.
pub fn within<T: Send + 'static>(
    library: &'static str,
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, Failure> {
    let failed = |what| Failure { library, what };
    let (answer, answers) = sync_channel(1);
    // Nobody waits for an answer that comes too late.
    let work = move || drop(answer.send(catch(library, call)));
    let started = std::thread::Builder::new().name(format!("guard {library}")).stack_size(STACK).spawn(work);
    started.map_err(|error| failed(What::NoThread(error.to_string())))?;
    match answers.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(failed(What::Endless(limit))),
        Err(RecvTimeoutError::Disconnected) => Err(failed(What::Panicked { said: None, place: None })),
    }
}

/// Refuses a number that a file declares and cannot have, before memory is taken for it: `what` is what is counted,
/// `most` the largest number there can be.
///
/// # Errors
/// `Decode`, with both numbers.
pub fn check(name: &dyn fmt::Display, what: &str, declared: u64, most: u64) -> Result<()> {
    match declared <= most {
        true => Ok(()),
        false => Err(error!(Decode, "`{name}` declares {declared} {what}, where {most} are the most there can be")
            .help("the file is damaged: fetch it again, or write it anew")),
    }
}

/// While it lives, this thread's panics are not printed.
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Puts a hook in front of the process's own that keeps guarded panics to itself, once; all others go on to it.
fn silence() {
    static ONCE: Once = Once::new();
    // The hook cannot be changed by a thread that is unwinding, as a destructor's is.
    if ONCE.is_completed() || std::thread::panicking() {
        return;
    }
    ONCE.call_once(|| std::panic::set_hook(quiet(std::panic::take_hook())));
}

type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync + 'static>;

/// A hook that keeps guarded panics to itself, and where they were.
fn quiet(before: Hook) -> Hook {
    Box::new(move |info| {
        // A thread that is ending has no flag any more, and no guard.
        if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
            return before(info);
        }
        let place = info.location().map(|at| {
            let file = at.file().rsplit(['/', '\\']).next().unwrap_or_default();
            format!("{file}:{}", at.line())
        });
        let _ = PLACE.try_with(|last| *last.borrow_mut() = place);
    })
}

/// What a panic says, on one line.
fn text(payload: Box<dyn Any + Send>) -> Option<String> {
    let text = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&'static str>().ok()?).to_string(),
    };
    Some(text.lines().map(str::trim).collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;

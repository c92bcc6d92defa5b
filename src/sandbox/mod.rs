//! What a script of a stranger may do. A process enters the sandbox once, before it has threads, and never leaves it: from then
//! on files are read only below the folders that were given, written only below one, nothing is fetched, no other program is
//! started, and an evaluation has limits. `fs.rs` asks here for every file that is opened (`tests/architecture/files.rs`);
//! on Linux the kernel holds the process to the same folders (`kernel.rs`).

mod kernel;
mod limits;
mod rules;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use limits::{Evaluation, Exceeded, Limits, exceed, exceeded, running};
use rules::Rules;

use crate::error;
use crate::error::{Error, Kind, Result};

struct Entered {
    rules: Rules,
    limits: Limits,
}

static ENTERED: OnceLock<Entered> = OnceLock::new();

/// Enters the sandbox: reads only below `read` (folders, or single files) and `write`, writes only below `write`, which is made where
/// it is missing. To be called while the process has one thread: those that are there already are not held by the kernel.
///
/// # Errors
/// `Missing` or `File` when one of the paths is not there or cannot be made; `Usage` when it was entered before.
pub fn enter(read: &[PathBuf], write: &Path, limits: Limits) -> Result<()> {
    let rules = Rules::new(read, write)?;
    kernel::hold(rules.read(), rules.write());
    let entered = ENTERED.set(Entered { rules, limits });
    entered.map_err(|_| error!(Usage, "this process is in the sandbox already"))
}

/// Whether the process is in the sandbox.
pub fn is_on() -> bool {
    ENTERED.get().is_some()
}

/// The limits of an evaluation, in the sandbox.
pub fn limits() -> Option<Limits> {
    ENTERED.get().map(|entered| entered.limits)
}

/// Refuses a path that must not be read; outside of the sandbox none is refused.
///
/// # Errors
/// `Refused`, naming the path and the folders that are read.
pub fn readable(path: &Path) -> Result<()> {
    ENTERED.get().map_or(Ok(()), |entered| entered.rules.readable(path))
}

/// Refuses a path where nothing must be written; outside of the sandbox none is refused.
///
/// # Errors
/// `Refused`, naming the path and the folder that is written.
pub fn writable(path: &Path) -> Result<()> {
    ENTERED.get().map_or(Ok(()), |entered| entered.rules.writable(path))
}

/// Refuses a name in a folder that must not be made, renamed or removed. A link there is meant itself, not what it leads to.
///
/// # Errors
/// `Refused`, naming the path and the folder that is written.
pub fn changeable(path: &Path) -> Result<()> {
    ENTERED.get().map_or(Ok(()), |entered| entered.rules.changeable(path))
}

/// Refuses to fetch `what`, in the sandbox.
///
/// # Errors
/// `Refused`, with what to do.
pub fn may_fetch(what: &str) -> Result<()> {
    match is_on() {
        false => Ok(()),
        true => Err(Error::new(Kind::Refused, format!("`{what}` is not fetched: the sandbox has no network"))
            .help("fetch it without `--sandbox` first, or by `hf download`, and let the script read the cache: `--allow FOLDER`")),
    }
}

/// Refuses to start another program, in the sandbox.
///
/// # Errors
/// `Refused`, with what to do.
pub fn may_start(program: &str) -> Result<()> {
    match is_on() {
        false => Ok(()),
        true => {
            Err(Error::new(Kind::Refused, format!("`{program}` is not started: the sandbox starts no other program"))
                .help("do it in another terminal, or without `--sandbox`"))
        }
    }
}

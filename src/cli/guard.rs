//! `--sandbox`: enters it before anything else happens, and watches over the limits of time and memory. A script that exceeds one ends
//! at its next operation, training after the step it is in; what does not end by itself is ended with the process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::args::{Args, Command};
use super::say::tell;
use crate::error;
use crate::error::{Error, Result};
use crate::events::Interrupt;
use crate::memory::{DeviceMemory, Host};
use crate::sandbox::{self, Exceeded, Limits};
use crate::settings::Settings;

/// Where runs go, and the one folder that is written in the sandbox.
pub(super) const RUNS: &str = "runs";
/// Time between two looks at time and memory.
const PAUSE: Duration = Duration::from_millis(20);
/// What a script that has exceeded a limit has left to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// Enters the sandbox if the arguments say so; gives the settings with what can be used there.
///
/// # Errors
/// `Usage` for options of the sandbox without it; `Missing` or `File` for a folder that is not there.
pub(super) fn enter(args: &Args, settings: Settings) -> Result<Settings> {
    let given = &args.guard;
    if !given.sandbox {
        let alone = [
            ("--allow", !given.allow.is_empty()),
            ("--time-limit", given.time_limit.is_some()),
            ("--memory-limit", given.memory_limit.is_some()),
            ("--operations-limit", given.operations_limit.is_some()),
        ];
        return match alone.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(error!(Usage, "`{name}` goes with `--sandbox`").help("add `--sandbox`")),
            None => Ok(settings),
        };
    }
    let script = match &args.command {
        Some(Command::Run { script, .. } | Command::Check { script }) => Some(script),
        Some(Command::Repl { file }) => file.as_ref(),
        _ => None,
    };
    let read: Vec<PathBuf> = given.allow.iter().chain(script).cloned().collect();
    let limits = Limits {
        operations: given.operations_limit.unwrap_or(super::args::OPERATIONS),
        memory: given.memory_limit.unwrap_or(super::args::MEMORY).saturating_mul(1 << 20),
        time: Duration::from_secs(given.time_limit.unwrap_or(super::args::TIME)),
    };
    let runs = Path::new(RUNS);
    sandbox::enter(&read, runs, limits)?;
    let own = |folder: &PathBuf| sandbox::readable(folder).is_ok();
    let preset_folders = settings.preset_folders.iter().filter(|folder| own(folder)).cloned().collect();
    let cache_folder = runs.join("cache");
    Ok(Settings { preset_folders, state_folder: cache_folder.clone(), cache_folder, ..settings })
}

/// Watches over the evaluations of this process, if it is in the sandbox.
pub(super) fn watch(interrupt: &Interrupt) {
    let Some(limits) = sandbox::limits() else { return };
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        let mut since: Option<Instant> = None;
        loop {
            std::thread::sleep(PAUSE);
            let Some(time) = sandbox::running() else {
                since = None;
                continue;
            };
            let memory = Host.held().max(Host::anonymous().unwrap_or(0));
            match (time > limits.time, memory > limits.memory) {
                (true, _) => sandbox::exceed(Exceeded::Time),
                (_, true) => sandbox::exceed(Exceeded::Memory),
                _ => {}
            }
            let Some(error) = sandbox::exceeded() else { continue };
            interrupt.set();
            let since = since.get_or_insert_with(Instant::now);
            // A quarter more is a script that takes memory faster than it comes to an end.
            if since.elapsed() > GRACE || memory > limits.memory.saturating_add(limits.memory / 4) {
                end(&error);
            }
        }
    });
}

/// Ends the process where a script does not end by itself.
fn end(error: &Error) -> ! {
    tell(&format!("error: {}", error.message()));
    if let Some(help) = error.help_text() {
        tell(&format!("  = help: {help}"));
    }
    std::process::exit(1);
}

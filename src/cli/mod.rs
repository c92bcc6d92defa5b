//! The command line: the only layer that prints, or reads arguments and the environment.

mod args;
mod assist;
mod commands;
mod compared;
pub mod complete;
mod doctor;
pub mod graphics;
mod guard;
mod listen;
mod option_map;
mod output;
pub mod progress;
mod prompt;
mod query;
mod repl;
mod rerun;
mod runs;
mod sixel;
pub mod tokens;
mod verify;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::error::{Error, Kind, Result};
use crate::events::{Interrupt, Listeners};
use crate::hub::Hub;
use crate::ledger::Ledger;
use crate::preset::Presets;
use crate::process::{end_with_the_pipe, keep_freed_memory, set_threads};
use crate::sandbox;
use crate::script::{Outcome, Output, Overrides, Repeat, Session, SessionOptions};
use crate::settings::Settings;
use args::{Args, Command};
use compared::Comparison;
use listen::ProgressListener;
use output::Terminal;
use progress::Progress;

/// Exit code of a wrong command line.
const USAGE: i32 = 2;
/// Exit code of a run that does not fit.
const DOES_NOT_FIT: i32 = 3;
/// Exit code after Ctrl-C, with everything saved.
const INTERRUPTED: i32 = 130;

/// Runs the program.
pub fn main() -> ExitCode {
    keep_freed_memory();
    let args = Args::parse();
    // The sandbox comes first: the kernel holds threads to it that are started from inside.
    let entered = guard::enter(&args, Settings::from_env());
    let done = entered.and_then(|settings| {
        set_threads(settings.threads);
        dispatch(args, &settings)
    });
    let code = match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", error.message());
            if let Some(help) = error.help_text() {
                eprintln!("  = help: {help}");
            }
            match error.kind() {
                Kind::Usage => USAGE,
                Kind::DoesNotFit => DOES_NOT_FIT,
                _ => 1,
            }
        }
    };
    ExitCode::from(code as u8)
}

fn dispatch(args: Args, settings: &Settings) -> Result<i32> {
    let overrides = match &args.command {
        Some(Command::Run { set, .. }) => Overrides::parse(&[args.set.as_slice(), set.as_slice()].concat())?,
        _ => Overrides::parse(&args.set)?,
    };
    if args.command.as_ref().is_some_and(Command::only_prints) {
        end_with_the_pipe();
    }
    match args.command {
        Some(Command::Run { ref script, args: ref script_args, .. }) => {
            let text = crate::fs::read_to_string(script).map_err(|error| Error::file(script, error))?;
            let mut opened = session(&args, settings, overrides, script_args.clone())?;
            let code = evaluate(&mut opened.session, &script.display().to_string(), &text);
            Ok(opened.code(code))
        }
        Some(Command::Check { ref script }) => {
            let text = crate::fs::read_to_string(script).map_err(|error| Error::file(script, error))?;
            let session = session(&args, settings, overrides, Vec::new())?.session;
            match session.check(&script.display().to_string(), &text) {
                Ok(()) => Ok(0),
                Err(report) => {
                    eprintln!("{report}");
                    Ok(report.exit_code())
                }
            }
        }
        Some(Command::Watch { ref run }) => {
            let opened = session(&args, settings, overrides, Vec::new())?;
            let progress = Arc::new(Progress::new(args.quiet, std::io::stderr().is_terminal()));
            let watched = runs::watch(run, &ProgressListener::new(progress), &opened.interrupt)?;
            if watched.is_empty() {
                println!("{}: nothing was trained yet", run.display());
            }
            for run in watched {
                opened.output.figure(&runs::curve(&run)?, &format!("{}: {}", run.dir().display(), run.status()?));
            }
            Ok(0)
        }
        Some(Command::Rerun { ref run }) => rerun::rerun(&args, settings, run),
        Some(Command::Verify { ref run }) => verify::verify(run, args.json),
        Some(Command::Diff { ref a, ref b }) => Ok(Comparison::of(a, b)?.print(args.json)),
        Some(Command::Report { ref path, ref out, ref data, maps, overwrite }) => {
            let presets = Presets::new(settings.preset_folders.clone());
            let ledger = Ledger::in_folder(&settings.cache_folder);
            let written = runs::report(path, out.as_deref(), data.clone(), (&presets, maps), (&ledger, overwrite))?;
            println!("{}", written.display());
            Ok(0)
        }
        Some(Command::Doctor) => {
            output::print_table(&doctor::table(settings), args.json);
            Ok(0)
        }
        Some(Command::Completions { shell }) => {
            args::completions(shell);
            Ok(0)
        }
        Some(Command::Ls { what }) => commands::list(&Presets::new(settings.preset_folders.clone()), what, args.json),
        Some(Command::Docs { ref topic, markdown }) => {
            let session = session(&args, settings, overrides, Vec::new())?.session;
            commands::docs(&session, topic.as_deref(), markdown)
        }
        Some(Command::Repl { ref file }) => {
            let mut opened = session(&args, settings, overrides, Vec::new())?;
            if let Some(file) = file {
                let text = crate::fs::read_to_string(file).map_err(|error| Error::file(file, error))?;
                evaluate(&mut opened.session, &file.display().to_string(), &text);
            }
            Ok(repl::repl(&mut opened.session, &opened.fresh, settings, &opened.interrupt))
        }
        None => code(&args, settings, overrides),
    }
}

/// Evaluates the code of `-c`, or what comes through a pipe.
fn code(args: &Args, settings: &Settings, overrides: Overrides) -> Result<i32> {
    let (name, text) = match &args.code {
        Some(code) => ("-c", code.clone()),
        None if !std::io::stdin().is_terminal() => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| Error::file("stdin", error))?;
            ("stdin", text)
        }
        None => {
            eprintln!("{}", args::help());
            return Ok(USAGE);
        }
    };
    let mut opened = session(args, settings, overrides, Vec::new())?;
    let code = evaluate(&mut opened.session, name, &text);
    Ok(opened.code(code))
}

struct OpenedSession {
    session: Session,
    output: Arc<Terminal>,
    /// Creates another session like it.
    fresh: Box<dyn Fn() -> Session>,
    interrupt: Interrupt,
}

impl OpenedSession {
    /// The exit code of an evaluation that ended with `code`: 130 when it was interrupted, however it ended, but by the sandbox.
    fn code(&self, code: i32) -> i32 {
        if let Some(error) = sandbox::exceeded() {
            if code == 0 {
                eprintln!("error: {error}");
            }
            return code.max(1);
        }
        if !self.interrupt.is_set() {
            return code;
        }
        eprintln!("interrupted: what was done is saved; `t.resume(folder)` or `b.run(m, #{{ out: file }})` goes on");
        INTERRUPTED
    }
}

/// A session that prints to this terminal and stops on Ctrl-C.
fn session(args: &Args, settings: &Settings, overrides: Overrides, script_args: Vec<String>) -> Result<OpenedSession> {
    session_repeating(args, settings, overrides, script_args, None)
}

/// A session that reruns the script of a run, with a folder for all that it writes.
fn session_repeating(
    args: &Args,
    settings: &Settings,
    overrides: Overrides,
    script_args: Vec<String>,
    repeats: Option<(Repeat, PathBuf)>,
) -> Result<OpenedSession> {
    let progress = Arc::new(Progress::new(args.quiet, std::io::stderr().is_terminal()));
    let interrupt = Interrupt::default();
    listen_for_signals(&interrupt)?;
    guard::watch(&interrupt);
    // A rerun does not share features and answers with other runs either.
    let (repeats, runs, cache) = match repeats {
        Some((repeat, root)) => (Some(repeat), root.clone(), root.join("cache")),
        None => (None, PathBuf::from(guard::RUNS), settings.cache_folder.clone()),
    };
    let output = Arc::new(Terminal::new(progress.clone(), args.json, runs.clone()));
    let listeners = Listeners::default().with(Arc::new(ProgressListener::new(progress)));
    let hub = Hub::new(settings.hub.clone(), listeners.clone());
    let presets = Presets::new(settings.preset_folders.clone()).with_hub(hub);
    let shown = output.clone();
    let stop = interrupt.clone();
    let fresh = move || {
        Session::new(SessionOptions {
            presets: presets.clone(),
            output: output.clone(),
            listeners: listeners.clone(),
            interrupt: stop.clone(),
            overrides: overrides.clone(),
            args: script_args.clone(),
            runs: runs.clone(),
            cache: cache.clone(),
            repeats: repeats.clone(),
        })
    };
    Ok(OpenedSession { session: fresh(), output: shown, fresh: Box::new(fresh), interrupt })
}

/// Evaluates a text, shows its value unless that is `()`, prints an error with its place.
fn evaluate(session: &mut Session, name: &str, text: &str) -> i32 {
    match session.run(name, text) {
        Ok(Outcome::Exit(code)) => code,
        Ok(Outcome::Value(value)) => {
            if !value.is_unit() {
                session.show(&value);
            }
            0
        }
        Err(report) => {
            eprintln!("{report}");
            report.exit_code()
        }
    }
}

/// The first Ctrl-C (or SIGTERM, SIGUSR1 from a scheduler) asks for a stop with everything saved; a second Ctrl-C
/// within that stop ends the process.
fn listen_for_signals(interrupt: &Interrupt) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| crate::error!(File, "signals cannot be listened to: {error}"))?;
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        for _ in &mut signals {
            if interrupt.is_set() {
                std::process::exit(130);
            }
            interrupt.set();
        }
    });
    Ok(())
}

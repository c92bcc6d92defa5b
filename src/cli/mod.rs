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
mod say;
mod screen;
mod signals;
mod sixel;
pub mod tokens;
mod verify;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use crate::error::{Error, Kind, Result};
use crate::events::{Cause, Interrupt, Listeners};
use crate::hub::Hub;
use crate::ledger::Ledger;
use crate::preset::Presets;
use crate::process::{end_with_the_pipe, keep_freed_memory, set_threads, survive_file_limits};
use crate::sandbox;
use crate::script::{Outcome, Output, Overrides, Repeat, Session, SessionOptions};
use crate::settings::Settings;
use args::{Args, Command};
use compared::Comparison;
use listen::ProgressListener;
use output::Terminal;
use progress::Progress;
use say::{say, tell};
use signals::Prompt;

/// Exit code of a wrong command line.
const USAGE: i32 = 2;
/// Exit code of a run that does not fit.
const DOES_NOT_FIT: i32 = 3;

/// Runs the program.
pub fn main() -> ExitCode {
    keep_freed_memory();
    survive_file_limits();
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
            tell(&format!("error: {}", error.message()));
            if let Some(help) = error.help_text() {
                tell(&format!("  = help: {help}"));
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
            let ended = opened.evaluate(&script.display().to_string(), &text);
            Ok(opened.code(ended))
        }
        Some(Command::Check { ref script }) => {
            let text = crate::fs::read_to_string(script).map_err(|error| Error::file(script, error))?;
            let session = session(&args, settings, overrides, Vec::new())?.session;
            match session.check(&script.display().to_string(), &text) {
                Ok(()) => Ok(0),
                Err(report) => {
                    tell(&report.to_string());
                    Ok(report.exit_code())
                }
            }
        }
        Some(Command::Watch { ref run }) => {
            let opened = session(&args, settings, overrides, Vec::new())?;
            let watched = runs::watch(run, &opened.listener, &opened.interrupt)?;
            if watched.is_empty() {
                say(&format!("{}: nothing was trained yet", run.display()));
            }
            for run in watched {
                opened.output.figure(&runs::curve(&run)?, &format!("{}: {}", run.dir().display(), run.status()?));
            }
            // Ctrl-C is how one stops watching.
            let cause = opened.interrupt.cause().filter(|cause| *cause != Cause::CtrlC);
            Ok(cause.map_or(0, signals::exit_code))
        }
        Some(Command::Rerun { ref run }) => rerun::rerun(&args, settings, run),
        Some(Command::Verify { ref run }) => verify::verify(run, args.json),
        Some(Command::Diff { ref a, ref b }) => Ok(Comparison::of(a, b)?.print(args.json)),
        Some(Command::Report { ref path, ref out, ref data, maps, overwrite }) => {
            let presets = Presets::new(settings.preset_folders.clone());
            let ledger = Ledger::in_folder(&settings.cache_folder);
            let written = runs::report(path, out.as_deref(), data.clone(), (&presets, maps), (&ledger, overwrite))?;
            say(&written.display().to_string());
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
                opened.evaluate(&file.display().to_string(), &text);
            }
            let signals = repl::Signals { interrupt: &opened.interrupt, prompt: &opened.prompt };
            Ok(repl::repl(&mut opened.session, &opened.fresh, settings, &signals))
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
            tell(&args::help());
            return Ok(USAGE);
        }
    };
    let mut opened = session(args, settings, overrides, Vec::new())?;
    let ended = opened.evaluate(name, &text);
    Ok(opened.code(ended))
}

struct OpenedSession {
    session: Session,
    output: Arc<Terminal>,
    listener: Arc<ProgressListener>,
    /// Creates another session like it.
    fresh: Box<dyn Fn() -> Session>,
    interrupt: Interrupt,
    prompt: Prompt,
}

/// How an evaluation ended.
struct Ended {
    code: i32,
    /// Of an error.
    kind: Option<Kind>,
}

impl OpenedSession {
    /// Evaluates a text, shows its value unless that is `()`, prints an error with its place.
    fn evaluate(&mut self, name: &str, text: &str) -> Ended {
        match self.session.run(name, text) {
            Ok(Outcome::Exit(code)) => Ended { code, kind: None },
            Ok(Outcome::Value(value)) => {
                if !value.is_unit() {
                    self.session.show(&value);
                }
                Ended { code: 0, kind: None }
            }
            Err(report) => {
                // That nobody reads on is no error of the script.
                if self.interrupt.cause() != Some(Cause::ClosedOutput) || report.kind != Kind::Interrupted {
                    tell(&report.to_string());
                }
                Ended { code: report.exit_code(), kind: Some(report.kind) }
            }
        }
    }

    /// The exit code of the process after an evaluation: when it was asked to stop, that of what asked. What could not be
    /// written is said as an error even then, as it is not saved.
    fn code(&self, ended: Ended) -> i32 {
        if let Some(error) = sandbox::exceeded() {
            if ended.code == 0 {
                tell(&format!("error: {error}"));
            }
            return ended.code.max(1);
        }
        let Some(cause) = self.interrupt.cause().filter(|_| ended.kind != Some(Kind::File)) else { return ended.code };
        let goes_on = "what was done is saved; `t.resume(folder)` or `b.run(m, #{ out: file })` goes on";
        match cause {
            Cause::CtrlC => tell(&format!("interrupted: {goes_on}")),
            // Of a script that only printed there is nothing to say: `| head` wanted no more.
            Cause::ClosedOutput if !self.listener.has_worked() => {}
            Cause::ClosedOutput => tell(&format!("stopped, as nobody reads the output any more: {goes_on}")),
            other => tell(&format!("stopped by {}: {goes_on}", other.name())),
        }
        signals::exit_code(cause)
    }
}

/// A session that prints to this terminal and stops on Ctrl-C and other signals.
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
    let (interrupt, prompt) = (Interrupt::default(), Prompt::default());
    say::stops(&interrupt);
    signals::listen(&interrupt, &prompt)?;
    guard::watch(&interrupt);
    // A rerun does not share features and answers with other runs either.
    let (repeats, runs, cache) = match repeats {
        Some((repeat, root)) => (Some(repeat), root.clone(), root.join("cache")),
        None => (None, PathBuf::from(guard::RUNS), settings.cache_folder.clone()),
    };
    let output = Arc::new(Terminal::new(progress.clone(), args.json, runs.clone()));
    let listener = Arc::new(ProgressListener::new(progress));
    let listeners = Listeners::default().with(listener.clone());
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
    Ok(OpenedSession { session: fresh(), output: shown, listener, fresh: Box::new(fresh), interrupt, prompt })
}

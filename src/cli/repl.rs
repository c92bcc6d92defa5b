//! The loop at the prompt. A line is code or a command (`prompt.rs`); one session lives from the first line to
//! the last, and neither an error nor Ctrl-C ends it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use rhai::Dynamic;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};

use super::assist::Assistant;
use super::complete::Words;
use super::output::print_table;
use super::prompt::{Input, overview, read, wrong};
use super::say::{say, tell};
use super::signals::{Prompt, exit_code};
use super::tokens::{RESULTS, is_silent, name_results};
use crate::error::{Error, Kind, Result};
use crate::events::{Cause, Interrupt};
use crate::preset::Presets;
use crate::sandbox;
use crate::script::docs::Function;
use crate::script::{Outcome, Session};
use crate::settings::Settings;
use crate::show::{Cell, Table, seconds};

/// The number of lines kept in the history.
const HISTORY: usize = 10_000;
/// Evaluations that take longer than this show their time.
const SLOW: f64 = 0.1;

/// Reads and evaluates until `:quit`, `exit(n)` or the end of input; returns the exit code. `fresh` creates the session
/// that `:reset` continues with.
pub(super) fn repl(session: &mut Session, fresh: &dyn Fn() -> Session, settings: &Settings, signals: &Signals) -> i32 {
    match run(session, fresh, settings, signals) {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("error: {error}"));
            1
        }
    }
}

/// What may end the session from outside.
pub(super) struct Signals<'a> {
    pub interrupt: &'a Interrupt,
    pub prompt: &'a Prompt,
}

impl Signals<'_> {
    /// The exit code when the session was asked to end. Ctrl-C asks that only of what runs.
    fn ended(&self) -> Option<i32> {
        self.interrupt.cause().filter(|cause| *cause != Cause::CtrlC).map(exit_code)
    }
}

fn run(session: &mut Session, fresh: &dyn Fn() -> Session, settings: &Settings, signals: &Signals) -> Result<i32> {
    let history = settings.state_folder.join("history");
    let shared = RefCell::new(session);
    let presets = Presets::new(settings.preset_folders.clone());
    let mut editor = editor(Assistant::new(&shared, presets), &history)?;
    let mut repl = Repl { session: &shared, interrupt: signals.interrupt, last: Dynamic::UNIT };
    repl.forget();
    say(&format!("llmore {}, {}, type :help", crate::build::VERSION, repl.device()));
    loop {
        // One that comes while the prompt waits ends the process there.
        let read = || signals.ended().map_or_else(|| Ok(editor.readline(&("> ", "\u{1b}[1;34m> \u{1b}[0m"))), Err);
        let line = match signals.prompt.wait(read) {
            Ok(line) => line,
            Err(code) => return Ok(code),
        };
        signals.interrupt.clear();
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(0),
            Err(error) => return Err(Error::new(Kind::File, format!("the terminal: {error}"))),
        };
        if !line.trim().is_empty() && matches!(editor.add_history_entry(line.trim_end()), Ok(true)) {
            // Line by line, so that a crash loses none; a read-only folder must not stop the session.
            let _ = editor.append_history(&history);
        }
        match Input::parse(&line) {
            Input::Quit => return Ok(0),
            Input::Reset => {
                **shared.borrow_mut() = fresh();
                repl.forget();
            }
            Input::History(word) => {
                editor.history().iter().filter(|entry| entry.contains(word)).for_each(|entry| say(entry));
            }
            input => {
                if let Some(code) = repl.act(input) {
                    return Ok(code);
                }
            }
        }
    }
}

fn editor<'a, 'b>(assistant: Assistant<'a, 'b>, history: &Path) -> Result<Editor<Assistant<'a, 'b>, FileHistory>> {
    let terminal = |error: ReadlineError| Error::new(Kind::File, format!("the terminal: {error}"));
    let config = Config::builder().completion_type(CompletionType::List).history_ignore_space(true);
    let config = config.max_history_size(HISTORY).and_then(|config| config.history_ignore_dups(true));
    let mut editor = Editor::with_config(config.map_err(terminal)?.build()).map_err(terminal)?;
    editor.set_helper(Some(assistant));
    // No history yet, or none that can be read: the session starts without.
    if let Some(folder) = history.parent() {
        let _ = crate::fs::create_dir_all(folder);
    }
    let _ = editor.load_history(history);
    Ok(editor)
}

struct Repl<'a, 'b> {
    session: &'a RefCell<&'b mut Session>,
    interrupt: &'a Interrupt,
    /// The last value, which `_` stands for.
    last: Dynamic,
}

impl Repl<'_, '_> {
    /// Handles a line; returns an exit code when the session ends with it.
    fn act(&mut self, input: Input) -> Option<i32> {
        match input {
            Input::Code(text) => return self.evaluate("repl", text, SLOW),
            Input::Time(text) => return self.evaluate("repl", text, 0.0),
            Input::Type(text) => return self.evaluate("repl", &format!("type_of({text})"), SLOW),
            Input::Load(path) => match read(path) {
                Ok(text) => return self.evaluate(path, &text, SLOW),
                Err(error) => tell(&format!("error: {error}")),
            },
            Input::Help(None) => say(&overview()),
            Input::Help(Some(name)) => self.help(name),
            Input::Vars => print_table(&self.variables(), false),
            Input::Shell(command) => {
                let started = sandbox::may_start("sh").and_then(|()| {
                    let status = std::process::Command::new("sh").arg("-c").arg(command).status();
                    status.map_err(|error| crate::error!(File, "sh: {error}"))
                });
                if let Err(error) = started {
                    tell(&format!("error: {error}"));
                }
            }
            Input::Wrong(name) => tell(&format!("error: {}", wrong(name))),
            // Handled by the loop, which has the editor.
            Input::Empty | Input::Reset | Input::Quit | Input::History(_) => {}
        }
        None
    }

    /// Evaluates, shows and remembers a value; shows the time when it is over `limit` seconds.
    fn evaluate(&mut self, name: &str, text: &str, limit: f64) -> Option<i32> {
        let start = Instant::now();
        let text = name_results(text);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.session.borrow_mut().run(name, &text)));
        let elapsed = start.elapsed().as_secs_f64();
        match outcome {
            Ok(Ok(Outcome::Exit(code))) => return Some(code),
            Ok(Ok(Outcome::Value(value))) if value.is_unit() => {}
            Ok(Ok(Outcome::Value(value))) => {
                if !is_silent(&text) {
                    self.session.borrow().show(&value);
                }
                self.remember(value);
            }
            Ok(Err(report)) => {
                // The terminal has written `^C`.
                let line = if self.interrupt.is_set() { "\n" } else { "" };
                tell(&format!("{line}{report}"));
            }
            Err(_) => tell("error: a defect of llmore, please report the line; the session goes on"),
        }
        if elapsed > limit {
            tell(&format!("({})", seconds(elapsed)));
        }
        None
    }

    fn remember(&mut self, value: Dynamic) {
        let before = std::mem::replace(&mut self.last, value.clone());
        let mut session = self.session.borrow_mut();
        session.set(RESULTS[0].1, value);
        session.set(RESULTS[1].1, before);
    }

    /// Defines `_` and `_1`, so that reading them is not an error.
    fn forget(&mut self) {
        self.last = Dynamic::UNIT;
        self.remember(Dynamic::UNIT);
    }

    /// Help on a function is the text of the script function `help`; on a variable or a type it lists the members.
    fn help(&mut self, name: &str) {
        let words = Words::of(&self.session.borrow());
        let name = name.rsplit('.').next().unwrap_or(name).trim_end_matches("()");
        if words.functions.iter().any(|function| function.name == name) {
            self.evaluate("help", &format!("print(help({name:?}))"), SLOW);
            return;
        }
        let kind = words.variables.iter().find(|(variable, _)| variable == name).map_or(name, |(_, kind)| kind);
        let line = |f: &Function| format!("  {}\n      {}", f.signature(), f.summary());
        let members: Vec<String> = words.members(kind).map(line).collect();
        if members.is_empty() {
            let known: Vec<&str> = words.functions.iter().map(|function| function.name.as_str()).collect();
            let error = Error::unknown("function, variable or type", name, &known, "`llmore docs` lists all");
            tell(&format!("error: {error}"));
        } else {
            say(&format!("{kind}\n{}", members.join("\n")));
        }
    }

    fn variables(&self) -> Table {
        let mut table = Table::new("variables").column("name").column("type").column("value");
        let hidden = |name: &str| RESULTS.iter().any(|(_, long)| *long == name);
        for (name, kind, text) in self.session.borrow().variables().into_iter().filter(|(name, ..)| !hidden(name)) {
            table.push([Cell::from(name), Cell::from(kind), Cell::from(text)]);
        }
        table
    }

    fn device(&self) -> String {
        match self.session.borrow_mut().run("repl", "device()") {
            Ok(Outcome::Value(value)) => value.to_string(),
            _ => "no device".to_string(),
        }
    }
}

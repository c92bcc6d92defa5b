//! The meaning of a line at the prompt: code, or one of the `:` commands. The table is also their help.

use std::path::Path;

use crate::error::{Error, Result};

/// A command.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) argument: &'static str,
    pub(super) about: &'static str,
}

const fn command(name: &'static str, argument: &'static str, about: &'static str) -> Command {
    Command { name, argument, about }
}

pub(super) const COMMANDS: &[Command] = &[
    command("help", "[x]", "this list, or help on a function, a variable or a type; also `?x`"),
    command("vars", "", "the variables"),
    command("type", "e", "the type of an expression"),
    command("time", "e", "evaluate and say how long it took"),
    command("load", "file", "run a script in this session"),
    command("history", "[word]", "what was typed, or the lines that hold a word"),
    command("sh", "cmd", "run a shell command"),
    command("reset", "", "forget all variables and functions"),
    command("quit", "", "leave; also Ctrl-D"),
];

/// A parsed line.
#[derive(Debug, PartialEq)]
pub(super) enum Input<'a> {
    Empty,
    Code(&'a str),
    /// `None` asks for the list of commands.
    Help(Option<&'a str>),
    Vars,
    Type(&'a str),
    Time(&'a str),
    Load(&'a str),
    History(&'a str),
    Shell(&'a str),
    Reset,
    Quit,
    /// A command without its argument, or one that does not exist.
    Wrong(&'a str),
}

impl<'a> Input<'a> {
    /// Reads a line.
    pub(super) fn parse(line: &'a str) -> Self {
        let text = line.trim();
        if let Some(name) = text.strip_prefix('?') {
            return Input::Help(Some(name.trim()).filter(|name| !name.is_empty()));
        }
        let Some(command) = text.strip_prefix(':') else {
            return if text.is_empty() { Input::Empty } else { Input::Code(line) };
        };
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        match (name, argument.is_empty()) {
            ("help", empty) => Input::Help((!empty).then_some(argument)),
            ("vars", true) => Input::Vars,
            ("type", false) => Input::Type(argument),
            ("time", false) => Input::Time(argument),
            ("load", false) => Input::Load(argument),
            ("history", _) => Input::History(argument),
            ("sh", false) => Input::Shell(argument),
            ("reset", true) => Input::Reset,
            ("quit", true) => Input::Quit,
            _ => Input::Wrong(name),
        }
    }
}

/// The error for a command that cannot be run as typed.
pub(super) fn wrong(name: &str) -> Error {
    match COMMANDS.iter().find(|command| command.name == name) {
        Some(Command { argument: "", .. }) => crate::error!(Usage, "`:{name}` takes nothing after it"),
        Some(command) => crate::error!(Usage, "`:{name}` needs `{}`", command.argument),
        None => {
            let known: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
            Error::unknown("command", name, &known, "`:help` lists them")
        }
    }
}

/// The text of `:load`'s file.
pub(super) fn read(path: &str) -> Result<String> {
    crate::fs::read_to_string(Path::new(path)).map_err(|error| Error::file(path, error))
}

/// The list that `:help` prints.
pub(super) fn overview() -> String {
    let rows = COMMANDS.iter().map(|c| format!("  {:16} {}", format!(":{} {}", c.name, c.argument), c.about));
    let notes = [
        "  _ and _1         the last result and the one before it".to_string(),
        "  Tab              completes names, methods, preset ids and paths".to_string(),
        "  Ctrl-C           stops what runs and keeps the session; a `;` at the end shows no value".to_string(),
    ];
    rows.chain(notes).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let cases = [
            ("", Input::Empty),
            ("  ", Input::Empty),
            (" 1 + 1", Input::Code(" 1 + 1")),
            ("?ask", Input::Help(Some("ask"))),
            ("? ", Input::Help(None)),
            (":help", Input::Help(None)),
            (":help  m.ask ", Input::Help(Some("m.ask"))),
            (":time t.step() ", Input::Time("t.step()")),
            (":load a b.rhai", Input::Load("a b.rhai")),
            (":history", Input::History("")),
            (":quit", Input::Quit),
            (":quit now", Input::Wrong("quit")),
            (":load", Input::Wrong("load")),
            (":lod x", Input::Wrong("lod")),
        ];
        for (line, expected) in cases {
            assert_eq!(Input::parse(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_command_of_the_table_is_understood() {
        for command in COMMANDS {
            let line = format!(":{} {}", command.name, command.argument);
            assert!(!matches!(Input::parse(&line), Input::Wrong(_)), "{line}");
            assert!(overview().contains(&format!("  :{} ", command.name)), "{line}");
        }
    }

    #[test]
    fn wrong_commands_say_what_to_do() {
        assert_eq!(wrong("load").to_string(), "`:load` needs `file`");
        assert_eq!(wrong("quit").to_string(), "`:quit` takes nothing after it");
        assert_eq!(wrong("lod").to_string(), "no command `lod` (did you mean `load`? `:help` lists them)");
    }
}

//! Help while typing, for rustyline: completion, colors, hints from the history, and whether a text is a complete
//! statement.

use std::borrow::Cow;
use std::cell::RefCell;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::complete::{Words, open_string};
use super::prompt::{COMMANDS, Input};
use super::tokens::{name_results, paint};
use crate::preset::Presets;
use crate::script::Session;

/// The helper that rustyline calls.
pub(super) struct Assistant<'a, 'b> {
    session: &'a RefCell<&'b mut Session>,
    presets: Presets,
    files: FilenameCompleter,
    history: HistoryHinter,
}

impl<'a, 'b> Assistant<'a, 'b> {
    pub(super) fn new(session: &'a RefCell<&'b mut Session>, presets: Presets) -> Self {
        Assistant { session, presets, files: FilenameCompleter::new(), history: HistoryHinter::new() }
    }
}

impl Helper for Assistant<'_, '_> {}

impl Completer for Assistant<'_, '_> {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let pair = |(display, replacement)| Pair { display, replacement };
        let text = &line[..pos];
        if let Some(command) = text.strip_prefix(':').filter(|rest| !rest.contains(' ')) {
            let names = COMMANDS.iter().map(|command| command.name).filter(|name| name.starts_with(command));
            return Ok((1, names.map(|name| pair((format!(":{name}"), name.to_string()))).collect()));
        }
        if text.starts_with(":load ") {
            return self.files.complete_path(line, pos);
        }
        if let Some((start, kind)) = open_string(text) {
            let all = kind.map_or(Vec::new(), |kind| self.presets.ids(kind));
            let ids: Vec<String> = all.into_iter().filter(|id| id.starts_with(&text[start..])).collect();
            if ids.is_empty() {
                return self.files.complete_path(line, pos);
            }
            return Ok((start, ids.into_iter().map(|id| pair((id.clone(), id))).collect()));
        }
        let (start, found) = Words::of(&self.session.borrow()).complete(text);
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Assistant<'_, '_> {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        self.history.hint(line, pos, context)
    }
}

impl Highlighter for Assistant<'_, '_> {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if line.starts_with([':', '?']) { Cow::Borrowed(line) } else { Cow::Owned(paint(line)) }
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(format!("\u{1b}[90m{hint}\u{1b}[0m"))
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor
    }
}

impl Validator for Assistant<'_, '_> {
    fn validate(&self, context: &mut ValidationContext) -> rustyline::Result<ValidationResult> {
        let unfinished = match Input::parse(context.input()) {
            Input::Code(text) | Input::Type(text) | Input::Time(text) => {
                self.session.borrow().is_unfinished(&name_results(text))
            }
            _ => false,
        };
        Ok(if unfinished { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

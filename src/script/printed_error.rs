//! Errors as they are printed: the message, the source line with a caret, where it was called from, the next step.

use std::fmt;

use rhai::{EvalAltResult, Position};

use super::docs::Function;
use super::error::{ScriptError, lower_first};
use super::imports::Imports;
use super::{stdlib, suggest};
use crate::error::Kind;
use crate::sandbox;

/// An error ready to be printed.
#[derive(Clone, Debug)]
pub struct Report {
    pub kind: Kind,
    pub message: String,
    pub help: Option<String>,
    /// Innermost first.
    frames: Vec<Frame>,
}

/// A place an error came through.
#[derive(Clone, Debug)]
struct Frame {
    line: usize,
    column: usize,
    /// The function it is in.
    function: Option<String>,
    file: String,
    /// What stands in that line.
    text: Option<String>,
    /// Whether the file is not the user's.
    embedded: bool,
}

/// The texts that positions are in.
pub(super) struct Sources<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub imports: &'a Imports,
}

impl Sources<'_> {
    /// The frame of a position in a file, if it has one.
    fn frame(&self, position: Position, function: Option<String>, file: &str) -> Option<Frame> {
        if position.is_none() {
            return None;
        }
        let (line, column) = (position.line().unwrap_or(1), position.position().unwrap_or(1));
        let embedded = stdlib::text(file);
        let line_of = |text: &str| text.lines().nth(line - 1).map(str::to_string);
        let text = match embedded {
            Some(text) => line_of(text),
            None if file == self.name => line_of(self.text),
            None => self.imports.text(file).as_deref().and_then(line_of),
        };
        Some(Frame { line, column, function, file: file.to_string(), text, embedded: embedded.is_some() })
    }
}

/// Takes an error apart: its message, its help, the position of every frame.
pub(super) fn report(error: &EvalAltResult, docs: &[Function], sources: &Sources) -> Report {
    let mut frames = Vec::new();
    let mut innermost = error;
    let (mut file, mut function) = (sources.name.to_string(), None);
    loop {
        match innermost {
            EvalAltResult::ErrorInFunctionCall(name, source, inner, position) => {
                frames.push(sources.frame(*position, function.replace(name.clone()), &file));
                if !source.is_empty() {
                    file.clone_from(source);
                }
                innermost = inner;
            }
            EvalAltResult::ErrorInModule(source, inner, position) => {
                frames.push(sources.frame(*position, function.take(), &file));
                file.clone_from(source);
                innermost = inner;
            }
            other => {
                frames.push(sources.frame(other.position(), function, &file));
                break;
            }
        }
    }
    let (kind, message, help) = explain(innermost, docs);
    Report { kind, message, help, frames: frames.into_iter().flatten().rev().collect() }
}

fn explain(error: &EvalAltResult, docs: &[Function]) -> (Kind, String, Option<String>) {
    match error {
        EvalAltResult::ErrorRuntime(value, _) => match value.read_lock::<ScriptError>() {
            // What the sandbox ends looks like Ctrl-C from inside.
            Some(thrown) if thrown.kind == Kind::Interrupted && sandbox::exceeded().is_some() => {
                let error = sandbox::exceeded().map(ScriptError::from).unwrap_or_else(|| thrown.clone());
                (error.kind, error.message, error.help)
            }
            Some(thrown) => (thrown.kind, thrown.message.clone(), thrown.help.clone()),
            None => (Kind::Usage, super::describe(value), None),
        },
        EvalAltResult::ErrorTerminated(value, _) => match value.read_lock::<ScriptError>() {
            Some(thrown) => (thrown.kind, thrown.message.clone(), thrown.help.clone()),
            None => (Kind::Interrupted, "interrupted".to_string(), None),
        },
        EvalAltResult::ErrorTooManyOperations(_) if sandbox::is_on() => {
            let most = sandbox::limits().map_or(0, |limits| limits.operations);
            let message = format!("the script has more operations than the sandbox gives it: {most}");
            (Kind::Refused, message, Some("`--operations-limit N` gives more".to_string()))
        }
        EvalAltResult::ErrorFunctionNotFound(signature, _) => suggest::function_not_found(signature, docs),
        EvalAltResult::ErrorVariableNotFound(name, _) => suggest::variable_not_found(name, docs),
        EvalAltResult::ErrorDotExpr(message, _) => suggest::property_not_found(message, docs),
        EvalAltResult::ErrorParsing(kind, _) => suggest::parse_error(&kind.to_string(), docs),
        other => {
            let text = other.to_string();
            let message = text.rsplit_once(" (line ").map_or(text.as_str(), |(message, _)| message);
            (Kind::Usage, lower_first(message), None)
        }
    }
}

impl Report {
    /// The exit code that goes with the error.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            Kind::DoesNotFit => 3,
            Kind::Interrupted => 130,
            _ => 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let mut margin = 1;
        // The user's own line comes first, what is embedded below it.
        let embedded = self.frames.iter().take_while(|frame| frame.embedded).count();
        let embedded = if embedded < self.frames.len() { embedded } else { 0 };
        let (inside, outer) = self.frames.split_at(embedded);
        if let Some(Frame { line, column, function, file, text, .. }) = outer.first() {
            margin = line.to_string().len();
            let pad = " ".repeat(margin + 1);
            let place = function.as_ref().map_or(String::new(), |function| format!(" in `{function}`"));
            write!(f, "\n{pad}--> {file}:{line}:{column}{place}")?;
            if let Some(text) = text {
                let (indent, width) = (column.saturating_sub(1), caret_width(text, column.saturating_sub(1)));
                // Tabs stay tabs, so that the caret stands under what it points at.
                let lead: String = text.chars().take(indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{pad} |\n {line} | {text}\n{pad} | {lead}{}", "^".repeat(width))?;
            }
        }
        let pad = " ".repeat(margin + 1);
        for Frame { line, column, function, file, .. } in inside.iter().rev() {
            let place = function.as_ref().map_or(String::new(), |function| format!(" `{function}`"));
            write!(f, "\n{pad} = note: inside{place} at {file}:{line}:{column}")?;
        }
        for Frame { line, column, function, file, .. } in outer.iter().skip(1) {
            let place = function.as_ref().map_or("the script".to_string(), |function| format!("`{function}`"));
            write!(f, "\n{pad} = note: called from {place} at {file}:{line}:{column}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{pad} = help: {help}")?;
        }
        Ok(())
    }
}

/// How many characters the caret underlines: the name or the string that begins at a column.
fn caret_width(text: &str, column: usize) -> usize {
    let rest: Vec<char> = text.chars().skip(column).collect();
    let word = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    match rest.first() {
        Some(quote @ ('"' | '`' | '\'')) => rest.iter().skip(1).position(|c| c == quote).map_or(1, |end| end + 2),
        _ => word.max(1),
    }
}

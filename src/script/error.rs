//! Errors between Rust and Rhai: thrown as typed values, so that line and column of every frame survive and
//! `catch (e)` sees `e.kind`, `e.message`, `e.help`; printed with the source line and a caret.

use std::fmt;

use rhai::{Dynamic, EvalAltResult, Position};

use super::docs::Function;
use super::suggest;
use crate::error::{Error, Kind};

/// What `catch (e)` holds for an error of llmore.
#[derive(Clone, Debug)]
pub struct ScriptError {
    pub kind: Kind,
    pub message: String,
    pub help: Option<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<Error> for Box<EvalAltResult> {
    fn from(error: Error) -> Self {
        let help = error.help_text().map(str::to_string);
        let thrown = ScriptError { kind: error.kind(), message: error.message(), help };
        // `ErrorRuntime` is the variant whose position Rhai fills in, in every frame.
        Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(thrown), Position::NONE))
    }
}

/// What `exit(code)` throws.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exit(pub i32);

impl Exit {
    /// The exit inside an error, if it is one.
    pub(super) fn of(error: &EvalAltResult) -> Option<Exit> {
        match error {
            EvalAltResult::ErrorTerminated(value, _) => value.clone().try_cast::<Exit>(),
            EvalAltResult::ErrorInFunctionCall(_, _, inner, _) => Exit::of(inner),
            _ => None,
        }
    }
}

/// An error ready to be printed.
#[derive(Clone, Debug)]
pub struct Report {
    pub kind: Kind,
    pub message: String,
    pub help: Option<String>,
    /// Innermost first: a position, and the function it is in.
    frames: Vec<(Position, Option<String>)>,
    name: String,
    source: String,
}

/// Takes an error apart: its message, its help, the position of every frame.
pub(super) fn report(error: &EvalAltResult, docs: &[Function], name: &str, source: &str) -> Report {
    let mut frames = Vec::new();
    let mut innermost = error;
    let mut functions = Vec::new();
    while let EvalAltResult::ErrorInFunctionCall(function, _, inner, position) = innermost {
        frames.push(*position);
        functions.push(function.clone());
        innermost = inner;
    }
    frames.push(innermost.position());
    let mut names = vec![None];
    names.extend(functions.into_iter().map(Some));
    let frames = frames.into_iter().zip(names).rev().collect();
    let (kind, message, help) = explain(innermost, docs);
    Report { kind, message, help, frames, name: name.to_string(), source: source.to_string() }
}

fn explain(error: &EvalAltResult, docs: &[Function]) -> (Kind, String, Option<String>) {
    match error {
        EvalAltResult::ErrorRuntime(value, _) => match value.read_lock::<ScriptError>() {
            Some(thrown) => (thrown.kind, thrown.message.clone(), thrown.help.clone()),
            None => (Kind::Usage, super::describe(value), None),
        },
        EvalAltResult::ErrorTerminated(..) => (Kind::Interrupted, "interrupted".to_string(), None),
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

/// Rhai's messages begin with a capital letter, ours do not.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
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
        let mut outer = self.frames.iter().filter(|(position, _)| !position.is_none());
        if let Some((position, function)) = outer.next() {
            let (line, column) = (position.line().unwrap_or(1), position.position().unwrap_or(1));
            margin = line.to_string().len();
            let pad = " ".repeat(margin + 1);
            let place = function.as_ref().map_or(String::new(), |function| format!(" in `{function}`"));
            write!(f, "\n{pad}--> {}:{line}:{column}{place}", self.name)?;
            if let Some(text) = self.source.lines().nth(line - 1) {
                let (indent, width) = (column.saturating_sub(1), caret_width(text, column.saturating_sub(1)));
                // Tabs stay tabs, so that the caret stands under what it points at.
                let lead: String = text.chars().take(indent).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                write!(f, "\n{pad} |\n {line} | {text}\n{pad} | {lead}{}", "^".repeat(width))?;
            }
        }
        let pad = " ".repeat(margin + 1);
        for (position, function) in outer {
            let (line, column) = (position.line().unwrap_or(1), position.position().unwrap_or(1));
            let place = function.as_ref().map_or("the script".to_string(), |function| format!("`{function}`"));
            write!(f, "\n{pad} = note: called from {place} at {}:{line}:{column}", self.name)?;
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

//! Rhai's complaints, rewritten: which signatures a function has, which name was meant, whether a text is unfinished.

use rhai::{Engine, LexError, ParseErrorType, Scope};

use super::docs::Function;
use crate::error::{Kind, did_you_mean};
use crate::guard;

type Explained = (Kind, String, Option<String>);

/// "vlm (Projector, Encoder, Llm)": the name exists with other parameters, or a near one does.
pub(super) fn function_not_found(signature: &str, docs: &[Function]) -> Explained {
    let (name, arguments) = match signature.split_once(" (") {
        Some((name, arguments)) => (name.trim(), arguments.trim_end_matches(')')),
        None => (signature.trim(), ""),
    };
    let arguments = &arguments.split(", ").map(plain).collect::<Vec<_>>().join(", ");
    if let Some(property) = name.strip_prefix("get$") {
        return property_of(property, arguments, docs);
    }
    let known: Vec<&Function> = docs.iter().filter(|function| function.name == name && !function.is_property).collect();
    if known.is_empty() {
        let names = docs.iter().filter(|function| !function.is_property).map(|function| function.name.as_str());
        let help = did_you_mean(name, names).map(|near| format!("did you mean `{near}`?"));
        return (Kind::Missing, format!("no function `{name}` for ({arguments})"), help);
    }
    let takes: Vec<String> = known.iter().map(|function| format!("`{}`", function.signature())).collect();
    (Kind::Type, format!("`{name}` does not take ({arguments})"), Some(format!("it is {}", takes.join(" or "))))
}

/// Rhai's name of an argument's type as scripts know it.
fn plain(kind: &str) -> &str {
    match kind.trim() {
        "&str | ImmutableString | String" => "string",
        "i64" => "int",
        "f64" => "float",
        other => other,
    }
}

/// An undefined name: a variable, or a function without its brackets.
pub(super) fn variable_not_found(name: &str, docs: &[Function]) -> Explained {
    let names = docs.iter().filter(|function| !function.is_property).map(|function| function.name.as_str());
    let help = did_you_mean(name, names).map(|near| format!("did you mean `{near}(...)`?"));
    (Kind::Missing, format!("no variable `{name}`"), help)
}

/// "Unknown property 'x' - a getter is not registered for type 'T'".
pub(super) fn property_not_found(message: &str, docs: &[Function]) -> Explained {
    let mut quoted = message.split('\'').skip(1).step_by(2);
    match (quoted.next(), quoted.next()) {
        (Some(property), Some(kind)) => property_of(property, kind, docs),
        _ => (Kind::Missing, super::error::lower_first(message), None),
    }
}

fn property_of(property: &str, kind: &str, docs: &[Function]) -> Explained {
    let known: Vec<&str> = docs
        .iter()
        .filter(|function| {
            function.is_property && function.params.first().is_some_and(|(_, receiver)| receiver == kind)
        })
        .map(|function| function.name.as_str())
        .collect();
    let help = match (did_you_mean(property, known.iter().copied()), known.is_empty()) {
        (Some(near), _) => Some(format!("did you mean `.{near}`?")),
        (None, false) => {
            Some(format!("it has {}", known.iter().map(|name| format!("`.{name}`")).collect::<Vec<_>>().join(", ")))
        }
        (None, true) => None,
    };
    (Kind::Missing, format!("{kind} has no property `{property}`"), help)
}

/// A syntax error; strict variables are checked while parsing, so unknown names arrive here.
pub(super) fn parse_error(message: &str, docs: &[Function]) -> Explained {
    let undefined =
        message.strip_prefix("Undefined variable: ").or_else(|| message.strip_prefix("Variable not found: "));
    match undefined {
        Some(name) => variable_not_found(name.trim_matches(['\'', '`', '"']), docs),
        None => (Kind::Usage, super::error::lower_first(message), None),
    }
}

/// Whether more lines could make this text right: only then does a REPL keep reading. Wrong closers and finished
/// but faulty texts are evaluated, so that the error shows.
pub(super) fn is_unfinished(engine: &Engine, scope: &Scope, text: &str) -> bool {
    if text.rfind("/*").is_some_and(|open| !text[open..].contains("*/")) {
        return true;
    }
    let Ok(Err(error)) = guard::catch("rhai", || engine.compile_with_scope(scope, text)) else { return false };
    let position = error.position();
    let last = text.lines().count().max(1);
    let at_end = position.is_none()
        || position.line().is_some_and(|line| {
            line > last
                || (line == last
                    && position.position().unwrap_or(0) >= text.lines().last().unwrap_or("").trim_end().chars().count())
        });
    match *error.0 {
        ParseErrorType::UnexpectedEOF => true,
        ParseErrorType::MissingToken(..) | ParseErrorType::VariableExpected | ParseErrorType::ExprExpected(..) => {
            at_end
        }
        ParseErrorType::BadInput(LexError::UnterminatedString) => {
            // A backtick string may go over lines, a quoted one may not.
            let line = text.lines().nth(position.line().unwrap_or(1).saturating_sub(1)).unwrap_or("");
            line.chars().nth(position.position().unwrap_or(1).saturating_sub(1)) == Some('`')
        }
        _ => false,
    }
}

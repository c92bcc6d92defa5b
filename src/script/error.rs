//! Errors between Rust and Rhai: thrown as typed values, so that line and column of every frame survive and
//! `catch (e)` sees `e.kind`, `e.message`, `e.help`.

use std::fmt;

use rhai::{Dynamic, EvalAltResult, Position};

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

impl From<Error> for ScriptError {
    fn from(error: Error) -> Self {
        ScriptError { kind: error.kind(), message: error.message(), help: error.help_text().map(str::to_string) }
    }
}

impl From<Error> for Box<EvalAltResult> {
    fn from(error: Error) -> Self {
        let thrown = ScriptError::from(error);
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
            EvalAltResult::ErrorInFunctionCall(_, _, inner, _) | EvalAltResult::ErrorInModule(_, inner, _) => {
                Exit::of(inner)
            }
            _ => None,
        }
    }
}

/// Rhai's messages begin with a capital letter, ours do not.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_lowercase().chain(chars).collect())
}

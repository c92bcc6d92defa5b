//! The one error type. It names the thing, both values and the next step: `message` says what is wrong,
//! `help` what to do about it, `context` what was being done. The script layer throws it into Rhai so that
//! the position of every frame survives; `cli` prints it with a caret.

use std::fmt;
use std::path::Path;

/// What went wrong, for callers that react to it (exit codes, `catch (e) { e.kind }`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line or a call was used wrongly.
    Usage,
    /// An option map has an unknown key or an unusable value.
    Option,
    /// A handle or value of another type was expected.
    Type,
    /// Two shapes, widths or lengths that have to agree do not.
    Shape,
    /// A preset, tensor, file or id that does not exist.
    Missing,
    /// A file could not be read or written.
    File,
    /// A file was read but its content is not what it should be.
    Decode,
    /// A checkpoint's tensors do not fit the model.
    Weights,
    /// A sample or data set is unusable.
    Data,
    /// Training cannot start or go on.
    Train,
    /// Another process writes what is to be written.
    Busy,
    /// A device or dtype is not available.
    Device,
    /// A tensor operation failed inside candle.
    Tensor,
    /// Somebody pressed Ctrl-C, or a signal came; everything worth keeping is on disk.
    Interrupted,
    /// The plan needs more memory than there is.
    DoesNotFit,
    /// The sandbox does not allow it.
    Refused,
}

impl Kind {
    /// The lower-case name scripts see in `e.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::Option => "option",
            Kind::Type => "type",
            Kind::Shape => "shape",
            Kind::Missing => "missing",
            Kind::File => "file",
            Kind::Decode => "decode",
            Kind::Weights => "weights",
            Kind::Data => "data",
            Kind::Train => "train",
            Kind::Busy => "busy",
            Kind::Device => "device",
            Kind::Tensor => "tensor",
            Kind::Interrupted => "interrupted",
            Kind::DoesNotFit => "does_not_fit",
            Kind::Refused => "refused",
        }
    }
}

/// An error with its kind, message, help line and context (outermost last).
#[derive(Clone, Debug)]
pub struct Error(Box<ErrorParts>);

#[derive(Clone, Debug)]
struct ErrorParts {
    kind: Kind,
    message: String,
    help: Option<String>,
    context: Vec<String>,
}

/// The result of everything in llmore above candle.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A new error; `message` is one lower-case sentence without a full stop.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error(Box::new(ErrorParts { kind, message: message.into(), help: None, context: Vec::new() }))
    }

    /// The same error with a next step.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// The same error with what was being done when it happened.
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// A file that could not be read or written; what the sandbox says of it stays as it is.
    pub fn file(path: impl AsRef<Path>, error: std::io::Error) -> Self {
        let path = path.as_ref();
        let error = match error.downcast::<Error>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::Missing } else { Kind::File };
        let message = match error.kind() {
            std::io::ErrorKind::NotFound => format!("no file or folder `{}`", path.display()),
            std::io::ErrorKind::PermissionDenied => format!("no permission for `{}`", path.display()),
            std::io::ErrorKind::StorageFull => format!("no space left on the disk of `{}`", path.display()),
            _ => format!("`{}`: {error}", path.display()),
        };
        Error::new(kind, message)
    }

    /// A name that is not in a list: `what` is the kind of thing ("LLM preset"), `list` how to see them all.
    pub fn unknown<S: AsRef<str>>(what: &str, name: &str, known: &[S], list: &str) -> Self {
        let near = did_you_mean(name, known.iter().map(AsRef::as_ref));
        let help = match (near, list.is_empty()) {
            (Some(near), true) => format!("did you mean `{near}`?"),
            (Some(near), false) => format!("did you mean `{near}`? {list}"),
            (None, true) => {
                let names: Vec<_> = known.iter().map(|k| format!("`{}`", k.as_ref())).collect();
                format!("known: {}", names.join(", "))
            }
            (None, false) => list.to_string(),
        };
        Error::new(Kind::Missing, format!("no {what} `{name}`")).help(help)
    }

    /// What kind of error this is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The message with its context, outermost first.
    pub fn message(&self) -> String {
        let mut parts: Vec<&str> = self.0.context.iter().rev().map(String::as_str).collect();
        parts.push(&self.0.message);
        parts.join(": ")
    }

    /// The next step, if there is one to name.
    pub fn help_text(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The same error under another kind.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.0.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Error::new(Kind::Tensor, first_line(&error.to_string()))
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_string()
}

/// Adds what was being done to an error on its way up.
pub trait Context<T> {
    /// `context` is only built when there is an error.
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().context(context()))
    }
}

/// `Error::new` with a formatted message: `error!(Shape, "expected {a}, got {b}")`.
#[macro_export]
macro_rules! error {
    ($kind:ident, $($message:tt)+) => {
        $crate::error::Error::new($crate::error::Kind::$kind, format!($($message)+))
    };
}

/// Returns an [`error!`] from the current function.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::error!($kind, $($message)+))
    };
}

/// The candidate a person most likely meant, when one is close enough to be worth suggesting.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let (length, limit) = (wanted.chars().count(), (name.chars().count() / 3).max(1));
    let score = |candidate: &str| {
        let candidate = candidate.to_lowercase();
        // A name that was cut short ("llama-3.1-8b") is nearer than its edit distance says.
        let starts = wanted.len() >= 3 && candidate.starts_with(&wanted);
        // No distance is less than the difference of the lengths; names out of files may be of any length.
        let differs = candidate.chars().count().abs_diff(length);
        match (starts, differs > limit) {
            (true, _) => 1,
            (false, true) => differs,
            (false, false) => strsim::osa_distance(&wanted, &candidate),
        }
    };
    candidates
        .into_iter()
        .map(|candidate| (score(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && !candidate.is_empty())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_made_only_when_close() {
        let known = ["llama-3.1-8b-instruct", "tiny-llama", "phi-4-mini-instruct", "lr"];
        let cases = [
            ("llama-3.1-8b", Some("llama-3.1-8b-instruct")),
            ("tiny-lama", Some("tiny-llama")),
            ("Tiny-Llama", Some("tiny-llama")),
            ("gpt", None),
            ("xy", None),
            ("rl", Some("lr")),
        ];
        for (name, expected) in cases {
            assert_eq!(did_you_mean(name, known), expected, "for {name}");
        }
    }

    #[test]
    fn context_reads_from_the_outside_in() {
        let error = error!(Shape, "width {} does not fit {}", 3, 4).context("layer 0").context("loading `x`");
        assert_eq!(error.message(), "loading `x`: layer 0: width 3 does not fit 4");
    }
}

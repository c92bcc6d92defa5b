//! Help while typing: completion of names, methods, preset ids and paths, colors, hints from the history, and the
//! question whether a text is finished. What can be completed comes from what the session has registered.

use std::borrow::Cow;
use std::cell::RefCell;

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::{Hinter, HistoryHinter};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::prompt::{COMMANDS, Input};
use super::tokens::{Kind, RESULTS, Token, name_results, paint, scan};
use crate::preset::{PresetKind, Presets};
use crate::script::Session;
use crate::script::docs::Function;

/// Functions whose string is the id of a preset.
const IDS: &[(&str, PresetKind)] = &[
    ("encoder", PresetKind::Encoders),
    ("llm", PresetKind::Llms),
    ("template", PresetKind::Templates),
    ("recipe", PresetKind::Recipes),
    ("dataset", PresetKind::Datasets),
    ("benchmark", PresetKind::Benchmarks),
];

/// What can be named.
pub(super) struct Words {
    pub(super) functions: Vec<Function>,
    /// (name, type) of every variable.
    pub(super) variables: Vec<(String, String)>,
}

impl Words {
    /// What a session has. `_` and `_1` are listed as such.
    pub(super) fn of(session: &Session) -> Self {
        let short = |name: String| RESULTS.iter().find(|(_, long)| *long == name).map_or(name, |(s, _)| s.to_string());
        let variables = session.variables().into_iter().map(|(name, kind, _)| (short(name), kind)).collect();
        Words { functions: session.functions(), variables }
    }

    /// The methods and properties of a type.
    pub(super) fn members<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |f| f.params.first().is_some_and(|(_, receiver)| receiver == kind))
    }

    /// The type of what ends with the last of these tokens: `m`, `m.encoder`, `benchmark("x").run(m)`, `d[0].image`.
    fn type_before(&self, text: &str, tokens: &[Token]) -> Option<String> {
        let word = |at: usize| tokens.get(at).map(|token| &text[token.range.clone()]);
        let mut at = tokens.len().checked_sub(1)?;
        let called = word(at) == Some(")");
        if called {
            at = opening(text, &tokens[..at])?.checked_sub(1)?;
        }
        let name = word(at).filter(|_| tokens[at].kind == Kind::Name)?;
        let receiver = if at > 0 && word(at - 1) == Some(".") {
            Some(self.type_before(text, &tokens[..at - 1])?)
        } else {
            None
        };
        if let (None, false) = (&receiver, called) {
            return self.variables.iter().find(|(variable, _)| variable == name).map(|(_, kind)| kind.clone());
        }
        let fits = |function: &&Function| {
            let of = function.params.first().map(|(_, kind)| kind);
            function.name == name
                && function.is_property != called
                && (receiver.is_none() || of == receiver.as_ref())
        };
        self.functions.iter().find(fits).map(|function| function.returns.clone())
    }

    /// What may stand at the end of `text`: where the word begins, and the (shown, inserted) candidates.
    pub(super) fn complete(&self, text: &str) -> (usize, Vec<(String, String)>) {
        let tokens = scan(text);
        let (word, before) = match tokens.split_last() {
            Some((last, before)) if last.kind == Kind::Name && last.range.end == text.len() => {
                (&text[last.range.clone()], before)
            }
            _ => ("", tokens.as_slice()),
        };
        let start = text.len() - word.len();
        let after_dot = before.last().is_some_and(|token| &text[token.range.clone()] == ".");
        let mut found: Vec<(String, String)> = if after_dot {
            let kind = self.type_before(text, &before[..before.len() - 1]);
            let members = kind.iter().flat_map(|kind| self.members(kind));
            members.filter(|f| f.name.starts_with(word)).map(candidate).collect()
        } else if word.is_empty() {
            Vec::new()
        } else {
            let functions = self.functions.iter().filter(|f| !f.is_property && f.name.starts_with(word)).map(candidate);
            let variables = self.variables.iter().filter(|(name, _)| name.starts_with(word));
            functions.chain(variables.map(|(name, kind)| (format!("{name}: {kind}"), name.clone()))).collect()
        };
        // One name with several signatures is one candidate.
        found.sort_by(|a, b| a.1.cmp(&b.1));
        found.dedup_by(|a, b| a.1 == b.1);
        (start, found)
    }
}

fn candidate(function: &Function) -> (String, String) {
    match function.is_property {
        true => (format!("{}: {}", function.name, function.returns), function.name.clone()),
        false => (format!("{}(", function.name), format!("{}(", function.name)),
    }
}

/// The place of the bracket that the token after `tokens` closes.
fn opening(text: &str, tokens: &[Token]) -> Option<usize> {
    let mut depth = 1;
    for (at, token) in tokens.iter().enumerate().rev() {
        match &text[token.range.clone()] {
            ")" | "]" | "}" => depth += 1,
            "(" | "[" | "{" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Inside a string: where it begins, and the kind of preset it names when it is the first thing a constructor takes.
pub(super) fn open_string(text: &str) -> Option<(usize, Option<PresetKind>)> {
    let tokens = scan(text);
    let (last, before) = tokens.split_last()?;
    if last.kind != (Kind::Text { closed: false }) {
        return None;
    }
    let kind = match before {
        [.., name, bracket] if &text[bracket.range.clone()] == "(" => {
            IDS.iter().find(|(function, _)| *function == &text[name.range.clone()]).map(|(_, kind)| *kind)
        }
        _ => None,
    };
    Some((last.range.start + 1, kind))
}

/// The helper rustyline asks.
pub(super) struct Assistant<'a, 'b> {
    pub(super) session: &'a RefCell<&'b mut Session>,
    pub(super) presets: Presets,
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
            let (from, mut found) = self.files.complete_path(line, pos)?;
            if let Some(kind) = kind {
                let ids = self.presets.ids(kind).into_iter().filter(|id| id.starts_with(&text[start..]));
                let ids: Vec<Pair> = ids.map(|id| pair((id.clone(), id))).collect();
                if !ids.is_empty() {
                    return Ok((start, ids));
                }
            }
            // A path's last part is replaced from where the completer says.
            found.truncate(200);
            return Ok((from, found));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, params: &[&str], returns: &str, is_property: bool) -> Function {
        let params = params.iter().map(|kind| (String::new(), kind.to_string())).collect();
        Function { name: name.to_string(), params, returns: returns.to_string(), doc: String::new(), is_property }
    }

    fn words() -> Words {
        Words {
            functions: vec![
                function("encoder", &["string"], "Encoder", false),
                function("encoder", &["string", "map"], "Encoder", false),
                function("encoder", &["Vlm"], "Encoder", true),
                function("encode", &["Encoder", "Image"], "Tensor", false),
                function("width", &["Encoder"], "int", true),
                function("ask", &["Vlm", "Image", "string"], "string", false),
                function("benchmark", &["string"], "Benchmark", false),
                function("run", &["Benchmark", "Vlm"], "Results", false),
                function("score", &["Results"], "float", true),
                function("score", &["Benchmark", "array"], "Results", false),
            ],
            variables: vec![("m".into(), "Vlm".into()), ("_".into(), "Results".into()), ("model".into(), "Vlm".into())],
        }
    }

    #[test]
    fn names_members_and_chains_are_completed() {
        let cases: [(&str, usize, &[&str]); 12] = [
            ("enc", 0, &["encode(", "encoder("]),
            ("let x = mo", 8, &["model"]),
            ("m.", 2, &["ask(", "encoder"]),
            ("m.en", 2, &["encoder"]),
            ("m.encoder.", 10, &["encode(", "width"]),
            ("encoder(\"a)\", #{ b: (1) }).w", 27, &["width"]),
            ("benchmark(\"x\").run(m).sc", 22, &["score"]),
            ("f(_.s", 4, &["score"]),
            ("unknown.", 8, &[]),
            ("3 + ", 4, &[]),
            ("print(m).", 9, &[]),
            ("// m.", 5, &[]),
        ];
        for (text, start, expected) in cases {
            let (at, found) = words().complete(text);
            let inserted: Vec<&str> = found.iter().map(|(_, inserted)| inserted.as_str()).collect();
            assert_eq!((at, inserted.as_slice()), (start, expected), "{text}");
        }
        assert_eq!(words().complete("m.encod").1, [("encoder: Encoder".to_string(), "encoder".to_string())]);
    }

    #[test]
    fn strings_of_constructors_name_presets() {
        assert_eq!(open_string("llm(\"tin"), Some((5, Some(PresetKind::Llms))));
        assert_eq!(open_string("vlm(encoder(\""), Some((13, Some(PresetKind::Encoders))));
        assert_eq!(open_string("image(\"tests/"), Some((7, None)));
        assert_eq!(open_string("dataset(\"a\", #{ images: \"b"), Some((25, None)));
        assert_eq!(open_string("llm(\"tiny\")"), None);
        assert_eq!(open_string("llm("), None);
    }
}

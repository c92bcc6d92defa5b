//! No script function opens an id or a path of its own: it asks `src/script/places/`, where a smoke run and a rerun answer
//! otherwise than a plain run. In `src/script/api/` no path can be named or made, functions below take paths as `&Path` and
//! nothing that a string turns into by itself, and a function that gets a text and no session is listed here with what the text is.

use std::path::Path;

use super::source::{self, Source, root};

/// Names that make or open a path.
const PATHS: [&str; 8] = ["Path", "PathBuf", "OsStr", "OsString", "AsRef", "OpenOptions", "fs", "env"];
/// Functions without a session whose text is no path and no id of a preset.
const TEXTS: &[(&str, &str)] = &[
    ("encode", "text to tokenize"),
    ("gradient", "a tensor's name"),
    ("json", "JSON"),
    ("plot_kind", "the name of a kind of chart"),
    ("published", "an embedded table"),
    ("published_model", "an embedded table"),
    ("to", "a dtype's name"),
    ("why_id", "a question's id"),
];
/// Functions that list presets and open none.
const LISTS: [&str; 2] = ["preset_of", "presets_of"];
/// Files below the scripts that may take what turns into a path: the error that names one.
const TURNS: [&str; 1] = ["error.rs"];

/// What is wrong with a file of the API, as `file:line: rule`.
fn check(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |line: usize, rule: String| found.push(format!("src/{}:{line}: {rule}", file.path));
    for path in file.paths().iter().filter(|path| !path.in_test) {
        let names: Vec<&str> = path.names.iter().map(String::as_str).collect();
        if let Some(name) = names.iter().find(|name| PATHS.contains(name)) {
            add(path.line, format!("`{name}`: ask `state.places()` for a place to read or to write"));
        }
        if names.len() > 1 && names[0] == "File" {
            add(path.line, "`File`: ask `state.places()` for a place to read or to write".to_string());
        }
    }
    for function in functions(file) {
        let body = function.lines.join("\n");
        for at in (0..function.lines.len()).filter(|at| function.lines[*at].contains(".as_ref()")) {
            add(function.line + at, "`.as_ref()` makes a path of a text: ask `state.places()` for a place".to_string());
        }
        let head = body.split('{').next().unwrap_or_default();
        let takes_text = ["&str", "ImmutableString", ": String"].iter().any(|kind| head.contains(kind));
        let is_listed = TEXTS.iter().any(|(name, _)| *name == function.name);
        if function.is_exported && takes_text && !head.contains("NativeCallContext") && !is_listed {
            let what = "if its text is a path or an id, take `context: NativeCallContext` and ask `places()`; if not, list it in TEXTS";
            add(function.line, format!("`{}` gets a text and no session: {what}", function.name));
        }
        let opens = body.contains(".presets()") && !LISTS.contains(&function.name.as_str());
        if opens && !body.contains(".places()") && !body.contains(".fitting()") {
            let what = "what it opens is to be asked of `places().id(kind, id)` first";
            add(function.line, format!("`{}` has the presets and asks for no id: {what}", function.name));
        }
    }
    found
}

/// A function of a file.
struct Function {
    name: String,
    /// Of its first line, from 1.
    line: usize,
    /// Whether scripts can call it: it stands in an exported module.
    is_exported: bool,
    /// Without comments.
    lines: Vec<String>,
}

fn functions(file: &Source) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for (at, line) in file.lines.iter().enumerate() {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        let head = ["pub fn ", "pub(super) fn ", "pub(in crate::script) fn ", "fn "]
            .iter()
            .find(|head| code.starts_with(**head));
        if let Some(head) = head.filter(|_| depth <= 4) {
            let name: String = code[head.len()..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_exported = *head == "pub fn " && depth == 4;
            functions.push(Function { name, line: at + 1, is_exported, lines: Vec::new() });
        }
        if let Some(function) = functions.last_mut() {
            let code = if code.starts_with("//") { String::new() } else { line.clone() };
            function.lines.push(code);
        }
    }
    functions
}

#[test]
fn script_functions_ask_for_every_id_and_path() {
    let files = source::files(&root().join("src"));
    let api: Vec<&Source> = files.iter().filter(|file| file.path.starts_with("script/api/")).collect();
    assert!(api.len() > 15, "only {} files of the API were read", api.len());
    let found: Vec<String> = api.iter().flat_map(|file| check(file)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let exported: Vec<Function> = api.iter().flat_map(|file| functions(file)).filter(|f| f.is_exported).collect();
    assert!(exported.len() > 150, "only {} functions were read", exported.len());
    for (name, _) in TEXTS {
        assert!(exported.iter().any(|function| function.name == *name), "TEXTS: there is no function `{name}`");
    }
}

#[test]
fn below_the_scripts_no_text_turns_into_a_path_by_itself() {
    let files = source::files(&root().join("src"));
    let below =
        files.iter().filter(|file| !["script", "cli"].contains(&file.layer()) && !TURNS.contains(&file.path.as_str()));
    for file in below {
        let is_of_path = |line: &usize| file.lines[line - 1].contains("Path");
        let takes = file.paths().into_iter().filter(|path| path.names.iter().any(|name| name == "AsRef"));
        let line = takes.map(|path| path.line).find(is_of_path);
        assert_eq!(line, None, "src/{}: take `&Path`, so that a script function cannot give its text", file.path);
    }
}

#[test]
fn nothing_below_the_scripts_knows_of_smoke_runs() {
    let files = source::files(&root().join("src"));
    for file in files.iter().filter(|file| !["script", "cli"].contains(&file.layer())) {
        let line = file.lines.iter().position(|line| line.to_lowercase().contains("smoke"));
        assert_eq!(line.map(|line| line + 1), None, "src/{} knows of smoke runs", file.path);
    }
    // The API hands its wishes on; which kind of session answers is not its business.
    for file in files.iter().filter(|file| file.path.starts_with("script/api/")) {
        let asks = file.lines.iter().position(|line| line.contains("overrides().smoke"));
        assert_eq!(asks.map(|line| line + 1), None, "src/{} asks for the kind of session", file.path);
    }
}

#[test]
fn a_new_function_that_touches_a_file_is_found() {
    let rules = |text: &str| check(&Source::new(Path::new("script/api/new.rs"), text)).len();
    let module = |function: &str| format!("//! T.\npub mod new {{\n    {function}\n}}\n");
    let context = "context: NativeCallContext, path: &str";
    for body in [
        "Ok(std::fs::read_to_string(path)?)",
        "Ok(Run::open(Path::new(path))?)",
        "Ok(Run::open(std::path::Path::new(path))?)",
        "Ok(Run::open(path.as_ref())?)",
        "Ok(PathBuf::from(path))",
        "Ok(File::open(path)?)",
        "Ok(Encoder::open(State::of(&context)?.presets(), path)?)",
    ] {
        assert!(
            rules(&module(&format!("pub fn new({context}) -> Fallible<()> {{\n        {body}\n    }}"))) > 0,
            "{body}"
        );
    }
    assert!(rules(&module("pub fn new(path: &str) -> Fallible<()> {\n        crate::eval::open_it(path)\n    }")) > 0);
    assert!(rules("//! T.\nuse std::fs;\nuse crate::error::Result;\n") > 0);
    for body in [
        "Ok(Run::open(&State::of(&context)?.places().read_run(path))?)",
        "let state = State::of(&context)?;\n        Encoder::open(state.presets(), &state.places().id(kind, path))",
        "// Path::new(path)\n        Ok(())",
    ] {
        assert_eq!(
            rules(&module(&format!("pub fn new({context}) -> Fallible<()> {{\n        {body}\n    }}"))),
            0,
            "{body}"
        );
    }
}

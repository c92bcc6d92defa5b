//! Just enough Rust to check rules: a file without comments and literals, the paths it names, the macros it calls.
//! No parser: a path is names joined by `::`, and a `use` tree is unfolded into paths.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file of `src/`.
pub(super) struct Source {
    /// Below `src/`, with `/`.
    pub(super) path: String,
    pub(super) lines: Vec<String>,
    tokens: Vec<Token>,
    tests: Vec<Range<usize>>,
    /// Nothing but tests: the `mod` line in another file says so, or `#![cfg(test)]`.
    all_tests: bool,
}

struct Token {
    line: usize,
    text: String,
}

/// A path in the code, unfolded.
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) names: Vec<String>,
    pub(super) in_test: bool,
    /// Of a path in a `use` tree: the name it has in this file.
    pub(super) import: Option<String>,
    /// Whether the import does nothing here but give the name to others.
    pub(super) is_handed_on: bool,
}

/// The repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder. A file behind `#[cfg(test)] mod x;` counts as a test from its first line.
pub(super) fn files(folder: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    collect(folder, &mut paths);
    paths.sort();
    let mut files: Vec<Source> = paths.iter().map(|path| Source::read(folder, path)).collect();
    let tests: Vec<String> = files.iter().flat_map(Source::test_files).collect();
    for file in files.iter_mut().filter(|file| tests.contains(&file.path)) {
        file.all_tests = true;
    }
    files
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(&entry, paths);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            paths.push(entry);
        }
    }
}

impl Source {
    pub(super) fn read(root: &Path, path: &Path) -> Self {
        Source::new(path.strip_prefix(root).unwrap(), &std::fs::read_to_string(path).unwrap())
    }

    pub(super) fn new(path: &Path, text: &str) -> Self {
        let tokens = tokens(&blank(text));
        let tests = test_ranges(&tokens);
        let path = path.to_string_lossy().replace('\\', "/");
        let all_tests = tokens.iter().take(8).map(|token| token.text.as_str()).eq("# ! [ cfg ( test ) ]".split(' '));
        Source { path, lines: text.lines().map(str::to_string).collect(), tokens, tests, all_tests }
    }

    /// The module of src/lib.rs this file belongs to; `lib` and `main` for themselves.
    pub(super) fn layer(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// How many modules stand above the code of this file: 0 in lib.rs, 1 in nn/mod.rs, 2 in nn/rope.rs.
    fn depth(&self) -> usize {
        let parts: Vec<&str> = self.path.split('/').collect();
        let own = ["mod.rs", "lib.rs", "main.rs"].contains(parts.last().unwrap_or(&""));
        parts.len() - usize::from(own)
    }

    /// The modules declared in this file.
    pub(super) fn modules(&self) -> Vec<&str> {
        let pairs = self.tokens.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
        pairs.map(|window| window[1].text.as_str()).collect()
    }

    /// Files of modules that exist in tests only.
    fn test_files(&self) -> Vec<String> {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            Some((folder, file)) => format!("{folder}/{}/", file.trim_end_matches(".rs")),
            None => String::new(),
        };
        let mut found = Vec::new();
        for range in &self.tests {
            if let [.., name, end] = &self.tokens[range.clone()]
                && end.text == ";"
            {
                found.push(format!("{folder}{}.rs", name.text));
                found.push(format!("{folder}{}/mod.rs", name.text));
            }
        }
        found
    }

    fn in_test(&self, token: usize) -> bool {
        self.all_tests || self.tests.iter().any(|range| range.contains(&token))
    }

    /// The names of functions, types, constants and macros that are declared in this file outside its tests.
    pub(super) fn declared(&self) -> Vec<&str> {
        const WORDS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union"];
        let pairs = self.tokens.windows(2).enumerate();
        let named =
            pairs.filter(|(at, w)| WORDS.contains(&w[0].text.as_str()) && is_name(&w[1].text) && !self.in_test(*at));
        named.map(|(_, window)| window[1].text.as_str()).collect()
    }

    /// `(line, name, lines)` of every function with a body outside tests, those inside other functions included.
    pub(super) fn functions(&self) -> Vec<(usize, &str, usize)> {
        let begins = |at: &usize| {
            self.tokens[*at].text == "fn" && self.tokens.get(at + 1).is_some_and(|name| is_name(&name.text))
        };
        let starts = (0..self.tokens.len()).filter(begins).filter(|at| !self.in_test(*at));
        starts
            .filter_map(|at| Some((self.tokens[at].line, self.tokens[at + 1].text.as_str(), self.length(at)?)))
            .collect()
    }

    /// The lines from a token to the end of the braces that come next; `None` where a `;` comes before them.
    fn length(&self, from: usize) -> Option<usize> {
        let (mut braces, mut others) = (0, 0);
        for token in &self.tokens[from..] {
            match token.text.as_str() {
                "{" => braces += 1,
                "}" => braces -= 1,
                "(" | "[" => others += 1,
                ")" | "]" => others -= 1,
                ";" if braces == 0 && others == 0 => return None,
                _ => continue,
            }
            if token.text == "}" && braces == 0 && others == 0 {
                return Some(token.line - self.tokens[from].line + 1);
            }
        }
        None
    }

    /// Whether it exists in tests only.
    pub(super) fn is_test(&self) -> bool {
        self.all_tests
    }

    /// `(line, name, in a test)` of every `name!`.
    pub(super) fn macros(&self) -> Vec<(usize, &str, bool)> {
        let pairs = self.tokens.windows(2).enumerate().filter(|(_, w)| is_name(&w[0].text) && w[1].text == "!");
        pairs.map(|(i, window)| (window[0].line, window[0].text.as_str(), self.in_test(i))).collect()
    }

    /// Every path, `use` trees unfolded.
    pub(super) fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let text = self.tokens[at].text.as_str();
            let starts = is_name(text) && text != "use" && (at == 0 || self.tokens[at - 1].text != "::");
            if text == "use" {
                let (first, is_public) =
                    (found.len(), at > 0 && ["pub", ")"].contains(&self.tokens[at - 1].text.as_str()));
                at = self.tree(at + 1, &[], true, &mut found);
                for path in found[first..].iter_mut().filter(|_| is_public) {
                    path.is_handed_on = path.import.as_ref().is_some_and(|name| self.mentions(name) < 2);
                }
            } else if starts && self.follows(at, "::") {
                at = self.tree(at, &[], false, &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// How often a name stands in the code outside tests.
    fn mentions(&self, name: &str) -> usize {
        (0..self.tokens.len()).filter(|at| self.tokens[*at].text == name && !self.in_test(*at)).count()
    }

    fn follows(&self, at: usize, text: &str) -> bool {
        self.tokens.get(at + 1).is_some_and(|token| token.text == text)
    }

    /// Reads one path or tree from `at`; gives the place after it.
    fn tree(&self, mut at: usize, before: &[String], import: bool, found: &mut Vec<Named>) -> usize {
        let mut names = before.to_vec();
        let start = at;
        while let Some(token) = self.tokens.get(at) {
            match token.text.as_str() {
                "::" => at += 1,
                "{" => {
                    at += 1;
                    while self.tokens.get(at).is_some_and(|token| token.text != "}") {
                        at = if self.tokens[at].text == "," { at + 1 } else { self.tree(at, &names, import, found) };
                    }
                    return at + 1;
                }
                name if is_name(name) || name == "*" => {
                    names.push(name.to_string());
                    at += 1;
                    if self.tokens.get(at).is_none_or(|token| token.text != "::") {
                        break;
                    }
                }
                // `use ::{a}`, a lifetime, anything that is no path after all.
                _ => break,
            }
        }
        let mut name = names.iter().rev().find(|name| *name != "self").cloned();
        if import && self.tokens.get(at).is_some_and(|token| token.text == "as") {
            name = self.tokens.get(at + 1).map(|token| token.text.clone());
            at += 2;
        }
        let line = self.tokens[start].line;
        let import = name.filter(|_| import);
        found.push(Named { line, names, in_test: self.in_test(start), import, is_handed_on: false });
        at.max(start + 1)
    }
}

impl Named {
    /// The name below the root of the crate, when the path starts there: `crate::x` or enough `super`s.
    pub(super) fn in_crate(&self, file: &Source) -> Option<String> {
        let ups = self.names.iter().take_while(|name| *name == "super").count();
        let inner = usize::from(self.in_test && !file.all_tests);
        let below = match self.names.first()?.as_str() {
            "crate" => 1,
            "super" if ups == file.depth() + inner => ups,
            _ => return None,
        };
        self.names.get(below).cloned()
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The code with comments and literals replaced by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => string(rest),
            'r' if raw_string(rest).is_some() && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                raw_string(rest).unwrap_or(1)
            }
            '\'' => character(rest),
            _ => 0,
        };
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// The length of a block comment, nested ones included.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|byte| *byte == b'#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = body.find(&format!("\"{}", "#".repeat(hashes)))?;
    Some(text.len() - body.len() + end + 1 + hashes)
}

/// The length of a character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let from = at + escaped.len_utf8();
            text[from..].find('\'').map_or(0, |end| from + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Names, `::`, and single characters.
fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if name > 0 {
                name
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line: number + 1, text: rest[..length].to_string() });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// What stands under `#[cfg(test)]`: a `mod x { ... }` or a `mod x;`.
fn test_ranges(tokens: &[Token]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for start in 0..tokens.len() {
        let words = tokens[start..].iter().take(7).map(|token| token.text.as_str());
        if !words.eq("# [ cfg ( test ) ]".split(' ')) {
            continue;
        }
        let mut depth = 0;
        let mut end = start;
        for (at, token) in tokens.iter().enumerate().skip(start + 7) {
            end = at + 1;
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && ["}", ";"].contains(&token.text.as_str()) {
                break;
            }
        }
        ranges.push(start..end);
    }
    ranges
}

//! A scanner for text at the prompt, complete or not: enough to color it, to find the position of the cursor, and to replace
//! `_`. It never fails; Rhai's own parser decides what is valid.

use std::ops::Range;

/// The names of `_` and `_1` inside Rhai, where these are not identifiers.
pub(super) const RESULTS: [(&str, &str); 2] = [("_", "last_result"), ("_1", "result_before")];

const KEYWORDS: &[&str] = &[
    "as", "break", "case", "catch", "const", "continue", "do", "else", "export", "false", "fn", "for", "if", "import",
    "in", "let", "loop", "private", "return", "switch", "this", "throw", "true", "try", "until", "while",
];

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Keyword,
    Number,
    /// A string or a piece of one; `closed` is false when the text ends inside it.
    Text {
        closed: bool,
    },
    Comment,
    /// One character of anything else; white space is no token.
    Sign,
}

/// A piece of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) range: Range<usize>,
}

/// Splits a text into tokens. The code inside `${...}` of a backtick string is code.
pub(super) fn scan(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    // For every interpolation that is open: how many braces are open inside it.
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            _ if rest.starts_with("//") => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
            _ if rest.starts_with("/*") => (Kind::Comment, rest.find("*/").map_or(rest.len(), |end| end + 2)),
            '"' | '\'' => quoted(rest, first),
            '`' => backtick(rest, 1, &mut open),
            '}' if open.last() == Some(&0) => {
                open.pop();
                backtick(rest, 1, &mut open)
            }
            _ if first.is_alphabetic() || first == '_' => {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                (if KEYWORDS.contains(&&rest[..length]) { Kind::Keyword } else { Kind::Name }, length)
            }
            _ if first.is_ascii_digit() => (Kind::Number, number(rest)),
            _ => {
                if let Some(braces) = open.last_mut() {
                    *braces = (*braces + usize::from(first == '{')).saturating_sub(usize::from(first == '}'));
                }
                (Kind::Sign, first.len_utf8())
            }
        };
        if !first.is_whitespace() {
            tokens.push(Token { kind, range: at..at + length });
        }
        at += length;
    }
    tokens
}

fn quoted(text: &str, quote: char) -> (Kind, usize) {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return (Kind::Text { closed: true }, at + 1),
            _ => {}
        }
    }
    (Kind::Text { closed: false }, text.len())
}

/// A piece of a backtick string up to the closing backtick or to `${`.
fn backtick(text: &str, from: usize, open: &mut Vec<usize>) -> (Kind, usize) {
    let body = &text[from..];
    let end = body.find('`').unwrap_or(body.len());
    match body[..end].find("${") {
        Some(code) => {
            open.push(0);
            (Kind::Text { closed: true }, from + code + 2)
        }
        None => (Kind::Text { closed: end < body.len() }, from + (end + 1).min(body.len())),
    }
}

/// `1_000`, `0xff`, `1.5e-3`; the range `0..3` is not a float.
fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        let exponent = (byte == b'-' || byte == b'+') && bytes[at - 1] == b'e' && !text.starts_with("0x");
        let point = byte == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_alphanumeric() || byte == b'_' || exponent || point) {
            break;
        }
        at += 1;
    }
    at
}

/// The text with `_` and `_1` replaced by the variables they stand for; `_ =>` of a `switch` stays.
pub fn name_results(text: &str) -> String {
    let tokens = scan(text);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (i, token) in tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Name) {
        let Some((_, name)) = RESULTS.iter().find(|(short, _)| *short == &text[token.range.clone()]) else { continue };
        let arm = tokens.get(i + 1).is_some_and(|next| text[next.range.start..].starts_with("=>"));
        if !arm {
            out.push_str(&text[done..token.range.start]);
            out.push_str(name);
            done = token.range.end;
        }
    }
    out.push_str(&text[done..]);
    out
}

/// Whether a text ends with `;`: its value is not to be shown. Rhai itself returns one all the same.
pub(super) fn is_silent(text: &str) -> bool {
    let last = scan(text).into_iter().rfind(|token| token.kind != Kind::Comment);
    last.is_some_and(|token| &text[token.range] == ";")
}

/// The text in colors; its visible width is that of the input.
pub fn paint(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut done = 0;
    for token in scan(text) {
        let color = match token.kind {
            Kind::Keyword => "35",
            Kind::Number => "36",
            Kind::Text { .. } => "32",
            Kind::Comment => "90",
            Kind::Name | Kind::Sign => continue,
        };
        out.push_str(&text[done..token.range.start]);
        out.push_str(&format!("\u{1b}[{color}m{}\u{1b}[0m", &text[token.range.clone()]));
        done = token.range.end;
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_become_variables_in_code_only() {
        let cases = [
            ("_ + 1", "last_result + 1"),
            ("_.score - _1.score", "last_result.score - result_before.score"),
            ("switch x { 1 => _, _ => 2, }", "switch x { 1 => last_result, _ => 2, }"),
            ("switch x { _=> _ }", "switch x { _=> last_result }"),
            ("\"_\" + '_' // _", "\"_\" + '_' // _"),
            ("\"a \\\" _\" + _", "\"a \\\" _\" + last_result"),
            ("`_ ${_ + #{ a: `${_1}` }.a} _` + _", "`_ ${last_result + #{ a: `${result_before}` }.a} _` + last_result"),
            ("my_ + _x + a_b /* _ */", "my_ + _x + a_b /* _ */"),
            ("let x = _", "let x = last_result"),
            ("\"open _", "\"open _"),
        ];
        for (typed, expected) in cases {
            assert_eq!(name_results(typed), expected);
        }
    }

    #[test]
    fn a_semicolon_at_the_end_is_silent() {
        let cases =
            [("1;", true), ("1 ; // x", true), ("1; 2", false), ("\";\"", false), ("", false), ("1;\n\n", true)];
        for (text, expected) in cases {
            assert_eq!(is_silent(text), expected, "{text}");
        }
    }

    #[test]
    fn kinds_of_an_unfinished_line() {
        let text = "let r = 0..3; x.f(1.5e-3, \"a b";
        let kinds: Vec<(Kind, &str)> = scan(text).into_iter().map(|t| (t.kind, &text[t.range])).collect();
        let sign = |s| (Kind::Sign, s);
        let expected = [
            (Kind::Keyword, "let"),
            (Kind::Name, "r"),
            sign("="),
            (Kind::Number, "0"),
            sign("."),
            sign("."),
            (Kind::Number, "3"),
            sign(";"),
            (Kind::Name, "x"),
            sign("."),
            (Kind::Name, "f"),
            sign("("),
            (Kind::Number, "1.5e-3"),
            sign(","),
            (Kind::Text { closed: false }, "\"a b"),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn paint_changes_nothing_but_color() {
        let text = "for i in 0..2 { print(`${i} \u{e9}`) } // done";
        let painted = paint(text);
        let plain: String = painted
            .split("\u{1b}[")
            .enumerate()
            .map(|(i, part)| if i == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) })
            .collect();
        assert_eq!(plain, text);
        assert!(painted.starts_with("\u{1b}[35mfor\u{1b}[0m i "), "{painted}");
    }
}

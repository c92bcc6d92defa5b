//! Text the way Python's `str` treats it, where the reference's scores depend on that.

/// What `str.strip()` takes away: Unicode's white space and the four separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `text.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `text.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `text.capitalize()`: the first letter upper, the rest lower.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut upper = first.to_uppercase();
    let mut capitalized: String = upper.next().into_iter().collect();
    // The sharp s becomes "Ss", not "SS".
    capitalized.extend(upper.flat_map(char::to_lowercase));
    capitalized.push_str(&chars.as_str().to_lowercase());
    capitalized
}

/// `float(text)`: white space around, one sign, digits with single underscores between them, `inf` and `nan`.
pub(super) fn float(text: &str) -> Option<f64> {
    let text = strip(text);
    let bytes = text.as_bytes();
    let digit = |i: Option<usize>| i.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let underscores = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_');
    if underscores.into_iter().any(|(i, _)| !digit(i.checked_sub(1)) || !digit(Some(i + 1))) {
        return None;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.trim_start_matches(['+', '-']);
    let word = ["inf", "infinity", "nan"].iter().any(|word| unsigned.eq_ignore_ascii_case(word));
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    (word || number).then(|| plain.parse().ok()).flatten()
}

/// `round(number, 2)`: half goes to even where the number is exactly half, as its decimal expansion says.
pub(super) fn round2(number: f64) -> f64 {
    // Rust's formatting rounds the exact value, half to even, as CPython does.
    format!("{number:.2}").parse().unwrap_or(number)
}

/// The items of a list literal: `['a', "b's", 3]`; `None` when the text is not one.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    let inner = strip(text).strip_prefix('[')?.strip_suffix(']')?;
    let mut chars = inner.chars().peekable();
    let mut items = Vec::new();
    loop {
        while chars.next_if(|c| is_space(*c)).is_some() {}
        let Some(&first) = chars.peek() else { return Some(items) };
        let item = match first {
            '\'' | '"' => quoted(&mut chars)?,
            _ => {
                let mut bare = String::new();
                while let Some(c) = chars.next_if(|c| *c != ',') {
                    bare.push(c);
                }
                strip(&bare).to_string()
            }
        };
        items.push(item);
        while chars.next_if(|c| is_space(*c)).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars>) -> Option<String> {
    let quote = chars.next()?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' => escape(chars, &mut text)?,
            c => text.push(c),
        }
    }
}

fn escape(chars: &mut std::iter::Peekable<std::str::Chars>, text: &mut String) -> Option<()> {
    let c = chars.next()?;
    let digits = match c {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => 0,
    };
    if digits > 0 {
        let hex: String = chars.by_ref().take(digits).collect();
        text.push(char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?);
        return Some(());
    }
    if let Some(first) = c.to_digit(8) {
        let mut code = first;
        for _ in 0..2 {
            let Some(next) = chars.next_if(|c| c.is_digit(8)) else { break };
            code = code * 8 + next.to_digit(8)?;
        }
        text.push(char::from_u32(code)?);
        return Some(());
    }
    match c {
        '\n' => {}
        'n' => text.push('\n'),
        't' => text.push('\t'),
        'r' => text.push('\r'),
        'a' => text.push('\u{7}'),
        'b' => text.push('\u{8}'),
        'f' => text.push('\u{c}'),
        'v' => text.push('\u{b}'),
        '\\' | '\'' | '"' => text.push(c),
        other => text.extend(['\\', other]),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Expected values were printed by Python 3.11.
    #[test]
    fn texts_as_in_python() {
        assert_eq!(strip("\u{1c} a b\u{3000}"), "a b");
        assert_eq!(words(" a\u{1f}b\t c ").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(capitalize("what does the SIGN say?"), "What does the sign say?");
        assert_eq!(capitalize("\u{df}a"), "Ssa");
    }

    #[test]
    fn numbers_as_in_python() {
        let cases =
            [(" 1_000 ", Some(1000.0)), ("1__0", None), ("-.5", Some(-0.5)), ("+-1", None), ("1e3", Some(1000.0))];
        for (text, expected) in cases {
            assert_eq!(float(text), expected, "{text}");
        }
        assert_eq!(float("Infinity"), Some(f64::INFINITY));
        assert!(float("nan").unwrap().is_nan());
        assert!(float("").is_none() && float("infi").is_none() && float("e").is_none());
        assert_eq!([2.675, 0.125, 0.375, -1.005].map(round2), [2.67, 0.12, 0.38, -1.0]);
    }

    #[test]
    fn list_literals_as_in_python() {
        let got = list(r#"['$6', "b's", 'it\'s', 'a\\b', '\u00e9\n\x41\101\q', 3, -2.5, None, ]"#).unwrap();
        assert_eq!(got, ["$6", "b's", "it's", "a\\b", "\u{e9}\nAA\\q", "3", "-2.5", "None"]);
        assert_eq!(list("[]"), Some(vec![]));
        assert!(list("['a' 'b'").is_none() && list("['a").is_none() && list("a, b").is_none());
    }
}

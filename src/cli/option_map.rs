//! Whether the cursor is where a key of an option map may stand, and of which call and which map within it.

use super::tokens::{Kind, Token};

/// An option map that is being written.
#[derive(Debug, PartialEq)]
pub(super) struct OptionMap {
    /// The place of the function's name in the tokens.
    pub(super) function: usize,
    /// The keys of the maps around the cursor, outermost first: `lora` in `#{ lora: #{`.
    pub(super) within: Vec<String>,
}

/// The map that a key after these tokens would be of.
pub(super) fn option_map(text: &str, tokens: &[Token]) -> Option<OptionMap> {
    let word = |at: usize| tokens.get(at).map_or("", |token| &text[token.range.clone()]);
    let before = |at: usize, back: usize| at.checked_sub(back).map_or("", word);
    let last = tokens.len().checked_sub(1)?;
    let begins = word(last) == "{" && before(last, 1) == "#";
    if !begins && word(last) != "," {
        return None;
    }
    let (mut depth, mut in_map, mut within) = (0usize, false, Vec::new());
    for at in (0..tokens.len()).rev() {
        match word(at) {
            ")" | "]" | "}" => depth += 1,
            "(" | "[" | "{" if depth > 0 => depth -= 1,
            "{" if before(at, 1) == "#" => {
                in_map = true;
                if before(at, 2) == ":" {
                    within.insert(0, before(at, 3).to_string());
                }
            }
            "(" if in_map => {
                let function = at.checked_sub(1).filter(|name| tokens[*name].kind == Kind::Name)?;
                return Some(OptionMap { function, within });
            }
            "(" | "[" | "{" => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tokens::scan;
    use super::*;

    #[test]
    fn keys_stand_after_a_brace_or_a_comma_of_the_map() {
        let found = |text: &str| {
            let tokens = scan(text);
            option_map(text, &tokens)
                .map(|map| (text[tokens[map.function].range.clone()].to_string(), map.within.join(".")))
        };
        let at = |name: &str, within: &str| Some((name.to_string(), within.to_string()));
        assert_eq!(found("trainer(m, d, #{"), at("trainer", ""));
        assert_eq!(found("trainer(m, d, #{ train: #{ llm: 1e-3 }, batch: 4,"), at("trainer", ""));
        assert_eq!(found("trainer(m, d, #{ batch: 4, lora: #{ r: 4,"), at("trainer", "lora"));
        assert_eq!(found("m.ask(image(\"a,{\"), \"b\", #{"), at("ask", ""));
        for text in ["trainer(m,", "f(#{ a:", "f(#{ a: [1,", "f(#{ a: 1 },", "#{", "if x {", "f(|x| {", "(#{"] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}

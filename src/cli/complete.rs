//! Completion at the cursor: names, the members of a type along a chain of calls, keys of option maps, preset ids in strings.
//! The candidates come from what the session has registered.

use super::option_map::option_map;
use super::tokens::{Kind, RESULTS, Token, scan};
use crate::preset::PresetKind;
use crate::script::Session;
use crate::script::docs::Function;

/// Functions whose string argument is the id of a preset.
const IDS: &[(&str, PresetKind)] = &[
    ("encoder", PresetKind::Encoders),
    ("llm", PresetKind::Llms),
    ("load", PresetKind::Models),
    ("template", PresetKind::Templates),
    ("recipe", PresetKind::Recipes),
    ("dataset", PresetKind::Datasets),
    ("benchmark", PresetKind::Benchmarks),
];

/// The names that can be completed.
pub struct Words {
    pub(super) functions: Vec<Function>,
    /// (name, type) of every variable.
    pub(super) variables: Vec<(String, String)>,
}

impl Words {
    /// The names of a session. `_` and `_1` are listed as such.
    pub fn of(session: &Session) -> Self {
        let short = |name: String| RESULTS.iter().find(|(_, long)| *long == name).map_or(name, |(s, _)| s.to_string());
        let variables = session.variables().into_iter().map(|(name, kind, _)| (short(name), kind)).collect();
        Words { functions: session.functions(), variables }
    }

    /// The methods and properties of a type.
    pub(super) fn members<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Function> {
        self.functions.iter().filter(move |f| f.params.first().is_some_and(|(_, receiver)| receiver == kind))
    }

    /// The type of the expression that these tokens end with: `m`, `m.encoder`, `benchmark("x").run(m)`, `d[0].image`.
    fn type_before(&self, text: &str, tokens: &[Token]) -> Option<String> {
        let word = |at: usize| tokens.get(at).map(|token| &text[token.range.clone()]);
        let mut at = tokens.len().checked_sub(1)?;
        let called = word(at) == Some(")");
        if called {
            at = opening(text, &tokens[..at])?.checked_sub(1)?;
        }
        let name = word(at).filter(|_| tokens[at].kind == Kind::Name)?;
        let receiver =
            if at > 0 && word(at - 1) == Some(".") { Some(self.type_before(text, &tokens[..at - 1])?) } else { None };
        if let (None, false) = (&receiver, called) {
            return self.variables.iter().find(|(variable, _)| variable == name).map(|(_, kind)| kind.clone());
        }
        let fits = |function: &&Function| {
            let of = function.params.first().map(|(_, kind)| kind);
            function.name == name && function.is_property != called && (receiver.is_none() || of == receiver.as_ref())
        };
        self.functions.iter().find(fits).map(|function| function.returns.clone())
    }

    /// Keys of the option map that these tokens begin, each with the kind of its value; none where no option map is being written.
    fn keys(&self, text: &str, tokens: &[Token]) -> Vec<(String, String)> {
        let Some(map) = option_map(text, tokens) else { return Vec::new() };
        let word = |at: usize| &text[tokens[at].range.clone()];
        let name = word(map.function);
        let is_method = map.function > 0 && word(map.function - 1) == ".";
        let receiver = if is_method { self.type_before(text, &tokens[..map.function - 1]) } else { None };
        let of = |function: &&Function| {
            function.name == name
                && (receiver.is_none() || function.params.first().map(|(_, kind)| kind) == receiver.as_ref())
        };
        let within: String = map.within.iter().map(|key| format!("{key}.")).collect();
        let mut keys: Vec<(String, String)> = Vec::new();
        for row in self.functions.iter().filter(of).flat_map(|function| &function.options) {
            let Some(key) = row.key.strip_prefix(within.as_str()).filter(|key| !key.contains('.')) else { continue };
            let key = format!("{key}: ");
            if !keys.iter().any(|(_, known)| *known == key) {
                keys.push((format!("{key}{}", row.kind), key));
            }
        }
        keys
    }

    /// Completions at the end of `text`: where the word begins, and the (shown, inserted) candidates.
    pub fn complete(&self, text: &str) -> (usize, Vec<(String, String)>) {
        let tokens = scan(text);
        let (word, before) = match tokens.split_last() {
            Some((last, before)) if last.kind == Kind::Name && last.range.end == text.len() => {
                (&text[last.range.clone()], before)
            }
            _ => ("", tokens.as_slice()),
        };
        let start = text.len() - word.len();
        let keys = self.keys(text, before);
        if !keys.is_empty() {
            return (start, keys.into_iter().filter(|(_, key)| key.starts_with(word)).collect());
        }
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

/// The position of the bracket that the token after `tokens` closes.
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

/// Inside a string: where it begins, and the kind of preset it names when it is the first argument of a constructor.
pub fn open_string(text: &str) -> Option<(usize, Option<PresetKind>)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OptionRow;

    fn function(name: &str, params: &[&str], returns: &str, is_property: bool) -> Function {
        let params = params.iter().map(|kind| (String::new(), kind.to_string())).collect();
        let (returns, doc, options) = (returns.to_string(), String::new(), Vec::new());
        Function { name: name.to_string(), params, returns, doc, is_property, options }
    }

    fn row(key: &str, kind: &str) -> OptionRow {
        let (default, help) = (String::new(), String::new());
        OptionRow { key: key.to_string(), kind: kind.to_string(), default, changes_results: true, help }
    }

    #[test]
    fn keys_of_option_maps_are_completed() {
        let mut words = words();
        words.functions.push(function("ask", &["Vlm", "Image", "string", "map"], "string", false));
        words.functions.push(function("trainer", &["Vlm", "Dataset", "map"], "Trainer", false));
        let rows =
            [row("batch", "a number"), row("lora", "a map"), row("lora.r", "a number"), row("lora.alpha", "a number")];
        words.functions[10].options = vec![row("seed", "a number")];
        words.functions[11].options = rows.to_vec();
        let cases: [(&str, usize, &[&str]); 6] = [
            ("m.ask((), \"?\", #{", 17, &["seed: "]),
            ("trainer(m, d, #{ ", 17, &["batch: ", "lora: "]),
            ("trainer(m, d, #{ ba", 17, &["batch: "]),
            ("trainer(m, d, #{ batch: 2, l", 27, &["lora: "]),
            ("trainer(m, d, #{ lora: #{ r: 2, ", 32, &["r: ", "alpha: "]),
            ("encode(m, #{ ", 13, &[]),
        ];
        for (text, start, expected) in cases {
            let (at, found) = words.complete(text);
            let inserted: Vec<&str> = found.iter().map(|(_, inserted)| inserted.as_str()).collect();
            assert_eq!((at, inserted.as_slice()), (start, expected), "{text}");
        }
        assert_eq!(words.complete("m.ask((), \"?\", #{").1[0].0, "seed: a number");
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

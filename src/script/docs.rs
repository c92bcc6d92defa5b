//! Documentation from what is registered: help texts, completion and the reference page have one source.

use std::fmt::Write as _;

use rhai::Engine;
use serde::Deserialize;

use super::options::TABLES;
use crate::options::OptionRow;

/// One function, method or property.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub name: String,
    /// (name, type) of every parameter; the first one of a method is its receiver.
    pub params: Vec<(String, String)>,
    pub returns: String,
    /// Markdown, with an example.
    pub doc: String,
    /// A property is read without brackets.
    pub is_property: bool,
    /// The options it takes in a map.
    pub options: Vec<OptionRow>,
}

/// What a parameter that takes options is called.
pub const OPTION_MAPS: [&str; 3] = ["options", "overrides", "stage"];

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    functions: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    base_name: Option<String>,
    name: String,
    #[serde(default)]
    params: Vec<RawParam>,
    return_type: Option<String>,
    #[serde(default)]
    doc_comments: Vec<String>,
}

#[derive(Deserialize)]
struct RawParam {
    name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Everything registered in an engine that has documentation, sorted by name.
pub(super) fn functions(engine: &Engine) -> Vec<Function> {
    let Ok(json) = engine.gen_fn_metadata_to_json(false) else { return Vec::new() };
    let Ok(metadata) = serde_json::from_str::<Metadata>(&json) else { return Vec::new() };
    let mut functions: Vec<Function> =
        metadata.functions.into_iter().filter(|raw| !raw.doc_comments.is_empty()).map(Function::from).collect();
    functions.sort_by_cached_key(|function| (function.name.clone(), function.params.len(), function.signature()));
    functions.dedup();
    functions
}

impl From<Raw> for Function {
    fn from(raw: Raw) -> Self {
        let full = raw.base_name.unwrap_or(raw.name);
        let (is_property, name) = match full.strip_prefix("get$") {
            Some(name) => (true, name.to_string()),
            None if full == "index$get$" => (true, "[]".to_string()),
            None => (false, full.clone()),
        };
        let params: Vec<(String, String)> = raw
            .params
            .into_iter()
            .map(|param| (param.name.unwrap_or_default(), plain_type(&param.kind.unwrap_or_default())))
            .filter(|(_, kind)| kind != "NativeCallContext")
            .collect();
        let doc = raw.doc_comments.iter().map(|line| plain_comment(line)).collect::<Vec<_>>().join("\n");
        let options = options_of(&name, &params);
        Function { name, params, returns: plain_type(&raw.return_type.unwrap_or_default()), doc, is_property, options }
    }
}

/// The options of a function, where it takes a map of them.
fn options_of(name: &str, params: &[(String, String)]) -> Vec<OptionRow> {
    let takes = params.iter().any(|(name, kind)| kind == "map" && OPTION_MAPS.contains(&name.as_str()));
    let first = params.first().map_or("", |(_, kind)| kind.as_str());
    let table = TABLES.iter().find(|table| takes && table.function == name && table.first == first);
    table.map_or_else(Vec::new, |table| table.rows())
}

/// Options as a table in Markdown.
fn option_table(options: &[OptionRow]) -> String {
    let mut table =
        String::from("\n| option | takes | default | changes results | |\n| --- | --- | --- | --- | --- |\n");
    for OptionRow { key, kind, default, changes_results, help } in options {
        let changes = if *changes_results { "yes" } else { "no" };
        let _ = writeln!(table, "| `{key}` | {kind} | {default} | {changes} | {help} |");
    }
    table
}

impl Function {
    /// `ask(m: Vlm, image: Image, question: string) -> string`, or `m.id -> string`.
    pub fn signature(&self) -> String {
        let params: Vec<String> = self.params.iter().map(|(name, kind)| format!("{name}: {kind}")).collect();
        let returns = if self.returns.is_empty() { String::new() } else { format!(" -> {}", self.returns) };
        match (self.is_property, self.params.first()) {
            (true, Some((_, receiver))) if self.name == "[]" => {
                format!("{receiver}[{}]{returns}", params[1..].join(", "))
            }
            (true, Some((_, receiver))) => format!("{receiver}.{}{returns}", self.name),
            _ => format!("{}({}){returns}", self.name, params.join(", ")),
        }
    }

    /// Its documentation with a line for each of its options.
    pub fn text(&self) -> String {
        let mut text = self.doc.trim().to_string();
        if !self.options.is_empty() {
            text.push_str("\n\nOptions:");
        }
        for OptionRow { key, kind, default, changes_results, help } in &self.options {
            let same = if *changes_results { "" } else { " Changes no result." };
            let _ = write!(text, "\n- `{key}`, {kind} (default: {default}): {help}.{same}");
        }
        text
    }

    /// The first sentence.
    pub fn summary(&self) -> &str {
        self.doc.lines().next().unwrap_or_default()
    }

    /// The example blocks.
    pub fn examples(&self) -> Vec<String> {
        let mut examples = Vec::new();
        let mut lines = self.doc.lines();
        while let Some(line) = lines.next() {
            if line.trim() == "```rhai" {
                let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
                examples.push(block.join("\n"));
            }
        }
        examples
    }
}

/// The reference page, in Markdown: grouped by the type of the receiver.
pub fn reference(functions: &[Function]) -> String {
    let mut groups: std::collections::BTreeMap<String, Vec<&Function>> = std::collections::BTreeMap::new();
    for function in functions {
        groups.entry(group(function)).or_default().push(function);
    }
    let mut page = String::from(
        "# Script reference\n\nGenerated from what is registered; `llmore docs` prints it. Every example is run by a test.\n",
    );
    // A table that several functions share is printed once, under the first of them.
    let mut printed: Vec<&[OptionRow]> = Vec::new();
    for (name, members) in groups {
        let _ = write!(page, "\n## {name}\n");
        let mut shown: Option<&str> = None;
        for function in members {
            let heading = if shown == Some(function.name.as_str()) {
                String::new()
            } else {
                format!("\n### `{}`\n", function.name)
            };
            shown = Some(&function.name);
            let _ = write!(page, "{heading}\n`{}`\n\n{}\n", function.signature(), function.doc.trim());
            if function.options.is_empty() {
                continue;
            }
            let of = TABLES.iter().find(|table| table.rows() == function.options);
            let owner = of.map_or(function.name.as_str(), |table| table.function);
            if owner == function.name && !printed.contains(&function.options.as_slice()) {
                page.push_str(&option_table(&function.options));
                printed.push(&function.options);
            } else {
                let _ = write!(page, "\nIts options are those of `{owner}`.\n");
            }
        }
    }
    page
}

/// Methods and properties go under their receiver's type, everything else under "Functions".
fn group(function: &Function) -> String {
    const HANDLES: &[&str] = &[
        "Encoder",
        "Llm",
        "Projector",
        "Vlm",
        "Tokenizer",
        "Template",
        "Chat",
        "Dataset",
        "Image",
        "Recipe",
        "Trainer",
        "Plan",
        "Run",
        "Benchmark",
        "Results",
        "Study",
        "Table",
        "Figure",
        "Tensor",
        "Error",
    ];
    let constructors = ["vlm", "trainer", "show", "max_abs_diff", "gallery"];
    match function.params.first() {
        Some((_, kind)) if HANDLES.contains(&kind.as_str()) && !constructors.contains(&function.name.as_str()) => {
            kind.clone()
        }
        _ => "Functions".to_string(),
    }
}

/// Rust's spelling of a type as scripts know it.
fn plain_type(kind: &str) -> String {
    let kind = kind.trim().trim_start_matches("&mut ").trim_start_matches('&').trim();
    let kind = kind.strip_prefix("Fallible<").and_then(|inner| inner.strip_suffix('>')).unwrap_or(kind).trim();
    let kind = kind.strip_prefix("Result<").and_then(|inner| inner.split(", Box<").next()).unwrap_or(kind).trim();
    match kind {
        "str" | "String" | "ImmutableString" => "string",
        "i64" | "INT" => "int",
        "f64" | "FLOAT" => "float",
        "Array" => "array",
        "Map" => "map",
        "Dynamic" => "any",
        "FnPtr" => "function",
        "()" => "",
        other => other.trim_end_matches("Handle"),
    }
    .to_string()
}

fn plain_comment(line: &str) -> String {
    line.lines()
        .map(|line| {
            line.trim_start()
                .trim_start_matches("///")
                .strip_prefix(' ')
                .unwrap_or(line.trim_start().trim_start_matches("///"))
        })
        .collect::<Vec<_>>()
        .join("\n")
}

//! Prompt recipes: text with fields in braces. `{question|strip}` runs a field through filters; what stands in square
//! brackets is left out when a field in it is absent; `{options}` are the lettered choices, a line each.

use super::gold::Choice;
use super::python::{capitalize, strip};
use crate::bail;
use crate::error::Result;

/// A parsed recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Field {
        name: String,
        filters: Vec<Filter>,
    },
    /// All of it, or nothing.
    Optional(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
enum Filter {
    Strip,
    Capitalize,
    /// An empty text counts as absent.
    NonEmpty,
    /// A phrase that is taken out wherever it stands.
    Without(String),
}

/// The field that holds the choices.
const OPTIONS: &str = "options";

impl Recipe {
    /// Reads a recipe.
    ///
    /// # Errors
    /// `Option` for an unknown filter or a bracket that is not closed.
    pub fn parse(text: &str) -> Result<Self> {
        let mut rest = text;
        let parts = parse(&mut rest, false)?;
        Ok(Recipe(parts))
    }

    /// Names of the fields it shows: those it cannot do without, and those it can.
    pub fn fields(&self) -> (Vec<String>, Vec<String>) {
        let names = |parts: &[Part]| -> Vec<String> {
            let name = |part: &Part| match part {
                Part::Field { name, .. } if name != OPTIONS => Some(name.clone()),
                _ => None,
            };
            parts.iter().filter_map(name).collect()
        };
        let optional = self.0.iter().filter_map(|part| match part {
            Part::Optional(parts) => Some(names(parts)),
            _ => None,
        });
        (names(&self.0), optional.flatten().collect())
    }

    /// Fills it in. `field` gives a field's text, `None` when it is absent.
    ///
    /// # Errors
    /// What `field` fails with; `Data` naming a field that is absent and not in brackets.
    pub fn fill(&self, choices: &[Choice], field: &dyn Fn(&str) -> Result<Option<String>>) -> Result<String> {
        let mut text = String::new();
        match fill(&self.0, choices, field, &mut text)? {
            None => {
                text.shrink_to_fit();
                Ok(text)
            }
            Some(name) => bail!(Data, "field `{name}` is empty"),
        }
    }
}

/// Appends the parts; gives the name of the first field that is absent.
fn fill(
    parts: &[Part],
    choices: &[Choice],
    field: &dyn Fn(&str) -> Result<Option<String>>,
    text: &mut String,
) -> Result<Option<String>> {
    for part in parts {
        match part {
            Part::Text(plain) => text.push_str(plain),
            Part::Field { name, .. } if name == OPTIONS => text.push_str(&lines(choices)),
            Part::Field { name, filters } => match filtered(field(name)?, filters) {
                Some(value) => text.push_str(&value),
                None => return Ok(Some(name.clone())),
            },
            Part::Optional(parts) => {
                let mut inner = String::new();
                if fill(parts, choices, field, &mut inner)?.is_none() {
                    text.push_str(&inner);
                }
            }
        }
    }
    Ok(None)
}

/// `A. first`, a line each.
fn lines(choices: &[Choice]) -> String {
    let lines: Vec<_> = choices.iter().map(|choice| format!("{}. {}", choice.letter, choice.text)).collect();
    lines.join("\n")
}

fn filtered(value: Option<String>, filters: &[Filter]) -> Option<String> {
    let mut value = value?;
    for filter in filters {
        value = match filter {
            Filter::Strip => strip(&value).to_string(),
            Filter::Capitalize => capitalize(&value),
            Filter::NonEmpty if value.is_empty() => return None,
            Filter::NonEmpty => value,
            Filter::Without(phrase) => value.replace(phrase, ""),
        };
    }
    Some(value)
}

fn parse(rest: &mut &str, inside: bool) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    while let Some(at) = rest.find(['{', '[', ']']) {
        if at > 0 {
            parts.push(Part::Text(rest[..at].to_string()));
        }
        let mark = rest.as_bytes()[at];
        *rest = &rest[at + 1..];
        match mark {
            b'{' => {
                let Some((name, after)) = rest.split_once('}') else { bail!(Option, "`{{` is not closed in a prompt") };
                parts.push(parse_field(name)?);
                *rest = after;
            }
            b'[' => parts.push(Part::Optional(parse(rest, true)?)),
            _ if inside => return Ok(parts),
            _ => bail!(Option, "a prompt has `]` without `[`"),
        }
    }
    if inside {
        bail!(Option, "`[` is not closed in a prompt");
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest.to_string()));
    }
    Ok(parts)
}

fn parse_field(text: &str) -> Result<Part> {
    let mut pieces = text.split('|');
    let name = pieces.next().unwrap_or_default().to_string();
    let filter = |piece: &str| {
        Ok(match piece.split_once(':').unwrap_or((piece, "")) {
            ("strip", _) => Filter::Strip,
            ("capitalize", _) => Filter::Capitalize,
            ("nonempty", _) => Filter::NonEmpty,
            ("without", phrase) if !phrase.is_empty() => Filter::Without(phrase.to_string()),
            _ => {
                let known = ["strip", "capitalize", "nonempty", "without"];
                return Err(crate::error::Error::unknown("prompt filter", piece, &known, ""));
            }
        })
    };
    Ok(Part::Field { name, filters: pieces.map(filter).collect::<Result<_>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::gold::lettered;

    #[test]
    fn optional_parts_and_filters() {
        let recipe = Recipe::parse("[Context: {hint|nonempty}\n]{q|without: Please.|capitalize}\n{options}!").unwrap();
        let choices = lettered([Some("x".to_string()), None, Some("z".to_string())]);
        let with = |hint: &str| {
            let field = |name: &str| {
                Ok(match name {
                    "hint" if hint == "-" => None,
                    "hint" => Some(hint.to_string()),
                    "q" => Some("is IT? Please.".to_string()),
                    _ => None,
                })
            };
            recipe.fill(&choices, &field).unwrap()
        };
        assert_eq!(with("h"), "Context: h\nIs it?\nA. x\nC. z!");
        assert_eq!(with(""), "Is it?\nA. x\nC. z!");
        assert_eq!(with("-"), with(""));
        assert!(Recipe::parse("{q").is_err() && Recipe::parse("[a").is_err() && Recipe::parse("{q|upper}").is_err());
        let absent = Recipe::parse("{q}").unwrap().fill(&[], &|_| Ok(None)).unwrap_err();
        assert_eq!(absent.message(), "field `q` is empty");
    }
}

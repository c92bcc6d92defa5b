//! Names that tell models apart: what results are called where they stand side by side. A model's description says its
//! parts; where two models have the same, what differs between them is added, and nothing else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path};

use super::results::Results;
use super::run_options::Choices;

/// What may differ between models of one name, in the order in which it is tried.
const FACTS: [&str; 11] = [
    "made of", "folder", "numbers", "adapter", "features", "template", "image", "choices", "device", "version",
    "weights",
];
/// Digits of a hash in a name.
const DIGITS: usize = 8;

/// What is known under one of [`FACTS`]; empty where nothing is.
fn fact(results: &Results, key: &str) -> String {
    let facts = &results.facts;
    match key {
        "choices" => match facts.choices {
            Choices::Generate => "written".to_string(),
            Choices::Likelihood => "likeliest letter".to_string(),
        },
        "device" => facts.device.clone(),
        "weights" => facts.answers_sha256.chars().take(DIGITS).collect(),
        key => facts.made.get(key).cloned().unwrap_or_default(),
    }
}

/// A name for each of some results: the model's, and in brackets what tells it from the others of that name.
pub fn names(all: &[&Results]) -> Vec<String> {
    let mut names: Vec<String> = all.iter().map(|results| results.model.clone()).collect();
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, results) in all.iter().enumerate() {
        places.entry(&results.model).or_default().push(place);
    }
    for places in places.values().filter(|places| places.len() > 1) {
        let alike: Vec<&Results> = places.iter().map(|place| all[*place]).collect();
        for (place, more) in places.iter().zip(told_apart(&alike)) {
            if !more.is_empty() {
                names[*place] = format!("{} ({})", names[*place], more.join(", "));
            }
        }
    }
    names
}

/// What to add to the names of results that have the same.
fn told_apart(alike: &[&Results]) -> Vec<Vec<String>> {
    // A model may be asked one benchmark otherwise than the next: only within one do answers have to be told apart.
    let mut known: Vec<Vec<String>> = alike.iter().map(|results| vec![results.benchmark.clone()]).collect();
    let count = |known: &[Vec<String>]| known.iter().collect::<HashSet<_>>().len();
    let mut more: Vec<Vec<String>> = vec![Vec::new(); alike.len()];
    for key in FACTS {
        let values: Vec<String> = alike.iter().map(|results| fact(results, key)).collect();
        let finer: Vec<Vec<String>> =
            known.iter().zip(&values).map(|(known, value)| [known.clone(), vec![value.clone()]].concat()).collect();
        if count(&finer) > count(&known) {
            known = finer;
            for (more, text) in more.iter_mut().zip(spelled(key, &values)) {
                more.extend(Some(text).filter(|text| !text.is_empty()));
            }
        }
    }
    number(alike, &known, &mut more);
    more
}

/// Values of a fact as names have them.
fn spelled(key: &str, values: &[String]) -> Vec<String> {
    match key {
        "made of" => short(values, " -> ", " -> "),
        "folder" => {
            let parts = |path: &String| -> Vec<String> {
                let names = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
                names.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
            };
            let paths: Vec<String> = values.iter().map(|path| parts(path).join("/")).collect();
            short(&paths, "/", "/")
        }
        "template" | "weights" | "version" => {
            let named = |value: &String| if value.is_empty() { String::new() } else { format!("{key} {value}") };
            values.iter().map(named).collect()
        }
        _ => values.to_vec(),
    }
}

/// Texts without the parts that all of them begin or end with.
fn short(texts: &[String], between: &str, joint: &str) -> Vec<String> {
    let split: Vec<Vec<&str>> =
        texts.iter().filter(|text| !text.is_empty()).map(|text| text.split(between).collect()).collect();
    let least = split.iter().map(Vec::len).min().unwrap_or(0);
    let same = |of: &dyn Fn(&[&str]) -> String| {
        let mut all = split.iter().map(|parts| of(parts));
        let first = all.next();
        all.all(|other| Some(&other) == first.as_ref())
    };
    let start = (0..least).take_while(|at| same(&|parts| parts[*at].to_string())).count().min(least.saturating_sub(1));
    let room = least - start;
    let end = (1..room).take_while(|at| same(&|parts| parts[parts.len() - at].to_string())).count();
    let cut = |text: &String| match text.is_empty() {
        true => String::new(),
        false => {
            let parts: Vec<&str> = text.split(between).collect();
            parts[start..parts.len() - end].join(joint)
        }
    };
    texts.iter().map(cut).collect()
}

/// Numbers those that nothing is known to tell apart though they do not answer alike.
fn number(alike: &[&Results], known: &[Vec<String>], more: &mut [Vec<String>]) {
    let mut groups: HashMap<&Vec<String>, Vec<usize>> = HashMap::new();
    for (place, known) in known.iter().enumerate() {
        groups.entry(known).or_default().push(place);
    }
    for places in groups.into_values() {
        let outputs = |place: usize| -> BTreeMap<&str, &str> {
            alike[place].rows.iter().map(|row| (row.id.as_str(), row.output.as_str())).collect()
        };
        let mut seen: Vec<BTreeMap<&str, &str>> = Vec::new();
        let numbers: Vec<usize> = places
            .iter()
            .map(|place| {
                let answers = outputs(*place);
                let found = seen.iter().position(|other| *other == answers);
                found.unwrap_or_else(|| {
                    seen.push(answers);
                    seen.len() - 1
                })
            })
            .collect();
        if seen.len() > 1 {
            for (place, number) in places.iter().zip(numbers) {
                more[*place].push((number + 1).to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_have_is_left_out() {
        let cases: [(&[&str], &str, &[&str]); 5] = [
            (&["runs/a/checkpoint-3", "runs/b/checkpoint-3"], "/", &["a", "b"]),
            (&["tiny-clip -> mlp -> llama", "tiny-dinov2 -> mlp -> llama"], " -> ", &["tiny-clip", "tiny-dinov2"]),
            (&["runs/a", "runs/a/checkpoint-3"], "/", &["a", "a/checkpoint-3"]),
            (&["m/checkpoint-1", "m/checkpoint-2", ""], "/", &["checkpoint-1", "checkpoint-2", ""]),
            (&["a/x", "b/y"], "/", &["a/x", "b/y"]),
        ];
        for (texts, between, expected) in cases {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            assert_eq!(short(&texts, between, between), expected);
        }
    }
}

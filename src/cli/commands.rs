//! `llmore ls` and `llmore docs`.

use std::path::Path;

use super::args::Listing;
use crate::error::{Error, Result};
use crate::preset::{PresetKind, Presets};
use crate::script::Session;
use crate::script::docs::reference;
use crate::show::{Cell, Table};
use crate::train::Run;

/// Prints one list.
pub(super) fn list(presets: &Presets, what: Listing, json: bool) -> Result<i32> {
    let table = match what {
        Listing::Models => listing(presets, "models", &[PresetKind::Encoders, PresetKind::Llms])?,
        Listing::Datasets => listing(presets, "datasets", &[PresetKind::Datasets])?,
        Listing::Benchmarks => listing(presets, "benchmarks", &[PresetKind::Benchmarks])?,
        Listing::Recipes => listing(presets, "recipes", &[PresetKind::Recipes])?,
        Listing::Runs => runs(Path::new("runs"))?,
    };
    super::output::print_table(&table, json);
    Ok(0)
}

fn listing(presets: &Presets, title: &str, kinds: &[PresetKind]) -> Result<Table> {
    let mut table = Table::new(title).column("id").column("kind").column("about");
    for &kind in kinds {
        for id in presets.ids(kind) {
            let preset = presets.table(kind, &id)?;
            let about = preset.get("about").and_then(|about| about.as_str()).unwrap_or_default();
            table.push([Cell::from(id), Cell::from(kind.folder().trim_end_matches('s')), Cell::from(about)]);
        }
    }
    Ok(table)
}

fn runs(folder: &Path) -> Result<Table> {
    let mut table =
        Table::new("runs").column("run").column("status").number("steps").number("last loss").column("model");
    let mut folders: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect(),
        Err(_) => Vec::new(),
    };
    folders.sort();
    for run in folders.iter().filter_map(|path| Run::open(path).ok()) {
        let steps = run.steps().unwrap_or_default();
        let loss = steps.last().map_or(Cell::from(""), |step| step.loss.into());
        table.push([
            Cell::from(run.dir().display().to_string()),
            run.status().unwrap_or_else(|_| "empty".to_string()).into(),
            steps.len().into(),
            loss,
            run.lock()?.model.into(),
        ]);
    }
    Ok(table)
}

/// Prints help on a topic, the list of functions, or the whole reference page.
pub(super) fn docs(session: &Session, topic: Option<&str>, markdown: bool) -> Result<i32> {
    let functions = session.functions();
    if markdown {
        print!("{}", reference(&functions));
        return Ok(0);
    }
    let Some(topic) = topic else {
        let mut table = Table::new("functions").column("function").column("what it does");
        for function in &functions {
            table.push([Cell::from(function.signature()), Cell::from(function.summary())]);
        }
        print!("{}", table.text(None, false));
        return Ok(0);
    };
    let found: Vec<_> = functions.iter().filter(|function| function.name == topic).collect();
    if found.is_empty() {
        let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        return Err(Error::unknown("function", topic, &names, "`llmore docs` lists all"));
    }
    for function in found {
        println!("{}\n\n{}\n", function.signature(), function.doc.trim());
    }
    Ok(0)
}

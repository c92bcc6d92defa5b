//! `llmore ls` and `llmore docs`.

use std::path::Path;

use super::args::Listing;
use super::say::{say, write};
use crate::error::{Error, Result};
use crate::models::registry::Target;
use crate::preset::{PresetKind, Presets};
use crate::script::Session;
use crate::script::docs::reference;
use crate::show::{Cell, Table, count};
use crate::train::Run;
use crate::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ModelPreset, Weights};

/// Prints one list.
pub(super) fn list(presets: &Presets, what: Listing, json: bool) -> Result<i32> {
    let table = match what {
        Listing::Models => models(presets)?,
        Listing::Datasets => listing(presets, PresetKind::Datasets)?,
        Listing::Benchmarks => listing(presets, PresetKind::Benchmarks)?,
        Listing::Recipes => listing(presets, PresetKind::Recipes)?,
        Listing::Runs => runs(Path::new("runs"))?,
    };
    super::output::print_table(&table, json);
    Ok(0)
}

fn listing(presets: &Presets, kind: PresetKind) -> Result<Table> {
    let mut table = Table::new(kind.folder()).column("id").column("about");
    for id in presets.ids(kind) {
        let preset = presets.table(kind, &id)?;
        let about = preset.get("about").and_then(|about| about.as_str()).unwrap_or_default();
        table.push([Cell::from(id), Cell::from(about)]);
    }
    Ok(table)
}

/// Encoders, LLMs and whole models with their sizes, which presets give without reading weights.
fn models(presets: &Presets) -> Result<Table> {
    let mut table = Table::new("models")
        .column("id")
        .column("kind")
        .number("parameters")
        .number("image tokens")
        .number("context")
        .column("source");
    let parameters = |n: usize| Cell::of(count(n), n as f64);
    let source = |kind, id: &str| -> Result<Cell> {
        let table = presets.table(kind, id)?;
        let source = table.get("source").and_then(|source| source.as_str());
        Ok(Cell::from(source.unwrap_or("no released weights")))
    };
    let (weights, seed, target) = (Weights::None, 0, Target::cpu());
    for id in presets.ids(PresetKind::Encoders) {
        let options =
            EncoderOptions { select_layer: None, select: None, s2: None, weights, seed, target: target.clone() };
        let encoder = Encoder::open(presets, &id, options)?;
        let source = source(PresetKind::Encoders, &id)?;
        table.push([
            id.into(),
            "encoder".into(),
            parameters(encoder.count()),
            encoder.tokens().into(),
            "".into(),
            source,
        ]);
    }
    for id in presets.ids(PresetKind::Llms) {
        let llm = Llm::open(presets, &id, LlmOptions { weights, seed, target: target.clone() })?;
        let source = source(PresetKind::Llms, &id)?;
        table.push([id.into(), "llm".into(), parameters(llm.params.count()), "".into(), llm.context().into(), source]);
    }
    for id in presets.ids(PresetKind::Models) {
        let model = ModelPreset::outline(presets, &id)?;
        let (tokens, context) = (model.image_tokens(), model.llm.context());
        let source = source(PresetKind::Models, &id)?;
        table.push([id.into(), "model".into(), parameters(model.params()), tokens.into(), context.into(), source]);
    }
    Ok(table)
}

fn runs(folder: &Path) -> Result<Table> {
    let mut table =
        Table::new("runs").column("run").column("status").number("steps").number("last loss").column("model");
    let mut folders: Vec<_> = match crate::fs::read_dir(folder) {
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
        write(&reference(&functions));
        return Ok(0);
    }
    let Some(topic) = topic else {
        let mut table = Table::new("functions").column("function").column("what it does");
        for function in &functions {
            table.push([Cell::from(function.signature()), Cell::from(function.summary())]);
        }
        write(&table.text(None, false));
        return Ok(0);
    };
    let found: Vec<_> = functions.iter().filter(|function| function.name == topic).collect();
    if found.is_empty() {
        let names: Vec<&str> = functions.iter().map(|function| function.name.as_str()).collect();
        return Err(Error::unknown("function", topic, &names, "`llmore docs` lists all"));
    }
    for function in found {
        say(&format!("{}\n\n{}\n", function.signature(), function.text()));
    }
    Ok(0)
}

//! The page of a run: its curves, the plan and the actual time and memory, its events, the results files in its folder,
//! and run.lock.

use std::path::PathBuf;

use super::{ReportOptions, name_of, open_benchmark, results};
use crate::error::{Error, Result};
use crate::eval::{Results, names};
use crate::events::{Event, Step, read_events, steps};
use crate::files::{EVENTS, RUN_LOCK};
use crate::models::registry::Target;
use crate::show::page::{Block, Headline, Page, Section};
use crate::show::{Cell, Figure, LinePlot, Table, bytes, count, number, seconds};
use crate::train::{Lock, Run};
use crate::vlm::{Vlm, checkpoint};

/// Width and height of a curve: two fit side by side on a desktop screen, one is readable on a phone.
pub(super) const CURVE: (f64, f64) = (460.0, 290.0);
/// The largest number of samples that are listed by id.
const NAMED: usize = 8;
/// One quantity of a step.
type Of<'a> = &'a dyn Fn(&Step) -> f64;
/// The loss is averaged over this many steps at the end.
const LAST: usize = 20;

pub(super) fn page(run: &Run, options: &ReportOptions) -> Result<Page> {
    let (lock, events) = (run.lock()?, read_events(&run.dir().join(EVENTS))?);
    let steps = steps(&events);
    let mut sections = vec![training(&steps)?, happened(&events)];
    sections.extend(results_in(run, options)?);
    sections.push(lock_section(run, &lock, "Lock")?);
    Ok(Page {
        title: format!("Run: {}", name_of(run.dir())),
        about: vec![lock.model.clone(), format!("on {}, {}, {} threads", lock.dataset, lock.device, lock.threads)],
        headlines: headlines(run, &steps, &events)?,
        sections,
    })
}

fn headlines(run: &Run, steps: &[Step], events: &[Event]) -> Result<Vec<Headline>> {
    let mut headlines = Vec::new();
    if let Some(last) = steps.last() {
        headlines.push(Headline::new(
            "loss",
            number(last_loss(steps)),
            format!("mean of the last {}", steps.len().min(LAST)),
        ));
        let planned = format!("of {}, {}", count(last.steps as usize), run.status()?);
        headlines.push(Headline::new("steps", count(last.step as usize), planned));
    } else {
        headlines.push(Headline::new("steps", "0", run.status()?));
    }
    let time: f64 = steps.iter().map(|step| step.seconds).sum();
    headlines.push(Headline::new("time", seconds(time), "in steps"));
    if let Some(speed) = speed(steps) {
        headlines.push(Headline::new("positions/s", count(speed as usize), "all steps"));
    }
    let peak = events.iter().filter_map(|event| match event {
        Event::Took { peak_bytes, .. } => Some(*peak_bytes),
        _ => None,
    });
    headlines.extend(peak.max().map(|peak| Headline::new("memory", bytes(peak), "at the peak")));
    Ok(headlines)
}

/// Positions per second, averaged over all steps.
pub(super) fn speed(steps: &[Step]) -> Option<f64> {
    let time: f64 = steps.iter().map(|step| step.seconds).sum();
    (time > 0.0).then(|| steps.iter().map(|step| step.positions as f64).sum::<f64>() / time)
}

/// The mean loss of the last steps.
pub(super) fn last_loss(steps: &[Step]) -> f64 {
    let last = &steps[steps.len().saturating_sub(LAST)..];
    last.iter().map(|step| step.loss).sum::<f64>() / last.len().max(1) as f64
}

/// Loss, learning rate, gradient norm and speed over the steps.
fn training(steps: &[Step]) -> Result<Section> {
    let section = Section::new("Training");
    if steps.is_empty() {
        return Ok(section.with(Block::Note("No step was made.".to_string())));
    }
    let speed = |step: &Step| if step.seconds > 0.0 { step.positions as f64 / step.seconds } else { f64::NAN };
    let curves: [(&str, Of); 4] = [
        ("loss", &|step| step.loss),
        ("learning rate", &|step| step.lr),
        ("gradient norm", &|step| step.grad_norm),
        ("positions per second", &speed),
    ];
    let mut figures = Vec::new();
    for (name, of) in curves {
        // A curve without a finite value is left out; the other curves show that.
        if steps.iter().any(|step| of(step).is_finite()) {
            figures.push(curve(name, vec![(name.to_string(), points(steps, of))])?);
        }
    }
    Ok(section.with(Block::Figures(figures)))
}

/// One quantity of every step.
pub(super) fn points(steps: &[Step], of: Of<'_>) -> Vec<(f64, f64)> {
    steps.iter().map(|step| (step.step as f64, of(step))).collect()
}

/// A chart over steps.
pub(super) fn curve(title: &str, series: Vec<(String, Vec<(f64, f64)>)>) -> Result<Figure> {
    let (log, x) = (is_wide(&series), "step".to_string());
    Figure::line_of(LinePlot { series, title: title.to_string(), x, log, ..LinePlot::default() }, CURVE)
}

/// Whether values span so many magnitudes that only a logarithmic axis shows them all.
fn is_wide(series: &[(String, Vec<(f64, f64)>)]) -> bool {
    const FAR: f64 = 100.0;
    let values = || series.iter().flat_map(|(_, points)| points.iter().map(|point| point.1)).filter(|y| y.is_finite());
    let (low, high) = values().fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(y), high.max(y)));
    low > 0.0 && high > FAR * low
}

/// Plan and outcome, loss spikes, warnings, checkpoints.
fn happened(events: &[Event]) -> Section {
    let mut took = Table::new("planned and taken").column("what").number("planned").number("taken");
    let mut spikes = Table::new("spikes: losses far above the median before")
        .number("step")
        .number("loss")
        .number("median")
        .column("samples");
    let mut list = Vec::new();
    for event in events {
        match event {
            Event::Took { planned_bytes, peak_bytes, planned_seconds, seconds: taken } => {
                let size = |n: u64| Cell::of(bytes(n), n);
                took.push([Cell::from("memory at the peak"), size(*planned_bytes), size(*peak_bytes)]);
                let time = |s: f64| Cell::of(seconds(s), s);
                took.push([Cell::from("time"), time(*planned_seconds), time(*taken)]);
            }
            Event::Spike { step, loss, median, samples } => spikes.push([
                Cell::from(*step as usize),
                Cell::from(*loss),
                Cell::from(*median),
                Cell::from(named(samples, samples.len() as u64)),
            ]),
            Event::Warning { text } => list.push(format!("warning: {text}")),
            Event::Skipped { samples, total, why } => {
                list.push(format!("{} samples left out, {why}: {}", count(*total as usize), named(samples, *total)));
            }
            Event::Checkpoint { step, path } => list.push(format!("step {step}: {} written", name_of(path))),
            Event::Start { done, total, unit, .. } if *done > 0 => {
                list.push(format!("went on from {done} of {total} {unit}"));
            }
            Event::End { done, total, unit, status, seconds: taken, .. } => {
                list.push(format!("{status} after {done} of {total} {unit}, {}", seconds(*taken)));
            }
            Event::Stopped { step, .. } => list.push(format!("the function given to `fit` ended it after step {step}")),
            Event::Start { .. } | Event::Step(_) | Event::Scored { .. } | Event::Progress { .. } => {}
        }
    }
    let mut section = Section::new("What happened");
    section.blocks.extend([took, spikes].into_iter().filter(|table| !table.rows.is_empty()).map(Block::Table));
    section.with(if list.is_empty() { Block::Note("The run did not end.".to_string()) } else { Block::List(list) })
}

fn named(samples: &[String], total: u64) -> String {
    let shown = samples.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if total as usize > NAMED.min(samples.len()) { format!("{shown}, ...") } else { shown }
}

/// Sections for the results files in the run's folder; the newest checkpoint of the run makes their maps.
fn results_in(run: &Run, options: &ReportOptions) -> Result<Vec<Section>> {
    let mut files: Vec<PathBuf> = crate::fs::read_dir(run.dir())
        .map_err(|error| Error::file(run.dir(), error))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl") && !path.ends_with(EVENTS))
        .collect();
    files.sort();
    let found: Vec<Results> = files.iter().filter_map(|file| Results::open(file).ok()).collect();
    let model = if found.is_empty() { Ok(None) } else { model_of(run, options) };
    let trained = run.lock()?.model;
    let called = names(&found.iter().collect::<Vec<_>>());
    let mut sections = Vec::new();
    for (one, called) in found.iter().zip(called) {
        let benchmark = open_benchmark(one, options);
        // Maps are of no use for answers to gray pictures (a control), or of another model.
        let is_its = |model: &&Vlm| one.model == trained || one.model == model.describe();
        let seen = model.as_ref().map(|model| model.as_ref().filter(is_its));
        let (tables, gallery) = results::blocks(one, benchmark.as_ref(), seen, options)?;
        let alone = found.iter().filter(|other| other.benchmark == one.benchmark).count() == 1;
        let title = if alone { one.benchmark.clone() } else { format!("{}: {called}", one.benchmark) };
        sections.push(Section { title, blocks: tables }.with(gallery));
    }
    Ok(sections)
}

/// The model of a run's newest checkpoint, if there is one and maps are wanted.
pub(super) fn model_of(run: &Run, options: &ReportOptions) -> Result<Option<Vlm>> {
    if options.maps == 0 {
        return Ok(None);
    }
    let Some(folder) = run.checkpoint()? else { return Ok(None) };
    checkpoint::load(options.presets, &folder, None, &Target::cpu()).map(Some)
}

/// run.lock as it is, and the script in it.
pub(super) fn lock_section(run: &Run, lock: &Lock, title: &str) -> Result<Section> {
    let path = run.dir().join(RUN_LOCK);
    let text = crate::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
    let mut options = Table::new("options").column("option").column("value");
    flatten("", &lock.options, &mut options);
    Ok(Section::new(title)
        .with(Block::Table(options))
        .with(Block::Text { title: RUN_LOCK.to_string(), text })
        .with(Block::Text { title: "script".to_string(), text: lock.script.clone() }))
}

/// The options as one flat list of full names.
fn flatten(prefix: &str, from: &toml::Table, table: &mut Table) {
    for (key, value) in from {
        match value {
            toml::Value::Table(inner) => flatten(&format!("{prefix}{key}."), inner, table),
            value => table.push([Cell::from(format!("{prefix}{key}")), Cell::from(value.to_string())]),
        }
    }
}

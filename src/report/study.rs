//! The page of a study: findings, the scores of all cells side by side, their losses in shared charts, answers of each
//! cell, every run.lock. `study.toml` says where the parts are; a cell that has not run yet is listed as such.

use std::path::Path;

use super::answers::Answers;
use super::results::CARDS;
use super::run::{curve, last_loss, lock_section, model_of, points, speed};
use super::{ReportOptions, name_of, open_benchmark};
use crate::error::{Error, Result};
use crate::eval::{Results, compare};
use crate::files::RUN_LOCK;
use crate::show::page::{Block, Headline, Page, Section};
use crate::show::{Cell, Table, count, number, seconds};
use crate::study::{Folder, RECORD, StudyCell};
use crate::train::Run;
use crate::vlm::Vlm;

/// The number of questions per cell in a gallery, whatever the number of cells.
const FEWEST: usize = 8;

/// A cell with its runs and results, as far as they could be opened.
struct OpenedCell {
    id: String,
    /// `None` where a stage has no run yet.
    stages: Vec<(String, Option<Run>)>,
    results: Vec<Results>,
    missing: Vec<String>,
}

pub(super) fn page(path: &Path, options: &ReportOptions) -> Result<Page> {
    let folder = Folder::open(path)?;
    let cells: Vec<OpenedCell> =
        (0..folder.record().cells.len()).map(|cell| OpenedCell::new(&folder, cell)).collect::<Result<_>>()?;
    let mut sections = vec![found(&folder)?];
    sections.push(scores(&cells)?);
    sections.push(training(&cells)?);
    sections.extend(galleries(&cells, options)?);
    let file = path.join(RECORD);
    let record = crate::fs::read_to_string(&file).map_err(|error| Error::file(&file, error))?;
    sections.push(locks(&cells, record)?);
    sections.retain(|section| !section.blocks.is_empty());
    let about = match folder.record().about.as_str() {
        "" => Vec::new(),
        about => vec![about.to_string()],
    };
    let done = folder.record().finished();
    Ok(Page { title: format!("Study: {}", name_of(path)), about, headlines: headlines(&cells, done), sections })
}

impl OpenedCell {
    fn new(folder: &Folder, cell: usize) -> Result<Self> {
        let record = folder.record();
        let StudyCell { id, error, .. } = &record.cells[cell];
        let stages = folder.stages(cell)?.iter().map(|path| (name_of(path), Run::open(path).ok())).collect();
        let (mut results, mut missing) = (Vec::new(), Vec::new());
        for (number, benchmark) in record.benchmarks.iter().enumerate() {
            match folder.results(cell, number) {
                // Cells that differ in the seed only have models of the same name.
                Some(opened) => results.push(Results { model: id.clone(), ..opened.clone() }),
                None => missing.push(format!("{id}: {benchmark}")),
            }
        }
        missing.extend(error.iter().map(|error| format!("{id} failed: {error}")));
        Ok(OpenedCell { id: id.clone(), stages, results, missing })
    }

    /// The model after the last stage.
    fn model(&self, options: &ReportOptions) -> Result<Option<Vlm>> {
        let run = self.stages.iter().rev().find_map(|(_, run)| run.as_ref());
        run.map_or(Ok(None), |run| model_of(run, options))
    }
}

/// `done` is the number of cells with all their results.
fn headlines(cells: &[OpenedCell], done: usize) -> Vec<Headline> {
    let benchmarks = benchmarks(cells);
    let mut headlines = vec![
        Headline::new("models", count(cells.len()), format!("{done} with all results")),
        Headline::new("benchmarks", count(benchmarks.len()), ""),
    ];
    for benchmark in benchmarks.iter().take(4) {
        let of = cells.iter().flat_map(|cell| &cell.results).filter(|results| results.benchmark == *benchmark);
        if let Some(best) =
            of.filter(|results| !results.score().is_nan()).max_by(|a, b| a.score().total_cmp(&b.score()))
        {
            let label = format!("best on {benchmark}");
            headlines.push(Headline::new(label, compare::shown(best, best.score()), best.model.as_str()));
        }
    }
    headlines
}

/// The benchmarks in the order in which cells name them.
fn benchmarks(cells: &[OpenedCell]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for results in cells.iter().flat_map(|cell| &cell.results) {
        if !names.contains(&results.benchmark.as_str()) {
            names.push(&results.benchmark);
        }
    }
    names
}

/// The findings about the grid as a whole.
fn found(folder: &Folder) -> Result<Section> {
    let mut section = Section::new("What was found").with(Block::Note(folder.conclusion()?));
    let scored = (0..folder.record().cells.len())
        .flat_map(|cell| (0..folder.record().benchmarks.len()).map(move |benchmark| (cell, benchmark)))
        .any(|(cell, benchmark)| folder.results(cell, benchmark).is_some());
    if !scored {
        return Ok(section);
    }
    section.blocks.extend([folder.table()?, folder.differences()?].map(Block::Table));
    // A radar chart takes three benchmarks.
    let figures = [folder.bars(), folder.radar()].into_iter().flatten().collect::<Vec<_>>();
    if !figures.is_empty() {
        section.blocks.push(Block::Figures(figures));
    }
    Ok(section)
}

/// All results, each with its difference from the first one of its benchmark; the difference is unpaired where the two are
/// not about the same questions.
fn scores(cells: &[OpenedCell]) -> Result<Section> {
    let mut section = Section::new("Scores");
    let mut all: Vec<&Results> = Vec::new();
    for benchmark in benchmarks(cells) {
        all.extend(cells.iter().flat_map(|cell| &cell.results).filter(|results| results.benchmark == benchmark));
    }
    if !all.is_empty() {
        match compare::compare(&all) {
            Ok(compared) => section.blocks.push(Block::Table(compare::table(&compared, None))),
            Err(error) => {
                section.blocks.push(Block::Note(format!("The results cannot be compared: {}", error.message())));
                section.blocks.extend(all.iter().map(|results| Block::Table(results.table())));
            }
        }
    }
    let missing: Vec<String> = cells.iter().flat_map(|cell| cell.missing.clone()).collect();
    if !missing.is_empty() {
        section.blocks.extend([Block::Note("Not there yet:".to_string()), Block::List(missing)]);
    }
    Ok(section)
}

/// The losses of all cells in one chart per stage, and a table row for each run.
fn training(cells: &[OpenedCell]) -> Result<Section> {
    let mut section = Section::new("Training");
    let mut table = Table::new("runs")
        .column("model")
        .column("stage")
        .column("status")
        .number("steps")
        .number("last loss")
        .number("time")
        .number("positions/s");
    let mut figures = Vec::new();
    let stages = cells.iter().map(|cell| cell.stages.len()).max().unwrap_or(0);
    for stage in 0..stages {
        let (mut series, mut drawn, mut name) = (Vec::new(), std::collections::HashSet::new(), String::new());
        for cell in cells {
            let Some((stage, run)) = cell.stages.get(stage) else { continue };
            name.clone_from(stage);
            let Some(run) = run else {
                table.push([cell.id.as_str(), stage.as_str(), "not run yet"].map(Cell::from));
                continue;
            };
            let steps = run.steps()?;
            let time: f64 = steps.iter().map(|step| step.seconds).sum();
            let mut row = vec![
                Cell::from(cell.id.as_str()),
                Cell::from(stage.as_str()),
                Cell::from(run.status()?),
                Cell::from(steps.len()),
            ];
            if !steps.is_empty() {
                row.push(Cell::from(last_loss(&steps)));
                row.push(Cell::of(seconds(time), time));
                row.extend(speed(&steps).map(|speed| Cell::of(number(speed.round()), speed)));
            }
            table.push(row);
            // A stage that several cells share is one run.
            if drawn.insert(run.dir().to_path_buf()) {
                series.push((cell.id.clone(), points(&steps, &|step| step.loss)));
            }
        }
        if series.iter().any(|(_, points)| points.iter().any(|point| point.1.is_finite())) {
            figures.push(curve(&format!("loss, {name}"), series)?);
        }
    }
    if !figures.is_empty() {
        section.blocks.push(Block::Figures(figures));
    }
    if !table.rows.is_empty() {
        section.blocks.push(Block::Table(table));
    }
    Ok(section)
}

/// A section for each benchmark with a gallery for each cell.
fn galleries(cells: &[OpenedCell], options: &ReportOptions) -> Result<Vec<Section>> {
    let most = (CARDS / cells.len().max(1)).max(FEWEST);
    let names = benchmarks(cells);
    let mut sections: Vec<Section> = names.iter().map(|name| Section::new(format!("Answers: {name}"))).collect();
    for cell in cells.iter().filter(|cell| !cell.results.is_empty()) {
        // A model is opened once per cell and dropped before the next one.
        let model = cell.model(options);
        for results in &cell.results {
            let Some(place) = names.iter().position(|name| *name == results.benchmark) else { continue };
            let benchmark = open_benchmark(results, options);
            let (benchmark, model, maps) = (benchmark.as_ref(), model.as_ref().map(Option::as_ref), options.maps);
            let answers = Answers { results, benchmark, model, maps, most };
            sections[place].blocks.push(Block::Gallery(answers.gallery(&cell.id)?));
        }
    }
    Ok(sections)
}

fn locks(cells: &[OpenedCell], study: String) -> Result<Section> {
    let mut section = Section::new("Locks").with(Block::Text { title: RECORD.to_string(), text: study });
    for cell in cells {
        for (stage, run) in &cell.stages {
            let Some(run) = run else { continue };
            let texts = lock_section(run, &run.lock()?, "")?.blocks.into_iter().filter_map(|block| match block {
                Block::Text { title, text } if title == RUN_LOCK => {
                    Some(Block::Text { title: format!("{}, {stage}: run.lock", cell.id), text })
                }
                _ => None,
            });
            section.blocks.extend(texts);
        }
    }
    Ok(section)
}

//! Studies: every encoder of a list with every LLM of another, each trained by one recipe over some seeds and asked the
//! same benchmarks, so that one can say which is better and whether the difference is real. A layer of its own above
//! `train` and `eval`, which it joins: it trains cells, has them answer, and pools their results. What it knows is in
//! its folder; [`Folder`] reads that back without any model.

mod cells;
mod effects;
mod figures;
mod folder;
mod grid;
mod parts;
mod plan;
mod record;
mod run;
mod table;
mod titled;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use toml::{Table, Value};

pub use cells::{Cell, ResultFile};
pub use folder::Folder;
pub use record::{FILE as RECORD, Record};

use crate::error;
use crate::error::{Context, Result};
use crate::eval::Benchmark;
use crate::events::{Interrupt, Listeners};
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::show::Table as ShownTable;
use crate::train::{Lock, Recipe};
use crate::vlm::ProjectorChoice;

/// What to study.
pub struct StudyOptions {
    pub encoders: Vec<String>,
    pub llms: Vec<String>,
    pub projector: ProjectorChoice,
    pub recipe: String,
    /// Trainer options that go over those of every stage.
    pub stage: Table,
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// Questions of each benchmark, from its first on.
    pub limit: Option<usize>,
    pub seeds: Vec<u64>,
    /// The first stage, from 1, that a seed changes; the stages before it are trained once for all seeds of a pair.
    pub seeds_from: usize,
    /// The folder of data files that stages name, with their pictures in `images`.
    pub data: Option<PathBuf>,
    /// Questions decoded together.
    pub batch: usize,
    pub target: Target,
    pub out: PathBuf,
}

/// What a study needs of its session.
pub struct StudySetup {
    pub presets: Presets,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
    /// What run.lock says about the script.
    pub lock: Lock,
    /// Where features are kept between runs.
    pub cache: PathBuf,
}

/// A study that can be planned and run.
pub struct Study {
    options: StudyOptions,
    setup: StudySetup,
    /// Trainer options of each stage.
    stages: Vec<Table>,
    record: Record,
}

impl Study {
    /// A study; nothing is written yet. Where its folder is there, it goes on with that.
    ///
    /// # Errors
    /// What the parts, the recipe or the folder give; an empty axis; a folder of another study, naming what differs.
    pub fn new(mut options: StudyOptions, setup: StudySetup) -> Result<Self> {
        options.tidy()?;
        let recipe = Recipe::open(&setup.presets, &options.recipe, &options.stage)?;
        let stages: Vec<Table> = recipe.stages.into_iter().map(|stage| stage.0).collect();
        if options.seeds_from == 0 || options.seeds_from > stages.len() {
            return Err(error!(
                Option,
                "`seeds_from` is {}, the recipe has {} stages",
                options.seeds_from,
                stages.len()
            )
            .help("1 trains all of a cell anew for every seed, 2 shares stage 1 among the seeds"));
        }
        let file = options.out.join(record::FILE);
        let known = if file.is_file() { Some(Record::open(&options.out)?) } else { None };
        let record = Record::new(&options, &stages, known.as_ref())
            .context(|| format!("the study in `{}`", options.out.display()))?;
        let study = Study { options, setup, stages, record };
        study.check_parts()?;
        Ok(study)
    }

    /// Where it is or will be.
    pub fn dir(&self) -> &std::path::Path {
        &self.options.out
    }

    /// What is in its study.toml.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The folder as it is now, with its tables and figures.
    pub fn folder(&self) -> Result<Folder> {
        Folder::of(&self.options.out, self.record.clone())
    }

    /// A table with a line per cell: what became of it.
    pub fn summary(&self) -> ShownTable {
        let mut table =
            ShownTable::new(format!("study in `{}`", self.options.out.display())).column("cell").column("state");
        for cell in &self.record.cells {
            let left = self.record.left(cell).len();
            let state = match (&cell.error, left) {
                (Some(error), _) => format!("failed: {error}"),
                (None, 0) => "done".to_string(),
                (None, left) if left < cell.results.len() => format!("{left} benchmarks to do"),
                (None, _) => "to do".to_string(),
            };
            table.push([cell.id.as_str().into(), state.into()]);
        }
        let failed = self.record.cells.iter().filter(|cell| cell.error.is_some()).count();
        match failed {
            0 => table,
            n => table.note(format!("{n} of {} cells failed; `run()` tries them again", self.record.cells.len())),
        }
    }
}

impl StudyOptions {
    /// Takes repetitions out of the axes and refuses empty ones.
    fn tidy(&mut self) -> Result<()> {
        unique(&mut self.encoders);
        unique(&mut self.llms);
        unique(&mut self.seeds);
        let mut ids = Vec::new();
        self.benchmarks.retain(|benchmark| {
            let new = !ids.contains(&benchmark.id);
            ids.push(benchmark.id.clone());
            new
        });
        let sizes = [
            ("encoders", self.encoders.len()),
            ("llms", self.llms.len()),
            ("benchmarks", self.benchmarks.len()),
            ("seeds", self.seeds.len()),
        ];
        if let Some((axis, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(error!(Option, "`{axis}` is empty, so the study has no cells"));
        }
        if let Some(limit) = self.limit {
            for benchmark in self.benchmarks.iter_mut().filter(|benchmark| benchmark.items.len() > limit) {
                Arc::make_mut(benchmark).limit(limit);
            }
        }
        // A study gives every run its folder and its seed.
        self.stage.remove("out");
        self.stage.remove("seed");
        Ok(())
    }

    /// Trainer options of a stage in one cell.
    fn of_stage(stage: &Table, seed: u64, out: &std::path::Path) -> Table {
        let mut table = stage.clone();
        table.insert("seed".to_string(), Value::Integer(seed as i64));
        table.insert("out".to_string(), Value::String(out.display().to_string()));
        table
    }
}

fn unique<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen: Vec<T> = Vec::new();
    list.retain(|item| {
        let new = !seen.contains(item);
        seen.push(item.clone());
        new
    });
}

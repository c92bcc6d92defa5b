//! Studies: every encoder of a list combined with every LLM of another, each trained by one recipe over some seeds and
//! evaluated on the same benchmarks, so that one can say which is better and whether the difference is real. A layer of its
//! own above `train` and `eval`: it trains cells, evaluates them, and pools their results. Its state is in its folder;
//! [`Folder`] reads that without opening a model.

mod agreement;
mod asked;
mod cells;
mod effects;
mod figures;
mod folder;
mod grid;
mod parts;
mod plan;
mod record;
mod repeat;
mod run;
mod sharing;
mod standing;
mod summary;
mod table;
mod titled;
mod words;

use std::path::PathBuf;
use std::sync::Arc;

use toml::{Table, Value};

use asked::AskedQuestions;
pub use cells::{ResultFile, StudyCell};
pub use folder::Folder;
pub use record::{FILE as RECORD, Record};
pub use repeat::{Repeated, StudyDiff};

use crate::error;
use crate::error::{Context, Result};
use crate::eval::Benchmark;
use crate::events::{Interrupt, Listeners};
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::show::Table as ShownTable;
use crate::train::{Lock, Recipe};
use crate::vlm::ProjectorChoice;

/// The options of a study.
pub struct StudyOptions {
    pub encoders: Vec<String>,
    pub llms: Vec<String>,
    pub projector: ProjectorChoice,
    pub recipe: String,
    /// Trainer options that override those of every stage.
    pub stage: Table,
    pub benchmarks: Vec<Arc<Benchmark>>,
    /// Only the first so many questions of each benchmark.
    pub limit: Option<usize>,
    pub seeds: Vec<u64>,
    /// The first stage, from 1, that a seed changes; the stages before it are trained once for all seeds of a pair.
    pub seeds_from: usize,
    /// The folder with the data files that stages name, and their pictures in `images`.
    pub data: Option<PathBuf>,
    /// Questions decoded together.
    pub batch: usize,
    pub target: Target,
    pub out: PathBuf,
}

/// What a study needs from its session.
pub struct StudySetup {
    pub presets: Presets,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
    /// The script as run.lock records it.
    pub lock: Lock,
    /// The folder of features that are kept between runs.
    pub cache: PathBuf,
    /// The study that this one repeats.
    pub repeats: Option<Repeated>,
}

/// A study that can be planned and run.
pub struct Study {
    options: StudyOptions,
    setup: StudySetup,
    /// Trainer options of each stage.
    stages: Vec<Table>,
    record: Record,
    asked: AskedQuestions,
}

impl Study {
    /// A study; nothing is written yet. Where its folder exists, the study continues there.
    ///
    /// # Errors
    /// The errors of the parts, the recipe or the folder; an empty axis; the folder of another study, naming the difference.
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
        let known = match &setup.repeats {
            _ if file.is_file() => Some((Record::open(&options.out)?, AskedQuestions::open(&options.out)?)),
            Some(repeated) => Some(repeated.untried()?),
            None => None,
        };
        let known = known.as_ref().map(|(record, asked)| (record, asked));
        let mut record =
            Record::new(&options, &stages, known).context(|| format!("the study in `{}`", options.out.display()))?;
        let asked = AskedQuestions::of(&options.benchmarks);
        standing::look(&options.out, &mut record, &asked)?;
        let study = Study { options, setup, stages, record, asked };
        study.check_parts()?;
        Ok(study)
    }

    /// The path of its folder, which may not exist yet.
    pub fn dir(&self) -> &std::path::Path {
        &self.options.out
    }

    /// The content of its study.toml.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The folder as it is now, for its tables and figures.
    pub fn folder(&self) -> Result<Folder> {
        let mut record = self.record.clone();
        standing::look(&self.options.out, &mut record, &self.asked)?;
        Folder::of(&self.options.out, record, &self.asked)
    }

    /// A table with a row per cell: its state.
    pub fn summary(&self) -> ShownTable {
        let mut table =
            ShownTable::new(format!("study in `{}`", self.options.out.display())).column("cell").column("state");
        let mut held = 0;
        for cell in &self.record.cells {
            let left = self.record.left(cell).len();
            let holder = if left > 0 { self.holder(cell) } else { None };
            let state = match (&cell.error, left) {
                (_, 0) => "done".to_string(),
                _ if holder.is_some() => {
                    held += 1;
                    format!("being made by {}", holder.map_or(String::new(), |holder| holder.to_string()))
                }
                (Some(error), _) => format!("failed: {error}"),
                (None, left) if left < cell.results.len() => format!("{left} benchmarks to do"),
                (None, _) => "to do".to_string(),
            };
            table.push([cell.id.as_str().into(), state.into()]);
        }
        let is_failed = |cell: &&StudyCell| cell.error.is_some() && !self.record.left(cell).is_empty();
        let (failed, cells) = (self.record.cells.iter().filter(is_failed).count(), self.record.cells.len());
        let mut notes = Vec::new();
        if failed > 0 {
            notes.push(format!("{failed} of {cells} cells failed; `run()` tries them again"));
        }
        if held > 0 {
            notes.push(format!("{held} of {cells} cells are being made by other processes"));
        }
        if notes.is_empty() { table } else { table.note(notes.join("; ")) }
    }
}

impl StudyOptions {
    /// Removes duplicates from the axes and refuses empty ones.
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
        // Folder and seed of every run are set by the study.
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

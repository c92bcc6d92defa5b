//! Studies: a grid of encoders and LLMs, planned, run, and compared.

use std::sync::{Arc, Mutex, MutexGuard};

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};
use toml::Table as Toml;

use super::Fallible;
use super::build::{choose_projector, target};
use super::eval::open as open_benchmark;
use crate::error;
use crate::error::Result;
use crate::eval::Benchmark;
use crate::events::Event;
use crate::preset::PresetKind;
use crate::script::convert::{Options, shown, table};
use crate::script::handles::{BenchmarkHandle, FigureHandle, ProjectorHandle, StudyHandle, TableHandle, describe};
use crate::script::options::STUDY;
use crate::script::state::State;
use crate::study::{Study, StudyOptions, StudySetup};
use crate::vlm::ProjectorChoice;

fn make(state: &State, map: Map) -> Result<StudyHandle> {
    let options = Options::new(map, &STUDY)?;
    let ids = |key: &str, kind: PresetKind| -> Result<Vec<String>> {
        let ids = strings(&options, key)?;
        ids.iter().map(|id| state.places().id(kind, id)).collect()
    };
    let name: String = options.get("name")?;
    let mut stage = options.value("stage").map_or(Ok(Toml::new()), |value| match value.try_cast::<Map>() {
        Some(map) => table(&map),
        None => Err(error!(Option, "option `stage` is not a map of trainer options")),
    })?;
    for (key, instead) in [("seed", "`seeds: [..]` of the study"), ("out", "`out` of the study")] {
        if stage.contains_key(key) {
            return Err(error!(Option, "a study gives every run its own `{key}`, so `stage` cannot name one")
                .help(format!("{instead} says it")));
        }
    }
    if let Some(out) = state.overrides().train().get("out") {
        let text = format!("`--set out={out}` is for trainers: a study keeps to its own folder (`out` in the script)");
        state.listeners().tell(&Event::Warning { text });
    }
    stage.extend(state.overrides().train());
    let llms = ids("llms", PresetKind::Llms)?;
    state.fitting().stages(&mut stage, &llms)?;
    let out = options.get::<Option<String>>("out")?.map(|out| state.places().write_study(out));
    let out = out.transpose()?.map(Into::into);
    let options = StudyOptions {
        encoders: ids("encoders", PresetKind::Encoders)?,
        llms,
        projector: projector(state, &options)?,
        recipe: state.places().id(PresetKind::Recipes, &options.get::<String>("recipe")?)?,
        stage,
        benchmarks: benchmarks(state, &options)?,
        limit: state.limit(options.get("limit")?),
        seeds: seeds(state, &options)?,
        seeds_from: options.get("seeds_from")?,
        data: options.get::<Option<String>>("data")?.map(|path| state.places().read(path)).transpose()?.map(Into::into),
        batch: options.get("batch")?,
        target: target(state, &options)?,
        out: out.map_or_else(|| state.own_folder(&name), Ok)?,
    };
    let number = state.next_trainer();
    let setup = StudySetup {
        presets: state.presets().clone(),
        listeners: state.listeners().clone(),
        interrupt: state.interrupt().clone(),
        lock: state.lock(number),
        repeats: state.repeated_study(number),
        cache: state.cache().to_path_buf(),
    };
    Ok(StudyHandle(Arc::new(Mutex::new(Study::new(options, setup)?))))
}

/// A string, or an array of them.
fn strings(options: &Options, key: &str) -> Result<Vec<String>> {
    let text = |value: &Dynamic| {
        let text = value.clone().into_string();
        text.map_err(|_| error!(Option, "option `{key}` holds {}, expected ids", shown(value)))
    };
    each(&options.get(key)?).iter().map(text).collect()
}

/// What is in an array, or the value itself.
fn each(value: &Dynamic) -> Vec<Dynamic> {
    value.read_lock::<Array>().map_or_else(|| vec![value.clone()], |array| array.to_vec())
}

fn projector(state: &State, options: &Options) -> Result<ProjectorChoice> {
    match options.get::<Dynamic>("projector")?.try_cast_result::<ProjectorHandle>() {
        Ok(handle) => Ok(handle.choice),
        Err(value) => match value.into_string() {
            Ok(name) => Ok(choose_projector(state, &name, Map::new())?.choice),
            Err(kind) => Err(error!(Option, "option `projector` is of type {kind}")
                .help("name one, or give `projector(\"mlp2x_gelu\", #{ pool: \"average\", tokens: 16 })`")),
        },
    }
}

fn seeds(state: &State, options: &Options) -> Result<Vec<u64>> {
    let Some(value) = options.value("seeds") else { return Ok(vec![state.seed()]) };
    if let Some(seed) = state.overrides().train().get("seed") {
        return Err(error!(
            Option,
            "`--set seed={seed}` goes over the seeds of everything, and this study is given `seeds: {}`",
            describe(&value)
        )
        .help("leave out `--set seed`, or take `seeds` out of the script: the study then has the seed of `--set`"));
    }
    let seed = |value: &Dynamic| {
        let seed = value.as_int().ok().and_then(|seed| u64::try_from(seed).ok());
        seed.ok_or_else(|| error!(Option, "option `seeds` holds {}, expected whole numbers from 0", shown(value)))
    };
    each(&value).iter().map(seed).collect()
}

/// Ids, or benchmarks that a script opened with data of its own.
fn benchmarks(state: &State, options: &Options) -> Result<Vec<Arc<Benchmark>>> {
    let value: Dynamic = options.get("benchmarks")?;
    let open = |value: &Dynamic| match value.read_lock::<BenchmarkHandle>() {
        Some(handle) => Ok(handle.0.clone()),
        None => match value.clone().into_string() {
            Ok(id) => Ok(open_benchmark(state, &id, Map::new())?.0),
            Err(_) => Err(error!(Option, "option `benchmarks` holds {}, expected ids or benchmarks", shown(value))),
        },
    };
    each(&value).iter().map(open).collect()
}

pub(super) fn lock(s: &StudyHandle) -> Result<MutexGuard<'_, Study>> {
    s.0.try_lock().map_err(|_| error!(Train, "this study is running"))
}

#[export_module]
pub mod study {
    /// A study: every encoder with every LLM over every seed, trained by one recipe and asked the same benchmarks.
    ///
    /// `projector` is a name or what `projector(..)` gives; `benchmarks` are ids, or what `benchmark(..)` gives, for data of your
    /// own. With `seeds_from: 2` all seeds of a pair share the run of stage 1.
    ///
    /// Everything is in the folder `out`: a study of the same `out` goes on where it stopped. Its axes may grow, and `limit` may
    /// grow and shrink: only what is missing is trained and asked. What is gone or cut off is made again; cells that another
    /// process makes are left to it. An encoder, an LLM, data or pictures that are not what they were for the cells that are
    /// there are refused. Of a finished stage only the last weights stay.
    ///
    /// ```rhai
    /// let s = study(#{
    ///     llms: ["tiny-llama"], seeds: [0, 1], benchmarks: "tiny-vqa", limit: 8,
    ///     projector: projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), stage: #{ steps: 2, batch: 4 },
    /// });
    /// print(s);
    /// ```
    #[rhai_fn(name = "study", return_raw)]
    pub fn study(context: NativeCallContext, options: Map) -> Fallible<StudyHandle> {
        Ok(make(&State::of(&context)?, options)?)
    }

    /// What the study will take: per cell what is left of each stage and the time, the totals, and what sharing saves. Dry
    /// steps and a few questions are timed for each encoder with each LLM; what is done is not.
    ///
    /// ```rhai
    /// let p = projector("mlp2x_gelu", #{ pool: "average", tokens: 4 });
    /// let s = study(#{ seeds: [0, 1], seeds_from: 2, projector: p, limit: 8, stage: #{ steps: 2, batch: 4 } });
    /// show(s.plan());
    /// ```
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan(s: StudyHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(lock(&s)?.plan()?))
    }

    /// Does what is left to do and gives a table of what became of each cell. Ctrl-C stops it with everything on disk; a cell
    /// that fails is named there and in a warning, and the others go on.
    ///
    /// ```rhai
    /// let p = projector("mlp2x_gelu", #{ pool: "average", tokens: 4 });
    /// let s = study(#{ projector: p, limit: 8, stage: #{ steps: 1, batch: 4 } });
    /// show(s.run());
    /// show(s.table());
    /// ```
    #[rhai_fn(name = "run", return_raw)]
    pub fn run(s: StudyHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(lock(&s)?.run()?))
    }

    /// The paper's table: a row per LLM and encoder, a column per benchmark. A score is the mean over seeds with its spread
    /// and its 95 % interval over images; bold is the best, a mark says what is not significantly different from it. Published numbers of
    /// the same parts and trivial baselines are below.
    #[rhai_fn(name = "table", return_raw)]
    pub fn table_of_study(s: StudyHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(lock(&s)?.folder()?.table()?))
    }

    /// The effect of each axis: encoder against encoder and LLM against LLM, averaged over the rest of the grid, with paired
    /// intervals, p after Holm's correction, the smallest difference that could be found, and what seeds alone make.
    #[rhai_fn(name = "differences", return_raw)]
    pub fn differences(s: StudyHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(lock(&s)?.folder()?.differences()?))
    }

    /// The findings in sentences.
    ///
    /// ```rhai
    /// print(study(#{ seeds: [0, 1] }).conclusion);
    /// ```
    #[rhai_fn(get = "conclusion", return_raw, pure)]
    pub fn conclusion(s: &mut StudyHandle) -> Fallible<String> {
        Ok(lock(s)?.folder()?.conclusion()?)
    }

    /// Bars with intervals, a group per benchmark.
    #[rhai_fn(name = "bars", return_raw)]
    pub fn bars(s: StudyHandle) -> Fallible<FigureHandle> {
        Ok(FigureHandle(lock(&s)?.folder()?.bars()?))
    }

    /// A radar chart over benchmarks, three or more.
    #[rhai_fn(name = "radar", return_raw)]
    pub fn radar_of_study(context: NativeCallContext, s: StudyHandle) -> Fallible<FigureHandle> {
        let study = lock(&s)?;
        let flat = State::of(&context)?.fitting().is_flat(study.record().benchmarks.len());
        let folder = study.folder()?;
        Ok(FigureHandle(if flat { folder.bars()? } else { folder.radar()? }))
    }

    /// Its cells: `#{ id, encoder, llm, seed, folder, stages, error }`; folders are below `dir`, `error` is `()` unless the cell
    /// failed.
    ///
    /// ```rhai
    /// for cell in study(#{ seeds: [0, 1] }).cells { print(cell.id); }
    /// ```
    #[rhai_fn(get = "cells", return_raw, pure)]
    pub fn cells(s: &mut StudyHandle) -> Fallible<Array> {
        let study = lock(s)?;
        let map = |cell: &crate::study::StudyCell| {
            let mut map = Map::new();
            for (key, value) in
                [("id", &cell.id), ("encoder", &cell.encoder), ("llm", &cell.llm), ("folder", &cell.folder)]
            {
                map.insert(key.into(), value.clone().into());
            }
            map.insert("seed".into(), Dynamic::from_int(cell.seed as i64));
            let stages = cell.stages.iter().map(|stage| stage.clone().into()).collect();
            map.insert("stages".into(), Dynamic::from_array(stages));
            map.insert("error".into(), cell.error.clone().map_or(Dynamic::UNIT, Dynamic::from));
            Dynamic::from_map(map)
        };
        Ok(study.record().cells.iter().map(map).collect())
    }

    /// Its folder.
    #[rhai_fn(get = "dir", return_raw, pure)]
    pub fn dir(s: &mut StudyHandle) -> Fallible<String> {
        Ok(lock(s)?.dir().display().to_string())
    }
}

//! Benchmarks and results.

use std::path::Path;
use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use crate::error::{Error, Result};
use crate::eval::{Benchmark, Control, Results, Row, RunOptions};
use crate::preset::PresetKind;
use crate::script::convert::{Options, shown};
use crate::script::handles::{BenchmarkHandle, FigureHandle, ImageHandle, ResultsHandle, TableHandle, VlmHandle};
use crate::script::state::State;
use crate::show::{Caption, Cell, Figure, Mark, Picture, Table, count, percent, seconds};
use crate::{bail, error, eval};

/// Questions decoded together unless told otherwise.
const BATCH: usize = 64;
const SMOKE_LIMIT: usize = 16;

fn open(state: &State, id: &str, map: Map) -> Result<BenchmarkHandle> {
    let options = Options::new(map, "benchmark", &["limit"])?;
    let smoke = state.overrides().smoke.then_some(SMOKE_LIMIT);
    let limit = state.overrides().limit.or(smoke).or(options.count("limit")?);
    let id = state.stand_in(PresetKind::Benchmarks, id);
    Ok(BenchmarkHandle(Arc::new(Benchmark::open(state.presets(), &id, limit)?)))
}

fn run_with(state: &State, b: &BenchmarkHandle, m: &VlmHandle, map: Map) -> Result<ResultsHandle> {
    let options = Options::new(map, "run", &["batch", "image"])?;
    let control = match options.string("image")?.as_deref() {
        None => Control::Off,
        Some("gray") => Control::Gray,
        Some(other) => return Err(Error::unknown("stand-in for the pictures", other, &["gray"], "")),
    };
    let options = RunOptions {
        batch: options.count("batch")?.unwrap_or(BATCH),
        control,
        listeners: state.listeners().clone(),
        interrupt: state.interrupt().clone(),
    };
    Ok(ResultsHandle(Arc::new(eval::run(&m.0, &b.0, &options)?)))
}

/// Outputs in item order, from an array, or a map from id to text.
fn outputs(b: &BenchmarkHandle, predictions: &Dynamic) -> Result<Vec<String>> {
    if let Some(array) = predictions.clone().try_cast::<Array>() {
        return Ok(array.iter().map(ToString::to_string).collect());
    }
    let Some(map) = predictions.clone().try_cast::<Map>() else {
        bail!(Type, "predictions are {}, expected an array in item order or a map from id to text", shown(predictions));
    };
    let known: std::collections::BTreeSet<&str> = b.0.items.iter().map(|item| item.id.as_str()).collect();
    if let Some(id) = map.keys().find(|id| !known.contains(id.as_str())) {
        bail!(Data, "benchmark `{}` has no item `{id}`", b.0.id);
    }
    let text = |item: &crate::eval::Item| {
        map.get(item.id.as_str())
            .map(ToString::to_string)
            .ok_or_else(|| error!(Data, "there is no prediction for item `{}`", item.id))
    };
    b.0.items.iter().map(text).collect()
}

fn row_map(row: &Row) -> Map {
    let mut map = Map::new();
    for (key, value) in [
        ("id", &row.id),
        ("category", &row.category),
        ("prompt", &row.prompt),
        ("output", &row.output),
        ("extracted", &row.extracted),
        ("answer", &row.answer),
    ] {
        map.insert(key.into(), value.clone().into());
    }
    map.insert("score".into(), Dynamic::from_float(row.score));
    map
}

/// The score with its interval, categories, and what trivial answerers reach.
fn table_of(results: &Results) -> Table {
    let fraction = |value: f64| Cell::of(percent(value), value);
    let mut table = Table::new(format!("{} on {}", results.model, results.benchmark))
        .column("answers by")
        .number("questions")
        .number("score")
        .column("95 % interval");
    let interval =
        results.interval().map_or(String::new(), |(low, high)| format!("{} to {}", percent(low), percent(high)));
    table.push([
        Cell::from("the model").bold(),
        results.rows.len().into(),
        fraction(results.score()).bold(),
        interval.into(),
    ]);
    for (category, (score, count)) in results.by_category() {
        table.push([Cell::from(format!("  {category}")), count.into(), fraction(score), Cell::from("")]);
    }
    for (name, score) in &results.baselines {
        table.push([Cell::from(format!("{name} baseline")), Cell::from(""), fraction(*score), Cell::from("")]);
    }
    if results.seconds > 0.0 {
        let speed = results.rows.len() as f64 / results.seconds;
        return table.note(format!("{}, {} questions/s", seconds(results.seconds), count(speed as usize)));
    }
    table
}

fn gallery_of(b: &BenchmarkHandle, results: &ResultsHandle, n: i64) -> Result<Figure> {
    let rows = &results.0.rows;
    let n = (n.max(1) as usize).min(rows.len());
    // Spread over the whole benchmark, so that the pictures differ.
    let chosen: Vec<usize> = (0..n).map(|i| i * rows.len() / n).collect();
    let (mut pictures, mut captions) = (Vec::new(), Vec::new());
    for index in chosen {
        let (item, row) = (b.0.item(index)?, &rows[index]);
        let Some(source) = &item.image else { continue };
        let image = source.open()?;
        pictures.push(Picture::new(image.width, image.height, image.pixels.to_vec())?);
        let mark = if row.score >= 1.0 { Mark::Right } else { Mark::Wrong };
        let gold = if row.score >= 1.0 { String::new() } else { format!(" (it is {})", row.answer) };
        captions.push(Caption { text: format!("{}\n{}{gold}", row.prompt, row.output), mark });
    }
    Figure::gallery(&pictures, &captions, &format!("{}: {}", results.0.benchmark, results.0.model))
}

#[export_module]
pub mod evaluation {
    /// Opens a benchmark.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa");
    /// print(`${b.len} questions; the first: ${b[0].prompt}`);
    /// ```
    #[rhai_fn(name = "benchmark", return_raw)]
    pub fn benchmark(context: NativeCallContext, id: &str) -> Fallible<BenchmarkHandle> {
        Ok(open(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens a benchmark with options: `limit` (the first n questions).
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 100 }).len);
    /// ```
    #[rhai_fn(name = "benchmark", return_raw)]
    pub fn benchmark_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<BenchmarkHandle> {
        Ok(open(&State::of(&context)?, id, options)?)
    }

    /// Number of questions.
    #[rhai_fn(get = "len", pure)]
    pub fn len(b: &mut BenchmarkHandle) -> i64 {
        b.0.items.len() as i64
    }

    /// An item: `#{ id, image, prompt, answer, category, max_new_tokens }`.
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn at(b: &mut BenchmarkHandle, index: i64) -> Fallible<Map> {
        let item = b.0.item(usize::try_from(index).unwrap_or(usize::MAX))?;
        let mut map = Map::new();
        map.insert("id".into(), item.id.clone().into());
        let image = item.image.as_ref().map(|image| image.open()).transpose()?;
        map.insert("image".into(), image.map_or(Dynamic::UNIT, |image| Dynamic::from(ImageHandle::new(image))));
        map.insert("prompt".into(), item.prompt.clone().into());
        map.insert("answer".into(), item.answer.clone().into());
        map.insert("category".into(), item.category.clone().into());
        map.insert("max_new_tokens".into(), Dynamic::from_int(b.0.max_new_tokens as i64));
        Ok(map)
    }

    /// Asks a model every question, greedily.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let res = benchmark("tiny-vqa", #{ limit: 20 }).run(m);
    /// show(res.table());
    /// ```
    #[rhai_fn(name = "run", return_raw)]
    pub fn run(context: NativeCallContext, b: BenchmarkHandle, m: VlmHandle) -> Fallible<ResultsHandle> {
        Ok(run_with(&State::of(&context)?, &b, &m, Map::new())?)
    }

    /// The same with `batch` (questions decoded together) and `image: "gray"` (a gray picture for every question: what
    /// is left of the score did not need the pictures).
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// print(benchmark("tiny-vqa", #{ limit: 20 }).run(m, #{ batch: 8, image: "gray" }).score);
    /// ```
    #[rhai_fn(name = "run", return_raw)]
    pub fn run_options(
        context: NativeCallContext,
        b: BenchmarkHandle,
        m: VlmHandle,
        options: Map,
    ) -> Fallible<ResultsHandle> {
        Ok(run_with(&State::of(&context)?, &b, &m, options)?)
    }

    /// Scores raw outputs without a model: an array in item order, or a map from id to text.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa", #{ limit: 3 });
    /// print(b.score(["yes", "no", "circle"]).score);
    /// ```
    #[rhai_fn(name = "score", return_raw)]
    pub fn score_outputs(b: BenchmarkHandle, predictions: Dynamic) -> Fallible<ResultsHandle> {
        let outputs = outputs(&b, &predictions)?;
        Ok(ResultsHandle(Arc::new(Results::score_outputs(&b.0, "predictions", &outputs, 0.0)?)))
    }

    /// Opens a file that `res.save` wrote.
    #[rhai_fn(name = "results", return_raw)]
    pub fn results(path: &str) -> Fallible<ResultsHandle> {
        Ok(ResultsHandle(Arc::new(Results::open(Path::new(path))?)))
    }

    /// The headline score, a fraction from 0 to 1.
    #[rhai_fn(get = "score", pure)]
    pub fn score(res: &mut ResultsHandle) -> f64 {
        res.0.score()
    }

    /// Every metric: the scorer's own, and `by_category`.
    #[rhai_fn(get = "metrics", pure)]
    pub fn metrics(res: &mut ResultsHandle) -> Map {
        let mut map = Map::new();
        map.insert("exact_match".into(), Dynamic::from_float(res.0.score()));
        let categories = res
            .0
            .by_category()
            .into_iter()
            .map(|(name, (score, _))| (name.as_str().into(), Dynamic::from_float(score)));
        map.insert("by_category".into(), Dynamic::from_map(categories.collect()));
        map
    }

    /// A map per question: `id, category, prompt, output, extracted, answer, score`.
    #[rhai_fn(get = "rows", pure)]
    pub fn rows(res: &mut ResultsHandle) -> Array {
        res.0.rows.iter().map(|row| Dynamic::from_map(row_map(row))).collect()
    }

    /// How the answer to question i was scored: output, extraction, comparison, score.
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).why(0));
    /// ```
    #[rhai_fn(name = "why", return_raw)]
    pub fn why(res: ResultsHandle, index: i64) -> Fallible<String> {
        Ok(res.0.why(usize::try_from(index).unwrap_or(usize::MAX))?)
    }

    /// The n rows with the lowest score.
    #[rhai_fn(name = "worst")]
    pub fn worst(res: ResultsHandle, n: i64) -> Array {
        res.0.worst(n.max(0) as usize).into_iter().map(|i| Dynamic::from_map(row_map(&res.0.rows[i]))).collect()
    }

    /// Score with its interval, categories and baselines.
    #[rhai_fn(name = "table")]
    pub fn table(res: ResultsHandle) -> TableHandle {
        TableHandle(table_of(&res.0))
    }

    /// Pictures of n questions spread over the benchmark, with the model's answers marked right or wrong.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa", #{ limit: 3 });
    /// let f = b.gallery(b.score(["yes", "no", "circle"]), 2);
    /// ```
    #[rhai_fn(name = "gallery", return_raw)]
    pub fn gallery(b: BenchmarkHandle, res: ResultsHandle, n: i64) -> Fallible<FigureHandle> {
        Ok(FigureHandle(gallery_of(&b, &res, n)?))
    }

    /// Writes one JSON line per question.
    ///
    /// ```rhai
    /// benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("target/example-results.jsonl");
    /// print(results("target/example-results.jsonl").score);
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(res: ResultsHandle, path: &str) -> Fallible<()> {
        Ok(res.0.save(Path::new(path))?)
    }
}

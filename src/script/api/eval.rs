//! Benchmarks, and how a model's answers to them are scored.

use std::collections::BTreeSet;
use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use crate::error::{Error, Result};
use crate::eval::{AnswerCache, Benchmark, BenchmarkOptions, Choices, Control, Item, Results, Rules, RunOptions};
use crate::preset::PresetKind;
use crate::script::convert::{Options, shown};
use crate::script::handles::{BenchmarkHandle, FigureHandle, ImageHandle, ResultsHandle, VlmHandle};
use crate::script::options::{BENCHMARK, RUN};
use crate::script::places::Place;
use crate::script::state::State;
use crate::show::{Caption, Figure, Mark, Picture};
use crate::{bail, error, eval};

pub(super) fn open(state: &State, id: &str, map: Map) -> Result<BenchmarkHandle> {
    let options = Options::new(map, &BENCHMARK)?;
    let limit = state.limit(options.get("limit")?);
    let stand_in = state.places().id(PresetKind::Benchmarks, id)?;
    // A stand-in brings its own data.
    let path = |key: &str| -> Result<Option<Place>> {
        let path = options.get::<Option<String>>(key)?.filter(|_| stand_in == id);
        path.map(|path| state.places().read(path)).transpose()
    };
    let options = BenchmarkOptions {
        data: path("data")?.map(Place::into),
        images: path("images")?.map(Place::into),
        limit,
        rules: if stand_in == id { Rules::parse(&options.get::<String>("rules")?)? } else { Rules::default() },
        reference_quirks: options.get("reference_quirks")?,
    };
    Ok(BenchmarkHandle(Arc::new(Benchmark::open(state.presets(), &stand_in, &options)?)))
}

fn run_with(state: &State, b: &BenchmarkHandle, m: &VlmHandle, map: Map) -> Result<ResultsHandle> {
    let options = Options::new(map, &RUN)?;
    let control = options.get::<Option<String>>("image")?.map_or(Control::Off, |_| Control::Gray);
    let choices = match options.get::<String>("choices")?.as_str() {
        "likelihood" => Choices::Likelihood,
        _ => Choices::Generate,
    };
    let options = RunOptions {
        name: options.get("name")?,
        batch: options.get("batch")?,
        control,
        choices: state.fitting().choices(choices, &b.0),
        cache: cache(state, &options.get::<String>("cache")?)?,
        out: options
            .get::<Option<String>>("out")?
            .map(|out| state.places().write_answers(out).map(Place::into))
            .transpose()?,
        limit: options.get("limit")?,
        shard: options.value("shard").map(|shard| part(&shard)).transpose()?,
        listeners: state.listeners().clone(),
        interrupt: state.interrupt().clone(),
    };
    let results = eval::run(&m.0, &b.0, &options)?;
    if let Some(out) = &options.out {
        state.places().note(out);
    }
    Ok(ResultsHandle(Arc::new(results)))
}

/// Where answers are kept.
fn cache(state: &State, place: &str) -> Result<Option<AnswerCache>> {
    match place {
        // A rerun asks everything anew.
        _ if state.repeated().is_some() => Ok(Some(state.answers().clone())),
        "memory" => Ok(Some(state.answers().clone())),
        "disk" => Ok(Some(AnswerCache::Folder(state.cache().join("answers")))),
        "off" => Ok(None),
        folder if folder.contains(['/', '\\']) => {
            Ok(Some(AnswerCache::Folder(state.places().write_beside(folder)?.into())))
        }
        other => {
            let help = "a folder is written with a slash, as in `cache: \"./answers\"`";
            Err(Error::unknown("place for answers", other, &["memory", "disk", "off"], help))
        }
    }
}

/// `[k, n]`, k from 0.
fn part(shard: &Dynamic) -> Result<(usize, usize)> {
    let numbers = shard.clone().try_cast::<Array>().unwrap_or_default();
    let numbers: Vec<usize> = numbers.iter().filter_map(|number| usize::try_from(number.as_int().ok()?).ok()).collect();
    match numbers[..] {
        [k, n] if k < n => Ok((k, n)),
        _ => bail!(Option, "option `shard` is {}, expected `[k, n]`, part k of n, from 0", shown(shard)),
    }
}

/// Outputs in item order, from an array, or a map from id to text.
fn outputs(b: &BenchmarkHandle, predictions: &Dynamic) -> Result<Vec<String>> {
    if let Some(array) = predictions.clone().try_cast::<Array>() {
        return Ok(array.iter().map(ToString::to_string).collect());
    }
    let Some(map) = predictions.clone().try_cast::<Map>() else {
        bail!(Type, "predictions are {}, expected an array in item order or a map from id to text", shown(predictions));
    };
    // The ids of items, or those that the set publishes beside them (POPE's run over its three splits).
    let by = |id: fn(&Item) -> &str| outputs_by(b, &map, id);
    match (by(|item| &item.id), by(|item| &item.other_id)) {
        (Ok(by_id), Ok(by_other)) if by_id != by_other => Err(error!(
            Data,
            "the keys of the predictions are ids of benchmark `{}` in two ways, which mean different questions", b.0.id
        )
        .help("give an array in item order")),
        (Ok(outputs), _) | (Err(_), Ok(outputs)) => Ok(outputs),
        (Err(by_id), Err(by_other)) => {
            let known = |id: fn(&Item) -> &str| b.0.items.iter().filter(|item| map.contains_key(id(item))).count();
            Err(if known(|item| &item.other_id) > known(|item| &item.id) { by_other } else { by_id })
        }
    }
}

/// The same, items found by one of their ids.
fn outputs_by(b: &BenchmarkHandle, map: &Map, id: fn(&Item) -> &str) -> Result<Vec<String>> {
    let items = &b.0.items;
    let known: BTreeSet<&str> = items.iter().map(id).collect();
    if let Some(key) = map.keys().find(|key| !known.contains(key.as_str())) {
        let numbered = format!("{key}#0");
        if known.contains(numbered.as_str()) {
            return Err(error!(Data, "benchmark `{}` has several items `{key}`", b.0.id)
                .help(format!("they are `{key}#0`, `{key}#1`, ... in file order")));
        }
        bail!(Data, "benchmark `{}` has no item `{key}`", b.0.id);
    }
    if known.len() < items.len() {
        bail!(Data, "benchmark `{}` has items with the same id", b.0.id);
    }
    let text = |item: &Item| {
        let output = map.get(id(item)).map(ToString::to_string);
        output.ok_or_else(|| error!(Data, "there is no prediction for item `{}`", item.id))
    };
    items.iter().map(text).collect()
}

fn gallery_of(b: &BenchmarkHandle, results: &ResultsHandle, n: i64) -> Result<Figure> {
    let rows = &results.0.rows;
    let n = (n.max(1) as usize).min(rows.len());
    // Spread over the whole benchmark, so that the pictures differ.
    let chosen: Vec<usize> = (0..n).map(|i| i * rows.len() / n).collect();
    let (mut pictures, mut captions) = (Vec::new(), Vec::new());
    for index in chosen {
        let row = &rows[index];
        let item = b.0.items.iter().find(|item| item.id == row.id);
        let Some(source) = item.and_then(|item| item.images.first()) else { continue };
        let image = source.open()?;
        pictures.push(Picture::new(image.width, image.height, image.pixels.to_vec())?);
        let mark = if row.score >= 1.0 { Mark::Right } else { Mark::Wrong };
        let gold = if row.score >= 1.0 { String::new() } else { format!(" (it is {})", row.gold.answer) };
        captions.push(Caption { text: format!("{}\n{}{gold}", row.prompt, row.output), mark });
    }
    Figure::gallery(&pictures, &captions, &format!("{}: {}", results.0.benchmark, results.0.model))
}

/// A question as scripts see it; a picture is opened when its pixels are asked for.
fn item_map(b: &Benchmark, item: &Item) -> Map {
    let images: Array = item.images.iter().map(|source| Dynamic::from(ImageHandle::of_source(source))).collect();
    let mut map = Map::new();
    let group = b.group(item);
    for (key, value) in [("id", &item.id), ("group", &group), ("prompt", &item.prompt), ("category", &item.category)] {
        map.insert(key.into(), value.clone().into());
    }
    map.insert("answer".into(), super::results::answers(&item.gold.answer));
    map.insert("image".into(), images.first().cloned().unwrap_or(Dynamic::UNIT));
    map.insert("images".into(), images.into());
    map.insert("max_new_tokens".into(), Dynamic::from_int(b.max_new_tokens as i64));
    map
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

    /// Opens a benchmark with options. Of the `rules`, lmms-eval 0.7.3 reads most benchmarks as the reference does, MMBench as
    /// its task without a judge, and where it would draw a letter at random, here nothing is read.
    ///
    /// Of a folder, of several configurations and splits, too, only the benchmark's own are read, and every row of them is a question. What is
    /// incomplete, there twice, another benchmark's, or questions without answers is refused. Rows without a picture are
    /// left out where others have one; data without any are for scoring, and `run` refuses them.
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 100 }).len);
    /// let b = benchmark("pope", #{ data: "tests/fixtures/prompts/parquet/pope.parquet", rules: "llava" });
    /// print(b[0].prompt);
    /// ```
    #[rhai_fn(name = "benchmark", return_raw)]
    pub fn benchmark_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<BenchmarkHandle> {
        Ok(open(&State::of(&context)?, id, options)?)
    }

    /// Number of questions. `print(b)` and tables of results say so where it is not the published number.
    #[rhai_fn(get = "len", name = "len", pure)]
    pub fn len(b: &mut BenchmarkHandle) -> i64 {
        b.0.items.len() as i64
    }

    /// Rows of the data that could not be used, each with its reason.
    ///
    /// ```rhai
    /// print(benchmark("gqa", #{ data: "tests/fixtures/prompts/data/gqa.jsonl" }).left_out.len());
    /// ```
    #[rhai_fn(get = "left_out", pure)]
    pub fn left_out(b: &mut BenchmarkHandle) -> Array {
        b.0.left_out.iter().map(|error| error.message().into()).collect()
    }

    /// A question: `id, group, image, images, prompt, answer, category, max_new_tokens`. The picture is opened when asked for.
    /// `group` is what questions share that count as one draw: the picture's published name, or a hash of its bytes.
    ///
    /// ```rhai
    /// let q = benchmark("tiny-seed")[0];
    /// print(`${q.prompt} ${q.answer}`);
    /// show(q.image);
    /// ```
    #[rhai_fn(index_get, return_raw, pure)]
    pub fn at(b: &mut BenchmarkHandle, index: i64) -> Fallible<Map> {
        let item = b.0.item(usize::try_from(index).unwrap_or(usize::MAX))?;
        Ok(item_map(&b.0, item))
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

    /// The same with options. A run that was stopped goes on from its file `out`, unless the pictures or prompts of its
    /// questions have changed; kept answers to questions with another right answer are scored again. `results` opens the parts
    /// of `shard` as one and says which is missing.
    ///
    /// An answer that is known for the same weights, prompt, pictures and options is not computed again, and equal questions
    /// about one picture are asked once; `cache` says where known answers are kept.
    ///
    /// With `choices: "likelihood"` the answer to a question with lettered choices is the letter with the highest
    /// log-probability right after the prompt (its tokens as training has them, the mean where there are several); questions
    /// without choices are answered as always. "generate" reads the letter out of what the model writes.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let b = benchmark("tiny-vqa", #{ limit: 20 });
    /// print(b.run(m, #{ batch: 8, image: "gray" }).score);
    /// print(b.run(m, #{ image: "gray" }).cached);  // 20
    /// print(benchmark("tiny-seed", #{ limit: 4 }).run(m, #{ choices: "likelihood" }).why(0));
    /// print(b.run(m, #{ out: "target/example-run.jsonl", shard: [0, 2] }).rows.len());
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

    /// Scores raw outputs without a model: an array in item order, or a map from id to text. POPE's ids are `question_id`, which
    /// its splits share (`1#0`, `1#1`, `1#2`), or the set's own `id`, which runs over all of them.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa", #{ limit: 3 });
    /// print(b.score(["yes", "no", "circle"]).score);
    /// ```
    #[rhai_fn(name = "score", return_raw)]
    pub fn score_outputs(
        context: NativeCallContext,
        b: BenchmarkHandle,
        predictions: Dynamic,
    ) -> Fallible<ResultsHandle> {
        let outputs = match State::of(&context)?.fitting().outputs(&b.0, &predictions) {
            Some(outputs) => outputs,
            None => outputs(&b, &predictions)?,
        };
        Ok(ResultsHandle(Arc::new(Results::score_outputs(&b.0, "predictions", &outputs, 0.0)?)))
    }

    /// The smallest true difference between two models that this benchmark's number of questions shows in 80 % of the
    /// cases, when the models disagree on this share of the questions.
    ///
    /// ```rhai
    /// print(benchmark("tiny-seed").detectable(0.2));
    /// ```
    #[rhai_fn(name = "detectable", return_raw)]
    pub fn detectable(b: BenchmarkHandle, disagreement: Dynamic) -> Fallible<f64> {
        let share = crate::script::convert::number(&disagreement).filter(|share| (0.0..=1.0).contains(share));
        let Some(share) = share else {
            return Err(error!(Option, "the disagreement is {}, expected 0 to 1", shown(&disagreement)).into());
        };
        let groups = b.0.groups(&b.0.items.iter().collect::<Vec<_>>());
        let groups: BTreeSet<&str> = groups.iter().map(String::as_str).collect();
        Ok(eval::stats::detectable_between(groups.len(), share))
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
}

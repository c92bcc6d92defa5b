//! Results: scores, explanations, comparison with other and with published results.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use crate::error;
use crate::error::Result;
use crate::eval::compare;
use crate::eval::{Published, Results, RightAnswers, Row, Rules};
use crate::events::Event;
use crate::script::convert::{Options, from_json, shown};
use crate::script::handles::{ResultsHandle, TableHandle};
use crate::script::options::{COMPARE, RESCORE, SAVE_RESULTS};
use crate::script::places::Place;
use crate::script::state::State;

/// Gold answers: a text, or an array of texts.
pub(super) fn answers(answers: &RightAnswers) -> Dynamic {
    match answers {
        RightAnswers::One(answer) => answer.clone().into(),
        RightAnswers::Several(answers) => {
            Dynamic::from_array(answers.iter().map(|answer| answer.clone().into()).collect())
        }
    }
}

fn row_map(row: &Row) -> Map {
    let mut map = Map::new();
    for (key, value) in [
        ("id", &row.id),
        ("group", &row.group),
        ("category", &row.category),
        ("prompt", &row.prompt),
        ("output", &row.output),
        ("scorer", &row.scorer),
    ] {
        map.insert(key.into(), value.clone().into());
    }
    map.insert("extracted".into(), row.extracted.clone().map_or(Dynamic::UNIT, Dynamic::from));
    map.insert("answer".into(), answers(&row.gold.answer));
    map.insert("score".into(), Dynamic::from_float(row.score));
    let likelihoods = row.likelihoods.iter().map(|one| (one.letter.to_string().into(), one.log_probability.into()));
    let likelihoods: Map = likelihoods.collect();
    map.insert("likelihoods".into(), if likelihoods.is_empty() { Dynamic::UNIT } else { likelihoods.into() });
    map
}

/// Opens files of one run, and reports what of it is missing.
fn open(state: &State, paths: &[Place]) -> Fallible<ResultsHandle> {
    let paths: Vec<_> = paths.iter().map(|place| &**place).collect();
    let results = Results::open_all(&paths)?;
    for text in results.warnings() {
        state.listeners().tell(&Event::Warning { text: format!("{} on {}: {text}", results.model, results.benchmark) });
    }
    Ok(ResultsHandle(Arc::new(results)))
}

fn compare_with(list: &Array, map: Map) -> Result<TableHandle> {
    let options = Options::new(map, &COMPARE)?;
    let results = list
        .iter()
        .map(|value| {
            let found = value.read_lock::<ResultsHandle>().map(|handle| handle.0.clone());
            found.ok_or_else(|| error!(Type, "expected results, got {}", shown(value)))
        })
        .collect::<Result<Vec<Arc<Results>>>>()?;
    let references: Vec<&Results> = results.iter().map(Arc::as_ref).collect();
    let table: String = options.get("table")?;
    let published = match options.get::<Option<String>>("published")? {
        Some(model) => Some(Published::open(&table)?.model(&model)?.clone()),
        None => None,
    };
    Ok(TableHandle(compare::table(&compare::compare(&references)?, Option::as_ref(&published))))
}

#[export_module]
pub mod results {
    /// Opens a file that `res.save` wrote.
    #[rhai_fn(name = "results", return_raw)]
    pub fn results(context: NativeCallContext, path: &str) -> Fallible<ResultsHandle> {
        let state = State::of(&context)?;
        open(&state, &[state.places().read(path)?])
    }

    /// Opens the files of a run in parts (`shard`) as one. A missing part is reported in a warning and under the table.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa", #{ limit: 2 });
    /// b.score(["yes", "no"]).save("target/example-part.jsonl");
    /// print(results(["target/example-part.jsonl"]).score);
    /// ```
    #[rhai_fn(name = "results", return_raw)]
    pub fn results_parts(context: NativeCallContext, paths: Array) -> Fallible<ResultsHandle> {
        let state = State::of(&context)?;
        let paths = paths.iter().map(|path| state.places().read(path.to_string())).collect::<Result<Vec<Place>>>()?;
        open(&state, &paths)
    }

    /// The headline score: a fraction from 0 to 1, for MME points; `()` where nothing scores automatically.
    #[rhai_fn(get = "score", pure)]
    pub fn score(res: &mut ResultsHandle) -> Dynamic {
        let score = res.0.score();
        if score.is_nan() { Dynamic::UNIT } else { Dynamic::from_float(score) }
    }

    /// The 95 % interval of the headline, `[low, high]`: questions that share an image count as one draw.
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 4 }).score(["yes", "no", "yes", "circle"]).interval);
    /// ```
    #[rhai_fn(get = "interval", pure)]
    pub fn interval_of(res: &mut ResultsHandle) -> Dynamic {
        match res.0.interval() {
            Some(interval) => Dynamic::from_array(vec![interval.low.into(), interval.high.into()]),
            None => Dynamic::UNIT,
        }
    }

    /// Every metric: the scorer's own, and those by category.
    #[rhai_fn(get = "metrics", return_raw, pure)]
    pub fn metrics(context: NativeCallContext, res: &mut ResultsHandle) -> Fallible<Map> {
        let mut metrics: Map =
            res.0.metrics().iter().map(|(name, value)| (name.as_str().into(), from_json(value))).collect();
        State::of(&context)?.fitting().metrics(&mut metrics, res.0.score());
        Ok(metrics)
    }

    /// A map per question: `id, group, category, prompt, output, extracted, answer, score, scorer`, and `likelihoods`, the
    /// log-probability of every letter, after a run with `choices: "likelihood"`.
    #[rhai_fn(get = "rows", pure)]
    pub fn rows(res: &mut ResultsHandle) -> Array {
        res.0.rows.iter().map(|row| Dynamic::from_map(row_map(row))).collect()
    }

    /// Questions that are not in the score, each with its reason.
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).left_out.len());
    /// ```
    #[rhai_fn(get = "left_out", pure)]
    pub fn left_out(res: &mut ResultsHandle) -> Array {
        res.0.left_out.iter().map(|left_out| left_out.why.clone().into()).collect()
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

    /// The same of the question with an id.
    ///
    /// ```rhai
    /// let res = benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]);
    /// print(res.why(res.rows[0].id));
    /// ```
    #[rhai_fn(name = "why", return_raw)]
    pub fn why_id(res: ResultsHandle, id: &str) -> Fallible<String> {
        match res.0.rows.iter().position(|row| row.id == id) {
            Some(index) => Ok(res.0.why(index)?),
            None => Err(error!(Data, "no answer has the id `{id}`").help("`res.rows[0].id` is one").into()),
        }
    }

    /// The n rows with the lowest score.
    #[rhai_fn(name = "worst")]
    pub fn worst(res: ResultsHandle, n: i64) -> Array {
        res.0.worst(n.max(0) as usize).into_iter().map(|i| Dynamic::from_map(row_map(&res.0.rows[i]))).collect()
    }

    /// Score with its interval, categories and baselines.
    #[rhai_fn(name = "table")]
    pub fn table(res: ResultsHandle) -> TableHandle {
        TableHandle(res.0.table())
    }

    /// Scores the same outputs by other `rules` and shows what changed. Nothing is asked again; works on opened files.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-pope", #{ limit: 3 });
    /// let res = b.score(["Yes.", "no", "No, there is not."]);
    /// print(res.rescore(#{ rules: "llava" }).score);
    /// ```
    #[rhai_fn(name = "rescore", return_raw)]
    pub fn rescore(context: NativeCallContext, res: ResultsHandle, options: Map) -> Fallible<ResultsHandle> {
        let state = State::of(&context)?;
        let options = Options::new(options, &RESCORE)?;
        let rules = Rules::parse(&options.get::<String>("rules")?)?;
        let after = res.0.rescore(state.fitting().rules(rules, &res.0))?;
        state.output().table(&compare::rescored(&res.0, &after));
        Ok(ResultsHandle(Arc::new(after)))
    }

    /// Results side by side: intervals, the difference from the first result of each benchmark with its interval and p
    /// (exact or by exchange, corrected by Holm for all comparisons of the table), the best in bold. Models of the same name are
    /// distinguished by what differs: what they were made of, their run, dtype, quantization, template, or a hash of their weights.
    ///
    /// ```rhai
    /// let b = benchmark("tiny-vqa", #{ limit: 3 });
    /// let first = b.score(["yes", "no", "circle"]);
    /// let second = b.score(["yes", "yes", "yes"]);
    /// show(compare([first, second]));
    /// ```
    #[rhai_fn(name = "compare", return_raw)]
    pub fn compare_results(list: Array) -> Fallible<TableHandle> {
        Ok(compare_with(&list, Map::new())?)
    }

    /// The same with options: a model's published numbers beside these.
    ///
    /// ```rhai
    /// let b = benchmark("pope", #{ data: "tests/fixtures/scorers/data/pope.jsonl", limit: 2 });
    /// let res = b.score(["yes", "no"]);
    /// show(compare([res], #{ published: "MORE LLaMA-3.1-8B CLIP" }));
    /// ```
    #[rhai_fn(name = "compare", return_raw)]
    pub fn compare_options(list: Array, options: Map) -> Fallible<TableHandle> {
        Ok(compare_with(&list, options)?)
    }

    /// A published table of results.
    ///
    /// ```rhai
    /// show(published("llava-more"));
    /// ```
    #[rhai_fn(name = "published", return_raw)]
    pub fn published(id: &str) -> Fallible<TableHandle> {
        Ok(TableHandle(Published::open(id)?.table()))
    }

    /// The published numbers of one model: percent, points for MME.
    ///
    /// ```rhai
    /// print(published("llava-more", "MORE LLaMA-3.1-8B CLIP").pope);
    /// ```
    #[rhai_fn(name = "published", return_raw)]
    pub fn published_model(id: &str, model: &str) -> Fallible<Map> {
        let published = Published::open(id)?;
        let scores = published.model(model)?.scores.iter();
        Ok(scores.map(|(name, score)| (name.as_str().into(), Dynamic::from_float(*score))).collect())
    }

    /// The rows of a table, a map each: what its cells hold, by the names of the columns.
    ///
    /// ```rhai
    /// print(published("llava-more").rows[0].pope);
    /// ```
    #[rhai_fn(get = "rows", pure)]
    pub fn table_rows(table: &mut TableHandle) -> Array {
        let json = table.0.json();
        json["rows"].as_array().map_or(Array::new(), |rows| rows.iter().map(from_json).collect())
    }

    /// Number of answers that were not computed for their question: they were in the cache, or another question about
    /// the same picture asked the same.
    ///
    /// ```rhai
    /// print(benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).cached);  // 0
    /// ```
    #[rhai_fn(get = "cached", pure)]
    pub fn cached(res: &mut ResultsHandle) -> i64 {
        res.0.facts.cached as i64
    }

    /// Writes one JSON line per question, also for those that are left out.
    ///
    /// ```rhai
    /// benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("target/example-results.jsonl");
    /// print(results("target/example-results.jsonl").score);
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(context: NativeCallContext, res: ResultsHandle, path: &str) -> Fallible<()> {
        Ok(State::of(&context)?.places().write_file(path, false, |place| res.0.save(place))?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// benchmark("tiny-vqa", #{ limit: 2 }).score(["yes", "no"]).save("target/example-results.jsonl", #{ overwrite: true });
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_with(context: NativeCallContext, res: ResultsHandle, path: &str, options: Map) -> Fallible<()> {
        let overwrite = Options::new(options, &SAVE_RESULTS)?.get("overwrite")?;
        Ok(State::of(&context)?.places().write_file(path, overwrite, |place| res.0.save(place))?)
    }
}

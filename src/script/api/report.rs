//! Reports, and the pictures they are made of: feature maps and attention.

use std::sync::Arc;

use rhai::Map;
use rhai::plugin::*;

use super::Fallible;
use crate::error;
use crate::error::Result;
use crate::eval::Benchmark;
use crate::image::Aspect;
use crate::report::{self, ReportOptions};
use crate::script::convert::{Options, shown};
use crate::script::handles::{
    BenchmarkHandle, EncoderHandle, FigureHandle, ImageHandle, ResultsHandle, RunHandle, StudyHandle, VlmHandle,
};
use crate::script::options::{ATTENTION, MAP, REPORT_RESULTS, REPORT_RUN, REPORT_STUDY};
use crate::script::state::State;
use crate::show::page::Page;
use crate::show::{Caption, Figure, Picture, percent};
use crate::vlm::{Looking, Vlm};

/// Side of a map in a figure, in pixels.
const SIDE: usize = 336;

/// The report of a run or a study, whose page is made by `page`.
fn report_folder(
    state: &State,
    page: impl FnOnce(&ReportOptions) -> Result<Page>,
    path: &str,
    options: &Options,
) -> Result<()> {
    let data = options.get::<Option<String>>("data")?.map(|path| state.places().read(path));
    let (data, overwrite) = (data.transpose()?.map(Into::into), options.get("overwrite")?);
    let options = ReportOptions { presets: state.presets(), data, maps: options.get("maps")? };
    let page = page(&options)?;
    state.places().write_file(path, overwrite, |place| report::write(&page, place))
}

fn run_report_of(state: &State, r: &RunHandle, path: &str, map: Map) -> Result<()> {
    report_folder(state, |options| report::page_of(r.0.dir(), options), path, &Options::new(map, &REPORT_RUN)?)
}

fn study_report_of(state: &State, s: &StudyHandle, path: &str, map: Map) -> Result<()> {
    let page = |options: &ReportOptions| report::page_of(super::study::lock(s)?.dir(), options);
    report_folder(state, page, path, &Options::new(map, &REPORT_STUDY)?)
}

fn report_results(state: &State, results: &ResultsHandle, path: &str, map: Map) -> Result<()> {
    let options = Options::new(map, &REPORT_RESULTS)?;
    let benchmark: Option<Arc<Benchmark>> = match options.value("benchmark") {
        None => None,
        Some(value) => match value.read_lock::<BenchmarkHandle>() {
            Some(benchmark) => Some(benchmark.0.clone()),
            None => {
                return Err(error!(Type, "option `benchmark` is {}, expected a benchmark", shown(&value))
                    .help("`benchmark(id, #{ data: path })` opens one"));
            }
        },
    };
    let model: Option<Arc<Vlm>> = match options.value("model") {
        None => None,
        Some(value) => match value.read_lock::<VlmHandle>() {
            Some(model) => Some(model.0.clone()),
            None => {
                return Err(error!(Type, "option `model` is {}, expected a model", shown(&value))
                    .help("the one that answered: `b.run(m)` takes `model: m`"));
            }
        },
    };
    let overwrite = options.get("overwrite")?;
    let options = ReportOptions { presets: state.presets(), data: None, maps: options.get("maps")? };
    let page = report::page_of_results(&results.0, benchmark.as_deref(), model.as_deref(), &options)?;
    state.places().write_file(path, overwrite, |place| report::write(&page, place))
}

fn map_figure(encoder: &EncoderHandle, image: &ImageHandle, aspect: Aspect) -> Result<Figure> {
    Figure::gallery(&[grown(&encoder.0.map(&image.get()?, aspect)?)], &[], "")
}

/// The picture, its sides times the whole number that brings them closest to [`SIDE`].
fn grown(picture: &Picture) -> Picture {
    let factor = (SIDE / picture.width.max(picture.height)).max(1);
    picture.scaled(picture.width * factor, picture.height * factor)
}

fn attention_figure(state: &State, m: &VlmHandle, image: &ImageHandle, question: &str, map: Map) -> Result<Figure> {
    let options = Options::new(map, &ATTENTION)?;
    let looking = Looking { layer: options.get("layer")?, token: options.get("token")? };
    let looking = state.fitting().looking(looking, m.0.llm.model.spec().layers);
    let map = m.0.attention(&image.get()?, question, looking)?;
    let layers = looking.layer.map_or("mean over layers".to_string(), |layer| format!("layer {layer}"));
    let caption = format!("{} on the picture; {layers}, token {}", percent(map.share()), looking.token);
    let captions = [question, caption.as_str()].map(Caption::from);
    Figure::gallery(&[grown(&map.picture), grown(&map.overlay()?)], &captions, "")
}

#[export_module]
pub mod reports {
    /// Writes the run as one HTML page that loads nothing: curves, plan and outcome, what happened, the lock, and answers
    /// of results files that lie in its folder.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-3 }, batch: 2, steps: 2 });
    /// t.fit().report("target/example-run.html");
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn run_report(context: NativeCallContext, r: RunHandle, path: &str) -> Fallible<()> {
        Ok(run_report_of(&State::of(&context)?, &r, path, Map::new())?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-3 }, batch: 2, steps: 2 });
    /// let r = t.fit();
    /// benchmark("tiny-vqa", #{ limit: 6 }).run(m, #{ out: `${r.dir}/tiny-vqa.jsonl` });
    /// r.report("target/example-run.html", #{ maps: 2 });
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn run_report_with(context: NativeCallContext, r: RunHandle, path: &str, options: Map) -> Fallible<()> {
        Ok(run_report_of(&State::of(&context)?, &r, path, options)?)
    }

    /// Writes the study as one HTML page that loads nothing: what was found, tables that sort, curves, answers of every cell
    /// with their pictures, every lock. It is made of the folder, finished or not.
    ///
    /// ```rhai
    /// let s = study(#{ limit: 8, stage: #{ steps: 1, batch: 4 } });
    /// s.run();
    /// s.report("target/example-study.html");
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn study_report(context: NativeCallContext, s: StudyHandle, path: &str) -> Fallible<()> {
        Ok(study_report_of(&State::of(&context)?, &s, path, Map::new())?)
    }

    /// The same with options, as for a run.
    ///
    /// ```rhai
    /// let s = study(#{ limit: 8, stage: #{ steps: 1, batch: 4 } });
    /// s.run();
    /// s.report("target/example-study.html", #{ maps: 0 });
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn study_report_with(context: NativeCallContext, s: StudyHandle, path: &str, options: Map) -> Fallible<()> {
        Ok(study_report_of(&State::of(&context)?, &s, path, options)?)
    }

    /// Writes results as one HTML page that loads nothing: the score with its interval, categories, and answers to look
    /// through with picture, question, output, gold answer and `why`.
    ///
    /// ```rhai
    /// let res = benchmark("tiny-vqa", #{ limit: 3 }).score(["yes", "no", "circle"]);
    /// res.report("target/example-results.html");
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn results_report(context: NativeCallContext, res: ResultsHandle, path: &str) -> Fallible<()> {
        Ok(report_results(&State::of(&context)?, &res, path, Map::new())?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let b = benchmark("tiny-vqa", #{ limit: 4 });
    /// b.run(m).report("target/example-results.html", #{ benchmark: b, model: m, maps: 2 });
    /// ```
    #[rhai_fn(name = "report", return_raw)]
    pub fn results_report_with(
        context: NativeCallContext,
        res: ResultsHandle,
        path: &str,
        options: Map,
    ) -> Fallible<()> {
        Ok(report_results(&State::of(&context)?, &res, path, options)?)
    }

    /// Patch features as colors: their three strongest principal components are red, green and blue, so that patches the
    /// encoder takes for alike look alike.
    ///
    /// ```rhai
    /// let f = encoder("tiny-clip").map(image("tests/fixtures/images/red-circle.png"));
    /// f.save("target/example-map.png");
    /// ```
    #[rhai_fn(name = "map", return_raw)]
    pub fn map(e: EncoderHandle, image: ImageHandle) -> Fallible<FigureHandle> {
        Ok(FigureHandle(map_figure(&e, &image, e.0.own_aspect())?))
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let f = encoder("tiny-clip").map(image("tests/fixtures/images/wide-640x11.png"), #{ image: "pad" });
    /// ```
    #[rhai_fn(name = "map", return_raw)]
    pub fn map_with(e: EncoderHandle, image: ImageHandle, options: Map) -> Fallible<FigureHandle> {
        let options = Options::new(options, &MAP)?;
        let aspect =
            options.get::<Option<String>>("image")?.map_or(Ok(e.0.own_aspect()), |name| Aspect::parse(&name))?;
        Ok(FigureHandle(map_figure(&e, &image, aspect)?))
    }

    /// Where the LLM looks in the picture as it begins to answer: attention of the prompt's last position on the visual
    /// tokens, the mean over heads and layers, beside what the encoder saw.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let f = m.attention(image("tests/fixtures/images/red-circle.png"), "What color is it?");
    /// f.save("target/example-attention.png");
    /// ```
    #[rhai_fn(name = "attention", return_raw)]
    pub fn attention(
        context: NativeCallContext,
        m: VlmHandle,
        image: ImageHandle,
        question: &str,
    ) -> Fallible<FigureHandle> {
        Ok(FigureHandle(attention_figure(&State::of(&context)?, &m, &image, question, Map::new())?))
    }

    /// The same with options: in one layer, or for another token of the answer.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let picture = image("tests/fixtures/images/red-circle.png");
    /// let f = m.attention(picture, "What color is it?", #{ layer: -1, token: 1 });
    /// ```
    #[rhai_fn(name = "attention", return_raw)]
    pub fn attention_with(
        context: NativeCallContext,
        m: VlmHandle,
        image: ImageHandle,
        question: &str,
        options: Map,
    ) -> Fallible<FigureHandle> {
        Ok(FigureHandle(attention_figure(&State::of(&context)?, &m, &image, question, options)?))
    }
}

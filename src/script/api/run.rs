//! Run folders.

use rhai::plugin::*;
use rhai::{Array, NativeCallContext};

use super::Fallible;
use super::train::step_map;
use crate::error::Result;
use crate::script::handles::{FigureHandle, RunHandle};
use crate::script::state::State;
use crate::show::{Figure, LinePlot};
use crate::train::Run;

fn plot_of(run: &Run) -> Result<Figure> {
    let points: Vec<(f64, f64)> = run.steps()?.iter().map(|step| (step.step as f64, step.loss)).collect();
    let name = run.lock()?.options.get("name").and_then(|name| name.as_str().map(str::to_string)).unwrap_or_default();
    let (x, y) = ("step".to_string(), "loss".to_string());
    Figure::line(LinePlot { series: vec![("loss".to_string(), points)], title: name, x, y, log: false })
}

#[export_module]
pub mod runs {
    /// Opens a run folder.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 2 });
    /// let r = run(t.fit().dir);
    /// print(r.losses.len());  // 2
    /// ```
    #[rhai_fn(name = "run", return_raw)]
    pub fn run(context: NativeCallContext, folder: &str) -> Fallible<RunHandle> {
        Ok(RunHandle(Run::open(&State::of(&context)?.places().read_run(folder)?)?))
    }

    /// Where it is.
    #[rhai_fn(get = "dir", pure)]
    pub fn dir(r: &mut RunHandle) -> String {
        r.0.dir().display().to_string()
    }

    /// `running` while a process trains it; else how it ended: `done`, `paused` (Ctrl-C, a signal), `stopped` (by the function given to
    /// `fit`), `failed`, or `interrupted`, when it could not say.
    #[rhai_fn(get = "status", return_raw, pure)]
    pub fn status(r: &mut RunHandle) -> Fallible<String> {
        Ok(r.0.status()?)
    }

    /// The loss of every step.
    #[rhai_fn(get = "losses", return_raw, pure)]
    pub fn losses(r: &mut RunHandle) -> Fallible<Array> {
        Ok(r.0.steps()?.iter().map(|step| Dynamic::from_float(step.loss)).collect())
    }

    /// The step maps of the run.
    #[rhai_fn(get = "metrics", return_raw, pure)]
    pub fn metrics(r: &mut RunHandle) -> Fallible<Array> {
        Ok(r.0.steps()?.iter().map(|step| Dynamic::from_map(step_map(step))).collect::<Vec<Dynamic>>())
    }

    /// The newest checkpoint's folder, or `()`.
    #[rhai_fn(get = "checkpoint", return_raw, pure)]
    pub fn checkpoint(r: &mut RunHandle) -> Fallible<Dynamic> {
        Ok(r.0.checkpoint()?.map_or(Dynamic::UNIT, |path| path.display().to_string().into()))
    }

    /// The loss curve; it is also written to the run's `plots/`.
    #[rhai_fn(name = "plot", return_raw)]
    pub fn plot(context: NativeCallContext, r: RunHandle) -> Fallible<FigureHandle> {
        let figure = plot_of(&r.0)?;
        let folder = State::of(&context)?.places().write_beside(r.0.dir().join("plots"))?;
        figure.save(&folder.join("loss.png"))?;
        figure.save(&folder.join("loss.svg"))?;
        Ok(FigureHandle(figure))
    }
}

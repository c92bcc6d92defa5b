//! Recipes and trainers.

use std::sync::{Arc, Mutex, MutexGuard};

use rhai::plugin::*;
use rhai::{Array, FnPtr, Map, NativeCallContext};
use sha2::{Digest, Sha256};
use toml::Table as Toml;

use super::Fallible;
use crate::error;
use crate::error::Result;
use crate::events::{Event, Step};
use crate::image::Aspect;
use crate::preset::PresetKind;
use crate::script::convert::{map_of, table, typed};
use crate::script::handles::{
    DatasetHandle, RecipeHandle, RunHandle, TableHandle, TensorHandle, TrainerHandle, VlmHandle,
};
use crate::script::state::State;
use crate::show::{Cell, Table};
use crate::text::Template;
use crate::train::{Audit, Recipe, RunPlace, TrainOptions, Trainer, TrainerSetup};

fn make(state: &State, m: VlmHandle, d: DatasetHandle, options: Toml) -> Result<TrainerHandle> {
    let mut options = options;
    options.entry("seed").or_insert(toml::Value::Integer(state.seed() as i64));
    state.overrule(&mut options);
    state.fitting().training(&mut options, &[&m.0.llm])?;
    state.fitting().recipe_template(&mut options, &m.0);
    let number = state.next_trainer();
    let repeats = state.repeats(number);
    let mut options: TrainOptions = typed(options, "trainer")?;
    if let Some(out) = options.out.as_mut() {
        *out = state.places().write_run(&*out)?.into();
    }
    let template = match &options.template {
        Some(name) => Template::load(state.presets(), name)?,
        None => m.0.template(),
    };
    let aspect = options.image.as_deref().map_or(Ok(m.0.aspect()), Aspect::parse)?;
    let setup = TrainerSetup {
        template,
        aspect,
        listeners: state.listeners().clone(),
        interrupt: state.interrupt().clone(),
        lock: state.lock(number),
        folder: RunPlace::Numbered(state.run_folder(&options.name)),
        cache: state.cache().to_path_buf(),
        features: None,
        repeats,
    };
    let data = state.fitting().trainable(&setup.template, d.0)?;
    let trainer = Trainer::new(m.0, data, options, setup)?;
    Ok(TrainerHandle(Arc::new(Mutex::new(trainer))))
}

/// The trainer, or an error when it is in the middle of a step.
pub(super) fn lock(t: &TrainerHandle) -> Result<MutexGuard<'_, Trainer>> {
    t.0.try_lock().map_err(|_| error!(Train, "this trainer is in the middle of a step"))
}

/// A step as scripts see it.
pub(super) fn step_map(step: &Step) -> Map {
    let mut map = Map::new();
    let whole = [
        ("step", step.step),
        ("tokens", step.tokens),
        ("positions", step.positions),
        ("samples", step.samples),
        ("cut", step.cut),
        ("unsupervised", step.unsupervised),
    ];
    for (key, value) in whole {
        map.insert(key.into(), Dynamic::from_int(value as i64));
    }
    for (key, value) in [("loss", step.loss), ("lr", step.lr), ("grad_norm", step.grad_norm), ("seconds", step.seconds)]
    {
        map.insert(key.into(), Dynamic::from_float(value));
    }
    map
}

fn run_of(t: &TrainerHandle) -> Result<RunHandle> {
    let trainer = lock(t)?;
    let run = trainer.run().cloned();
    run.map(RunHandle).ok_or_else(|| error!(Train, "there is no run yet").help("`t.fit()` makes one"))
}

fn fit_with(context: &NativeCallContext, t: &TrainerHandle, each: Option<&FnPtr>) -> Fallible<RunHandle> {
    let by = each.map(fingerprint).unwrap_or_default();
    let stopped = lock(t)?.stopped().cloned();
    if let Some((step, _)) = stopped.filter(|(_, stopped)| *stopped == by) {
        let text = format!(
            "nothing is trained: this function has ended the run, after step {step}; another one, or none, goes on"
        );
        State::of(context)?.listeners().tell(&Event::Warning { text });
        return Ok(run_of(t)?);
    }
    let mut fit = lock(t)?.begin()?;
    // The lock is not held while the callback runs, so that it may look at the trainer.
    loop {
        let step = lock(t)?.advance(&mut fit)?;
        let Some(step) = step else { break };
        if let Some(each) = each {
            match each.call_within_context::<Dynamic>(context, (step_map(&step),)) {
                Ok(answer) if answer.as_bool() == Ok(false) => {
                    fit.stop(&by);
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    // Whatever went wrong in the callback, the last whole step is on disk.
                    lock(t)?.finish(fit)?;
                    return if State::of(context)?.interrupt().is_set() { Ok(run_of(t)?) } else { Err(error) };
                }
            }
        }
    }
    lock(t)?.finish(fit)?;
    Ok(run_of(t)?)
}

/// A hash over a function and what it has captured, as that is before it is called: whether a run was stopped by the same
/// one in the same state. (The name of a nameless function is a hash of its text.)
fn fingerprint(function: &FnPtr) -> String {
    let captured: Vec<String> = function.iter_curry().map(ToString::to_string).collect();
    format!("{:x}", Sha256::digest(format!("{} {captured:?}", function.fn_name())))
}

fn audit_table(audit: &Audit) -> Table {
    let mut table = Table::new("audit").column("tensors").number("count");
    for (what, count) in [("trained, gradient finite and not zero", audit.good()), ("frozen", audit.still())] {
        table.push([Cell::from(what), count.into()]);
    }
    let findings = [
        ("without a gradient", &audit.unreached),
        ("with a zero gradient", &audit.zero),
        ("with a gradient that is not finite", &audit.not_finite),
        ("frozen, but tracked", &audit.moving),
    ];
    for (what, names) in findings.into_iter().filter(|(_, names)| !names.is_empty()) {
        table.push([Cell::from(format!("{what}: {}", names.join(", "))), names.len().into()]);
    }
    table.note(if audit.passed() { "passed: training may start" } else { "failed: `fit` will refuse to start" })
}

#[export_module]
pub mod train {
    /// Opens a recipe: the stages of a protocol.
    ///
    /// ```rhai
    /// for stage in recipe("llava-more-tiny").stages { print(`${stage.name}: ${stage.data}`); }
    /// ```
    #[rhai_fn(name = "recipe", return_raw)]
    pub fn recipe(context: NativeCallContext, id: &str) -> Fallible<RecipeHandle> {
        recipe_with(context, id, Map::new())
    }

    /// A recipe with options that go over those of every stage.
    ///
    /// ```rhai
    /// print(recipe("llava-more-tiny", #{ batch: 16 }).stages[0].batch);
    /// ```
    #[rhai_fn(name = "recipe", return_raw)]
    pub fn recipe_with(context: NativeCallContext, id: &str, overrides: Map) -> Fallible<RecipeHandle> {
        let state = State::of(&context)?;
        let id = state.places().id(PresetKind::Recipes, id)?;
        Ok(RecipeHandle(Arc::new(Recipe::open(state.presets(), &id, &table(&overrides)?)?)))
    }

    /// Its stages: option maps for `trainer`, with `data` naming the data set.
    #[rhai_fn(get = "stages", pure)]
    pub fn stages(r: &mut RecipeHandle) -> Array {
        r.0.stages.iter().map(|stage| Dynamic::from_map(map_of(&stage.0))).collect()
    }

    /// A table of what each stage does.
    ///
    /// ```rhai
    /// show(recipe("llava-more-tiny").explain());
    /// ```
    #[rhai_fn(name = "explain")]
    pub fn explain(r: RecipeHandle) -> TableHandle {
        let mut table =
            Table::new(format!("{}: {}", r.0.id, r.0.about)).column("stage").column("option").column("value");
        for (number, stage) in r.0.stages.iter().enumerate() {
            for (key, value) in &stage.0 {
                let value = match value {
                    toml::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                table.push([Cell::from(number + 1), Cell::from(key.as_str()), Cell::from(value)]);
            }
        }
        TableHandle(table)
    }

    /// Makes a trainer: a model, a data set, and options (a recipe's stage, or a map).
    ///
    /// `train` names the parts that learn with their rates; the others are frozen.
    ///
    /// The model is asked, evaluated and saved by the `template` and `image` it was trained by last, which is reported once; a
    /// template of captions (`plain`, stage 1) leaves both as they are. A template that `vlm` or `load` was given by hand is
    /// kept: another one is an error here.
    ///
    /// `moments`, `features`, `masters`, `checkpointing` and `lora` save memory; `show(t.plan())` shows how much.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-captions"), #{ train: #{ projector: 1e-3 }, template: "plain", batch: 4, steps: 2 });
    /// print(t);
    /// ```
    #[rhai_fn(name = "trainer", return_raw)]
    pub fn trainer(
        context: NativeCallContext,
        m: VlmHandle,
        d: DatasetHandle,
        options: Map,
    ) -> Fallible<TrainerHandle> {
        Ok(make(&State::of(&context)?, m, d, table(&options)?)?)
    }

    /// A trainer from a stage and options that go over it.
    #[rhai_fn(name = "trainer", return_raw)]
    pub fn trainer_with(
        context: NativeCallContext,
        m: VlmHandle,
        d: DatasetHandle,
        stage: Map,
        overrides: Map,
    ) -> Fallible<TrainerHandle> {
        let mut options = table(&stage)?;
        options.extend(table(&overrides)?);
        Ok(make(&State::of(&context)?, m, d, options)?)
    }

    /// Whether every tensor that is to be trained receives a gradient; `fit` looks, too.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-3, llm: 1e-3 }, batch: 2, steps: 1 });
    /// show(t.audit());
    /// ```
    #[rhai_fn(name = "audit", return_raw)]
    pub fn audit(t: TrainerHandle) -> Fallible<TableHandle> {
        Ok(TableHandle(audit_table(&lock(&t)?.audit()?)))
    }

    /// Trains to the end and gives the run; Ctrl-C or a signal pauses it with the last whole step on disk.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 2 });
    /// print(t.fit().status);  // done
    /// ```
    #[rhai_fn(name = "fit", return_raw)]
    pub fn fit(context: NativeCallContext, t: TrainerHandle) -> Fallible<RunHandle> {
        fit_with(&context, &t, None)
    }

    /// The same with a function that sees every step map; `false` stops and saves, with the status `stopped`. It may evaluate
    /// the model, too, which is how a run stops early. A run that was stopped so stays stopped when the script is called
    /// again and resumes it: the same function, begun with the same values, trains nothing more; another one, or none, goes on.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 8 });
    /// let b = benchmark("tiny-vqa", #{ limit: 4 });
    /// let best = -1.0;
    /// let bad = 0;
    /// let run = t.fit(|s| {
    ///     if s.step % 2 == 0 {
    ///         let score = b.run(m).score;
    ///         bad = if score > best { 0 } else { bad + 1 };
    ///         best = max(best, score);
    ///     }
    ///     bad < 2
    /// });
    /// print(`${run.status} after ${t.losses.len()} steps, best ${best}`);
    /// ```
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 9 });
    /// print(t.fit(|s| { print(t.losses.len()); s.step < 2 }).status);  // stopped
    /// ```
    #[rhai_fn(name = "fit", return_raw)]
    pub fn fit_each(context: NativeCallContext, t: TrainerHandle, each: FnPtr) -> Fallible<RunHandle> {
        fit_with(&context, &t, Some(&each))
    }

    /// One optimizer step, without a run folder: `#{ step, loss, lr, grad_norm, tokens, positions, samples,
    /// cut, unsupervised, seconds }`; `cut` counts samples with answers that end beyond `max_length`, `unsupervised` those with
    /// all of them there, of which nothing is learned.
    #[rhai_fn(name = "step", return_raw)]
    pub fn step(t: TrainerHandle) -> Fallible<Map> {
        Ok(step_map(&lock(&t)?.step()?))
    }

    /// Loss of the next step's samples; nothing is updated.
    #[rhai_fn(name = "loss", return_raw)]
    pub fn loss(t: TrainerHandle) -> Fallible<f64> {
        Ok(lock(&t)?.loss()?)
    }

    /// The gradient of a tensor in the last step, by its checkpoint name, before clipping.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ projector: 1e-3 }, batch: 2, steps: 1 });
    /// t.step();
    /// print(t.gradient("model.mm_projector.0.weight").shape);
    /// ```
    #[rhai_fn(name = "gradient", return_raw)]
    pub fn gradient(t: TrainerHandle, name: &str) -> Fallible<TensorHandle> {
        Ok(TensorHandle(lock(&t)?.gradient(name)?))
    }

    /// The loss of every step so far.
    #[rhai_fn(get = "losses", return_raw, pure)]
    pub fn losses(t: &mut TrainerHandle) -> Fallible<Array> {
        Ok(lock(t)?.history().iter().map(|step| Dynamic::from_float(step.loss)).collect())
    }

    /// The run of this trainer, once `fit` has begun.
    #[rhai_fn(get = "run", return_raw, pure)]
    pub fn run(t: &mut TrainerHandle) -> Fallible<RunHandle> {
        Ok(run_of(t)?)
    }

    /// Loads the newest complete checkpoint of a run into a trainer that was made alike; `fit` then goes on. A folder
    /// `RUN/checkpoint-<step>` goes back to that one, as after a loss that is no number; later ones are then moved to
    /// `RUN/aside`. A run without any checkpoint begins at step 0, and what another process trains is refused. The trainer's
    /// own `out` need not be there yet: with `t.resume(out); t.fit()` a script starts a run and goes on with it alike.
    #[rhai_fn(name = "resume", return_raw)]
    pub fn resume(context: NativeCallContext, t: TrainerHandle, folder: &str) -> Fallible<()> {
        match State::of(&context)?.places().resume(folder)? {
            Some(folder) => Ok(lock(&t)?.resume(&folder)?),
            None => Ok(()),
        }
    }
}

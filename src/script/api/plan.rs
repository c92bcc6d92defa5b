//! Plans of trainers.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::Fallible;
use super::train::lock;
use crate::error::Result;
use crate::script::convert::Options;
use crate::script::handles::{PlanHandle, TableHandle, TrainerHandle};
use crate::script::options::PLAN;
use crate::show::{self, Cell, Table};
use crate::train::{Features, Limits, Plan};

/// A number of bytes as scripts write it: an integer, or a float such as `24e9`.
fn limits(options: Map) -> Result<Limits> {
    let options = Options::new(options, &PLAN)?;
    let bytes = |key| options.get::<Option<f64>>(key).map(|bytes| bytes.map(|bytes| bytes.max(0.0) as u64));
    Ok(Limits { memory: bytes("memory")?, disk: bytes("disk")? })
}

pub(super) fn plan_table(plan: &Plan) -> Table {
    let bytes = |n: u64| Cell::of(show::bytes(n), n);
    let count = |n: usize| Cell::of(show::count(n), n as u64);
    let seconds = |n: f64| Cell::of(show::seconds(n), n);
    let micro = if plan.micro_batch < plan.batch {
        format!(" in micro-batches of {}", plan.micro_batch)
    } else {
        String::new()
    };
    let mut table = Table::new(format!("plan of {}", plan.name)).column("what").number("");
    let memory = &plan.memory;
    let longest = match memory.scaled_from {
        Some(positions) => format!("activations, scaled up from {positions} positions"),
        None => format!("activations of the longest micro-batch, {} positions", plan.longest),
    };
    let mut row = |what: &str, cell: Cell| table.push([Cell::from(what), cell]);
    row("samples", count(plan.samples));
    row(&format!("steps of {} samples{micro}", plan.batch), count(plan.steps as usize));
    row("positions per sample", plan.positions.into());
    row("supervised per sample", plan.tokens.into());
    row("positions in all", count(plan.total_positions() as usize));
    row("floating-point operations", Cell::of(format!("{:.2e}", plan.flops), plan.flops));
    row("weights trained", count(plan.trained));
    row("weights frozen", count(plan.frozen));
    row("memory: weights", bytes(memory.weights));
    row("gradients", bytes(memory.gradients));
    if memory.leaves > 0 {
        row(&format!("gradients that wait, of {} leaves", plan.leaves), bytes(memory.leaves));
    }
    row("moments", bytes(memory.moments));
    if memory.masters > 0 {
        row("f32 masters", bytes(memory.masters));
    }
    row(&longest, bytes(memory.activations));
    if !memory.is_counted {
        row("at most: read off the whole process, whose program does not count", Cell::from(""));
    }
    let images = show::count(plan.features.images);
    match plan.features.place {
        Features::Memory => row(&format!("features of {images} pictures, kept"), bytes(plan.features.kept)),
        Features::Disk => row(&format!("features of {images} pictures, kept on disk"), bytes(plan.features.kept)),
        Features::Off => {}
    }
    row("peak, with the program", bytes(memory.peak).bold());
    if let Some(limit) = memory.limit {
        row("there is", bytes(limit));
    }
    if plan.time.total > 0.0 {
        row("time: a step", seconds(plan.time.step));
        row("all steps, encoding, checkpoints", seconds(plan.time.total).bold());
    }
    row("disk: a checkpoint", bytes(plan.disk.checkpoint));
    row("checkpoints at the most", bytes(plan.disk.peak).bold());
    if let Some(free) = plan.disk.free {
        row("is free", bytes(free));
    }
    if memory.limit.is_some_and(|limit| memory.peak > limit) {
        for saving in plan.savings() {
            let enough = if saving.enough { "fits" } else { "not enough alone" };
            row(&format!("`{}` would save ({enough})", saving.option), bytes(saving.saves));
        }
    }
    let fits = match plan.check() {
        Ok(()) => "it fits; memory and time are from dry steps".to_string(),
        Err(error) => format!("does not fit: {}", error.message()),
    };
    table.note(match &plan.stands_still {
        Some(why) => format!("{why}; {fits}"),
        None => fits,
    })
}

#[export_module]
pub mod planning {
    /// What the run will take: tokens, operations, memory at the peak, time, disk. Dry steps on the longest micro-batch are
    /// timed and dropped; nothing changes. `show(t.plan())` shows it as a table, and which options would make it fit.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 2 });
    /// show(t.plan());
    /// ```
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan(t: TrainerHandle) -> Fallible<PlanHandle> {
        plan_with(t, Map::new())
    }

    /// The same for a machine with other memory or disk than this one.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 2 });
    /// print(t.plan(#{ memory: 1e6 }).fits);  // false
    /// ```
    #[rhai_fn(name = "plan", return_raw)]
    pub fn plan_with(t: TrainerHandle, options: Map) -> Fallible<PlanHandle> {
        Ok(PlanHandle(lock(&t)?.plan(limits(options)?)?))
    }

    /// The plan as a table.
    #[rhai_fn(name = "table")]
    pub fn table_of_plan(p: PlanHandle) -> TableHandle {
        TableHandle(plan_table(&p.0))
    }

    /// Ends the script, with exit code 3 on the command line, when memory or disk do not suffice.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, batch: 4, steps: 2 });
    /// try { t.plan(#{ memory: 1e6 }).check(); } catch (e) { print(e.kind); }  // does_not_fit
    /// ```
    #[rhai_fn(name = "check", return_raw)]
    pub fn check(p: PlanHandle) -> Fallible<()> {
        Ok(p.0.check()?)
    }

    /// Number of optimizer steps.
    #[rhai_fn(get = "steps", pure)]
    pub fn steps(p: &mut PlanHandle) -> i64 {
        p.0.steps as i64
    }

    /// Whether memory and disk suffice.
    #[rhai_fn(get = "fits", pure)]
    pub fn fits(p: &mut PlanHandle) -> bool {
        p.0.fits()
    }

    /// Bytes of memory at the peak.
    #[rhai_fn(get = "memory", pure)]
    pub fn memory(p: &mut PlanHandle) -> i64 {
        p.0.memory.peak as i64
    }

    /// Seconds of the whole run.
    #[rhai_fn(get = "seconds", pure)]
    pub fn seconds(p: &mut PlanHandle) -> f64 {
        p.0.time.total
    }

    /// Bytes of disk that checkpoints come to at the most.
    #[rhai_fn(get = "disk", pure)]
    pub fn disk(p: &mut PlanHandle) -> i64 {
        p.0.disk.peak as i64
    }

    /// The options that would take less memory, the largest saving first: `#{ option, saves, enough }`, in bytes.
    #[rhai_fn(get = "savings", pure)]
    pub fn savings(p: &mut PlanHandle) -> Array {
        let saving = |saving: crate::train::Saving| {
            let mut map = Map::new();
            map.insert("option".into(), saving.option.into());
            map.insert("saves".into(), Dynamic::from_int(saving.saves as i64));
            map.insert("enough".into(), Dynamic::from_bool(saving.enough));
            Dynamic::from_map(map)
        };
        p.0.savings().into_iter().map(saving).collect()
    }
}

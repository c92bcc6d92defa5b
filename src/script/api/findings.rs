//! Tables of what a walk over a data set finds: counts, faults, label masks, lengths.

use std::collections::BTreeSet;

use rhai::{Array, Dynamic};

use crate::data::verify::{Fault, Findings, Level, Walk, verify};
use crate::data::{Dataset, Sample};
use crate::error::Result;
use crate::script::convert::Options;
use crate::script::handles::{DatasetHandle, VlmHandle};
use crate::script::state::State;
use crate::show::{Cell, Table, percent};
use crate::text::{Role, Template};
use crate::train::usual_length;
use crate::vlm::Vlm;

/// Ids a table shows of each kind; its rows hold more.
const SHOWN: usize = 3;

/// A model with the template and the length that training would use.
pub(super) struct Rendering {
    vlm: VlmHandle,
    template: Template,
    limit: usize,
}

impl Rendering {
    /// A model with the options `template` and `max_length` of a trainer.
    pub(super) fn new(state: &State, m: VlmHandle, options: &Options) -> Result<Self> {
        let template = match options.get::<Option<String>>("template")? {
            Some(name) => state.fitting().writable(Template::load(state.presets(), &name)?, m.0.tokenizer()?)?,
            None => m.0.template(),
        };
        template.check(m.0.tokenizer()?)?;
        let limit = options.get::<Option<usize>>("max_length")?.unwrap_or(usual_length(m.0.llm.context()));
        Ok(Rendering { vlm: m, template, limit })
    }

    fn vlm(&self) -> &Vlm {
        &self.vlm.0
    }

    /// What only a model finds in a sample.
    fn faults(&self, sample: &Sample) -> Vec<Fault> {
        let rendered = self
            .vlm()
            .tokenizer()
            .and_then(|tokenizer| self.template.render_about(tokenizer, &sample.turns, sample.images.len()));
        let rendered = match rendered {
            Ok(rendered) => rendered,
            Err(error) => return vec![(Level::Error, "refused by the template".into(), error.message())],
        };
        let (positions, limit) = (self.vlm().positions(&rendered), self.limit);
        if positions <= limit {
            return Vec::new();
        }
        let mut faults =
            vec![(Level::Note, "longer than max_length".into(), format!("{positions} positions, cut at {limit}"))];
        if self.vlm().supervised_within(&rendered, limit) == 0 {
            let particulars = format!("all answers lie beyond {limit} of {positions} positions");
            faults.push((Level::Note, "nothing to learn within max_length".into(), particulars));
        }
        faults
    }
}

/// The walk over a data set that the session's progress display and Ctrl-C belong to.
pub(super) fn walk<'a>(state: &'a State, task: &'a str) -> Walk<'a> {
    Walk { task, listeners: state.listeners(), interrupt: state.interrupt() }
}

/// A row for each kind of finding; `ids` holds up to a thousand of them for scripts.
fn findings_table(title: &str, findings: &Findings) -> Table {
    let mut table =
        Table::new(title).column("found").column("in training").number("samples").column("ids").column("first");
    for ((level, what), cases) in &findings.kinds {
        let shown = cases.ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if cases.ids.len() > SHOWN { ", ..." } else { "" };
        table.push([
            Cell::from(&**what),
            Cell::from(level.name()),
            cases.count.into(),
            Cell::of(format!("{shown}{more}"), cases.ids.clone()),
            Cell::from(cases.example.as_str()),
        ]);
    }
    let faulty = findings.samples - findings.good;
    table.note(format!("{} samples, {} faulty", crate::show::count(findings.samples), crate::show::count(faulty)))
}

pub(super) fn verify_of(state: &State, d: &DatasetHandle, rendering: Option<&Rendering>) -> Result<Table> {
    let more = |sample: &Sample| rendering.map_or_else(Vec::new, |with| with.faults(sample));
    let findings = verify(&d.0, &more, &walk(state, "verify"))?;
    Ok(findings_table(d.0.name(), &findings))
}

/// Proves the mask of every sample that would be trained on.
pub(super) fn masks_of(state: &State, d: &DatasetHandle, with: &Rendering) -> Result<Table> {
    let (dataset, skipped) = d.0.trainable()?;
    let mut findings = Findings::default();
    let (mut lengths, mut supervised) = (Vec::with_capacity(dataset.len()), 0);
    let look = |_: usize, sample: Result<Sample>| {
        let sample = sample?;
        let check = with.vlm().check_mask(&with.template, &sample.turns, sample.images.len(), with.limit);
        Ok((sample.id, check))
    };
    let mut broken = None;
    walk(state, "check_masks").samples(&dataset, look, |looked: Result<_>| match looked {
        Err(error) => {
            broken.get_or_insert(error);
        }
        Ok((id, Err(error))) => {
            findings.push(&id, vec![(Level::Error, "refused by the template".into(), error.message())])
        }
        Ok((id, Ok(check))) => {
            lengths.push(check.positions as i64);
            supervised += check.supervised;
            let faults = check.faults.into_iter().map(|(what, particulars)| (Level::Error, what.into(), particulars));
            findings.push(&id, faults.collect());
        }
    })?;
    if let Some(error) = broken {
        return Err(error);
    }
    let positions: i64 = lengths.iter().sum();
    let share = supervised as f64 / positions.max(1) as f64;
    let title = format!("{} under template {}, cut at {}", d.0.name(), with.template.name(), with.limit);
    let mut table = Table::new(title).column("what").number("all").column("ids").column("first");
    let mut fact = |what: &str, value: Cell| table.push([Cell::from(what), value]);
    fact("samples", dataset.len().into());
    for why in skipped.iter().map(|(_, why)| *why).collect::<BTreeSet<_>>() {
        let count = skipped.iter().filter(|(_, reason)| *reason == why).count();
        fact(&format!("left out: {why}"), count.into());
    }
    fact("positions", (positions as usize).into());
    fact("supervised", supervised.into());
    fact("share supervised", Cell::of(percent(share), share));
    for (name, value) in quantiles(lengths) {
        fact(&format!("positions, {name}"), (value as usize).into());
    }
    for (row, (_, cases)) in findings_table("", &findings).rows.into_iter().zip(&findings.kinds) {
        let [what, _, _, ids, first] = row.as_slice() else { continue };
        table.push([what.clone(), cases.count.into(), ids.clone(), first.clone()]);
    }
    Ok(match findings.samples - findings.good {
        0 => table.note("every answer and what ends it is supervised, and nothing else"),
        faulty => table.note(format!("{faulty} samples are not masked as they should be")),
    })
}

/// The median, two high quantiles and the largest of some numbers.
fn quantiles(mut values: Vec<i64>) -> Vec<(&'static str, i64)> {
    values.sort_unstable();
    let Some(last) = values.len().checked_sub(1) else { return Vec::new() };
    let at = |share: f64| values[(share * last as f64).round() as usize];
    vec![("median", at(0.5)), ("90 of 100 below", at(0.9)), ("99 of 100 below", at(0.99)), ("longest", at(1.0))]
}

pub(super) fn stats_of(state: &State, d: &DatasetHandle) -> Result<Table> {
    let (mut turns, mut asked, mut answered) = (0usize, 0usize, 0usize);
    let words = |text: &str| text.split_whitespace().count();
    let look = |_: usize, sample: Result<Sample>| {
        let of = |sample: &Sample, role| sample.turns.iter().filter(|t| t.role == role).map(|t| words(&t.value)).sum();
        sample.map(|sample| (sample.turns.len(), of(&sample, Role::Human), of(&sample, Role::Gpt)))
    };
    let mut broken = None;
    walk(state, "stats").samples(&d.0, look, |counted: Result<(usize, usize, usize)>| match counted {
        Err(error) => {
            broken.get_or_insert(error);
        }
        Ok((t, q, a)) => (turns, asked, answered) = (turns + t, asked + q, answered + a),
    })?;
    if let Some(error) = broken {
        return Err(error.help("`d.verify()` lists all samples like this one"));
    }
    let briefs = d.0.briefs()?;
    let images = briefs.iter().filter(|brief| brief.has_image()).count();
    let each = |total: usize| total as f64 / d.0.len().max(1) as f64;
    let mut table = Table::new(d.0.name())
        .column("what")
        .number("all")
        .number("per sample")
        .row([Cell::from("samples"), d.0.len().into(), Cell::from("")])
        .row([Cell::from("with a picture"), images.into(), each(images).into()])
        .row([Cell::from("turns"), turns.into(), each(turns).into()])
        .row([Cell::from("words asked"), asked.into(), each(asked).into()])
        .row([Cell::from("words answered"), answered.into(), each(answered).into()]);
    for (name, value) in quantiles(briefs.iter().map(|brief| i64::from(brief.words)).collect()) {
        table.push([Cell::from(format!("words of a sample, {name}")), Cell::from(""), (value as usize).into()]);
    }
    Ok(table)
}

/// Words of every sample, or positions under a model.
pub(super) fn lengths_of(d: &Dataset, m: Option<&Vlm>, walk: &Walk) -> Result<Array> {
    let Some(m) = m else {
        let length = |words: u32, image: bool| if image { i64::from(words) } else { -i64::from(words) };
        return Ok(d.briefs()?.iter().map(|brief| Dynamic::from_int(length(brief.words, brief.has_image()))).collect());
    };
    let look = |_: usize, sample: Result<Sample>| {
        let sample = sample?;
        let rendered = m.template().render_about(m.tokenizer()?, &sample.turns, sample.images.len());
        let rendered = rendered.map_err(|error| error.context(format!("sample `{}`", sample.id)))?;
        Ok(m.positions(&rendered) as i64)
    };
    let mut lengths: Result<Vec<i64>> = Ok(Vec::with_capacity(d.len()));
    walk.samples(d, look, |length: Result<i64>| match (&mut lengths, length) {
        (Ok(lengths), Ok(length)) => lengths.push(length),
        (Ok(_), Err(error)) => lengths = Err(error),
        (Err(_), _) => {}
    })?;
    Ok(lengths?.into_iter().map(Dynamic::from_int).collect())
}

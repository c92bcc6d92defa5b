//! The runner: questions in order, some of them decoded together; an image is encoded once and prefilled once for
//! the questions about it that follow each other. A question whose picture cannot be opened is left out and counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use super::answers::Answer;
use super::asker::Examination;
use super::benchmark::Benchmark;
use super::contents::Contents;
use super::counts::first;
use super::item::Item;
use super::journal::{Done, Journal, Planned};
use super::result_file::{Facts, Shard};
use super::results::Results;
use super::row::Row;
use super::run_options::{Choices, Control, RunOptions};
use crate::device::device_name;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::events::Event;
use crate::vlm::Vlm;

/// Batches whose pictures are held at a time; within them an answer that ends makes room for the next question.
const CHUNK: usize = 4;
/// What listeners are told that a run counts.
const UNIT: &str = "questions";

/// Asks a model every question, greedily, and scores the answers. With `out` a run that was stopped goes on.
///
/// # Errors
/// What stops a whole batch; the first question's error when none can be asked.
pub fn run(vlm: &Vlm, benchmark: &Benchmark, options: &RunOptions) -> Result<Results> {
    check_choices(benchmark, options.choices)?;
    benchmark.check_pictures()?;
    vlm.freeze()?;
    let limited = first(benchmark.scorer.metric(), &benchmark.items, options.limit.unwrap_or(usize::MAX));
    let groups = benchmark.groups(&limited);
    let grouped: Vec<(&Item, &str)> = limited.into_iter().zip(groups.iter().map(String::as_str)).collect();
    let mut run = Run::new(vlm, benchmark, options, &grouped)?;
    run.ask()?;
    run.finish()
}

/// A run under way.
struct Run<'a> {
    benchmark: &'a Benchmark,
    options: &'a RunOptions,
    /// What listeners are told.
    task: String,
    /// What results call the model.
    model: String,
    /// The questions with their groups.
    items: Vec<(&'a Item, &'a str)>,
    facts: Facts,
    asker: Examination<'a>,
    journal: Option<Journal>,
    /// Answers that the results file held, by id.
    done: HashMap<String, Done>,
    /// All that are known so far, by id.
    answers: HashMap<&'a str, Result<Answer>>,
    start: Instant,
}

impl<'a> Run<'a> {
    /// Opens what is kept of the answers; `grouped` are the questions of all parts with their groups.
    fn new(
        vlm: &'a Vlm,
        benchmark: &'a Benchmark,
        options: &'a RunOptions,
        grouped: &[(&'a Item, &'a str)],
    ) -> Result<Self> {
        let called = options.name.clone().unwrap_or_else(|| vlm.describe());
        let (task, model) = match options.control {
            Control::Off => (benchmark.id.clone(), called),
            Control::Gray => (format!("{} (gray)", benchmark.id), format!("{called} (gray pictures)")),
        };
        let items = part(grouped.iter().copied(), options.shard);
        let facts = facts(vlm, benchmark, options, grouped, items.len())?;
        let mut contents = Contents::default();
        let open = |out: &PathBuf| {
            let planned = Planned { items: &items, all: grouped, contents: &mut contents };
            Journal::open(out, benchmark, &model, &facts, planned)
        };
        let mut journal = options.out.as_ref().map(open).transpose()?;
        let warnings = journal.iter_mut().flat_map(|journal| std::mem::take(&mut journal.told));
        warnings.for_each(|text| options.listeners.tell(&Event::Warning { text }));
        let kept = options.cache.as_ref().map(|cache| cache.open(&facts.answers_sha256)).transpose()?;
        if let Some(text) = kept.as_ref().and_then(|kept| kept.told.clone()) {
            options.listeners.tell(&Event::Warning { text });
        }
        let done = journal.as_mut().map(|journal| std::mem::take(&mut journal.done)).unwrap_or_default();
        let known = |(item, _): &(&'a Item, &str)| Some((item.id.as_str(), Ok(done.get(&item.id)?.answer.clone())));
        let answers = items.iter().filter_map(known).collect();
        let asker = Examination::new(vlm, benchmark, options, kept, contents)?;
        let start = Instant::now();
        Ok(Run { benchmark, options, task, model, items, facts, asker, journal, done, answers, start })
    }

    /// Asks what is not known yet, chunk by chunk.
    fn ask(&mut self) -> Result<()> {
        let is_new = |(item, _): &(&Item, &str)| !self.answers.contains_key(item.id.as_str());
        let pending: Vec<(&'a Item, &'a str)> = self.items.iter().copied().filter(is_new).collect();
        let (total, unit) = (self.items.len() as u64, UNIT.to_string());
        // Of a run that goes on the time of its first part is not known.
        let resumed = !self.answers.is_empty();
        let listeners = &self.options.listeners;
        listeners.tell(&Event::Start { task: self.task.clone(), done: self.answers.len() as u64, total, unit });
        let (mut sum, mut answered) = (0.0, 0u64);
        for items in pending.chunks(CHUNK * self.options.batch.max(1)) {
            if self.options.interrupt.is_set() {
                return Err(self.interrupted());
            }
            let (score, rows) = self.ask_chunk(items)?;
            (sum, answered) = (sum + score, answered + rows as u64);
            let (done, cached) = (self.answers.len() as u64, self.asker.cached as u64);
            let score = sum / answered.max(1) as f64;
            listeners.tell(&Event::Scored { task: self.task.clone(), done, total, score, cached });
        }
        self.facts.seconds = if resumed { 0.0 } else { self.start.elapsed().as_secs_f64() };
        Ok(())
    }

    /// Asks some questions; gives the sum of their scores and how many of them were answered.
    fn ask_chunk(&mut self, items: &[(&'a Item, &'a str)]) -> Result<(f64, usize)> {
        let (benchmark, model) = (self.benchmark, &self.model);
        let questions: Vec<&'a Item> = items.iter().map(|(item, _)| *item).collect();
        let batch = self
            .asker
            .answer(&questions)
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, questions[0].id))?;
        let contents = &self.asker.contents;
        let row = |(item, answer): (&(&Item, &str), &Result<Answer>)| {
            Some(benchmark.row(model, *item, answer.as_ref().ok()?, contents.of(item.0)))
        };
        let rows: Vec<Row> = items.iter().zip(&batch).filter_map(row).collect();
        if let Some(journal) = &mut self.journal {
            journal.add(&rows)?;
        }
        let is_cut = |answer: &Result<Answer>| answer.as_ref().is_err_and(|error| error.kind() == Kind::Interrupted);
        let is_stopped = batch.iter().any(is_cut);
        let whole = questions.iter().map(|item| item.id.as_str()).zip(batch).filter(|(_, answer)| !is_cut(answer));
        self.answers.extend(whole);
        if is_stopped {
            return Err(self.interrupted());
        }
        Ok((rows.iter().map(|row| row.score).sum(), rows.len()))
    }

    /// The results, in the order of the questions.
    fn finish(mut self) -> Result<Results> {
        let benchmark = self.benchmark;
        if let Some(Err(error)) = self.answers.values().find(|answer| answer.is_err())
            && self.answers.values().all(|answer| answer.is_err())
        {
            return Err(error.clone().context(format!("benchmark `{}`: no question can be asked", benchmark.id)));
        }
        self.facts.cached = self.asker.cached;
        let (total, unit, seconds) = (self.items.len() as u64, UNIT.to_string(), self.start.elapsed().as_secs_f64());
        let status = "done".to_string();
        self.options.listeners.tell(&Event::End { task: self.task, done: total, total, unit, status, seconds });
        let mut answers = self.answers;
        let answers = self.items.into_iter().filter_map(|item| Some((item, answers.remove(item.0.id.as_str())?)));
        // Of an answer that was kept, what it was about stands in its file.
        let pictures = |item: &Item| match self.done.get(&item.id) {
            Some(done) => done.pictures.clone(),
            None => self.asker.contents.of(item),
        };
        let results = Results::of_answers(benchmark, &self.model, answers, &pictures, self.facts);
        if let Some(journal) = &mut self.journal {
            journal.leave_out(&results)?;
        }
        Ok(results)
    }

    fn interrupted(&self) -> Error {
        let (done, total) = (self.answers.len(), self.items.len());
        let error = Error::new(Kind::Interrupted, format!("{done} of {total} questions were answered"));
        match &self.options.out {
            Some(out) => error.help(format!("they are in `{}`; the same run goes on from there", out.display())),
            None => error.help("with `out: \"results.jsonl\"` a run can go on from where it stopped"),
        }
    }
}

/// What holds for all answers of a run that asks `asked` of the questions in `grouped`.
fn facts(
    vlm: &Vlm,
    benchmark: &Benchmark,
    options: &RunOptions,
    grouped: &[(&Item, &str)],
    asked: usize,
) -> Result<Facts> {
    let limited: Vec<&Item> = grouped.iter().map(|(item, _)| *item).collect();
    let limit = options.limit.filter(|_| limited.len() < benchmark.items.len());
    let questions = benchmark.counts.note(benchmark.scorer.metric(), limited.len(), limit);
    let (conventions, target) = (vlm.conventions(), vlm.target());
    let mut facts = Facts {
        choices: options.choices,
        template: conventions.template.name().to_string(),
        image: conventions.aspect.name().to_string(),
        trained_template: conventions.trained_by,
        questions: questions.unwrap_or_default(),
        asked,
        shard: options.shard.filter(|(_, n)| *n > 1).map(|(k, n)| Shard::new(k, n)),
        dtype: target.dtype.as_str().to_string(),
        device: device_name(&target.device),
        baselines: benchmark.baselines_of(&limited),
        made: vlm.facts(),
        ..Facts::default()
    };
    if options.cache.is_some() || options.out.is_some() {
        facts.answers_sha256 = vlm.answers_sha256()?;
    }
    Ok(facts)
}

/// Refuses to weigh letters where no question has any.
fn check_choices(benchmark: &Benchmark, choices: Choices) -> Result<()> {
    if choices == Choices::Generate || benchmark.items.iter().any(|item| !item.gold.choices.is_empty()) {
        return Ok(());
    }
    let (id, scorer) = (&benchmark.id, benchmark.scorer.version());
    Err(error!(
        Option,
        "benchmark `{id}` (scorer `{scorer}`) has no lettered choices whose likelihood could be compared"
    )
    .help("leave out `choices: \"likelihood\"`: its answers are written by the model"))
}

/// Part `k` of `n`: whole groups, so that a picture's questions stay together.
fn part<'a>(
    items: impl Iterator<Item = (&'a Item, &'a str)>,
    shard: Option<(usize, usize)>,
) -> Vec<(&'a Item, &'a str)> {
    let Some((k, n)) = shard else { return items.collect() };
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut chosen = Vec::new();
    for (item, group) in items {
        let next = numbers.len();
        if *numbers.entry(group).or_insert(next) % n == k {
            chosen.push((item, group));
        }
    }
    chosen
}

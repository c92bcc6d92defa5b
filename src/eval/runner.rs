//! The runner: questions in order, some of them decoded together; an image is encoded once and prefilled once for
//! the questions about it that follow each other. A question whose picture cannot be opened is left out and counted.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::answers::{Answer, AnswerCache};
use super::asker::Asker;
use super::benchmark::{Benchmark, Item};
use super::contents::Contents;
use super::counts::first;
use super::journal::{Asked, Journal};
use super::result_file::{Facts, Shard};
use super::results::{Results, Row};
use crate::device::device_name;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners};
use crate::vlm::Vlm;

/// What stands in for the pictures, to see how much of a score needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The pictures themselves.
    Off,
    /// A uniform gray picture for every question.
    Gray,
}

/// How an answer comes about where a question has lettered choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choices {
    /// The model writes, and the scorer reads a letter out of it.
    #[default]
    Generate,
    /// The letter that is likeliest right after the prompt.
    Likelihood,
}

/// How to run a benchmark.
pub struct RunOptions {
    /// What tables call the model, where its parts do not say it.
    pub name: Option<String>,
    /// Questions that are decoded together.
    pub batch: usize,
    pub control: Control,
    pub choices: Choices,
    /// Answers that need not be asked for again; without, equal questions are all asked.
    pub cache: Option<AnswerCache>,
    /// A results file that grows while questions are answered; what it holds is not asked again.
    pub out: Option<PathBuf>,
    /// Questions at most, from the first on, with what the metric counts together with them.
    pub limit: Option<usize>,
    /// `(k, n)`: the k-th of n parts, from 0.
    pub shard: Option<(usize, usize)>,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
}

/// Batches whose pictures are held at a time; within them an answer that ends makes room for the next question.
const CHUNK: usize = 4;

/// Asks a model every question, greedily, and scores the answers. With `out` a run that was stopped goes on.
///
/// # Errors
/// What stops a whole batch; the first question's error when none can be asked.
pub fn run(vlm: &Vlm, benchmark: &Benchmark, options: &RunOptions) -> Result<Results> {
    check_choices(benchmark, options.choices)?;
    benchmark.check_pictures()?;
    vlm.freeze()?;
    let called = options.name.clone().unwrap_or_else(|| vlm.describe());
    let (task, model) = match options.control {
        Control::Off => (benchmark.id.clone(), called),
        Control::Gray => (format!("{} (gray)", benchmark.id), format!("{called} (gray pictures)")),
    };
    let target = vlm.target();
    let metric = benchmark.scorer.metric();
    let limited = first(metric, &benchmark.items, options.limit.unwrap_or(usize::MAX));
    let limit = options.limit.filter(|_| limited.len() < benchmark.items.len());
    let questions = benchmark.counts.note(metric, limited.len(), limit);
    let groups = benchmark.groups(&limited);
    let baselines = benchmark.baselines_of(&limited);
    let grouped: Vec<(&Item, &str)> = limited.into_iter().zip(groups.iter().map(String::as_str)).collect();
    let items = part(grouped.iter().copied(), options.shard);
    let asked_as = vlm.conventions();
    let mut facts = Facts {
        choices: options.choices,
        template: asked_as.template.name().to_string(),
        image: asked_as.aspect.name().to_string(),
        trained_template: asked_as.trained_by,
        questions: questions.unwrap_or_default(),
        asked: items.len(),
        shard: options.shard.filter(|(_, n)| *n > 1).map(|(k, n)| Shard::new(k, n)),
        dtype: target.dtype.as_str().to_string(),
        device: device_name(&target.device),
        baselines,
        made: vlm.facts(),
        ..Facts::default()
    };
    if options.cache.is_some() || options.out.is_some() {
        facts.answers_sha256 = vlm.answers_sha256()?;
    }
    let mut contents = Contents::default();
    let open = |out: &PathBuf| {
        let asked = Asked { items: &items, all: &grouped, contents: &mut contents };
        Journal::open(out, benchmark, &model, &facts, asked)
    };
    let mut journal = options.out.as_ref().map(open).transpose()?;
    let told = journal.iter_mut().flat_map(|journal| std::mem::take(&mut journal.told));
    told.for_each(|text| options.listeners.tell(&Event::Warning { text }));
    let kept = options.cache.as_ref().map(|cache| cache.open(&facts.answers_sha256)).transpose()?;
    let done = journal.as_ref().map_or_else(HashMap::new, |journal| journal.done.clone());
    let mut answers: HashMap<&str, Result<Answer>> =
        items.iter().filter_map(|(item, _)| Some((item.id.as_str(), Ok(done.get(&item.id)?.answer.clone())))).collect();
    let pending: Vec<(&Item, &str)> =
        items.iter().copied().filter(|(item, _)| !answers.contains_key(item.id.as_str())).collect();
    let resumed = !answers.is_empty();
    let (start, total, unit) = (Instant::now(), items.len() as u64, "questions".to_string());
    let listeners = &options.listeners;
    listeners.tell(&Event::Start { task: task.clone(), done: answers.len() as u64, total, unit: unit.clone() });
    let (mut score, mut answered) = (0.0, 0u64);
    let mut asker = Asker::new(vlm, benchmark, options, kept, contents)?;
    for items in pending.chunks(CHUNK * options.batch.max(1)) {
        if options.interrupt.is_set() {
            return Err(interrupted(answers.len(), total, options));
        }
        let questions: Vec<&Item> = items.iter().map(|(item, _)| *item).collect();
        let batch = asker
            .answer(&questions)
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, questions[0].id))?;
        let row = |(item, answer): (&(&Item, &str), &Result<Answer>)| {
            Some(Row::new(benchmark, &model, *item, answer.as_ref().ok()?, asker.contents.of(item.0)))
        };
        let rows: Vec<Row> = items.iter().zip(&batch).filter_map(row).collect();
        if let Some(journal) = &mut journal {
            journal.add(&rows)?;
        }
        score += rows.iter().map(|row| row.score).sum::<f64>();
        answered += rows.len() as u64;
        let is_cut = |answer: &Result<Answer>| answer.as_ref().is_err_and(|error| error.kind() == Kind::Interrupted);
        let is_stopped = batch.iter().any(is_cut);
        let whole = questions.iter().map(|item| item.id.as_str()).zip(batch).filter(|(_, answer)| !is_cut(answer));
        answers.extend(whole);
        if is_stopped {
            return Err(interrupted(answers.len(), total, options));
        }
        let (done, cached) = (answers.len() as u64, asker.cached as u64);
        let score = score / answered.max(1) as f64;
        listeners.tell(&Event::Scored { task: task.clone(), done, total, score, cached });
    }
    if let Some(Err(error)) = answers.values().find(|answer| answer.is_err())
        && answers.values().all(|answer| answer.is_err())
    {
        return Err(error.clone().context(format!("benchmark `{}`: no question can be asked", benchmark.id)));
    }
    let seconds = start.elapsed().as_secs_f64();
    // Of a run that went on the time of its first part is not known.
    facts.seconds = if resumed { 0.0 } else { seconds };
    facts.cached = asker.cached;
    listeners.tell(&Event::End { task, done: total, total, unit, status: "done".to_string(), seconds });
    let answers = items.into_iter().filter_map(|item| Some((item, answers.remove(item.0.id.as_str())?)));
    // Of an answer that was kept, what it was about stands in its file.
    let pictures = |item: &Item| match done.get(&item.id) {
        Some(done) => done.pictures.clone(),
        None => asker.contents.of(item),
    };
    let results = Results::of_answers(benchmark, &model, answers, &pictures, facts);
    if let Some(journal) = &mut journal {
        journal.leave_out(&results)?;
    }
    Ok(results)
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

fn interrupted(done: usize, total: u64, options: &RunOptions) -> Error {
    let error = Error::new(Kind::Interrupted, format!("{done} of {total} questions were answered"));
    match &options.out {
        Some(out) => error.help(format!("they are in `{}`; the same run goes on from there", out.display())),
        None => error.help("with `out: \"results.jsonl\"` a run can go on from where it stopped"),
    }
}

//! The runner: questions in batches, an image encoded once and prefilled once for its questions in a batch. A question
//! whose picture cannot be opened is left out and counted.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Instant;

use rayon::prelude::*;

use super::benchmark::{Benchmark, Item};
use super::journal::Journal;
use super::results::{Results, Row};
use crate::data::ImageSource;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners};
use crate::image::Image;
use crate::text::{IMAGE_MARKER, Turn, with_image_mark};
use crate::vlm::Vlm;
use crate::vlm::generate::{Group, Sampling, Stops, generate};

/// What stands in for the pictures, to see how much of a score needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// The pictures themselves.
    Off,
    /// A uniform gray picture for every question.
    Gray,
}

/// How to run a benchmark.
pub struct RunOptions {
    /// Questions that are decoded together.
    pub batch: usize,
    pub control: Control,
    /// A results file that grows while questions are answered; what it holds is not asked again.
    pub out: Option<PathBuf>,
    /// `(k, n)`: the k-th of n parts, from 0.
    pub shard: Option<(usize, usize)>,
    pub listeners: Listeners,
    pub interrupt: Interrupt,
}

const GRAY: [u8; 3] = [128, 128, 128];

/// Asks a model every question, greedily, and scores the answers. With `out` a run that was stopped goes on.
///
/// # Errors
/// What stops a whole batch; the first question's error when none can be asked.
pub fn run(vlm: &Vlm, benchmark: &Benchmark, options: &RunOptions) -> Result<Results> {
    vlm.freeze()?;
    let (task, model) = match options.control {
        Control::Off => (benchmark.id.clone(), vlm.describe()),
        Control::Gray => (format!("{} (gray)", benchmark.id), format!("{} (gray pictures)", vlm.describe())),
    };
    let mut journal = options.out.as_ref().map(|out| Journal::open(out, benchmark, &model)).transpose()?;
    let items = part(&benchmark.items, options.shard);
    let known = |item: &Item| journal.as_ref().and_then(|journal| journal.done.get(&item.id).cloned());
    let mut answers: HashMap<&str, Result<String>> =
        items.iter().filter_map(|item| Some((item.id.as_str(), Ok(known(item)?)))).collect();
    let pending: Vec<&Item> = items.iter().copied().filter(|item| !answers.contains_key(item.id.as_str())).collect();
    let (start, total, unit) = (Instant::now(), items.len() as u64, "questions".to_string());
    let listeners = &options.listeners;
    listeners.tell(&Event::Start { task: task.clone(), done: answers.len() as u64, total, unit: unit.clone() });
    let (mut score, mut answered) = (0.0, 0u64);
    for items in pending.chunks(options.batch.max(1)) {
        if options.interrupt.is_set() {
            return Err(interrupted(answers.len(), total, options));
        }
        let batch = answer(vlm, items, benchmark.max_new_tokens, options.control)
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, items[0].id))?;
        let row =
            |(item, answer): (&&Item, &Result<String>)| Some(Row::new(benchmark, &model, item, answer.as_ref().ok()?));
        let rows: Vec<Row> = items.iter().zip(&batch).filter_map(row).collect();
        if let Some(journal) = &mut journal {
            journal.add(&rows)?;
        }
        score += rows.iter().map(|row| row.score).sum::<f64>();
        answered += rows.len() as u64;
        answers.extend(items.iter().map(|item| item.id.as_str()).zip(batch));
        let done = answers.len() as u64;
        listeners.tell(&Event::Scored { task: task.clone(), done, total, score: score / answered.max(1) as f64 });
    }
    if let Some(Err(error)) = answers.values().find(|answer| answer.is_err())
        && answers.values().all(|answer| answer.is_err())
    {
        return Err(error.clone().context(format!("benchmark `{}`: no question can be asked", benchmark.id)));
    }
    let seconds = start.elapsed().as_secs_f64();
    listeners.tell(&Event::End { task, done: total, total, unit, status: "done".to_string(), seconds });
    let answers = items.into_iter().filter_map(|item| Some((item, answers.remove(item.id.as_str())?)));
    Ok(Results::of_answers(benchmark, &model, answers, seconds))
}

/// Part `k` of `n`: whole groups, so that a picture's questions stay together.
fn part(items: &[Item], shard: Option<(usize, usize)>) -> Vec<&Item> {
    let Some((k, n)) = shard else { return items.iter().collect() };
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut chosen = Vec::new();
    for item in items {
        let next = numbers.len();
        if *numbers.entry(item.group.as_str()).or_insert(next) % n == k {
            chosen.push(item);
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

/// Answers one batch: consecutive questions about one image form a group. Inner errors are those of single questions.
fn answer(vlm: &Vlm, items: &[&Item], max_new_tokens: usize, control: Control) -> Result<Vec<Result<String>>> {
    let images = Images::open(items, control);
    let asked: Vec<Result<(Vec<i64>, Option<usize>)>> = items
        .par_iter()
        .map(|item| {
            let image = images.of(item).context(|| format!("item `{}`", item.id))?;
            let text = if image.is_some() { with_image_mark(&item.prompt) } else { item.prompt.clone() };
            Ok((vlm.template.prompt(vlm.tokenizer(), &[Turn::human(text)])?, image))
        })
        .collect();
    let mut groups: Vec<Group> = Vec::new();
    let mut last: Option<Option<usize>> = None;
    for (prompt, image) in asked.iter().flatten() {
        match groups.last_mut() {
            Some(group) if image.is_some() && last == Some(*image) => group.prompts.push(prompt),
            _ => groups.push(Group { image: image.unwrap_or(0), prompts: vec![prompt] }),
        }
        last = Some(*image);
    }
    if groups.is_empty() {
        return Ok(asked.into_iter().map(|asked| asked.map(|_| String::new())).collect());
    }
    let features = match images.opened.is_empty() {
        true => None,
        false => {
            let features = vlm.features(&images.opened.iter().collect::<Vec<_>>(), vlm.aspect)?;
            Some(vlm.projector.project(&features)?) // (images * tokens, LLM width)
        }
    };
    let sampling = Sampling { max_new_tokens, ..Sampling::default() };
    let stops = Stops::new(&vlm.template, vlm.tokenizer(), &vlm.llm.end_ids);
    let mut outputs = generate(vlm, &groups, features.as_ref(), &sampling, &stops, &mut |_, _| true)?.into_iter();
    Ok(asked.into_iter().map(|asked| asked.map(|_| outputs.next().unwrap_or_default())).collect())
}

/// The pictures of a batch, each opened once.
struct Images {
    opened: Vec<Image>,
    /// By key: the place among the opened, or why it could not be.
    places: HashMap<String, Result<usize>>,
}

impl Images {
    fn open(items: &[&Item], control: Control) -> Self {
        let mut sources: Vec<&ImageSource> = Vec::new();
        let mut keys = HashSet::new();
        for source in items.iter().filter_map(|item| item.images.first()) {
            if keys.insert(source.key()) {
                sources.push(source);
            }
        }
        let open = |source: &&ImageSource| -> Result<Image> {
            let image = source.open()?;
            Ok(match control {
                Control::Off => image,
                Control::Gray => Image::filled(image.width, image.height, GRAY),
            })
        };
        let images: Vec<Result<Image>> = sources.par_iter().map(open).collect();
        let (mut opened, mut places) = (Vec::new(), HashMap::new());
        for (source, image) in sources.into_iter().zip(images) {
            let place = image.map(|image| {
                opened.push(image);
                opened.len() - 1
            });
            places.insert(source.key(), place);
        }
        Images { opened, places }
    }

    /// The picture a question is about. Of a video's frames it is the first, as in the reference.
    fn of(&self, item: &Item) -> Result<Option<usize>> {
        let marks = item.prompt.matches(IMAGE_MARKER).count();
        let Some(first) = item.images.first() else {
            return match marks {
                0 => Ok(None),
                _ => Err(error!(Data, "its prompt shows {marks} pictures, its row has none")),
            };
        };
        let others = item.images.iter().filter(|image| image.key() != first.key()).count();
        if marks > 1 && (others > 0 || item.images.len() < marks) {
            return Err(error!(Data, "its prompt shows {marks} pictures, one is supported"));
        }
        match self.places.get(&first.key()) {
            Some(place) => place.clone().map(Some),
            None => Ok(None),
        }
    }
}

//! The runner: questions in order, some of them decoded together; an image is encoded once and prefilled once for
//! the questions about it that follow each other. A question whose picture cannot be opened is left out and counted.

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
use crate::text::{IMAGE_MARKER, Turn, with_image_marks};
use crate::vlm::Vlm;
use crate::vlm::generate::{Answerer, Question, Sampling};

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
/// Batches whose pictures are held at a time; within them an answer that ends makes room for the next question.
const CHUNK: usize = 4;

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
    let mut answerer = Answerer::new(vlm)?;
    for items in pending.chunks(CHUNK * options.batch.max(1)) {
        if options.interrupt.is_set() {
            return Err(interrupted(answers.len(), total, options));
        }
        let batch = answer(&mut answerer, vlm, items, benchmark.max_new_tokens, options)
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, items[0].id))?;
        // Answers may have been cut short.
        if options.interrupt.is_set() {
            return Err(interrupted(answers.len(), total, options));
        }
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

/// Answers some questions. Inner errors are those of single questions.
fn answer(
    answerer: &mut Answerer,
    vlm: &Vlm,
    items: &[&Item],
    max_new_tokens: usize,
    options: &RunOptions,
) -> Result<Vec<Result<String>>> {
    let pictures = Pictures::open(items, options.control);
    let asked: Vec<Result<Question>> =
        items.par_iter().map(|item| question(vlm, item, &pictures).context(|| format!("item `{}`", item.id))).collect();
    let places: Vec<usize> = (0..items.len()).filter(|&place| asked[place].is_ok()).collect();
    let mut errors: Vec<Option<Error>> = Vec::with_capacity(items.len());
    let mut questions = Vec::with_capacity(places.len());
    for asked in asked {
        match asked {
            Ok(question) => {
                questions.push(question);
                errors.push(None);
            }
            Err(error) => errors.push(Some(error)),
        }
    }
    let open = |question: usize, image: usize| pictures.get(&items[places[question]].images[image]);
    let sampling = Sampling { max_new_tokens, ..Sampling::default() };
    let batch = options.batch.max(1);
    let hear = &mut |_: usize, _: &str| !options.interrupt.is_set();
    let mut answers = answerer.answer(&questions, &open, (&sampling, batch), hear)?.into_iter();
    Ok(errors.into_iter().map(|error| error.map_or_else(|| Ok(answers.next().unwrap_or_default()), Err)).collect())
}

/// A question as the model is asked.
fn question(vlm: &Vlm, item: &Item, pictures: &Pictures) -> Result<Question> {
    let marks = item.prompt.matches(IMAGE_MARKER).count();
    if item.images.len() < marks {
        return Err(error!(Data, "its prompt shows {marks} pictures, its row has {}", item.images.len()));
    }
    let images = shown(item);
    for source in images {
        pictures.get(source)?;
    }
    let text = with_image_marks(&item.prompt, images.len());
    let ids = vlm.template.prompt(vlm.tokenizer()?, &[Turn::human(text)])?;
    Ok(Question { ids, images: images.iter().map(|source| source.key()).collect() })
}

/// The pictures a prompt shows: one per mark. Without marks a question is about its first picture: of a video's
/// frames, as in the reference.
fn shown(item: &Item) -> &[ImageSource] {
    let marks = item.prompt.matches(IMAGE_MARKER).count();
    &item.images[..marks.max(1).min(item.images.len())]
}

/// The pictures of some questions, each opened once.
struct Pictures(HashMap<String, Result<Image>>);

impl Pictures {
    fn open(items: &[&Item], control: Control) -> Self {
        let mut keys = HashSet::new();
        let sources: Vec<&ImageSource> =
            items.iter().flat_map(|item| shown(item)).filter(|source| keys.insert(source.key())).collect();
        let open = |source: &&ImageSource| -> Result<Image> {
            let image = source.open()?;
            Ok(match control {
                Control::Off => image,
                Control::Gray => Image::filled(image.width, image.height, GRAY),
            })
        };
        Pictures(sources.par_iter().map(|source| (source.key(), open(source))).collect())
    }

    fn get(&self, source: &ImageSource) -> Result<Image> {
        match self.0.get(&source.key()) {
            Some(image) => image.clone(),
            None => source.open(),
        }
    }
}

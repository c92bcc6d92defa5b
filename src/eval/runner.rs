//! The runner: questions in order, some of them decoded together; an image is encoded once and prefilled once for
//! the questions about it that follow each other.

use std::time::Instant;

use rayon::prelude::*;

use super::benchmark::{Benchmark, Item};
use super::results::Results;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners};
use crate::image::Image;
use crate::text::{Turn, with_image_marks};
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
    pub listeners: Listeners,
    pub interrupt: Interrupt,
}

const GRAY: [u8; 3] = [128, 128, 128];
/// Batches whose pictures are held at a time; within them an answer that ends makes room for the next question.
const CHUNK: usize = 4;

/// Asks a model every question, greedily, and scores the answers.
pub fn run(vlm: &Vlm, benchmark: &Benchmark, options: &RunOptions) -> Result<Results> {
    vlm.freeze()?;
    let (start, total) = (Instant::now(), benchmark.items.len() as u64);
    let task = match options.control {
        Control::Off => benchmark.id.clone(),
        Control::Gray => format!("{} (gray)", benchmark.id),
    };
    let (unit, listeners) = ("questions".to_string(), &options.listeners);
    listeners.tell(&Event::Start { task: task.clone(), done: 0, total, unit: unit.clone() });
    let mut outputs: Vec<String> = Vec::with_capacity(benchmark.items.len());
    let mut score = 0.0;
    let mut answerer = Answerer::new(vlm)?;
    let sampling = Sampling { max_new_tokens: benchmark.max_new_tokens, ..Sampling::default() };
    let batch = options.batch.max(1);
    for items in benchmark.items.chunks(CHUNK * batch) {
        let questions = items.par_iter().map(|item| question(vlm, item)).collect::<Result<Vec<_>>>()?;
        let open = |item: usize, _| open(&items[item], options.control);
        let answers = answerer
            .answer(&questions, &open, (&sampling, batch), &mut |_, _| !options.interrupt.is_set())
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, items[0].id))?;
        if options.interrupt.is_set() {
            return Err(Error::new(Kind::Interrupted, format!("{} of {total} questions were answered", outputs.len())));
        }
        score += items.iter().zip(&answers).map(|(i, a)| benchmark.scorer.score(a, &i.answer).score).sum::<f64>();
        outputs.extend(answers);
        let done = outputs.len() as u64;
        listeners.tell(&Event::Scored { task: task.clone(), done, total, score: score / done as f64 });
    }
    let seconds = start.elapsed().as_secs_f64();
    listeners.tell(&Event::End { task, done: total, total, unit, status: "done".to_string(), seconds });
    Results::score_outputs(benchmark, &vlm.describe(), &outputs, seconds)
}

/// An item as the model is asked.
fn question(vlm: &Vlm, item: &Item) -> Result<Question> {
    let images: Vec<String> = item.image.iter().map(|image| image.key()).collect();
    let text = with_image_marks(&item.prompt, images.len());
    Ok(Question { ids: vlm.template.prompt(vlm.tokenizer()?, &[Turn::human(text)])?, images })
}

/// The picture of an item, or what stands in for it.
fn open(item: &Item, control: Control) -> Result<Image> {
    let Some(source) = &item.image else { return Err(error!(Data, "item `{}` has no image", item.id)) };
    let image = source.open().context(|| format!("item `{}`", item.id))?;
    Ok(match control {
        Control::Off => image,
        Control::Gray => Image::filled(image.width, image.height, GRAY),
    })
}

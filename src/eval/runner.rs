//! The runner: questions in batches, an image encoded once and prefilled once for its questions in a batch.

use std::collections::HashMap;
use std::time::Instant;

use rayon::prelude::*;

use super::benchmark::{Benchmark, Item};
use super::results::Results;
use crate::error;
use crate::error::{Context, Error, Kind, Result};
use crate::events::{Event, Interrupt, Listeners};
use crate::image::Image;
use crate::text::{Turn, with_image_mark};
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
    pub listeners: Listeners,
    pub interrupt: Interrupt,
}

const GRAY: [u8; 3] = [128, 128, 128];

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
    for items in benchmark.items.chunks(options.batch.max(1)) {
        if options.interrupt.is_set() {
            return Err(Error::new(Kind::Interrupted, format!("{} of {total} questions were answered", outputs.len())));
        }
        let answers = answer(vlm, items, benchmark.max_new_tokens, options.control)
            .context(|| format!("benchmark `{}`, questions from `{}`", benchmark.id, items[0].id))?;
        score += items.iter().zip(&answers).map(|(i, a)| benchmark.scorer.score(a, &i.answer).score).sum::<f64>();
        outputs.extend(answers);
        let done = outputs.len() as u64;
        listeners.tell(&Event::Scored { task: task.clone(), done, total, score: score / done as f64 });
    }
    let seconds = start.elapsed().as_secs_f64();
    listeners.tell(&Event::End { task, done: total, total, unit, status: "done".to_string(), seconds });
    Results::score_outputs(benchmark, &vlm.describe(), &outputs, seconds)
}

/// Answers one batch: consecutive questions about one image form a group.
fn answer(vlm: &Vlm, items: &[Item], max_new_tokens: usize, control: Control) -> Result<Vec<String>> {
    let prompts: Vec<Vec<i64>> = items
        .par_iter()
        .map(|item| {
            let text = if item.image.is_some() { with_image_mark(&item.prompt) } else { item.prompt.clone() };
            vlm.template.prompt(vlm.tokenizer()?, &[Turn::human(text)])
        })
        .collect::<Result<_>>()?;
    let mut groups: Vec<Group> = Vec::new();
    let mut images: Vec<&Item> = Vec::new();
    let mut rows: HashMap<String, usize> = HashMap::new();
    let mut last: Option<String> = None;
    for (item, prompt) in items.iter().zip(&prompts) {
        let key = item.image.as_ref().map(|image| image.key());
        let row = match &key {
            Some(key) => *rows.entry(key.clone()).or_insert_with(|| {
                images.push(item);
                images.len() - 1
            }),
            None => 0,
        };
        match groups.last_mut() {
            Some(group) if key.is_some() && last == key => group.prompts.push(prompt),
            _ => groups.push(Group { image: row, prompts: vec![prompt] }),
        }
        last = key;
    }
    let features = match images.is_empty() {
        true => None,
        false => Some(encode(vlm, &images, control)?),
    };
    let sampling = Sampling { max_new_tokens, ..Sampling::default() };
    let stops = Stops::new(&vlm.template, vlm.tokenizer()?, &vlm.llm.end_ids);
    generate(vlm, &groups, features.as_ref(), &sampling, &stops, &mut |_, _| true)
}

/// Projected features of the items' images, (images * tokens, LLM width).
fn encode(vlm: &Vlm, items: &[&Item], control: Control) -> Result<candle_core::Tensor> {
    let open = |item: &&Item| -> Result<Image> {
        let Some(source) = &item.image else { return Err(error!(Data, "item `{}` has no image", item.id)) };
        let image = source.open().context(|| format!("item `{}`", item.id))?;
        Ok(match control {
            Control::Off => image,
            Control::Gray => Image::filled(image.width, image.height, GRAY),
        })
    };
    let images = items.par_iter().map(open).collect::<Result<Vec<_>>>()?;
    let features = vlm.features(&images.iter().collect::<Vec<_>>(), vlm.aspect)?;
    vlm.projector.project(&features)
}

//! How long the samples of a run are, and which micro-batch is the longest.

use super::dry::positions_of;
use super::step::Stepper;
use crate::error::Result;
use crate::text::{IGNORE, IMAGE_ID};

/// Samples that are rendered to learn how long samples are.
const RENDERED: usize = 256;
/// Samples of steps that are looked through for the longest micro-batch.
const LOOKED_AT: usize = 4_000_000;
/// Micro-batches that are rendered to find the longest.
const CANDIDATES: usize = 8;

/// How long samples are.
pub(super) struct Lengths {
    /// Estimated positions of every sample.
    each: Vec<u32>,
    pub positions: f64,
    pub tokens: f64,
    pub images: usize,
}

/// Renders some samples and takes the words of the others for their lengths.
pub(super) fn lengths(stepper: &Stepper) -> Result<Lengths> {
    let count = stepper.dataset().len();
    let every = count.div_ceil(RENDERED);
    let chosen: Vec<usize> = (0..count).step_by(every).collect();
    let briefs = stepper.dataset().briefs()?;
    let per_image = stepper.vlm().image_tokens();
    let (mut positions, mut tokens, mut texts, mut words, mut bytes) = (0, 0, 0, 0, 0);
    for (&index, (_, rendered)) in chosen.iter().zip(stepper.loader.render(&chosen)?) {
        let images = rendered.ids.iter().filter(|&&id| id == IMAGE_ID).count();
        let text = rendered.ids.len() - images;
        positions += (text + images * per_image).min(stepper.limit);
        tokens += rendered.labels.iter().take(stepper.limit).filter(|&&label| label != IGNORE).count();
        texts += text;
        words += briefs[index].words as usize;
        bytes += briefs[index].bytes();
    }
    let (per_word, per_byte) = (texts as f64 / words.max(1) as f64, texts as f64 / bytes.max(1) as f64);
    let length = |brief: &crate::data::Brief| {
        let images = usize::from(brief.images) * per_image;
        // A text without spaces is one word, however long.
        let text = (f64::from(brief.words) * per_word).max(brief.bytes() as f64 * per_byte);
        (text as usize + images).min(stepper.limit) as u32
    };
    Ok(Lengths {
        each: briefs.iter().map(length).collect(),
        positions: positions as f64 / chosen.len() as f64,
        tokens: tokens as f64 / chosen.len() as f64,
        images: briefs.iter().map(|brief| usize::from(brief.images)).sum(),
    })
}

/// The micro-batch with the most positions: of those that are longest by the estimated lengths, the one that is when
/// it is rendered.
pub(super) fn longest(stepper: &Stepper, lengths: &Lengths) -> Result<Vec<usize>> {
    let steps = stepper.steps().min((LOOKED_AT / stepper.options.batch.max(1)) as u64).max(1);
    let length = |micro: &[usize]| micro.iter().map(|&index| u64::from(lengths.each[index])).sum::<u64>();
    let mut candidates: Vec<(u64, Vec<usize>)> = Vec::new();
    for micro in (0..steps).flat_map(|step| stepper.sampler.micro_batches(step)) {
        let length = length(&micro);
        let place = candidates.partition_point(|(known, _)| *known >= length);
        if place < CANDIDATES {
            candidates.insert(place, (length, micro));
            candidates.truncate(CANDIDATES);
        }
    }
    let mut longest = (0, Vec::new());
    for (_, micro) in candidates {
        let positions = positions_of(stepper, &stepper.loader, &micro)?;
        if positions > longest.0 || longest.1.is_empty() {
            longest = (positions, micro);
        }
    }
    Ok(longest.1)
}

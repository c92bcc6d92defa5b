//! Generation: prompts in groups that share a prefix (all questions about one image), a key/value cache, greedy
//! or sampled decoding. The prefix of a group is computed once; decoding is in lock-step over all prompts.

use candle_core::{DType, Tensor};

use super::splice::embed;
use super::{Llm, Vlm};
use crate::bail;
use crate::error::Result;
use crate::nn::cache::{Cache, Slot, append};
use crate::rng::Rng;
use crate::text::{IMAGE_ID, Template, Tokenizer};

/// How to choose the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// The smallest set of tokens with at least this probability.
    pub top_p: f64,
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { max_new_tokens: 128, temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// Prompts about one image (or none): ids as `Template::prompt` gives them.
pub struct Group<'a> {
    /// The image's row in the features.
    pub image: usize,
    pub prompts: Vec<&'a [i64]>,
}

/// What ends an answer: ids, and plain texts such as the newline of `tiny`.
pub struct Stops {
    pub ids: Vec<u32>,
    pub texts: Vec<String>,
}

impl Stops {
    /// What ends an answer in a template, and what ends a text for the LLM.
    pub fn new(template: &Template, tokenizer: &Tokenizer, end_ids: &[u32]) -> Self {
        let mut ids = template.stop_ids(tokenizer);
        ids.extend(end_ids);
        Stops { ids, texts: template.stop_texts().to_vec() }
    }
}

/// One prompt on its way.
struct Stream {
    slot: Slot,
    ids: Vec<u32>,
    text: String,
    done: bool,
}

/// Answers all prompts, group by group in order. `projected` are (images * tokens, LLM width). `hear` gets the
/// index of a prompt and its text so far, after every token; returning `false` stops.
pub fn generate(
    vlm: &Vlm,
    groups: &[Group],
    projected: Option<&Tensor>,
    sampling: &Sampling,
    stops: &Stops,
    hear: &mut dyn FnMut(usize, &str) -> bool,
) -> Result<Vec<String>> {
    let (mut streams, cache, mut logits) = prefill(vlm, groups, projected, sampling)?;
    let mut active: Vec<usize> = (0..streams.len()).collect();
    for step in 0..sampling.max_new_tokens {
        let picks = pick(&logits, &active, step, sampling)?;
        for (&index, id) in active.iter().zip(picks) {
            let stream = &mut streams[index];
            stream.take(id, stops, vlm.tokenizer()?)?;
            if !hear(index, &stream.text) {
                return Ok(streams.into_iter().map(|stream| stream.text).collect());
            }
        }
        active.retain(|&index| !streams[index].done);
        if active.is_empty() || step + 1 == sampling.max_new_tokens {
            break;
        }
        let ids = active.iter().filter_map(|&index| streams[index].ids.last().copied()).collect();
        let embeds = vlm.llm.model.embed(&ids)?; // (active, width)
        let mut slots: Vec<&mut Slot> =
            streams.iter_mut().filter(|stream| !stream.done).map(|stream| &mut stream.slot).collect();
        let packing = append(&mut slots, &vec![1; active.len()])?;
        let hidden = vlm.llm.model.hidden(&embeds, &packing, Some(&cache))?;
        logits = vlm.llm.model.logits(&hidden)?; // (active, vocab)
    }
    Ok(streams.into_iter().map(|stream| stream.text).collect())
}

/// Continues a plain text with an LLM alone: the tokenizer's own BOS rule, no template; the new text only.
pub fn complete(llm: &Llm, text: &str, sampling: &Sampling) -> Result<String> {
    llm.ready()?;
    llm.params.set_trainable(false)?;
    let prompt = llm.tokenizer()?.encode(text)?;
    if prompt.is_empty() || prompt.len() + sampling.max_new_tokens > llm.context() {
        bail!(
            Data,
            "a text of {} tokens and {} new ones do not fit the context of {} of LLM `{}`",
            prompt.len(),
            sampling.max_new_tokens,
            llm.context(),
            llm.id
        );
    }
    let mut cache = llm.model.cache(prompt.len() + sampling.max_new_tokens)?;
    let mut slot = cache.slot(prompt.len() + sampling.max_new_tokens, None)?;
    let (mut next, mut made): (Vec<u32>, Vec<u32>) = (prompt, Vec::new());
    for step in 0..sampling.max_new_tokens {
        let packing = append(&mut [&mut slot], &[next.len()])?;
        let hidden = llm.model.hidden(&llm.model.embed(&next.into())?, &packing, Some(&cache))?;
        let Some(id) = pick(&llm.model.logits(&hidden)?, &[0], step, sampling)?.first().copied() else { break };
        if llm.end_ids.contains(&id) {
            break;
        }
        made.push(id);
        next = vec![id];
    }
    llm.tokenizer()?.decode(&made)
}

/// Runs prefixes, then what is left of every prompt; gives the logits of each prompt's last position.
fn prefill(
    vlm: &Vlm,
    groups: &[Group],
    projected: Option<&Tensor>,
    sampling: &Sampling,
) -> Result<(Vec<Stream>, Cache, Tensor)> {
    let prefixes: Vec<usize> = groups.iter().map(shared_prefix).collect();
    let spliced = |ids: &[i64]| {
        let images = ids.iter().filter(|&&id| id == IMAGE_ID).count();
        ids.len() + images * (vlm.image_tokens() - 1)
    };
    let mut capacity = 0;
    for (group, &prefix) in groups.iter().zip(&prefixes) {
        for prompt in &group.prompts {
            let length = spliced(prompt);
            if length + sampling.max_new_tokens > vlm.llm.context() {
                bail!(
                    Data,
                    "a prompt of {length} positions and {} new tokens do not fit the context of {} of LLM `{}`",
                    sampling.max_new_tokens,
                    vlm.llm.context(),
                    vlm.llm.id
                );
            }
            capacity += spliced(&prompt[prefix..]) + sampling.max_new_tokens;
        }
        capacity += group.prompts.first().map_or(0, |prompt| spliced(&prompt[..prefix]));
    }
    let mut cache = vlm.llm.model.cache(capacity)?;

    let shared: Vec<(&[i64], usize)> = groups
        .iter()
        .zip(&prefixes)
        .filter_map(|(group, &prefix)| Some((&group.prompts.first()?[..prefix], group.image)))
        .collect();
    let mut prefix_slots = Vec::with_capacity(shared.len());
    for ((ids, _), group) in shared.iter().zip(groups.iter().filter(|group| !group.prompts.is_empty())) {
        let longest = group.prompts.iter().map(|prompt| spliced(prompt)).max().unwrap_or(0);
        prefix_slots.push(cache.slot(spliced(ids), None)?.planned(longest + sampling.max_new_tokens));
    }
    let lengths: Vec<usize> = shared.iter().map(|(ids, _)| spliced(ids)).collect();
    let filled: Vec<(&[i64], usize)> = shared.iter().copied().filter(|(ids, _)| !ids.is_empty()).collect();
    if !filled.is_empty() {
        let embeds = embed(vlm, &filled, projected)?;
        let mut slots: Vec<&mut Slot> = Vec::new();
        let mut used = Vec::new();
        for (slot, &length) in prefix_slots.iter_mut().zip(&lengths).filter(|(_, length)| **length > 0) {
            slots.push(slot);
            used.push(length);
        }
        let packing = append(&mut slots, &used)?;
        vlm.llm.model.hidden(&embeds, &packing, Some(&cache))?;
    }

    let mut streams = Vec::new();
    let mut rest: Vec<(&[i64], usize)> = Vec::new();
    for ((group, &prefix), slot) in groups.iter().zip(&prefixes).zip(&prefix_slots) {
        for prompt in &group.prompts {
            rest.push((&prompt[prefix..], group.image));
            let slot = cache.slot(spliced(&prompt[prefix..]) + sampling.max_new_tokens, Some(slot))?;
            streams.push(Stream { slot, ids: Vec::new(), text: String::new(), done: false });
        }
    }
    let embeds = embed(vlm, &rest, projected)?;
    let lengths: Vec<usize> = rest.iter().map(|(ids, _)| spliced(ids)).collect();
    let mut slots: Vec<&mut Slot> = streams.iter_mut().map(|stream| &mut stream.slot).collect();
    let packing = append(&mut slots, &lengths)?;
    let hidden = vlm.llm.model.hidden(&embeds, &packing, Some(&cache))?; // (prompts, width)
    let logits = vlm.llm.model.logits(&hidden)?;
    Ok((streams, cache, logits))
}

/// How many leading ids all prompts of a group share; at least one id of each prompt is left over.
fn shared_prefix(group: &Group) -> usize {
    let Some((first, others)) = group.prompts.split_first() else { return 0 };
    if others.is_empty() {
        return 0;
    }
    let mut length = first.len().saturating_sub(1);
    for prompt in others {
        let common = first.iter().zip(prompt.iter()).take_while(|(a, b)| a == b).count();
        length = length.min(common).min(prompt.len().saturating_sub(1));
    }
    length
}

impl Stream {
    fn take(&mut self, id: u32, stops: &Stops, tokenizer: &Tokenizer) -> Result<()> {
        if stops.ids.contains(&id) {
            self.done = true;
            return Ok(());
        }
        self.ids.push(id);
        self.text = tokenizer.decode(&self.ids)?;
        if let Some(end) = stops.texts.iter().filter_map(|stop| self.text.find(stop.as_str())).min() {
            self.text.truncate(end);
            self.done = true;
        }
        Ok(())
    }
}

/// Chooses one id per row of `logits` (active, vocab); a draw depends on (seed, prompt, step) alone.
fn pick(logits: &Tensor, active: &[usize], step: usize, sampling: &Sampling) -> Result<Vec<u32>> {
    if sampling.temperature <= 0.0 {
        return Ok(logits.argmax(candle_core::D::Minus1)?.to_vec1::<u32>()?);
    }
    let rows = logits.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let draw = |index: usize| Rng::new(sampling.seed, "sampling").split(index as u64).uniform(step as u64);
    Ok(rows.iter().zip(active).map(|(row, &index)| sample(row, sampling, draw(index))).collect())
}

/// Draws from the nucleus of a row with `draw` in [0, 1).
fn sample(row: &[f32], sampling: &Sampling, draw: f64) -> u32 {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<(usize, f64)> = row
        .iter()
        .enumerate()
        .map(|(id, &logit)| (id, (f64::from(logit - highest) / sampling.temperature).exp()))
        .collect();
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut kept = 0.0;
    let nucleus = weights
        .iter()
        .take_while(|(_, weight)| {
            let wanted = kept < sampling.top_p * total;
            kept += weight;
            wanted
        })
        .count()
        .max(1);
    weights.truncate(nucleus);
    let mut left = draw * weights.iter().map(|(_, weight)| weight).sum::<f64>();
    for &(id, weight) in &weights {
        left -= weight;
        if left < 0.0 {
            return id as u32;
        }
    }
    weights[0].0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nucleus_keeps_the_likely_tokens_only() {
        let row = [0.0f32, 2.0, 1.0]; // probabilities 0.09, 0.665, 0.245
        let sampling = Sampling { temperature: 1.0, top_p: 0.7, ..Sampling::default() };
        assert_eq!(sample(&row, &sampling, 0.0), 1);
        assert_eq!(sample(&row, &sampling, 0.99), 2);
        let greedy = Sampling { top_p: 0.5, ..sampling };
        assert_eq!(sample(&row, &greedy, 0.99), 1);
    }

    #[test]
    fn prompts_share_their_longest_prefix_but_keep_one_id() {
        let group = |prompts: Vec<&'static [i64]>| shared_prefix(&Group { image: 0, prompts });
        assert_eq!(group(vec![&[1, -200, 5, 6], &[1, -200, 5, 7, 8]]), 3);
        assert_eq!(group(vec![&[1, 2], &[1, 2]]), 1);
        assert_eq!(group(vec![&[1, 2, 3]]), 0);
    }
}

//! How likely given texts are as answers: log-probabilities of their tokens after a prompt. The first tokens of all of
//! them are read from one row of logits, so that a choice among letters costs one pass of the prompt.

use super::{Generator, Piece, Settings, Stream};
use crate::bail;
use crate::error::Result;
use crate::vlm::generate::prompt::rows;

impl Generator {
    /// The mean log-probability per token of every continuation of every prompt; nothing for the prompts that are left
    /// when `on` says no. Prompts know nothing of each other, `settings.batch` of them are in the cache at a time.
    ///
    /// # Errors
    /// `Data` when a prompt and a continuation do not fit the context or a continuation is empty.
    pub fn likelihoods(
        &mut self,
        prompts: &[Vec<Piece>],
        continuations: &[Vec<Vec<u32>>],
        settings: &Settings,
        on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        if continuations.len() != prompts.len() || continuations.iter().flatten().any(Vec::is_empty) {
            bail!(Data, "{} prompts have {} lists of continuations", prompts.len(), continuations.len());
        }
        let longest = continuations.iter().flatten().map(Vec::len).max().unwrap_or(1);
        self.check(prompts, longest)?;
        let likelihoods = self.weigh(prompts, continuations, settings, on);
        self.tidy(likelihoods.is_ok())?;
        likelihoods
    }

    fn weigh(
        &mut self,
        prompts: &[Vec<Piece>],
        continuations: &[Vec<Vec<u32>>],
        settings: &Settings,
        on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        let (llm, batch) = (self.llm.clone(), settings.batch.max(1));
        let mut all = vec![Vec::new(); prompts.len()];
        for first in (0..prompts.len()).step_by(batch) {
            if !on() {
                break;
            }
            let mut streams: Vec<Stream> = Vec::new();
            self.admit(&llm, prompts, first..prompts.len().min(first + batch), settings, &mut streams)?;
            let mut rest = streams.as_mut_slice();
            for size in self.passes.split(rest, |stream| rows(&stream.pending)) {
                let (pass, after) = rest.split_at_mut(size);
                rest = after;
                if !on() {
                    break;
                }
                let logits = self.pass(pass)?;
                for (stream, logits) in pass.iter_mut().zip(&logits) {
                    all[stream.index] = self.continued(stream, logits, &continuations[stream.index])?;
                }
            }
            for stream in streams {
                self.cache.free(stream.slot);
            }
            self.sweep();
        }
        Ok(all)
    }

    /// The continuations of one prompt, whose last row gave `logits` (vocab).
    fn continued(&mut self, stream: &mut Stream, logits: &[f32], continuations: &[Vec<u32>]) -> Result<Vec<f64>> {
        let (prompt, first) = (stream.slot.len(), LogSoftmax::new(logits)?);
        let mut likelihoods = Vec::with_capacity(continuations.len());
        for ids in continuations {
            // The last id does not go through the LLM.
            let length = prompt + ids.len() - 1;
            let sum = match length > stream.slot.plan() {
                true => self.anew(stream, ids, length)?,
                false => first.of(ids[0])? + self.rest(stream, ids)?,
            };
            stream.slot.truncate(prompt);
            likelihoods.push(sum / ids.len() as f64);
        }
        Ok(likelihoods)
    }

    /// The log-probability of all ids, of a sequence that is rotated otherwise than its prompt alone.
    fn anew(&mut self, stream: &mut Stream, ids: &[u32], length: usize) -> Result<f64> {
        let slot = self.cache.slot(0, None)?.planned(self.plan(length));
        let kept = std::mem::replace(&mut stream.slot, slot);
        stream.pending = stream.prompt.to_vec();
        let mut sum = 0.0;
        for logits in self.pass(std::slice::from_mut(stream))? {
            sum += LogSoftmax::new(&logits)?.of(ids[0])?;
        }
        sum += self.rest(stream, ids)?;
        self.cache.free(std::mem::replace(&mut stream.slot, kept));
        Ok(sum)
    }

    /// The log-probability of all ids but the first.
    fn rest(&mut self, stream: &mut Stream, ids: &[u32]) -> Result<f64> {
        let mut sum = 0.0;
        for pair in ids.windows(2) {
            stream.pending = vec![Piece::Token(pair[0])];
            for logits in self.pass(std::slice::from_mut(stream))? {
                sum += LogSoftmax::new(&logits)?.of(pair[1])?;
            }
        }
        Ok(sum)
    }
}

/// Log-probabilities of tokens, in f64.
struct LogSoftmax<'a> {
    logits: &'a [f32],
    total: f64,
}

impl<'a> LogSoftmax<'a> {
    fn new(logits: &'a [f32]) -> Result<Self> {
        if logits.iter().any(|logit| logit.is_nan()) {
            bail!(Tensor, "the LLM gives logits that are not numbers");
        }
        let highest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - highest).exp()).sum();
        Ok(LogSoftmax { logits, total: highest + sum.ln() })
    }

    fn of(&self, id: u32) -> Result<f64> {
        match self.logits.get(id as usize) {
            Some(&logit) => Ok(f64::from(logit) - self.total),
            None => bail!(Data, "token id {id} is outside the vocabulary of {}", self.logits.len()),
        }
    }
}

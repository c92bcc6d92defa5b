//! How likely given texts are as answers: log-probabilities of their tokens after a prompt. The first tokens of all of
//! them are read from one row of logits, so that a choice among letters costs one pass of the prompt.

use std::collections::VecDeque;

use crate::bail;
use crate::error::Result;

/// The continuations of one prompt, weighed one after the other.
pub(super) struct Weighing {
    continuations: Vec<Vec<u32>>,
    /// The log-probability of every first token, once it is known.
    first: Vec<Option<f64>>,
    /// The sum over the tokens after the first.
    rest: Vec<f64>,
    /// Those with a known first token and others to follow.
    queue: VecDeque<usize>,
    /// The continuation on its way, and the place of the token that the next logits are about.
    at: Option<(usize, usize)>,
}

/// What goes through the LLM next.
pub(super) enum Next {
    /// A token after all that went through before.
    Token(u32),
    /// A token right after the prompt.
    AfterPrompt(u32),
    /// The prompt, rotated for a longer sequence.
    Anew,
    /// Nothing: the mean log-probability per token of every continuation.
    Done(Vec<f64>),
}

impl Weighing {
    pub fn new(continuations: Vec<Vec<u32>>) -> Self {
        let count = continuations.len();
        Weighing { continuations, first: vec![None; count], rest: vec![0.0; count], queue: VecDeque::new(), at: None }
    }

    /// The longest sequence that goes through the LLM before the prompt does again. The last token never does.
    pub fn reach(&self, prompt: usize) -> usize {
        let open = || (0..self.first.len()).filter(|&place| self.first[place].is_none());
        match self.at {
            Some((place, _)) => self.length(prompt, place),
            None => open().map(|place| self.length(prompt, place)).min().unwrap_or(prompt),
        }
    }

    fn length(&self, prompt: usize, place: usize) -> usize {
        prompt + self.continuations[place].len() - 1
    }

    /// Takes the logits (vocab) of what went through last, behind a prompt of `prompt` positions in a sequence that
    /// was rotated for `planned` at most.
    pub fn receive(&mut self, logits: &[f32], prompt: usize, planned: usize) -> Result<Next> {
        let logits = LogSoftmax::new(logits)?;
        match self.at.take() {
            None => {
                for place in 0..self.continuations.len() {
                    if self.first[place].is_none() && self.length(prompt, place) <= planned {
                        let ids = &self.continuations[place];
                        self.first[place] = Some(logits.of(ids[0])?);
                        self.queue.extend((ids.len() > 1).then_some(place));
                    }
                }
            }
            Some((place, token)) => {
                let ids = &self.continuations[place];
                self.rest[place] += logits.of(ids[token])?;
                if token + 1 < ids.len() {
                    self.at = Some((place, token + 1));
                    return Ok(Next::Token(ids[token]));
                }
            }
        }
        if let Some(place) = self.queue.pop_front() {
            self.at = Some((place, 1));
            return Ok(Next::AfterPrompt(self.continuations[place][0]));
        }
        let parts = self.first.iter().zip(&self.rest).zip(&self.continuations);
        let means = parts.map(|((first, rest), ids)| first.map(|first| (first + rest) / ids.len() as f64));
        Ok(means.collect::<Option<Vec<f64>>>().map_or(Next::Anew, Next::Done))
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

//! One request while it runs: where its rows are in the cache, what goes through the LLM next, and what the logits
//! that come back mean for it.

use std::sync::Arc;

use super::Sampling;
use super::likelihood::{Next, Weighing};
use super::prompt::{Piece, Prefix, rows};
use super::request::{Finish, Growth, Outcome, Request, RequestKind, Ticket};
use super::transcript::Transcript;
use crate::error::{Error, Result};
use crate::nn::cache::Slot;
use crate::vlm::Llm;

/// A request on its way.
pub(super) struct Stream {
    pub ticket: Ticket,
    pub prompt: Vec<Piece>,
    /// Nothing before it was begun.
    pub slot: Option<Slot>,
    /// Held so that its rows are not handed out.
    pub prefix: Option<Arc<Prefix>>,
    /// What goes through the LLM next.
    pub pending: Vec<Piece>,
    /// Whether that is a prompt, or more than what comes after it.
    pub starts: bool,
    /// The pass of this round that it takes part in.
    pub turn: Option<usize>,
    /// New tokens at most.
    pub longest: usize,
    pub stays: bool,
    work: Work,
    /// New tokens so far.
    made: Vec<u32>,
    ended: Option<std::result::Result<Finish, Error>>,
}

enum Work {
    Answer { sampling: Sampling, number: u64, transcript: Transcript },
    Weigh { weighing: Weighing, likelihoods: Vec<f64> },
}

impl Stream {
    pub fn new(ticket: Ticket, prompt: Vec<Piece>, request: Request) -> Self {
        let (longest, stays) = (request.longest(), request.stays);
        let work = match request.kind {
            RequestKind::Answer { sampling, stops, number } => {
                Work::Answer { sampling, number, transcript: Transcript::new(stops) }
            }
            RequestKind::Likelihoods(continuations) => {
                Work::Weigh { weighing: Weighing::new(continuations), likelihoods: Vec::new() }
            }
        };
        let (slot, prefix, pending, made) = (None, None, Vec::new(), Vec::new());
        Stream {
            ticket,
            prompt,
            slot,
            prefix,
            pending,
            starts: true,
            turn: None,
            longest,
            stays,
            work,
            made,
            ended: None,
        }
    }

    /// Positions in the cache.
    pub fn length(&self) -> usize {
        self.slot.as_ref().map_or(0, Slot::len)
    }

    /// The length that the sequence grows to with what goes through the LLM next.
    pub fn reach(&self) -> usize {
        match &self.work {
            Work::Answer { .. } => self.length() + rows(&self.pending),
            Work::Weigh { weighing, .. } => weighing.reach(rows(&self.prompt)),
        }
    }

    /// The prompt and what was made after it, as far as `length` positions.
    pub fn pieces(&self, length: usize) -> Vec<Piece> {
        let new = length.saturating_sub(rows(&self.prompt));
        self.prompt.iter().cloned().chain(self.made.iter().take(new).map(|&id| Piece::Token(id))).collect()
    }

    pub fn is_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends it where it is.
    pub fn cancel(&mut self) {
        self.ended.get_or_insert(Ok(Finish::Cancelled));
    }

    /// The text so far; nothing for likelihoods.
    pub fn text(&self) -> &str {
        match &self.work {
            Work::Answer { transcript, .. } => transcript.text(),
            Work::Weigh { .. } => "",
        }
    }

    /// Takes the logits (vocab) of the last row that went through the LLM. An error is this request's alone.
    pub fn receive(&mut self, logits: &[f32], llm: &Llm) -> Growth {
        (self.turn, self.starts) = (None, false);
        let text = self.advance(logits, llm).unwrap_or_else(|error| {
            self.ended = Some(Err(error));
            String::new()
        });
        let finish = self.ended.as_ref().map(|ended| ended.as_ref().map_or(Finish::Failed, |finish| *finish));
        Growth { ticket: self.ticket, text, finish }
    }

    fn advance(&mut self, logits: &[f32], llm: &Llm) -> Result<String> {
        match &mut self.work {
            Work::Answer { sampling, number, transcript } => {
                let (step, tokenizer) = (self.made.len(), llm.tokenizer()?);
                let id = sampling.choose(logits, *number, step as u64)?;
                self.made.push(id);
                self.pending = vec![Piece::Token(id)];
                let length = self.slot.as_ref().map_or(0, Slot::len);
                let last = step + 1 >= self.longest || length + 1 >= llm.context();
                if transcript.push(tokenizer, id)? {
                    self.ended = Some(Ok(Finish::Stop));
                } else if last {
                    let stopped = transcript.finish(tokenizer)?;
                    self.ended = Some(Ok(if stopped { Finish::Stop } else { Finish::Length }));
                }
                Ok(transcript.fresh().to_string())
            }
            Work::Weigh { weighing, likelihoods } => {
                let prompt = rows(&self.prompt);
                let Some(slot) = &mut self.slot else { return Ok(String::new()) };
                match weighing.receive(logits, prompt, slot.plan())? {
                    Next::Token(id) => self.pending = vec![Piece::Token(id)],
                    Next::AfterPrompt(id) => {
                        slot.truncate(prompt);
                        self.pending = vec![Piece::Token(id)];
                    }
                    Next::Anew => {}
                    Next::Done(all) => {
                        *likelihoods = all;
                        self.ended = Some(Ok(Finish::Stop));
                    }
                }
                Ok(String::new())
            }
        }
    }

    /// What became of it, as far as it came.
    pub fn outcome(self) -> Result<Outcome> {
        let finish = self.ended.unwrap_or(Ok(Finish::Cancelled))?;
        let (text, likelihoods) = match self.work {
            Work::Answer { transcript, .. } => (transcript.text().to_string(), Vec::new()),
            Work::Weigh { likelihoods, .. } => (String::new(), likelihoods),
        };
        Ok(Outcome { text, likelihoods, finish, prompt_tokens: rows(&self.prompt), new_tokens: self.made.len() })
    }
}

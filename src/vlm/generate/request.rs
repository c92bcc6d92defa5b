//! What a user of the engine asks for, and what comes back: requests, tickets, how an answer grows, how it ended.

use std::sync::Arc;

use super::Sampling;
use crate::text::{Template, Tokenizer};

/// What ends an answer: ids, and plain texts such as the newline of `tiny`.
#[derive(Clone, Debug)]
pub struct Stops {
    pub ids: Vec<u32>,
    pub texts: Vec<String>,
    /// White space around an answer does not belong to it.
    pub trim: bool,
}

impl Stops {
    /// What ends an answer in a template, and what ends a text for the LLM.
    pub fn new(template: &Template, tokenizer: &Tokenizer, end_ids: &[u32]) -> Self {
        let mut ids = template.stop_ids(tokenizer);
        ids.extend(end_ids);
        Stops { ids, texts: template.stop_texts().to_vec(), trim: true }
    }
}

/// What is wanted of a prompt. Everything that decides an answer is in it, so that no request knows of another.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) kind: RequestKind,
    /// Whether all rows stay in the cache for a prompt that goes on from them.
    pub(super) stays: bool,
}

#[derive(Clone, Debug)]
pub(super) enum RequestKind {
    Answer { sampling: Sampling, stops: Arc<Stops>, number: u64 },
    Likelihoods(Vec<Vec<u32>>),
}

impl Request {
    /// A text that goes on from the prompt. A draw depends on (seed, `number`, step) and on nothing else.
    pub fn answer(sampling: Sampling, stops: Arc<Stops>, number: u64) -> Self {
        Request { kind: RequestKind::Answer { sampling, stops, number }, stays: false }
    }

    /// The mean log-probability per token of each of these continuations, given by their ids after the prompt.
    pub fn likelihoods(continuations: Vec<Vec<u32>>) -> Self {
        Request { kind: RequestKind::Likelihoods(continuations), stays: false }
    }

    /// The same, but the rows of prompt and answer stay in the cache: the next request of this kind whose prompt
    /// begins with them computes what is new only. For the turns of a conversation.
    pub fn staying(mut self) -> Self {
        self.stays = true;
        self
    }

    /// New tokens that are wanted at most.
    pub(super) fn longest(&self) -> usize {
        match &self.kind {
            RequestKind::Answer { sampling, .. } => sampling.max_new_tokens,
            RequestKind::Likelihoods(continuations) => continuations.iter().map(Vec::len).max().unwrap_or(1),
        }
    }
}

/// Names a request in its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// Why a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its answer, or all likelihoods are known.
    Stop,
    /// `max_new_tokens` or the end of the context was reached.
    Length,
    /// Somebody cancelled it.
    Cancelled,
    /// It has an error, which `Engine::take` gives.
    Failed,
}

impl Finish {
    /// `stop`, `length`, `cancelled` or `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Cancelled => "cancelled",
            Finish::Failed => "failed",
        }
    }
}

/// What one step did for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growth {
    pub ticket: Ticket,
    /// What its text has grown by: whole characters, maybe none. Put together, these are the answer.
    pub text: String,
    /// Set with the last one.
    pub finish: Option<Finish>,
}

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The answer, or as much of it as there was when it was cancelled.
    pub text: String,
    /// Of every continuation, in order; none of an answer, and none where the request was cancelled.
    pub likelihoods: Vec<f64>,
    pub finish: Finish,
    /// Positions of the prompt.
    pub prompt_tokens: usize,
    /// Tokens that were generated, the one that ended the answer included.
    pub new_tokens: usize,
}

impl Outcome {
    /// Whether an answer with these limits ended only because the context did.
    pub fn filled_context(&self, sampling: &Sampling) -> bool {
        self.finish == Finish::Length && self.new_tokens < sampling.max_new_tokens
    }
}

/// Called with the place of a request among those that are run, what its text has grown by, and whether that was its
/// end, after every token; `false` cancels all of them.
pub type OnPiece<'a> = &'a mut dyn FnMut(usize, &str, bool) -> bool;

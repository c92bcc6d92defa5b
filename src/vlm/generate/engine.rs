//! The engine: requests come in at any time, wait for a place, run side by side and leave when they end. Everything
//! that generates is a user of it: questions, chats, benchmarks, likelihoods of choices. On the CPU no bit of a
//! request's logits depends on the others, whenever it came: prompts share a pass only where its size changes no row
//! (`passes.rs`), and what they begin with has a pass of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::cached::CachedLlm;
use super::passes::Passes;
use super::prompt::{Piece, rows};
use super::request::{Finish, Growth, OnPiece, Outcome, Request, RequestKind, Ticket};
use super::stream::Stream;
use crate::error::{Error, Result};
use crate::vlm::Llm;
use crate::{bail, error};

/// How much an engine holds. Its cache has at most `places` times the context's rows, and what the last prompts begin
/// with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that run side by side.
    pub places: usize,
    /// Requests that wait for a place; one more is refused.
    pub waiting: usize,
}

impl Limits {
    /// So many places, and any number of requests that wait.
    pub fn places(places: usize) -> Self {
        Limits { places: places.max(1), waiting: usize::MAX }
    }
}

/// An LLM that answers requests.
pub struct Engine {
    cached: CachedLlm,
    passes: Passes,
    limits: Limits,
    waiting: VecDeque<(Ticket, Vec<Piece>, Request)>,
    running: Vec<Stream>,
    /// Requests that have ended and were not taken.
    ended: HashMap<Ticket, Result<Outcome>>,
    submitted: u64,
    #[cfg(test)]
    logits: HashMap<Ticket, Vec<f32>>,
}

impl Engine {
    /// Without requests. The LLM is frozen.
    ///
    /// # Errors
    /// For an LLM without weights.
    pub fn new(llm: Arc<Llm>, limits: Limits) -> Result<Self> {
        let passes = Passes::new(&llm);
        Ok(Engine {
            cached: CachedLlm::new(llm)?,
            passes,
            limits,
            waiting: VecDeque::new(),
            running: Vec::new(),
            ended: HashMap::new(),
            submitted: 0,
            #[cfg(test)]
            logits: HashMap::new(),
        })
    }

    /// Rows that went through the LLM so far, those of prompts and new ones.
    pub fn computed(&self) -> usize {
        self.cached.computed
    }

    /// Rows of the cache: used by what is kept, and allocated.
    pub fn cache_rows(&self) -> (usize, usize) {
        (self.cached.cache.used(), self.cached.cache.capacity())
    }

    /// Whether no request waits or runs.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Takes a request; nothing is computed before the next step. An answer that reaches the end of the context ends
    /// there.
    ///
    /// # Errors
    /// `Data` where the prompt leaves no room for an answer in the context, or a continuation is empty or does not fit;
    /// `Busy` where as many requests wait as may.
    pub fn submit(&mut self, prompt: Vec<Piece>, request: Request) -> Result<Ticket> {
        self.check(&prompt, &request)?;
        if self.waiting.len() >= self.limits.waiting {
            return Err(error!(Busy, "{} requests wait for a place, which is the limit", self.waiting.len())
                .help("submit it again when others have ended"));
        }
        let ticket = Ticket(self.submitted);
        self.submitted += 1;
        self.waiting.push_back((ticket, prompt, request));
        Ok(ticket)
    }

    /// Goes on by one pass through the LLM and says what it did for each request that took part; nothing where the engine
    /// is idle. A pass that fails ends all requests that run, with its error.
    ///
    /// # Errors
    /// Where there is no memory for a new cache after that.
    pub fn step(&mut self) -> Result<Vec<Growth>> {
        self.advance().or_else(|error| self.fail(&error))
    }

    /// The text of a request so far; nothing where there is no such request, or it was taken.
    pub fn text(&self, ticket: Ticket) -> Option<&str> {
        if let Some(ended) = self.ended.get(&ticket) {
            return ended.as_ref().ok().map(|outcome| outcome.text.as_str());
        }
        let running = self.running.iter().find(|stream| stream.ticket == ticket).map(Stream::text);
        running.or_else(|| self.waiting.iter().any(|(waiting, ..)| *waiting == ticket).then_some(""))
    }

    /// What came of a request that has ended, once.
    pub fn take(&mut self, ticket: Ticket) -> Option<Result<Outcome>> {
        self.ended.remove(&ticket)
    }

    /// Ends a request where it is, to be taken with finish reason `cancelled`; `false` where none of this ticket waits
    /// or runs.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        if let Some(place) = self.waiting.iter().position(|(waiting, ..)| *waiting == ticket) {
            if let Some((ticket, prompt, request)) = self.waiting.remove(place) {
                self.ended.insert(ticket, Stream::new(ticket, prompt, request).outcome());
            }
            return true;
        }
        let Some(stream) = self.running.iter_mut().find(|stream| stream.ticket == ticket) else { return false };
        stream.cancel();
        self.retire();
        true
    }

    /// Steps until these requests have ended, and takes them, in this order. Where `on` says no they are cancelled.
    ///
    /// # Errors
    /// That of the first request that failed; the others are cancelled then, and none is left.
    pub fn run(&mut self, tickets: &[Ticket], on: OnPiece) -> Result<Vec<Outcome>> {
        let places: HashMap<Ticket, usize> = tickets.iter().copied().zip(0..).collect();
        let mut open: HashSet<Ticket> =
            tickets.iter().copied().filter(|ticket| !self.ended.contains_key(ticket)).collect();
        while !open.is_empty() && !self.is_idle() {
            let mut goes_on = true;
            for Growth { ticket, text, finish } in self.step()? {
                let Some(&place) = places.get(&ticket) else { continue };
                if finish.is_some() {
                    open.remove(&ticket);
                }
                goes_on &= finish != Some(Finish::Failed) && on(place, &text, finish.is_some());
            }
            if !goes_on {
                open.drain().for_each(|ticket| _ = self.cancel(ticket));
            }
        }
        let taken: Vec<Option<Result<Outcome>>> = tickets.iter().map(|&ticket| self.take(ticket)).collect();
        let unknown = || Err(error!(Usage, "a ticket of another engine, or one that was taken"));
        taken.into_iter().map(|outcome| outcome.unwrap_or_else(unknown)).collect()
    }

    /// Refuses what cannot be answered.
    fn check(&self, prompt: &[Piece], request: &Request) -> Result<()> {
        let new = match &request.kind {
            RequestKind::Answer { .. } => 1,
            RequestKind::Likelihoods(continuations) if continuations.iter().any(Vec::is_empty) => {
                bail!(Data, "a continuation without tokens has no likelihood")
            }
            RequestKind::Likelihoods(_) => request.longest(),
        };
        let (length, context) = (rows(prompt), self.cached.llm.context());
        if length == 0 {
            return Err(error!(Data, "an empty prompt has nothing to go on from"));
        }
        if length + new > context {
            let image = prompt.iter().map(Piece::rows).max().unwrap_or(0);
            let pictures = if image > 1 { format!(", {image} of them for each image") } else { String::new() };
            let tokens = if new == 1 { "token" } else { "tokens" };
            return Err(error!(
                Data,
                "a prompt of {length} positions{pictures} and {new} new {tokens} do not fit the context of {context} of \
                 LLM `{}`",
                self.cached.llm.id
            )
            .help("ask a shorter question, or start a new conversation"));
        }
        Ok(())
    }

    /// A round begins with those that have got a place and gives each stream a turn; a step takes one turn.
    fn advance(&mut self) -> Result<Vec<Growth>> {
        if self.running.iter().all(|stream| stream.turn.is_none()) {
            while self.running.len() < self.limits.places
                && let Some((ticket, prompt, request)) = self.waiting.pop_front()
            {
                self.running.push(Stream::new(ticket, prompt, request));
            }
            while let Some(stream) = self.running.iter_mut().find(|stream| stream.slot.is_none()) {
                if self.cached.begin(stream)? {
                    return Ok(vec![Growth { ticket: stream.ticket, text: String::new(), finish: None }]);
                }
            }
            self.give_turns()?;
        }
        let Some(turn) = self.running.iter().filter_map(|stream| stream.turn).min() else { return Ok(Vec::new()) };
        let mut streams: Vec<&mut Stream> =
            self.running.iter_mut().filter(|stream| stream.turn == Some(turn)).collect();
        let logits = self.cached.pass(&mut streams)?;
        #[cfg(test)]
        for (stream, logits) in streams.iter().zip(&logits) {
            self.logits.entry(stream.ticket).or_default().extend(logits);
        }
        let llm = &self.cached.llm;
        let grown = streams.iter_mut().zip(&logits).map(|(stream, logits)| stream.receive(logits, llm)).collect();
        self.retire();
        Ok(grown)
    }

    /// Says which streams share which pass of this round: first those that go on by a token, then prompts.
    fn give_turns(&mut self) -> Result<()> {
        for stream in &mut self.running {
            self.cached.renew(stream)?;
        }
        self.running.sort_by_key(|stream| stream.starts);
        let going_on = self.running.partition_point(|stream| !stream.starts);
        let (old, mut new) = self.running.split_at_mut(going_on);
        let mut turns = 0..;
        for (pass, turn) in old.chunks_mut(self.passes.decoded()).zip(&mut turns) {
            pass.iter_mut().for_each(|stream| stream.turn = Some(turn));
        }
        for (size, turn) in self.passes.split(new, |stream| rows(&stream.pending)).into_iter().zip(&mut turns) {
            let (pass, rest) = new.split_at_mut(size);
            pass.iter_mut().for_each(|stream| stream.turn = Some(turn));
            new = rest;
        }
        Ok(())
    }

    /// Gives back the places and rows of those that have ended.
    fn retire(&mut self) {
        for mut stream in self.running.extract_if(.., |stream| stream.is_ended()) {
            self.cached.retire(&mut stream);
            self.ended.insert(stream.ticket, stream.outcome());
        }
        self.cached.sweep();
    }

    fn fail(&mut self, error: &Error) -> Result<Vec<Growth>> {
        let failed: Vec<Ticket> = self.running.drain(..).map(|stream| stream.ticket).collect();
        self.ended.extend(failed.iter().map(|ticket| (*ticket, Err(error.clone()))));
        self.cached.reset()?;
        let growth = |ticket| Growth { ticket, text: String::new(), finish: Some(Finish::Failed) };
        Ok(failed.into_iter().map(growth).collect())
    }
}

#[cfg(test)]
mod tests;

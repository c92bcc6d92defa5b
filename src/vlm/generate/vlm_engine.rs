//! The engine for a whole model: questions with pictures. A picture goes through encoder and projector once, alone, so that
//! its visual tokens depend on nothing else; those of the last call are kept, as the next questions are often about the
//! same one.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Engine, Limits, OnPiece, Outcome, Request, Sampling, Stops, check_marks, pieces};
use crate::error::Result;
use crate::image::Image;
use crate::vlm::Vlm;

/// A prompt, the pictures its marks take, and what is wanted of it.
#[derive(Clone)]
pub struct Question {
    /// As `Template::prompt` gives it.
    pub ids: Vec<i64>,
    /// What identifies each picture; the same key is the same picture.
    pub images: Vec<String>,
    pub wanted: Wanted,
}

/// What is wanted of a question.
#[derive(Clone)]
pub enum Wanted {
    /// A text.
    Text(Sampling),
    /// How likely these are as answers, given by their ids after the prompt: the mean log-probability per token of each.
    Likelihoods(Vec<Vec<u32>>),
}

/// An engine that takes questions with pictures, call by call.
pub struct VlmEngine<'a> {
    vlm: &'a Vlm,
    engine: Engine,
    stops: Arc<Stops>,
    visuals: HashMap<String, Tensor>,
    /// Questions so far that draws may answer: the number of the next one in its seed's draws.
    asked: u64,
}

impl<'a> VlmEngine<'a> {
    /// Freezes the model; `places` questions are decoded side by side.
    pub fn new(vlm: &'a Vlm, places: usize) -> Result<Self> {
        vlm.freeze()?;
        let stops = Arc::new(Stops::new(&vlm.template(), vlm.tokenizer()?, &vlm.llm.end_ids));
        let engine = Engine::new(vlm.llm.clone(), Limits::places(places))?;
        Ok(VlmEngine { vlm, engine, stops, visuals: HashMap::new(), asked: 0 })
    }

    /// Runs questions to their end. `open(question, image)` decodes a picture that is not kept. The outcomes do not
    /// depend on how questions are spread over calls, nor on the number of places. Where `on` says no, all that have
    /// not ended are cancelled.
    ///
    /// # Errors
    /// `Data` when a question has not as many pictures as marks, or does not fit the context.
    pub fn run(
        &mut self,
        questions: &[Question],
        open: &(dyn Fn(usize, usize) -> Result<Image> + Sync),
        on: OnPiece,
    ) -> Result<Vec<Outcome>> {
        for question in questions {
            check_marks(&question.ids, question.images.len())?;
        }
        self.see(questions, open)?;
        let (before, mut tickets) = (self.asked, Vec::with_capacity(questions.len()));
        for question in questions {
            match self.submit(question) {
                Ok(ticket) => tickets.push(ticket),
                Err(error) => {
                    self.asked = before;
                    for ticket in tickets {
                        self.engine.cancel(ticket);
                        self.engine.take(ticket);
                    }
                    return Err(error);
                }
            }
        }
        self.engine.run(&tickets, on)
    }

    fn submit(&mut self, question: &Question) -> Result<super::Ticket> {
        let images: Vec<Tensor> = question.images.iter().filter_map(|key| self.visuals.get(key)).cloned().collect();
        let request = match &question.wanted {
            Wanted::Text(sampling) => {
                self.asked += 1;
                Request::answer(sampling.clone(), self.stops.clone(), self.asked - 1)
            }
            Wanted::Likelihoods(continuations) => Request::likelihoods(continuations.clone()),
        };
        self.engine.submit(pieces(&question.ids, &images)?, request)
    }

    /// Computes the visual tokens of pictures that are not kept, and forgets the others.
    fn see(&mut self, questions: &[Question], open: &(dyn Fn(usize, usize) -> Result<Image> + Sync)) -> Result<()> {
        let mut known = std::mem::take(&mut self.visuals);
        let mut missing: Vec<(&String, usize, usize)> = Vec::new();
        for (number, question) in questions.iter().enumerate() {
            for (place, key) in question.images.iter().enumerate() {
                if let Some(tokens) = known.remove(key) {
                    self.visuals.insert(key.clone(), tokens);
                } else if !self.visuals.contains_key(key) && !missing.iter().any(|(other, ..)| *other == key) {
                    missing.push((key, number, place));
                }
            }
        }
        let vlm = self.vlm;
        let see = |&(key, number, place): &(&String, usize, usize)| {
            Ok((key.clone(), vlm.visual_tokens(&open(number, place)?)?))
        };
        self.visuals.extend(missing.par_iter().map(see).collect::<Result<Vec<_>>>()?);
        Ok(())
    }
}

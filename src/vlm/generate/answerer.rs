//! Questions with pictures to answers: a picture goes through encoder and projector once, alone, so that its visual
//! tokens depend on nothing else; those of the last call are kept, as the next questions are often about the same one.

use std::collections::HashMap;

use candle_core::Tensor;
use rayon::prelude::*;

use super::{Generator, Hear, Piece, Sampling, Settings, Stops, check_marks, pieces};
use crate::error::Result;
use crate::image::Image;
use crate::vlm::Vlm;

/// A prompt and the pictures its marks take.
#[derive(Clone)]
pub struct Question {
    /// As `Template::prompt` gives it.
    pub ids: Vec<i64>,
    /// What identifies each picture; the same key is the same picture.
    pub images: Vec<String>,
}

/// Answers questions, call by call.
pub struct Answerer<'a> {
    vlm: &'a Vlm,
    generator: Generator,
    stops: Stops,
    visuals: HashMap<String, Tensor>,
    /// Questions so far: the number of the next one in its seed's draws.
    asked: u64,
}

impl<'a> Answerer<'a> {
    /// Freezes the model.
    pub fn new(vlm: &'a Vlm) -> Result<Self> {
        vlm.freeze()?;
        let stops = Stops::new(&vlm.template(), vlm.tokenizer()?, &vlm.llm.end_ids);
        Ok(Answerer { vlm, generator: Generator::new(vlm.llm.clone())?, stops, visuals: HashMap::new(), asked: 0 })
    }

    /// Answers questions, `batch` of them decoded together. `open(question, image)` decodes a picture that is not
    /// kept. The answers do not depend on how questions are spread over calls.
    ///
    /// # Errors
    /// `Data` when a question has not as many pictures as marks, or does not fit the context.
    pub fn answer(
        &mut self,
        questions: &[Question],
        open: &(dyn Fn(usize, usize) -> Result<Image> + Sync),
        (sampling, batch): (&Sampling, usize),
        hear: Hear,
    ) -> Result<Vec<String>> {
        let prompts = self.prompts(questions, open)?;
        let settings = Settings { sampling, stops: &self.stops, batch, first: self.asked };
        self.asked += questions.len() as u64;
        self.generator.run(&prompts, &settings, hear)
    }

    /// How likely texts are as answers, given by their ids after the prompt: the mean log-probability per token of
    /// every continuation of every question. Questions are left when `on` says no.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub fn likelihoods(
        &mut self,
        questions: &[Question],
        continuations: &[Vec<Vec<u32>>],
        open: &(dyn Fn(usize, usize) -> Result<Image> + Sync),
        batch: usize,
        on: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        let prompts = self.prompts(questions, open)?;
        let longest = continuations.iter().flatten().map(Vec::len).max().unwrap_or(1);
        let sampling = Sampling { max_new_tokens: longest, ..Sampling::default() };
        let settings = Settings { sampling: &sampling, stops: &self.stops, batch, first: 0 };
        self.generator.likelihoods(&prompts, continuations, &settings, on)
    }

    fn prompts(
        &mut self,
        questions: &[Question],
        open: &(dyn Fn(usize, usize) -> Result<Image> + Sync),
    ) -> Result<Vec<Vec<Piece>>> {
        for question in questions {
            check_marks(&question.ids, question.images.len())?;
        }
        self.see(questions, open)?;
        questions.iter().map(|question| self.prompt(question)).collect()
    }

    fn prompt(&self, question: &Question) -> Result<Vec<Piece>> {
        let images: Vec<Tensor> = question.images.iter().filter_map(|key| self.visuals.get(key)).cloned().collect();
        pieces(&question.ids, &images)
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

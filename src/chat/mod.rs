//! Asking: one question, several at once, or a conversation that remembers its turns and what the LLM computed for
//! them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use candle_core::Tensor;
use rayon::prelude::*;

use crate::error::{Context, Result};
use crate::image::Image;
use crate::text::{IMAGE_ID, Turn, with_image_marks};
use crate::vlm::Vlm;
use crate::vlm::generate::{
    Engine, Finish, Limits, OnPiece, Outcome, Question, Request, Sampling, Stops, VlmEngine, Wanted, check_marks,
    pieces,
};
use crate::{bail, error};

/// Answers one question about some pictures, or about none. Where the text has no marks, the pictures come first.
/// `on` gets what the answer has grown by after every token; `false` stops.
///
/// # Errors
/// `Data` when there are not as many pictures as marks, or all does not fit the context.
pub fn ask(
    vlm: &Vlm,
    images: &[Image],
    text: &str,
    sampling: &Sampling,
    on: &mut dyn FnMut(&str) -> bool,
) -> Result<String> {
    let texts = ask_all(vlm, &[(images, text)], (sampling, 1), &mut |_, piece, _| on(piece))?;
    Ok(texts.into_iter().next().unwrap_or_default())
}

/// Answers questions, each about its pictures, `batch` of them decoded together; equal pictures are encoded once.
/// Draws depend on a question's place.
///
/// # Errors
/// As [`ask`], naming the question.
pub fn ask_all(
    vlm: &Vlm,
    questions: &[(&[Image], &str)],
    (sampling, batch): (&Sampling, usize),
    on: OnPiece,
) -> Result<Vec<String>> {
    Ok(outcomes(vlm, questions, (sampling, batch), on)?.into_iter().map(|outcome| outcome.text).collect())
}

/// As [`ask_all`], with the reason why each answer ended.
///
/// # Errors
/// As [`ask_all`].
pub fn outcomes(
    vlm: &Vlm,
    questions: &[(&[Image], &str)],
    (sampling, batch): (&Sampling, usize),
    on: OnPiece,
) -> Result<Vec<Outcome>> {
    let question = |(number, (images, text)): (usize, &(&[Image], &str))| {
        let text = with_image_marks(text, images.len());
        let ids = vlm.template().prompt(vlm.tokenizer()?, &[Turn::human(text)])?;
        check_marks(&ids, images.len()).context(|| format!("question {}", number + 1))?;
        Ok(Question { ids, images: images.iter().map(key).collect(), wanted: Wanted::Text(sampling.clone()) })
    };
    let prompts = questions.par_iter().enumerate().map(question).collect::<Result<Vec<_>>>()?;
    let open = |question: usize, image: usize| Ok(questions[question].0[image].clone());
    VlmEngine::new(vlm, batch)?.run(&prompts, &open, on)
}

/// What tells pictures apart within a call.
fn key(image: &Image) -> String {
    let mut hasher = DefaultHasher::new();
    image.pixels.hash(&mut hasher);
    format!("{}x{}-{:x}", image.width, image.height, hasher.finish())
}

/// A conversation about some pictures, or about none.
pub struct Chat {
    vlm: Arc<Vlm>,
    images: Vec<Image>,
    history: Vec<Turn>,
    memory: Option<Memory>,
    finish: Option<Finish>,
}

/// What was computed for the turns so far.
struct Memory {
    engine: Engine,
    /// Visual tokens of every picture, (tokens, LLM width) each.
    visuals: Vec<Tensor>,
    /// The hash of the model that computed it.
    model: String,
}

impl Chat {
    /// An empty conversation. The pictures go in front of the first turn, unless that has marks of its own; pictures
    /// without a mark yet wait for one in a later turn.
    pub fn new(vlm: Arc<Vlm>, images: Vec<Image>) -> Result<Self> {
        vlm.tokenizer()?;
        Ok(Chat { vlm, images, history: Vec::new(), memory: None, finish: None })
    }

    /// The model that answers.
    pub fn model(&self) -> &Vlm {
        &self.vlm
    }

    /// The turns so far.
    pub fn history(&self) -> &[Turn] {
        &self.history
    }

    /// Rows that went through the LLM for the turns so far, new tokens included.
    pub fn computed(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.engine.computed())
    }

    /// Why the last answer ended.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Says something and gives the answer; both are remembered. Only what is new goes through the LLM.
    ///
    /// # Errors
    /// `Data` when there are more marks than pictures, or the conversation does not fit the context; the
    /// conversation stays as it was.
    pub fn say(&mut self, text: &str, sampling: &Sampling, on: &mut dyn FnMut(&str) -> bool) -> Result<Outcome> {
        let first = self.history.is_empty();
        let mut turns = self.history.clone();
        turns.push(Turn::human(if first { with_image_marks(text, self.images.len()) } else { text.to_string() }));
        // Training between two turns may have changed how it is asked.
        let template = self.vlm.template();
        let ids = template.prompt(self.vlm.tokenizer()?, &turns)?;
        let marks = ids.iter().filter(|&&id| id == IMAGE_ID).count();
        if marks > self.images.len() {
            bail!(Data, "the conversation has {marks} `<image>` marks for {} images", self.images.len());
        }
        let memory = self.memory()?;
        let prompt = pieces(&ids, &memory.visuals[..marks])?;
        let stops = Stops::new(&template, self.vlm.tokenizer()?, &self.vlm.llm.end_ids);
        let number = self.history.len() as u64;
        let request = Request::answer(sampling.clone(), Arc::new(stops), number).staying();
        let engine = &mut self.memory.insert(memory).engine;
        let ticket = engine.submit(prompt, request);
        let outcomes = ticket.and_then(|ticket| engine.run(&[ticket], &mut |_, piece, _| on(piece)));
        let mut outcomes = outcomes.context(|| format!("turn {} of a chat", turns.len()))?;
        let outcome = outcomes.pop().ok_or_else(|| error!(Usage, "no outcome of one turn"))?;
        turns.push(Turn::gpt(outcome.text.clone()));
        (self.history, self.finish) = (turns, Some(outcome.finish));
        Ok(outcome)
    }

    /// What was computed so far, where the model is the same as then. Hashes of weights that did not change are known.
    fn memory(&mut self) -> Result<Memory> {
        self.vlm.llm.ready()?;
        self.vlm.freeze()?;
        let model = self.vlm.answers_sha256()?;
        if let Some(memory) = self.memory.take().filter(|memory| memory.model == model) {
            return Ok(memory);
        }
        let visuals = self.images.iter().map(|image| self.vlm.visual_tokens(image)).collect::<Result<_>>()?;
        Ok(Memory { engine: Engine::new(self.vlm.llm.clone(), Limits::places(1))?, visuals, model })
    }
}

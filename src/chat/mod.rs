//! Asking: one question, several at once, or a conversation that remembers its turns and what the LLM computed for
//! them.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::bail;
use crate::error::{Context, Result};
use crate::image::Image;
use crate::text::{IMAGE_ID, Turn, with_image_marks};
use crate::vlm::Vlm;
use crate::vlm::generate::{Answerer, Generator, Hear, Question, Sampling, Settings, Stops, check_marks, pieces};

/// Answers one question about some pictures, or about none. Where the text has no marks, the pictures come first.
/// `hear` gets what the answer has grown by after every token; `false` stops.
///
/// # Errors
/// `Data` when there are not as many pictures as marks, or all does not fit the context.
pub fn ask(
    vlm: &Vlm,
    images: &[Image],
    text: &str,
    sampling: &Sampling,
    hear: &mut dyn FnMut(&str) -> bool,
) -> Result<String> {
    let questions = [(images, text)];
    let texts = ask_all(vlm, &questions, (sampling, 1), &mut |_, piece, _| hear(piece))?;
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
    hear: Hear,
) -> Result<Vec<String>> {
    let question = |(number, (images, text)): (usize, &(&[Image], &str))| {
        let text = with_image_marks(text, images.len());
        let ids = vlm.template().prompt(vlm.tokenizer()?, &[Turn::human(text)])?;
        check_marks(&ids, images.len()).context(|| format!("question {}", number + 1))?;
        Ok(Question { ids, images: images.iter().map(key).collect() })
    };
    let prompts = questions.par_iter().enumerate().map(question).collect::<Result<Vec<_>>>()?;
    let open = |question: usize, image: usize| Ok(questions[question].0[image].clone());
    Answerer::new(vlm)?.answer(&prompts, &open, (sampling, batch), hear)
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
}

/// What was computed for the turns so far.
struct Memory {
    generator: Generator,
    /// Visual tokens of every picture, (tokens, LLM width) each.
    visuals: Vec<Tensor>,
    /// Of the weights it was computed with.
    weights: u64,
}

impl Chat {
    /// An empty conversation. The pictures go in front of the first turn, unless that has marks of its own; pictures
    /// without a mark yet wait for one in a later turn.
    pub fn new(vlm: Arc<Vlm>, images: Vec<Image>) -> Result<Self> {
        vlm.tokenizer()?;
        Ok(Chat { vlm, images, history: Vec::new(), memory: None })
    }

    /// The turns so far.
    pub fn history(&self) -> &[Turn] {
        &self.history
    }

    /// Rows that went through the LLM for the turns so far, new tokens included.
    pub fn computed(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.generator.computed())
    }

    /// Says something and gives the answer; both are remembered. Only what is new goes through the LLM.
    ///
    /// # Errors
    /// `Data` when there are more marks than pictures, or the conversation does not fit the context; the
    /// conversation stays as it was.
    pub fn say(&mut self, text: &str, sampling: &Sampling, hear: &mut dyn FnMut(&str) -> bool) -> Result<String> {
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
        self.vlm.freeze()?;
        let weights = fingerprint(&self.vlm)?;
        let memory = match self.memory.take().filter(|memory| memory.weights == weights) {
            Some(memory) => self.memory.insert(memory),
            None => {
                let visuals = self.images.iter().map(|image| self.vlm.visual_tokens(image)).collect::<Result<_>>()?;
                self.memory.insert(Memory { generator: Generator::new(self.vlm.llm.clone())?, visuals, weights })
            }
        };
        let prompt = pieces(&ids, &memory.visuals[..marks])?;
        let stops = Stops::new(&template, self.vlm.tokenizer()?, &self.vlm.llm.end_ids);
        let settings = Settings { sampling, stops: &stops, batch: 1, first: self.history.len() as u64 };
        let answer = memory
            .generator
            .resume(&prompt, &settings, &mut |_, piece, _| hear(piece))
            .context(|| format!("turn {} of a chat", turns.len()))?;
        turns.push(Turn::gpt(answer.clone()));
        self.history = turns;
        Ok(answer)
    }
}

/// Changes when a model is trained between two turns: over what happens to pictures and the first value of every norm and bias of what the answers
/// depend on.
fn fingerprint(vlm: &Vlm) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    vlm.aspect().name().hash(&mut hasher);
    for (_, _, param) in vlm.named_params() {
        let tensor = param.tensor()?;
        if tensor.rank() == 1 && tensor.elem_count() > 0 {
            let value = tensor.narrow(0, 0, 1)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            value.into_iter().map(f32::to_bits).for_each(|bits| bits.hash(&mut hasher));
        }
    }
    Ok(hasher.finish())
}

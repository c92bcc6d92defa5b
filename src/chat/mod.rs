//! Asking: one question, or a conversation that remembers its turns.

use std::sync::Arc;

use crate::error::Result;
use crate::image::Image;
use crate::text::{Turn, with_image_mark};
use crate::vlm::Vlm;
use crate::vlm::generate::{Group, Sampling, Stops, generate};

/// Answers the last turn of a conversation. `hear` gets the text so far after every token; `false` stops.
pub fn answer(
    vlm: &Vlm,
    image: Option<&Image>,
    turns: &[Turn],
    sampling: &Sampling,
    hear: &mut dyn FnMut(&str) -> bool,
) -> Result<String> {
    vlm.freeze()?;
    let prompt = vlm.template.prompt(vlm.tokenizer()?, turns)?;
    let projected = match image {
        Some(image) => {
            let features = vlm.features(&[image], vlm.aspect)?;
            Some(vlm.projector.project(&features)?)
        }
        None => None,
    };
    let groups = [Group { image: 0, prompts: vec![&prompt] }];
    let stops = Stops::new(&vlm.template, vlm.tokenizer()?, &vlm.llm.end_ids);
    let texts = generate(vlm, &groups, projected.as_ref(), sampling, &stops, &mut |_, text| hear(text))?;
    Ok(texts.into_iter().next().unwrap_or_default().trim().to_string())
}

/// A conversation about one picture, or about none.
pub struct Chat {
    vlm: Arc<Vlm>,
    image: Option<Image>,
    pub history: Vec<Turn>,
}

impl Chat {
    /// An empty conversation.
    pub fn new(vlm: Arc<Vlm>, image: Option<Image>) -> Self {
        Chat { vlm, image, history: Vec::new() }
    }

    /// Says something and gives the answer; both are remembered.
    pub fn say(&mut self, text: &str, sampling: &Sampling, hear: &mut dyn FnMut(&str) -> bool) -> Result<String> {
        let first = self.history.is_empty();
        let mut turns = self.history.clone();
        let shows_image = first && self.image.is_some();
        turns.push(Turn::human(if shows_image { with_image_mark(text) } else { text.to_string() }));
        let answer = answer(&self.vlm, self.image.as_ref(), &turns, sampling, hear)?;
        turns.push(Turn::gpt(answer.clone()));
        self.history = turns;
        Ok(answer)
    }
}

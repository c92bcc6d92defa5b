//! Generation: a key/value cache, greedy or sampled decoding, answers of different lengths in one packed batch. The
//! `Engine` takes requests of an LLM, the `VlmEngine` questions with pictures; everything that generates uses one of them.

mod cached;
mod engine;
mod likelihood;
mod passes;
mod prompt;
mod request;
mod sampling;
mod stream;
mod transcript;
mod vlm_engine;

use std::sync::Arc;

pub use engine::{Engine, Limits};
pub use prompt::{Piece, check_marks, pieces};
pub use request::{Finish, Growth, OnPiece, Outcome, Request, Stops, Ticket};
pub use sampling::Sampling;
pub use vlm_engine::{Question, VlmEngine, Wanted};

use super::Llm;
use crate::error;
use crate::error::Result;

/// Continues a plain text with an LLM alone: the tokenizer's own BOS rule, no template; the new text only. `on` gets what
/// it has grown by; `false` stops.
///
/// # Errors
/// As [`Engine::submit`].
pub fn complete(llm: &Arc<Llm>, text: &str, sampling: &Sampling, on: &mut dyn FnMut(&str) -> bool) -> Result<Outcome> {
    let mut engine = Engine::new(llm.clone(), Limits::places(1))?;
    let prompt: Vec<Piece> = llm.tokenizer()?.encode(text)?.into_iter().map(Piece::Token).collect();
    let stops = Arc::new(Stops { ids: llm.end_ids.clone(), texts: Vec::new(), trim: false });
    let ticket = engine.submit(prompt, Request::answer(sampling.clone(), stops, 0))?;
    engine.run(&[ticket], &mut |_, piece, _| on(piece))?.pop().ok_or_else(|| error!(Usage, "no outcome of one request"))
}

//! A hundred questions about one picture: its visual tokens are prefilled once, against a run of its own for each.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use llmore::error::Result;
use llmore::vlm::Llm;
use llmore::vlm::generate::{Engine, Limits, Piece, Request, Sampling, Stops};

use crate::{Options, models, report};

const QUESTIONS: usize = 100;
const BATCH: usize = 8;
const NEW_TOKENS: usize = 3;
/// One question of so many is asked alone, and its time multiplied.
const ALONE: usize = 5;

/// Both ways, for 256 and 576 visual tokens, with the LLM of `llama-step` and a vocabulary of 1,024 (24.2 M).
pub fn questions(options: &Options) -> Result<()> {
    let mut config = models::llama();
    // Every id that a random LLM may choose is one of the tokenizer.
    config["vocab_size"] = 1024.into();
    let llm = Arc::new(models::llm("questions", config)?);
    for tokens in [256, 576] {
        let image = Tensor::randn(0f32, 0.02, (tokens, llm.width()), &Device::Cpu)?.to_dtype(DType::F32)?;
        let prompts: Vec<Vec<Piece>> = (0..QUESTIONS).map(|number| prompt(&image, number)).collect();
        let mut together = Vec::new();
        let (shared, _) = report::time(0, options.rounds, || {
            together = answers(&llm, &prompts)?;
            Ok(())
        })?;
        let mut alone = Vec::new();
        let (single, _) = report::time(0, 1, || {
            for prompt in prompts.iter().step_by(ALONE) {
                alone.extend(answers(&llm, std::slice::from_ref(prompt))?);
            }
            Ok(())
        })?;
        if !together.iter().step_by(ALONE).eq(&alone) {
            return Err(llmore::error!(Data, "answers differ between shared and single runs"));
        }
        report::print(&format!("questions-{tokens}"), "100 questions", &shared, &[]);
        let single: Vec<f64> = single.iter().map(|seconds| seconds * ALONE as f64).collect();
        report::print(&format!("questions-{tokens}-alone"), "100 questions", &single, &[]);
    }
    Ok(())
}

/// What a new engine answers.
fn answers(llm: &Arc<Llm>, prompts: &[Vec<Piece>]) -> Result<Vec<String>> {
    let stops = Arc::new(Stops { ids: Vec::new(), texts: Vec::new(), trim: true });
    let sampling = Sampling { max_new_tokens: NEW_TOKENS, ..Sampling::default() };
    let request = |number: u64| Request::answer(sampling.clone(), stops.clone(), number);
    let mut engine = Engine::new(llm.clone(), Limits::places(BATCH))?;
    let numbered = prompts.iter().zip(0..);
    let tickets = numbered.map(|(prompt, number)| engine.submit(prompt.clone(), request(number)));
    let tickets = tickets.collect::<Result<Vec<_>>>()?;
    Ok(engine.run(&tickets, &mut |_, _, _| true)?.into_iter().map(|outcome| outcome.text).collect())
}

/// A few tokens, the picture, and a question of 6 to 19 tokens.
fn prompt(image: &Tensor, number: usize) -> Vec<Piece> {
    let token = |place: usize| Piece::Token(((number * 131 + place * 977) % 1000 + 10) as u32);
    let mut prompt: Vec<Piece> = (0..20).map(|place| Piece::Token(place + 3)).collect();
    prompt.push(Piece::Image(image.clone()));
    prompt.extend((0..6 + number % 14).map(token));
    prompt
}

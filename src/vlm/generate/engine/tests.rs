//! The engine: no request knows of another, whatever joins, ends or is cancelled beside it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::vlm::generate::{Sampling, Stops};
use crate::vlm::{LlmOptions, LoraOptions, Targets, Weights};
use crate::weights::{Quantize, Source};

fn llm(dtype: DType, quantize: Option<Quantize>) -> Arc<Llm> {
    let target = Target { dtype, device: Device::Cpu, quantize };
    let options = LlmOptions { weights: Weights::Random, seed: 0, target };
    Arc::new(Llm::open(&Presets::default(), "tiny-llama", options).unwrap())
}

/// Hangs adapters on every layer that add something.
fn adapt(llm: &Llm) {
    let options = LoraOptions { r: 4, alpha: 8.0, dropout: 0.0, targets: Targets::default() };
    let lora = llm.adapt(&options, Source::Random { seed: 1 }).unwrap();
    for param in lora.params.iter() {
        let shape = param.dims();
        param.assign(&Tensor::randn(0f32, 0.1, shape, &Device::Cpu).unwrap()).unwrap();
    }
}

/// 24 prompts of 1 to 74 tokens behind one of three pictures or none.
fn prompts(llm: &Llm) -> Vec<Vec<Piece>> {
    let image = |rows: usize| Tensor::randn(0f32, 0.1, (rows, llm.width()), &Device::Cpu).unwrap();
    let images = [image(9), image(70), image(300)];
    let prompt = |number: usize| {
        let mut prompt: Vec<Piece> = (1..4).map(Piece::Token).collect();
        if number % 4 < 3 {
            prompt.push(Piece::Image(images[number % 4].clone()));
        }
        prompt.extend((0..1 + number * 7 % 75).map(|place| Piece::Token((number * 7 + place * 13) as u32 % 1000)));
        prompt
    };
    (0..24).map(prompt).collect()
}

fn stops(ids: Vec<u32>) -> Arc<Stops> {
    Arc::new(Stops { ids, texts: Vec::new(), trim: false })
}

fn greedy(max_new_tokens: usize) -> Request {
    Request::answer(Sampling { max_new_tokens, ..Sampling::default() }, stops(Vec::new()), 0)
}

/// Other temperatures, seeds and lengths for each; every sixth weighs continuations.
fn request(number: usize) -> Request {
    if number % 6 == 5 {
        let ids = |length: usize| (0..length).map(|place| (number * 31 + place * 17) as u32 % 900).collect();
        return Request::likelihoods([1, 4, 2, 1].map(ids).to_vec());
    }
    let temperature = [0.0, 0.7, 1.3][number % 3];
    let sampling = Sampling { temperature, top_k: 40 * (number % 2), seed: number as u64 / 5, ..Sampling::default() };
    let sampling = Sampling { max_new_tokens: 2 + number % 5, ..sampling };
    Request::answer(sampling, stops(vec![number as u32 + 30]), number as u64)
}

/// What one request came to, and all logits that it got.
type Seen = (Outcome, Vec<f32>);

fn alone(llm: &Arc<Llm>, prompt: &[Piece], number: usize) -> Seen {
    let mut engine = Engine::new(llm.clone(), Limits::places(1)).unwrap();
    let ticket = engine.submit(prompt.to_vec(), request(number)).unwrap();
    let outcome = engine.run(&[ticket], &mut |_, _, _| true).unwrap().remove(0);
    (outcome, engine.logits.remove(&ticket).unwrap())
}

/// All of them in one engine: some from the beginning, the others one by one between steps, two of them cancelled.
fn beside_each_other(llm: &Arc<Llm>, prompts: &[Vec<Piece>], cancelled: &[usize]) -> Vec<Seen> {
    let mut engine = Engine::new(llm.clone(), Limits::places(9)).unwrap();
    let mut tickets = Vec::new();
    let mut tokens: BTreeMap<Ticket, usize> = BTreeMap::new();
    while tickets.len() < prompts.len() || !engine.is_idle() {
        let number = tickets.len();
        if number < prompts.len() && (number < 7 || engine.submitted as usize == number) {
            tickets.push(engine.submit(prompts[number].clone(), request(number)).unwrap());
        }
        if number < 7 {
            continue;
        }
        for growth in engine.step().unwrap() {
            *tokens.entry(growth.ticket).or_default() += 1;
        }
        for &number in cancelled {
            if let Some(ticket) =
                tickets.get(number).filter(|ticket| tokens.get(ticket).is_some_and(|count| *count > 2))
            {
                engine.cancel(*ticket);
            }
        }
    }
    let seen = |ticket: Ticket| (engine.take(ticket).unwrap().unwrap(), engine.logits.remove(&ticket).unwrap());
    tickets.into_iter().map(seen).collect()
}

#[test]
fn nothing_beside_a_request_changes_a_bit_of_its_logits() {
    let q8 = Some(Quantize::To(candle_core::quantized::GgmlDType::Q8_0));
    for (dtype, quantize, adapted) in
        [(DType::F32, None, false), (DType::BF16, None, false), (DType::F32, q8, false), (DType::F32, None, true)]
    {
        let case = format!("{dtype:?} {quantize:?} {adapted}");
        let llm = llm(dtype, quantize);
        if adapted {
            adapt(&llm);
        }
        let (prompts, cancelled) = (prompts(&llm), [4, 14]);
        let sizes = Passes::new(&llm).split(&mut prompts.clone(), |prompt| rows(prompt));
        assert!(sizes.len() < 24, "some prompts share a pass: {sizes:?}");
        let together = beside_each_other(&llm, &prompts, &cancelled);
        for (number, (outcome, logits)) in together.into_iter().enumerate() {
            let (expected, expected_logits) = alone(&llm, &prompts[number], number);
            if cancelled.contains(&number) {
                assert_eq!(outcome.finish, Finish::Cancelled, "{case}, {number}");
                assert!(outcome.new_tokens < expected.new_tokens, "{case}, {number}: cut short");
                assert!(expected_logits.starts_with(&logits), "{case}, {number}");
                assert!(expected.text.starts_with(&outcome.text), "{case}, {number}");
            } else {
                assert_eq!(outcome, expected, "{case}, {number}");
                assert!(logits == expected_logits, "{case}, {number}: logits");
            }
        }
    }
}

#[test]
fn an_answer_grows_step_by_step_and_is_taken_once() {
    let llm = llm(DType::F32, None);
    let mut engine = Engine::new(llm, Limits::places(4)).unwrap();
    let prompts = prompts(&engine.cached.llm);
    let tickets: Vec<Ticket> =
        (0..6).map(|number| engine.submit(prompts[number].clone(), greedy(3 + number)).unwrap()).collect();
    assert_eq!(engine.text(tickets[5]), Some(""), "it waits");
    let mut texts: BTreeMap<Ticket, String> = BTreeMap::new();
    while !engine.is_idle() {
        for growth in engine.step().unwrap() {
            let text = texts.entry(growth.ticket).or_default();
            text.push_str(&growth.text);
            let all = engine.text(growth.ticket).unwrap();
            assert!(all.starts_with(text.as_str()) && (growth.finish.is_none() || all == text), "{text} {all}");
        }
    }
    for (number, &ticket) in tickets.iter().enumerate() {
        let outcome = engine.take(ticket).unwrap().unwrap();
        assert_eq!((outcome.finish, outcome.new_tokens, &outcome.text), (Finish::Length, 3 + number, &texts[&ticket]));
        assert_eq!(outcome.prompt_tokens, rows(&prompts[number]));
        assert!(engine.take(ticket).is_none() && engine.text(ticket).is_none() && !engine.cancel(ticket));
    }
    assert!(engine.step().unwrap().is_empty());
    assert!(engine.run(&tickets, &mut |_, _, _| true).is_err(), "they were taken");
}

#[test]
fn an_answer_says_why_it_ended() {
    let llm = llm(DType::F32, None);
    let context = llm.context();
    let mut engine = Engine::new(llm, Limits::places(2)).unwrap();
    let prompt = |length: usize| (0..length).map(|id| Piece::Token(id as u32 % 900 + 10)).collect::<Vec<Piece>>();
    let mut finish = |prompt: Vec<Piece>, request: Request| {
        let ticket = engine.submit(prompt, request).unwrap();
        let outcome = engine.run(&[ticket], &mut |_, _, _| true).unwrap().remove(0);
        (outcome.finish, outcome.new_tokens)
    };
    assert_eq!(finish(prompt(5), greedy(3)), (Finish::Length, 3));
    assert_eq!(finish(prompt(context - 2), greedy(100)), (Finish::Length, 2), "it ends where the context does");
    assert_eq!(finish(prompt(context - 1), greedy(100)), (Finish::Length, 1));
    let all = Request::answer(Sampling::default(), stops((0..2000).collect()), 0);
    assert_eq!(finish(prompt(5), all), (Finish::Stop, 1));
    assert_eq!(finish(prompt(5), Request::likelihoods(vec![vec![3], vec![4, 5]])), (Finish::Stop, 0));
    let ticket = engine.submit(prompt(5), greedy(30)).unwrap();
    let outcome = engine.run(&[ticket], &mut |_, _, _| false).unwrap().remove(0);
    assert_eq!((outcome.finish, outcome.new_tokens), (Finish::Cancelled, 1));
    let error = engine.submit(prompt(context), greedy(1)).unwrap_err();
    assert!(error.message().contains("1 new token do not fit the context"), "{error}");
    assert!(engine.submit(Vec::new(), greedy(1)).is_err());
    assert!(engine.submit(prompt(5), Request::likelihoods(vec![vec![1], Vec::new()])).is_err());
    assert!(engine.submit(prompt(context - 2), Request::likelihoods(vec![vec![1, 2, 3]])).is_err());
    assert!(engine.is_idle());
}

#[test]
fn a_queue_that_is_full_refuses_and_a_failure_is_one_requests_own() {
    let llm = llm(DType::F32, None);
    let mut engine = Engine::new(llm.clone(), Limits { places: 2, waiting: 3 }).unwrap();
    let prompt = prompts(&llm).remove(3);
    let good = engine.submit(prompt.clone(), greedy(4)).unwrap();
    let bad = engine.submit(prompt.clone(), Request::likelihoods(vec![vec![1], vec![1 << 20]])).unwrap();
    let later = engine.submit(prompt.clone(), greedy(4)).unwrap();
    let error = engine.submit(prompt.clone(), greedy(4)).unwrap_err();
    assert!(error.kind() == crate::error::Kind::Busy && error.message().contains("3 requests wait"), "{error}");
    engine.step().unwrap();
    assert!(engine.submit(prompt, greedy(1)).is_ok(), "two of them have places now");
    while !engine.is_idle() {
        engine.step().unwrap();
    }
    let error = engine.take(bad).unwrap().unwrap_err();
    assert!(error.message().contains("token id 1048576 is outside the vocabulary"), "{error}");
    let texts = [good, later].map(|ticket| engine.take(ticket).unwrap().unwrap().text);
    assert_eq!(texts[0], texts[1]);
    assert_eq!(engine.cache_rows().0, 0, "all rows are given back");
}

/// A server is a layer on top: several handles submit and take while one thread steps.
#[test]
fn several_threads_share_an_engine() {
    let llm = llm(DType::F32, None);
    let prompts = prompts(&llm);
    let expected: Vec<Outcome> = (0..8).map(|number| alone(&llm, &prompts[number], number).0).collect();
    let engine = Mutex::new(Engine::new(llm, Limits { places: 3, waiting: 8 }).unwrap());
    std::thread::scope(|scope| {
        for (number, expected) in expected.iter().enumerate() {
            let (engine, prompt) = (&engine, prompts[number].clone());
            scope.spawn(move || {
                let ticket = engine.lock().unwrap().submit(prompt, request(number)).unwrap();
                let outcome = loop {
                    let mut engine = engine.lock().unwrap();
                    if let Some(outcome) = engine.take(ticket) {
                        break outcome.unwrap();
                    }
                    engine.step().unwrap();
                };
                assert_eq!(outcome, *expected, "{number}");
            });
        }
    });
}

//! Generation: greedy answers against transformers, batches against single prompts, chats against full prompts, what
//! is computed once, and where the cache's rows go.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, Tensor};
use llmore::chat::{Chat, ask, ask_all};
use llmore::image::{Aspect, Image};
use llmore::models::registry::Target;
use llmore::nn::cache::append;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::{Template, Turn, with_image_marks};
use llmore::vlm::generate::{Engine, Limits, Piece, Question, Request, Sampling, Stops, VlmEngine, Wanted, pieces};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights, checkpoint};
use serde::Deserialize;

use super::conventions::run as warned;
use super::resume::{llm, model, trainer};
use super::scripting::{run, scratch};
use super::training::fixtures;

pub fn fixture() -> Vlm {
    checkpoint::load(&Presets::default(), &fixtures().join("checkpoint"), Some("llama_3_1"), &Target::cpu()).unwrap()
}

/// tiny-clip, a projector and tiny-llama, all random.
pub fn tiny() -> Vlm {
    let (presets, target) = (Presets::default(), Target::cpu());
    let llm = LlmOptions { weights: Weights::Random, seed: 1, target: target.clone() };
    let llm = Llm::open(&presets, "tiny-llama", llm).unwrap();
    let options =
        EncoderOptions { weights: Weights::Random, seed: 1, select_layer: None, select: None, s2: None, target };
    let encoder = Encoder::open(&presets, "tiny-clip", options).unwrap();
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    let template = Template::load(&presets, "tiny").unwrap();
    Vlm::compose(Arc::new(encoder), &choice, Arc::new(llm), template, Aspect::Square, 1).unwrap()
}

pub fn picture(name: &str) -> Image {
    Image::open(&fixtures().join("images").join(name)).unwrap()
}

/// What an engine answers prompts.
pub fn texts(engine: &mut Engine, prompts: &[Vec<Piece>], (sampling, stops): (&Sampling, &Stops)) -> Vec<String> {
    let stops = Arc::new(stops.clone());
    let request = |number: u64| Request::answer(sampling.clone(), stops.clone(), number);
    let tickets: Vec<_> = prompts
        .iter()
        .zip(0..)
        .map(|(prompt, number)| engine.submit(prompt.clone(), request(number)).unwrap())
        .collect();
    engine.run(&tickets, &mut |_, _, _| true).unwrap().into_iter().map(|outcome| outcome.text).collect()
}

fn greedy(max_new_tokens: usize) -> Sampling {
    Sampling { max_new_tokens, ..Sampling::default() }
}

#[derive(Deserialize)]
struct Case {
    images: Vec<String>,
    question: String,
    ids: Vec<i64>,
    new: Vec<u32>,
    text: String,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/generation/greedy.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let vlm = fixture();
    for case in cases() {
        let images: Vec<Image> = case.images.iter().map(|name| picture(name)).collect();
        let ids = vlm.template().prompt(vlm.tokenizer().unwrap(), &[Turn::human(&case.question)]).unwrap();
        assert_eq!(ids, case.ids, "{}", case.question);
        assert_eq!(case.new.len(), 40);
        let answer = ask(&vlm, &images, &case.question, &greedy(40), &mut |_| true).unwrap();
        assert_eq!(answer, case.text.trim(), "{}", case.question);
    }
}

/// Questions of different lengths about four pictures, two at a time, one, or none.
fn questions(count: usize) -> (Vec<Image>, Vec<(Vec<usize>, String)>) {
    let images = (0..4).map(|i| picture(&format!("s1_{i:02}.png"))).collect();
    let words = ["what", "color", "is", "the", "shape", "and", "where", "does", "it", "stand"];
    let question = |i: usize| {
        let text: Vec<&str> = (0..1 + i * 7 % 23).map(|word| words[(i * 3 + word * 5) % words.len()]).collect();
        let shown = match i % 8 {
            0..5 => vec![i / 8 % 4],
            5 => vec![i / 8 % 4, (i / 8 + 1) % 4],
            _ => Vec::new(),
        };
        (shown, format!("{}?", text.join(" ")))
    };
    (images, (0..count).map(question).collect())
}

fn answers(vlm: &Vlm, sampling: &Sampling, batch: usize) -> Vec<String> {
    let (images, questions) = questions(64);
    let shown: Vec<Vec<Image>> =
        questions.iter().map(|(shown, _)| shown.iter().map(|&image| images[image].clone()).collect()).collect();
    let asked: Vec<(&[Image], &str)> =
        shown.iter().zip(&questions).map(|(images, (_, text))| (images.as_slice(), text.as_str())).collect();
    ask_all(vlm, &asked, (sampling, batch), &mut |_, _, _| true).unwrap()
}

#[test]
fn a_batch_of_eight_answers_as_one_by_one() {
    for vlm in [fixture(), tiny()] {
        let drawn = Sampling { temperature: 0.9, top_k: 50, top_p: 0.95, seed: 5, ..greedy(12) };
        for sampling in [greedy(12), drawn] {
            let single = answers(&vlm, &sampling, 1);
            assert_eq!(single, answers(&vlm, &sampling, 8));
            assert_eq!(single, answers(&vlm, &sampling, 32));
            let distinct: std::collections::BTreeSet<&String> = single.iter().collect();
            assert!(distinct.len() > 32, "{} different answers", distinct.len());
        }
    }
}

#[test]
fn answers_do_not_depend_on_the_calls_they_are_asked_in() {
    let vlm = tiny();
    let (images, questions) = questions(24);
    let sampling = Sampling { temperature: 1.0, seed: 2, ..greedy(6) };
    let asked: Vec<Question> = questions
        .iter()
        .map(|(shown, text)| {
            let turn = Turn::human(with_image_marks(text, shown.len()));
            let ids = vlm.template().prompt(vlm.tokenizer().unwrap(), &[turn]).unwrap();
            let images = shown.iter().map(|image| image.to_string()).collect();
            Question { ids, images, wanted: Wanted::Text(sampling.clone()) }
        })
        .collect();
    let by = |chunk: usize| {
        let mut engine = VlmEngine::new(&vlm, 4).unwrap();
        let calls = asked.chunks(chunk).enumerate().map(|(call, part)| {
            let open = |question: usize, image: usize| Ok(images[questions[call * chunk + question].0[image]].clone());
            let outcomes = engine.run(part, &open, &mut |_, _, _| true).unwrap();
            outcomes.into_iter().map(|outcome| outcome.text).collect::<Vec<String>>()
        });
        calls.flatten().collect::<Vec<String>>()
    };
    assert_eq!(by(1), by(24));
    assert_eq!(by(5), by(24));
}

#[test]
fn a_chat_computes_new_tokens_only_and_answers_as_from_the_beginning() {
    let vlm = Arc::new(fixture());
    let image = picture("s1_00.png");
    let mut chat = Chat::new(vlm.clone(), vec![image.clone()]).unwrap();
    let sampling = greedy(10);
    for (turn, text) in ["What is it?", "And which color?", "Say it again, please."].into_iter().enumerate() {
        let before = chat.computed();
        let answer = chat.say(text, &sampling, &mut |_| true).unwrap().text;
        let computed = chat.computed() - before;

        let mut turns = chat.history().to_vec();
        assert_eq!(turns.pop().unwrap().value, answer);
        let ids = vlm.template().prompt(vlm.tokenizer().unwrap(), &turns).unwrap();
        let mut fresh = Engine::new(vlm.llm.clone(), Limits::places(1)).unwrap();
        let stops = Stops::new(&vlm.template(), vlm.tokenizer().unwrap(), &vlm.llm.end_ids);
        let prompt = pieces(&ids, &[vlm.visual_tokens(&image).unwrap()]).unwrap();
        assert_eq!(texts(&mut fresh, &[prompt], (&sampling, &stops)), [answer]);
        if turn > 0 {
            // The question, the tokens around it and the new ones; the answer before may be tokenized another way.
            assert!(computed < 75, "turn {turn} took {computed} rows of {}", fresh.computed());
            assert!(fresh.computed() > 2 * computed, "turn {turn}: {computed} of {}", fresh.computed());
        }
    }
}

#[test]
fn a_chat_takes_pictures_where_their_marks_are() {
    let vlm = Arc::new(fixture());
    let images = vec![picture("s1_00.png"), picture("s1_01.png")];
    let mut chat = Chat::new(vlm.clone(), images.clone()).unwrap();
    let sampling = greedy(5);
    chat.say("Here is <image> for you.", &sampling, &mut |_| true).unwrap();
    chat.say("And this <image> is another.", &sampling, &mut |_| true).unwrap();
    let error = chat.say("And a third <image>.", &sampling, &mut |_| true).unwrap_err();
    assert_eq!(error.message(), "the conversation has 3 `<image>` marks for 2 images");
    assert_eq!(chat.history().len(), 4);
    let mut both = Chat::new(vlm.clone(), images).unwrap();
    both.say("Compare.", &sampling, &mut |_| true).unwrap();
    assert_eq!(both.history()[0].value, "<image> <image>\nCompare.");
    assert!(Chat::new(vlm, Vec::new()).unwrap().say("Say yes.", &sampling, &mut |_| true).is_ok());
}

#[test]
fn a_full_context_is_an_error_before_any_work() {
    let vlm = Arc::new(fixture());
    let mut chat = Chat::new(vlm.clone(), Vec::new()).unwrap();
    chat.say("Say yes.", &greedy(5), &mut |_| true).unwrap();
    let (computed, turns) = (chat.computed(), chat.history().len());
    let error = chat.say(&"again ".repeat(2000), &greedy(1), &mut |_| true).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1 new token do not fit the context of 1024"), "{text}");
    assert!(error.help_text().unwrap().contains("new conversation"), "{:?}", error.help_text());
    assert_eq!((chat.computed(), chat.history().len()), (computed, turns));
    let long = "word ".repeat(2000);
    let error = ask(&vlm, &[], &long, &greedy(1), &mut |_| true).unwrap_err();
    assert!(error.help_text().unwrap().contains("shorter"), "{:?}", error.help_text());
}

#[test]
fn a_chat_forgets_what_other_weights_computed() {
    let vlm = Arc::new(fixture());
    let mut chat = Chat::new(vlm.clone(), Vec::new()).unwrap();
    chat.say("Say yes.", &greedy(3), &mut |_| true).unwrap();
    for (name, _, param) in vlm.named_params() {
        if name == "model.norm.weight" || name.ends_with("layers.0.input_layernorm.weight") {
            param.assign(&(param.tensor().unwrap() * -1.5).unwrap()).unwrap();
        }
    }
    let answer = chat.say("Again.", &greedy(6), &mut |_| true).unwrap().text;
    let mut fresh = Chat::new(vlm, Vec::new()).unwrap();
    fresh.say("Say yes.", &greedy(3), &mut |_| true).unwrap();
    assert_ne!(fresh.history()[1], chat.history()[1], "the weights matter");
    let ids = [chat.history()[0].clone(), chat.history()[1].clone(), chat.history()[2].clone()];
    let model = fixture();
    let old = model.template().prompt(model.tokenizer().unwrap(), &ids).unwrap();
    assert!(chat.computed() >= old.len(), "only {} rows were computed", chat.computed());
    assert!(!answer.is_empty());
}

/// Adapters are matrices, which no look at norms and biases can see.
#[test]
fn a_chat_forgets_what_was_computed_before_an_adapter_was_trained() {
    let vlm = model(llm());
    let mut chat = Chat::new(vlm.clone(), Vec::new()).unwrap();
    chat.say("what color is the shape in the picture?", &greedy(12), &mut |_| true).unwrap();
    let table = "batch = 4\nmicro_batch = 4\nsteps = 6\nseed = 5\ntrain = { llm = 5e-2 }\nlora = { r = 4, alpha = 16 }";
    let mut trainer = trainer(&vlm, table, &scratch("chat-lora"));
    chat.say("and which shape is it?", &greedy(2), &mut |_| true).unwrap();
    for _ in 0..6 {
        trainer.step().unwrap();
    }
    let sampling = Sampling { temperature: 1.0, seed: 7, ..greedy(40) };
    let computed = chat.computed();
    let answer = chat.say("say it all again, please", &sampling, &mut |_| true).unwrap();
    assert!(chat.computed() >= answer.prompt_tokens, "after {computed} only {} rows were computed", chat.computed());

    // From the beginning, about the same turns.
    let turns = &chat.history()[..5];
    let ids = vlm.template().prompt(vlm.tokenizer().unwrap(), turns).unwrap();
    let stops = Arc::new(Stops::new(&vlm.template(), vlm.tokenizer().unwrap(), &vlm.llm.end_ids));
    let mut engine = Engine::new(vlm.llm.clone(), Limits::places(1)).unwrap();
    let ticket = engine.submit(pieces(&ids, &[]).unwrap(), Request::answer(sampling.clone(), stops, 4)).unwrap();
    let fresh = engine.run(&[ticket], &mut |_, _, _| true).unwrap().remove(0);
    assert_eq!(answer, fresh);
    // Where nothing changed, all of it is kept.
    let before = chat.computed();
    let next = chat.say("once more", &greedy(4), &mut |_| true).unwrap();
    assert!(
        chat.computed() - before < next.prompt_tokens / 2,
        "{} of {}",
        chat.computed() - before,
        next.prompt_tokens
    );
}

#[test]
fn scripts_see_why_an_answer_ended() {
    let load = r#"let m = load("tests/fixtures/training/checkpoint"); let c = m.chat();"#;
    let text = format!(
        r#"{load} let before = c.finish;
        c.say("Say yes.", #{{ max_new_tokens: 2 }}); let few = c.finish;
        c.say("Say yes.", #{{ max_new_tokens: 9, stream: |p| false }}); let cut = c.finish;
        `${{before == ()}} ${{few}} ${{cut}}`"#
    );
    assert_eq!(run("finish", &text).unwrap(), "true length cancelled\n");
    // `max_new_tokens` may reach past the context: the answer ends there, with a warning.
    let vlm = fixture();
    let question = |words: usize| "red ".repeat(words);
    let length =
        |words: usize| vlm.template().prompt(vlm.tokenizer().unwrap(), &[Turn::human(question(words))]).unwrap().len();
    let words = (1..).take_while(|&words| length(words) < vlm.llm.context() - 1).last().unwrap();
    let text = format!(
        r#"{load} m.ask((), "{0}", #{{ max_new_tokens: 4 }}); m.ask((), "Say yes.", #{{ max_new_tokens: 4 }});
        m.ask_all((), ["Say yes.", "{0}"], #{{ max_new_tokens: 4 }}); c.say("{0}", #{{ max_new_tokens: 4 }}); print(c.finish);"#,
        question(words)
    );
    let (value, warned) = warned(&scratch("finish-context"), &text, &[]);
    assert_eq!(value.unwrap(), "length");
    let expected = |which: &str| {
        format!("{which} ended before `max_new_tokens` (4), as the context of 1024 is full (finish reason `length`)")
    };
    assert_eq!(warned.about("ended"), ["the answer", "1 of 2 answers", "the answer"].map(expected));
}

#[test]
fn cached_decoding_equals_the_full_forward() {
    let vlm = fixture();
    let llm = &vlm.llm;
    vlm.freeze().unwrap();
    for case in cases().iter().filter(|case| !case.images.is_empty()) {
        let visuals: Vec<Tensor> = case.images.iter().map(|name| vlm.visual_tokens(&picture(name)).unwrap()).collect();
        let mut sequence = case.ids.clone();
        sequence.extend(case.new.iter().map(|&id| i64::from(id)));
        let rows: Vec<Tensor> = pieces(&sequence, &visuals).unwrap().iter().map(|piece| embed(llm, piece)).collect();
        let whole = Tensor::cat(&rows, 0).unwrap(); // (positions, width)
        let positions = whole.dim(0).unwrap();
        let full = llm.model.hidden(&whole, &Packing::whole(&[positions]), None).unwrap();
        let full = llm.model.logits(&full).unwrap();

        let mut cache = llm.model.cache(0).unwrap();
        let mut slot = cache.slot(0, None).unwrap();
        let mut at = 0;
        for length in [positions - 40, 1].into_iter().chain([1; 39]) {
            cache.reserve(&mut slot, length).unwrap();
            let packing = append(&mut [&mut slot], &[length]).unwrap();
            let hidden = llm.model.hidden(&whole.narrow(0, at, length).unwrap(), &packing, Some(&cache)).unwrap();
            at += length;
            let (cached, expected) = (llm.model.logits(&hidden).unwrap(), full.narrow(0, at - 1, 1).unwrap());
            let difference = (&cached - &expected).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() < 1e-4, "position {at}");
            let best = |logits: &Tensor| logits.argmax(D::Minus1).unwrap().to_vec1::<u32>().unwrap();
            assert_eq!(best(&cached), best(&expected), "position {at}");
        }
        assert_eq!(at, positions);
    }
}

fn embed(llm: &Llm, piece: &Piece) -> Tensor {
    match piece {
        Piece::Token(id) => llm.model.embed(&vec![*id].into()).unwrap(),
        Piece::Image(tokens) => tokens.clone(),
    }
}

#[test]
fn questions_about_one_picture_share_it_across_calls() {
    let vlm = fixture();
    let tokens = vlm.visual_tokens(&picture("s1_00.png")).unwrap();
    let tokenizer = vlm.tokenizer().unwrap();
    let prompt = |text: &str| {
        let ids = vlm.template().prompt(tokenizer, &[Turn::human(with_image_marks(text, 1))]).unwrap();
        pieces(&ids, std::slice::from_ref(&tokens)).unwrap()
    };
    let stops = Stops::new(&vlm.template(), tokenizer, &vlm.llm.end_ids);
    let mut engine = Engine::new(vlm.llm.clone(), Limits::places(8)).unwrap();
    let mut cost = |questions: &[&str]| {
        let prompts: Vec<Vec<Piece>> = questions.iter().map(|text| prompt(text)).collect();
        let before = engine.computed();
        texts(&mut engine, &prompts, (&greedy(3), &stops));
        let (used, capacity) = engine.cache_rows();
        (engine.computed() - before, used, capacity)
    };
    let (first, kept, _) = cost(&["What is it?"]);
    let (second, again, _) = cost(&["What is it?"]);
    // What is kept is the prompt through its picture, and nothing of it is computed again.
    assert_eq!((second + kept, again), (first, kept));
    let (many, used, capacity) = cost(&["What is it?"; 40]);
    assert_eq!((many, used), (40 * second, kept));
    // Eight at a time: the rows of those that ended were handed out again.
    assert!(capacity < kept + 9 * 64, "{capacity} rows");
}

#[test]
fn a_large_max_new_tokens_allocates_what_is_used() {
    let vlm = fixture();
    let stops = Stops { ids: vec![60], texts: Vec::new(), trim: true };
    let prompt: Vec<Piece> = (0..20).map(Piece::Token).collect();
    let mut engine = Engine::new(vlm.llm.clone(), Limits::places(4)).unwrap();
    texts(&mut engine, &vec![prompt.clone(); 8], (&greedy(2), &stops));
    let (_, short) = engine.cache_rows();
    assert!(short <= 4 * 52 + 64, "{short} rows for four prompts of 20");
    texts(&mut engine, &vec![prompt; 2], (&greedy(900), &stops));
    let (_, long) = engine.cache_rows();
    assert!(long < 4 * 920, "{long} rows");
}

#[test]
fn a_benchmark_has_the_same_outputs_at_any_batch() {
    let text = r#"
        let random = #{ weights: "random", seed: 3 };
        let m = vlm(encoder("tiny-clip", random), projector("mlp2x_gelu"), llm("tiny-llama", random));
        let b = benchmark("tiny-vqa", #{ limit: 500 });
        let runs = [1, 8, 32].map(|batch| b.run(m, #{ batch: batch, cache: "off" }).rows.map(|row| row.output));
        let distinct = #{};
        for output in runs[0] { distinct[output] = true; }
        `${runs[0] == runs[1]} ${runs[0] == runs[2]} ${distinct.len() > 5}`"#;
    assert_eq!(run("batches", text).unwrap(), "true true true\n");
}

#[test]
fn scripts_hear_an_answer_while_it_comes() {
    let load = r#"let m = load("tests/fixtures/training/checkpoint"); let o = #{ max_new_tokens: 12 };"#;
    let text = format!(
        r#"{load} let pieces = [];
        let a = m.ask((), "Say yes.", #{{ max_new_tokens: 12, stream: |p| pieces.push(p) }});
        let whole = ""; for p in pieces {{ whole += p; }}
        let c = m.chat();
        let n = 0;
        let b = c.say("Say yes.", #{{ max_new_tokens: 12, stream: |p| {{ n += 1; n < 2 }} }});
        `${{whole == a}} ${{pieces.len() > 4}} ${{a == m.ask((), "Say yes.", o)}} ${{n}} ${{a.len() > b.len()}}`"#
    );
    assert_eq!(run("stream", &text).unwrap(), "true true true 2 true\n");
    let printed = run("stream-true", &format!("{load} o.stream = true; let a = m.ask((), \"Say yes.\", o); a"));
    let printed = printed.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len() % 2, 0);
    assert_eq!(lines[..lines.len() / 2], lines[lines.len() / 2..], "printed while it came, and the value");
    let error = run("stream-error", &format!("{load} m.ask((), \"Say yes.\", #{{ stream: |p| throw \"no more\" }})"));
    assert!(error.unwrap_err().contains("no more"));
    let busy = format!(r#"{load} let c = m.chat(); c.say("Say yes.", #{{ stream: |p| c.history.len() }})"#);
    assert!(run("stream-busy", &busy).unwrap_err().contains("this chat is answering a turn"));
}

#[test]
fn counts_that_do_not_agree_are_named() {
    let image =
        r#"let m = load("tests/fixtures/training/checkpoint"); let i = image("tests/fixtures/images/red-circle.png");"#;
    let cases = [
        ("m.ask([i, i], \"Is <image> red?\")", "the text has 1 `<image>` mark for 2 images"),
        ("m.ask((), \"Is <image> red?\")", "the text has 1 `<image>` mark for 0 images"),
        ("m.ask_all([i, i, i], [\"a?\", \"b?\"])", "3 entries of pictures for 2 questions"),
        (
            "m.logits([i, i], [#{ from: \"human\", value: \"<image>\\nA?\" }, #{ from: \"gpt\", value: \"B\" }])",
            "the text has 1 `<image>` mark for 2 images",
        ),
        ("m.ask(i, \"a?\", #{ stream: 3 })", "option `stream` is 3, expected true, false or a function"),
        ("m.chat([i, 3])", "expected an Image or (), got 3"),
    ];
    for (number, (script, expected)) in cases.into_iter().enumerate() {
        let error = run(&format!("counts-{number}"), &format!("{image} {script}")).unwrap_err();
        assert!(error.contains(expected), "{script}: {error}");
    }
    let two = r#"m.loss([i, i], [#{ from: "human", value: "<image>\nA?" }, #{ from: "gpt", value: "B" },
        #{ from: "human", value: "And <image>?" }, #{ from: "gpt", value: "C" }]) > 0.0"#;
    assert_eq!(run("counts-two", &format!("{image} {two}")).unwrap(), "true\n");
}

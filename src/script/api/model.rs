//! Whole models: facts, asking, logits, loss, saving; chats.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use super::llm::sampling;
use crate::chat::{self, Chat};
use crate::error;
use crate::error::{Error, Result};
use crate::script::convert::{self, Options};
use crate::script::handles::{
    ChatHandle, EncoderHandle, LlmHandle, ProjectorHandle, TableHandle, TemplateHandle, TensorHandle, VlmHandle,
};
use crate::script::state::State;
use crate::show::{Cell, Table, count};
use crate::text::{Turn, with_image_mark};
use crate::vlm::ProjectorChoice;
use crate::vlm::generate::Sampling;

const ASK_KEYS: [&str; 5] = ["max_new_tokens", "temperature", "top_p", "seed", "stream"];

/// Runs `answer` with a listener that prints the text as it grows when `stream` is on.
fn ask_model(state: &State, m: &VlmHandle, image: &Dynamic, question: &str, map: Map) -> Result<String> {
    let (sampling, stream) = ask_options(state, map)?;
    let image = convert::image(image)?;
    let text = if image.is_some() { with_image_mark(question) } else { question.to_string() };
    let mut hear = listener(state, stream);
    let answer = chat::answer(&m.0, image.as_ref(), &[Turn::human(text)], &sampling, &mut hear)?;
    if stream {
        state.output().text("");
    }
    Ok(answer)
}

/// Hears the growing text: prints what is new when streaming, stops when somebody pressed Ctrl-C.
fn listener(state: &State, stream: bool) -> impl FnMut(&str) -> bool + '_ {
    let mut printed = 0;
    move |text| {
        if stream && text.len() > printed && text.is_char_boundary(printed) {
            state.output().fragment(&text[printed..]);
            printed = text.len();
        }
        !state.interrupt().is_set()
    }
}

fn ask_options(state: &State, map: Map) -> Result<(Sampling, bool)> {
    let options = Options::new(map, "ask", &ASK_KEYS)?;
    Ok((sampling(&options, state)?, options.bool("stream")?.unwrap_or(false)))
}

fn summary_of(m: &VlmHandle) -> Table {
    let vlm = &m.0;
    let (encoder, llm) = (&vlm.encoder, &vlm.llm);
    let part = |name: &str, what: String, params: usize| {
        [Cell::from(name), Cell::from(what), Cell::of(count(params), params as u64)]
    };
    let spec = llm.model.spec();
    Table::new(vlm.describe())
        .column("part")
        .column("what")
        .number("weights")
        .row(part(
            "encoder",
            format!("{}, {} tokens x {}", encoder.id, encoder.tokens(), encoder.width()),
            encoder.count(),
        ))
        .row(part(
            "projector",
            format!("{}, {} -> {}", vlm.projector.label(), vlm.projector.input, vlm.projector.output),
            vlm.projector.params.count(),
        ))
        .row(part(
            "llm",
            format!("{}, {} layers x {}, context {}", llm.id, spec.layers, spec.width, spec.context),
            llm.params.count(),
        ))
        .row(part("all", format!("template {}", vlm.template.name()), vlm.params()))
}

#[export_module]
pub mod model {
    /// Its encoder.
    #[rhai_fn(get = "encoder", pure)]
    pub fn encoder(m: &mut VlmHandle) -> EncoderHandle {
        EncoderHandle(m.0.encoder.clone())
    }

    /// Its projector.
    #[rhai_fn(get = "projector", pure)]
    pub fn projector(m: &mut VlmHandle) -> ProjectorHandle {
        let part = m.0.projector.clone();
        let pool = part.pool.map(|pool| (pool.kind, pool.tokens));
        ProjectorHandle { choice: ProjectorChoice { name: part.name.clone(), pool }, part: Some(part) }
    }

    /// Its LLM.
    #[rhai_fn(get = "llm", pure)]
    pub fn llm(m: &mut VlmHandle) -> LlmHandle {
        LlmHandle(m.0.llm.clone())
    }

    /// Its template.
    #[rhai_fn(get = "template", pure)]
    pub fn template(m: &mut VlmHandle) -> TemplateHandle {
        TemplateHandle(m.0.template.clone())
    }

    /// Number of weights.
    #[rhai_fn(get = "params", pure)]
    pub fn params(m: &mut VlmHandle) -> i64 {
        m.0.params() as i64
    }

    /// A table of its parts.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// show(m.summary());
    /// ```
    #[rhai_fn(name = "summary")]
    pub fn summary(m: VlmHandle) -> TableHandle {
        TableHandle(summary_of(&m))
    }

    /// Asks one question about a picture, or about none (`()`); greedy.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// print(m.ask(image("tests/fixtures/images/red-circle.png"), "What color is it?", #{ max_new_tokens: 4 }));
    /// ```
    #[rhai_fn(name = "ask", return_raw)]
    pub fn ask(context: NativeCallContext, m: VlmHandle, image: Dynamic, question: &str) -> Fallible<String> {
        Ok(ask_model(&State::of(&context)?, &m, &image, question, Map::new())?)
    }

    /// The same with `max_new_tokens`, `temperature`, `top_p`, `seed`, `stream`.
    #[rhai_fn(name = "ask", return_raw)]
    pub fn ask_with(
        context: NativeCallContext,
        m: VlmHandle,
        image: Dynamic,
        question: &str,
        options: Map,
    ) -> Fallible<String> {
        Ok(ask_model(&State::of(&context)?, &m, &image, question, options)?)
    }

    /// Begins a conversation about a picture, or about none (`()`).
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat(image("tests/fixtures/images/red-circle.png"));
    /// c.say("What is it?", #{ max_new_tokens: 4 });
    /// print(c.history.len());  // 2
    /// ```
    #[rhai_fn(name = "chat", return_raw)]
    pub fn chat(m: VlmHandle, image: Dynamic) -> Fallible<ChatHandle> {
        Ok(ChatHandle(Arc::new(Mutex::new(Chat::new(m.0, convert::image(&image)?)))))
    }

    /// Says something and gives the answer.
    #[rhai_fn(name = "say", return_raw)]
    pub fn say(context: NativeCallContext, c: ChatHandle, text: &str) -> Fallible<String> {
        say_with(context, c, text, Map::new())
    }

    /// The same with the options of `ask`.
    #[rhai_fn(name = "say", return_raw)]
    pub fn say_with(context: NativeCallContext, c: ChatHandle, text: &str, options: Map) -> Fallible<String> {
        let state = State::of(&context)?;
        let (sampling, stream) = ask_options(&state, options)?;
        let mut chat = c.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = chat.say(text, &sampling, &mut listener(&state, stream))?;
        if stream {
            state.output().text("");
        }
        Ok(answer)
    }

    /// The turns so far.
    #[rhai_fn(get = "history", pure)]
    pub fn history(c: &mut ChatHandle) -> Array {
        convert::turns_array(&c.0.lock().unwrap_or_else(PoisonError::into_inner).history)
    }

    /// Logits of every position of a conversation after splicing, (positions, vocab).
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    /// print(m.logits(image("tests/fixtures/images/red-circle.png"), turns).shape);
    /// ```
    #[rhai_fn(name = "logits", return_raw)]
    pub fn logits(m: VlmHandle, image: Dynamic, turns: Array) -> Fallible<TensorHandle> {
        let image = convert::image(&image)?;
        Ok(TensorHandle(m.0.logits(image.as_ref(), &convert::turns(&turns)?)?))
    }

    /// Mean cross-entropy over the supervised positions of a conversation.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    /// print(m.loss(image("tests/fixtures/images/red-circle.png"), turns));
    /// ```
    #[rhai_fn(name = "loss", return_raw)]
    pub fn loss(m: VlmHandle, image: Dynamic, turns: Array) -> Fallible<f64> {
        let image = convert::image(&image)?;
        Ok(m.0.loss(image.as_ref(), &convert::turns(&turns)?)?)
    }

    /// Saves the model as a LLaVA-MORE checkpoint folder that `load` opens.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// m.save("target/example-model");
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(m: VlmHandle, folder: &str) -> Fallible<()> {
        Ok(m.0.save(Path::new(folder))?)
    }

    /// The same with `layout`: "llava-more", or "transformers" for what `LlavaForConditionalGeneration` loads. The latter adds
    /// an `<image>` token where the tokenizer has none, and cannot express `s2` and pooled projectors. The adapter of a LoRA
    /// training is added to the weights that are written; `merge: false` writes the adapter alone instead, as PEFT does,
    /// with the projector beside it.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// m.save("target/example-transformers", #{ layout: "transformers" });
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_with(context: NativeCallContext, m: VlmHandle, folder: &str, options: Map) -> Fallible<()> {
        let options = Options::new(options, "save", &["layout", "merge"])?;
        if options.bool("merge")? == Some(false) {
            return match options.string("layout")?.as_deref() {
                None | Some("llava-more") => Ok(m.0.save_adapter(Path::new(folder), false)?),
                Some(layout) => Err(error!(Option, "`merge: false` has a layout of its own, not `{layout}`").into()),
            };
        }
        match options.string("layout")?.as_deref() {
            None | Some("llava-more") => Ok(m.0.save(Path::new(folder))?),
            Some("transformers") => {
                if let Some(note) = m.0.save_transformers(Path::new(folder))? {
                    State::of(&context)?.output().text(&format!("note: {note}"));
                }
                Ok(())
            }
            Some(other) => Err(Error::unknown("layout", other, &["llava-more", "transformers"], "").into()),
        }
    }

    /// Adds the adapter of a LoRA training to the LLM's weights; the model then is one without adapter.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// let t = trainer(m, dataset("tiny-instruct"), #{ train: #{ llm: 1e-3 }, lora: #{ r: 4 }, batch: 2, steps: 1 });
    /// t.step();
    /// m.save("target/example-adapter", #{ merge: false });  // as PEFT does
    /// m.merge();
    /// ```
    #[rhai_fn(name = "merge", return_raw)]
    pub fn merge(m: VlmHandle) -> Fallible<()> {
        Ok(m.0.llm.merge()?)
    }

    /// Saves the tower alone, in Hugging Face layout, so that `encoder(folder)` opens it.
    ///
    /// ```rhai
    /// load("tests/fixtures/training/checkpoint").encoder.save("target/example-tower");
    /// print(encoder("target/example-tower"));
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_encoder(e: EncoderHandle, folder: &str) -> Fallible<()> {
        Ok(e.0.save(Path::new(folder))?)
    }
}

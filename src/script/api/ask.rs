//! Asking a model: one question, many, a conversation.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use super::sampling::{Listener, report_full_context, sampling};
use crate::chat::{self, Chat};
use crate::error::Result;
use crate::image::Image;
use crate::script::convert::{self, Options};
use crate::script::handles::{ChatHandle, VlmHandle};
use crate::script::options::{ASK, ASK_ALL, SAY};
use crate::script::state::State;
use crate::{bail, error};

fn ask_model(context: &NativeCallContext, m: &VlmHandle, image: &Dynamic, text: &str, map: Map) -> Fallible<String> {
    let options = Options::new(map, &ASK)?;
    let state = State::of(context)?;
    let mut listener = Listener::new(context, &state, &options)?;
    let (images, sampling) = (convert::images(image)?, sampling(&options, &state)?);
    let question = [(images.as_slice(), text)];
    let on = &mut |_: usize, piece: &str, _: bool| listener.receive(piece);
    let outcomes = chat::outcomes(&m.0, &question, (&sampling, 1), on)?;
    listener.end()?;
    report_full_context(&state, &m.0.llm, &sampling, &outcomes);
    Ok(outcomes.into_iter().next().map_or(String::new(), |outcome| outcome.text))
}

fn ask_all_model(
    context: &NativeCallContext,
    m: &VlmHandle,
    images: &Dynamic,
    questions: &Array,
    map: Map,
) -> Result<Array> {
    let options = Options::new(map, &ASK_ALL)?;
    let state = State::of(context)?;
    let texts = questions.iter().map(text).collect::<Result<Vec<String>>>()?;
    let images: Vec<Vec<Image>> = match images.read_lock::<Array>() {
        Some(array) => array.iter().map(convert::images).collect::<Result<_>>()?,
        None => vec![convert::images(images)?],
    };
    if images.len() != texts.len() && images.len() != 1 {
        return Err(error!(Data, "{} entries of pictures for {} questions", images.len(), texts.len())
            .help("give one picture for all questions, or an array with one entry per question"));
    }
    let asked = texts.iter().enumerate().map(|(i, text)| (images[i.min(images.len() - 1)].as_slice(), text.as_str()));
    let batch: usize = options.get("batch")?;
    if batch == 0 {
        bail!(Option, "option `batch` is 0, it must be above 0");
    }
    let on = &mut |_: usize, _: &str, _: bool| !state.interrupt().is_set();
    let sampling = sampling(&options, &state)?;
    let outcomes = chat::outcomes(&m.0, &asked.collect::<Vec<_>>(), (&sampling, batch), on)?;
    if state.interrupt().is_set() {
        bail!(Interrupted, "{} questions were not all answered", texts.len());
    }
    report_full_context(&state, &m.0.llm, &sampling, &outcomes);
    Ok(outcomes.into_iter().map(|outcome| Dynamic::from(outcome.text)).collect())
}

fn text(value: &Dynamic) -> Result<String> {
    let text = value.clone().into_string();
    text.map_err(|_| error!(Type, "a question is {}, expected a string", convert::shown(value)))
}

/// A chat that is not in the middle of an answer.
fn lock(c: &ChatHandle) -> Result<MutexGuard<'_, Chat>> {
    match c.0.try_lock() {
        Ok(chat) => Ok(chat),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(error!(Usage, "this chat is answering a turn").help("use it when `say` has returned"))
        }
    }
}

#[export_module]
pub mod ask {
    /// Asks one question about a picture, several (an array), or none (`()`).
    ///
    /// Pictures come before the question, unless it says with `<image>` where each of them goes.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let picture = image("tests/fixtures/images/red-circle.png");
    /// print(m.ask(picture, "What color is it?"));
    /// print(m.ask([picture, picture], "Is <image> like <image>?"));
    /// ```
    #[rhai_fn(name = "ask", return_raw)]
    pub fn ask(context: NativeCallContext, m: VlmHandle, image: Dynamic, question: &str) -> Fallible<String> {
        ask_model(&context, &m, &image, question, Map::new())
    }

    /// The same with options. A piece of a streamed answer never ends inside a character. An answer that reaches the end of
    /// the context ends there, with a warning.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let picture = image("tests/fixtures/images/red-circle.png");
    /// print(m.ask(picture, "What color is it?", #{ max_new_tokens: 4, temperature: 0.7, top_k: 20, seed: 1 }));
    /// let pieces = [];
    /// m.ask(picture, "What is it?", #{ max_new_tokens: 8, stream: |piece| { pieces.push(piece); pieces.len() < 3 } });
    /// ```
    #[rhai_fn(name = "ask", return_raw)]
    pub fn ask_with(
        context: NativeCallContext,
        m: VlmHandle,
        image: Dynamic,
        question: &str,
        options: Map,
    ) -> Fallible<String> {
        ask_model(&context, &m, &image, question, options)
    }

    /// Asks many questions at once: a picture for all of them (or `()`), or an array with the picture, the pictures or
    /// `()` of each. What questions about the same picture share is computed once.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let picture = image("tests/fixtures/images/red-circle.png");
    /// print(m.ask_all(picture, ["What color is it?", "What shape is it?"]));
    /// ```
    #[rhai_fn(name = "ask_all", return_raw)]
    pub fn ask_all(context: NativeCallContext, m: VlmHandle, images: Dynamic, questions: Array) -> Fallible<Array> {
        Ok(ask_all_model(&context, &m, &images, &questions, Map::new())?)
    }

    /// The same with options. A draw depends on the seed and on the question's place.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let picture = image("tests/fixtures/images/red-circle.png");
    /// print(m.ask_all([picture, ()], ["Is it red?", "Say yes."], #{ max_new_tokens: 3, batch: 2 }));
    /// ```
    #[rhai_fn(name = "ask_all", return_raw)]
    pub fn ask_all_with(
        context: NativeCallContext,
        m: VlmHandle,
        images: Dynamic,
        questions: Array,
        options: Map,
    ) -> Fallible<Array> {
        Ok(ask_all_model(&context, &m, &images, &questions, options)?)
    }

    /// Begins a conversation without pictures.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat();
    /// print(c.say("Say yes.", #{ max_new_tokens: 4 }));
    /// ```
    #[rhai_fn(name = "chat", return_raw)]
    pub fn chat_without(m: VlmHandle) -> Fallible<ChatHandle> {
        chat(m, Dynamic::UNIT)
    }

    /// Begins a conversation about a picture, several (an array), or none (`()`).
    ///
    /// The pictures come before the first turn, unless turns say with `<image>` where each of them goes.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat(image("tests/fixtures/images/red-circle.png"));
    /// c.say("What is it?", #{ max_new_tokens: 4 });
    /// print(c.history.len());  // 2
    /// ```
    #[rhai_fn(name = "chat", return_raw)]
    pub fn chat(m: VlmHandle, image: Dynamic) -> Fallible<ChatHandle> {
        Ok(ChatHandle(Arc::new(Mutex::new(Chat::new(m.0, convert::images(&image)?)?))))
    }

    /// Says something and gives the answer. What earlier turns computed is kept: a turn costs its new tokens.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat();
    /// print(c.say("Say yes."));
    /// ```
    #[rhai_fn(name = "say", return_raw)]
    pub fn say(context: NativeCallContext, c: ChatHandle, text: &str) -> Fallible<String> {
        say_with(context, c, text, Map::new())
    }

    /// The same with options.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat();
    /// c.say("Say yes.", #{ max_new_tokens: 8, stream: true });
    /// ```
    #[rhai_fn(name = "say", return_raw)]
    pub fn say_with(context: NativeCallContext, c: ChatHandle, text: &str, options: Map) -> Fallible<String> {
        let options = Options::new(options, &SAY)?;
        let state = State::of(&context)?;
        let mut listener = Listener::new(&context, &state, &options)?;
        let sampling = sampling(&options, &state)?;
        let mut chat = lock(&c)?;
        let outcome = chat.say(text, &sampling, &mut |piece| listener.receive(piece))?;
        let llm = chat.model().llm.clone();
        drop(chat);
        listener.end()?;
        report_full_context(&state, &llm, &sampling, std::slice::from_ref(&outcome));
        Ok(outcome.text)
    }

    /// Why the last answer ended: `stop` (the model ended it), `length` (`max_new_tokens`, or the end of the context),
    /// `cancelled` (a `stream` function returned `false`); `()` before the first.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat();
    /// c.say("Say yes.", #{ max_new_tokens: 2 });
    /// print(c.finish);  // length
    /// ```
    #[rhai_fn(get = "finish", pure, return_raw)]
    pub fn finish(c: &mut ChatHandle) -> Fallible<Dynamic> {
        Ok(lock(c)?.finish().map_or(Dynamic::UNIT, |finish| finish.name().into()))
    }

    /// The turns so far.
    ///
    /// ```rhai
    /// let c = load("tests/fixtures/training/checkpoint").chat();
    /// c.say("Say yes.", #{ max_new_tokens: 2 });
    /// print(c.history[0].value);
    /// ```
    #[rhai_fn(get = "history", pure, return_raw)]
    pub fn history(c: &mut ChatHandle) -> Fallible<Array> {
        Ok(convert::turns_array(lock(c)?.history()))
    }
}

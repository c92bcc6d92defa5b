//! The options of everything that generates, and who receives the answer while it is generated.

use rhai::{EvalAltResult, FnPtr, NativeCallContext};

use super::Fallible;
use crate::error::Result;
use crate::events::Event;
use crate::script::convert::{Options, shown};
use crate::script::state::State;
use crate::vlm::Llm;
use crate::vlm::generate::{Outcome, Sampling};
use crate::{bail, error};

/// `max_new_tokens`, `temperature`, `top_p`, `top_k`, `seed` of an option map.
pub(super) fn sampling(options: &Options, state: &State) -> Result<Sampling> {
    let sampling = Sampling {
        max_new_tokens: state.fitting().new_tokens(options.get("max_new_tokens")?),
        temperature: options.get("temperature")?,
        top_k: options.get("top_k")?,
        top_p: options.get("top_p")?,
        seed: options.get::<Option<usize>>("seed")?.map_or_else(|| state.seed(), |seed| seed as u64),
    };
    if sampling.max_new_tokens == 0 {
        bail!(Option, "option `max_new_tokens` is 0, it must be above 0");
    }
    if !sampling.temperature.is_finite() || sampling.temperature < 0.0 {
        bail!(Option, "option `temperature` is {}, it must not be below 0", sampling.temperature);
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        bail!(Option, "option `top_p` is {}, it must be above 0 and at most 1", sampling.top_p);
    }
    Ok(sampling)
}

/// Warns where answers ended only because the context did.
pub(super) fn report_full_context(state: &State, llm: &Llm, sampling: &Sampling, outcomes: &[Outcome]) {
    let full = outcomes.iter().filter(|outcome| outcome.filled_context(sampling)).count();
    if full == 0 {
        return;
    }
    let which =
        if outcomes.len() == 1 { "the answer".to_string() } else { format!("{full} of {} answers", outcomes.len()) };
    let context = llm.context();
    let text = format!(
        "{which} ended before `max_new_tokens` ({}), as the context of {context} is full (finish reason `length`)",
        sampling.max_new_tokens
    );
    state.listeners().tell(&Event::Warning { text });
}

/// Who receives an answer.
enum Audience {
    Nobody,
    /// The session's output.
    Output,
    /// A function that gets every piece; `false` stops.
    Function(FnPtr),
}

/// Passes pieces of an answer on, and stops when somebody pressed Ctrl-C.
pub(super) struct Listener<'a> {
    context: &'a NativeCallContext<'a>,
    state: &'a State,
    audience: Audience,
    failed: Option<Box<EvalAltResult>>,
}

impl<'a> Listener<'a> {
    /// From option `stream`: true, false, or a function.
    pub(super) fn new(context: &'a NativeCallContext<'a>, state: &'a State, options: &Options) -> Result<Self> {
        let audience = match options.value("stream") {
            None => Audience::Nobody,
            Some(value) if value.is_unit() || value.as_bool() == Ok(false) => Audience::Nobody,
            Some(value) if value.as_bool() == Ok(true) => Audience::Output,
            Some(value) => match value.clone().try_cast::<FnPtr>() {
                Some(function) => Audience::Function(function),
                None => {
                    let message =
                        error!(Option, "option `stream` is {}, expected true, false or a function", shown(&value));
                    return Err(
                        message.help("`stream: |piece| print(piece)` receives the answer while it is generated")
                    );
                }
            },
        };
        Ok(Listener { context, state, audience, failed: None })
    }

    /// Receives what the answer has grown by, maybe nothing; `false` stops.
    pub(super) fn receive(&mut self, piece: &str) -> bool {
        match &self.audience {
            _ if piece.is_empty() => {}
            Audience::Nobody => {}
            Audience::Output => self.state.output().fragment(piece),
            Audience::Function(function) => {
                match function.call_within_context::<rhai::Dynamic>(self.context, (piece.to_string(),)) {
                    Ok(answer) if answer.as_bool() == Ok(false) => return false,
                    Ok(_) => {}
                    Err(error) => {
                        self.failed = Some(error);
                        return false;
                    }
                }
            }
        }
        !self.state.interrupt().is_set()
    }

    /// Ends the line; gives the error of the function that was called, if it failed.
    pub(super) fn end(self) -> Fallible<()> {
        if matches!(self.audience, Audience::Output) {
            self.state.output().text("");
        }
        self.failed.map_or(Ok(()), Err)
    }
}

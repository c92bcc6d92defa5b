//! The options of everything that generates, and who receives the answer while it is generated.

use rhai::{EvalAltResult, FnPtr, NativeCallContext};

use super::Fallible;
use crate::error::Result;
use crate::script::convert::{Options, shown};
use crate::script::state::State;
use crate::vlm::generate::Sampling;
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

    /// Receives the next piece of the answer, possibly an empty one; `false` stops.
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

//! LLMs on their own: facts, logits, generation from plain text.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use super::sampling::{Listener, report_full_context, sampling};
use crate::error::Result;
use crate::nn::packing::Packing;
use crate::script::convert::{Options, ids};
use crate::script::handles::{LlmHandle, TensorHandle, TokenizerHandle, dtype_name};
use crate::script::options::GENERATE;
use crate::script::state::State;
use crate::vlm::generate::complete;
use crate::{bail, device, error};

fn generate_text(context: &NativeCallContext, llm: &LlmHandle, text: &str, options: Map) -> Fallible<String> {
    let options = Options::new(options, &GENERATE)?;
    let state = State::of(context)?;
    let mut listener = Listener::new(context, &state, &options)?;
    let sampling = sampling(&options, &state)?;
    let outcome = complete(&llm.0, text, &sampling, &mut |piece| listener.receive(piece))?;
    listener.end()?;
    report_full_context(&state, &llm.0, &sampling, std::slice::from_ref(&outcome));
    Ok(outcome.text)
}

fn logits_of(llm: &LlmHandle, array: &Array) -> Result<TensorHandle> {
    llm.0.ready()?;
    let model = &llm.0.model;
    let context = model.spec().context;
    let ids = ids(array)?;
    if ids.is_empty() || ids.len() > context {
        bail!(Data, "{} ids, expected from 1 to the context of {context}", ids.len());
    }
    let whole = |id: i64| u32::try_from(id).map_err(|_| error!(Data, "{id} is not a token id"));
    let ids: Arc<[u32]> = ids.into_iter().map(whole).collect::<Result<_>>()?;
    llm.0.check_ids(&ids)?;
    llm.0.params.set_trainable(false)?;
    let hidden = model.hidden(&model.embed(&ids)?, &Packing::whole(&[ids.len()]), None)?;
    Ok(TensorHandle(model.logits(&hidden)?))
}

#[export_module]
pub mod llm {
    /// The preset id or folder it was opened by.
    #[rhai_fn(get = "id", pure)]
    pub fn id(lm: &mut LlmHandle) -> String {
        lm.0.id.clone()
    }

    /// Hidden size.
    #[rhai_fn(get = "width", pure)]
    pub fn width(lm: &mut LlmHandle) -> i64 {
        lm.0.width() as i64
    }

    /// Number of blocks.
    #[rhai_fn(get = "layers", pure)]
    pub fn layers(lm: &mut LlmHandle) -> i64 {
        lm.0.model.spec().layers as i64
    }

    /// Rows of the embedding.
    #[rhai_fn(get = "vocab", pure)]
    pub fn vocab(lm: &mut LlmHandle) -> i64 {
        lm.0.model.spec().vocab as i64
    }

    /// Longest sequence, visual tokens included.
    #[rhai_fn(get = "context", pure)]
    pub fn context_length(lm: &mut LlmHandle) -> i64 {
        lm.0.context() as i64
    }

    /// Number of weights.
    #[rhai_fn(get = "params", pure)]
    pub fn params(lm: &mut LlmHandle) -> i64 {
        lm.0.params.count() as i64
    }

    /// Bytes of its weights by the type they are stored in.
    ///
    /// ```rhai
    /// print(llm("tiny-llama", #{ quantize: "q8_0" }).storage);
    /// ```
    #[rhai_fn(get = "storage", pure)]
    pub fn storage(lm: &mut LlmHandle) -> Map {
        lm.0.storage().into_iter().map(|(name, bytes)| (name.into(), Dynamic::from_int(bytes as i64))).collect()
    }

    /// Names of the checkpoint's tensors that no layer uses; `save` keeps them. Those that may matter are reported when it is
    /// opened.
    ///
    /// ```rhai
    /// print(llm("tiny-llama").unused);  // []
    /// ```
    #[rhai_fn(get = "unused", pure)]
    pub fn unused(lm: &mut LlmHandle) -> Array {
        lm.0.unused.iter().map(|(name, _)| Dynamic::from(name.clone())).collect()
    }

    /// Its tokenizer.
    ///
    /// ```rhai
    /// print(llm("tiny-llama").tokenizer.encode("what color is the shape?"));
    /// ```
    #[rhai_fn(get = "tokenizer", pure, return_raw)]
    pub fn tokenizer(lm: &mut LlmHandle) -> Fallible<TokenizerHandle> {
        Ok(TokenizerHandle(lm.0.tokenizer()?.clone()))
    }

    /// The name of the template it was made for, or `()`.
    #[rhai_fn(get = "template", pure)]
    pub fn template(lm: &mut LlmHandle) -> Dynamic {
        lm.0.template.clone().map_or(Dynamic::UNIT, Dynamic::from)
    }

    /// The dtype it computes in.
    #[rhai_fn(get = "dtype", pure)]
    pub fn dtype(lm: &mut LlmHandle) -> String {
        dtype_name(lm.0.target().dtype).to_string()
    }

    /// Where it computes.
    #[rhai_fn(get = "device", pure)]
    pub fn device(lm: &mut LlmHandle) -> String {
        device::device_name(&lm.0.target().device)
    }

    /// Logits of every position, (ids, vocab).
    ///
    /// ```rhai
    /// let lm = llm("tiny-llama");
    /// print(lm.logits(lm.tokenizer.encode("a red circle")).shape);
    /// ```
    #[rhai_fn(name = "logits", return_raw)]
    pub fn logits(lm: LlmHandle, ids: Array) -> Fallible<TensorHandle> {
        Ok(logits_of(&lm, &ids)?)
    }

    /// Continues a text; no chat template, the new text alone.
    ///
    /// ```rhai
    /// print(llm("tiny-llama").generate("a red"));
    /// ```
    #[rhai_fn(name = "generate", return_raw)]
    pub fn generate(context: NativeCallContext, lm: LlmHandle, text: &str) -> Fallible<String> {
        generate_text(&context, &lm, text, Map::new())
    }

    /// The same with options.
    ///
    /// ```rhai
    /// print(llm("tiny-llama").generate("a red", #{ max_new_tokens: 4, temperature: 1, top_k: 5, seed: 3 }));
    /// ```
    #[rhai_fn(name = "generate", return_raw)]
    pub fn generate_with(context: NativeCallContext, lm: LlmHandle, text: &str, options: Map) -> Fallible<String> {
        generate_text(&context, &lm, text, options)
    }
}

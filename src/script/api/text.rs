//! Tokenizers and templates.

use rhai::plugin::*;
use rhai::{Array, Map, NativeCallContext};

use super::Fallible;
use crate::error::Result;
use crate::preset::PresetKind;
use crate::script::convert;
use crate::script::handles::{TemplateHandle, TokenizerHandle};
use crate::script::state::State;
use crate::text::{Template, Tokenizer};
use crate::{bail, error};

fn array_of(ids: impl IntoIterator<Item = i64>) -> Array {
    ids.into_iter().map(Dynamic::from_int).collect()
}

fn token_ids(array: &Array) -> Result<Vec<u32>> {
    let as_token = |id: i64| u32::try_from(id).map_err(|_| error!(Data, "{id} is not a token id"));
    convert::ids(array)?.into_iter().map(as_token).collect()
}

fn open(state: &State, id: &str) -> Result<TokenizerHandle> {
    let id = state.places().id(PresetKind::Llms, id)?;
    let place = state.places().read(&id)?;
    if place.exists() {
        let tokenizer = Tokenizer::open(&place)?;
        state.tell_notes(tokenizer.notes());
        return Ok(TokenizerHandle(tokenizer));
    }
    if id.contains('/') && !crate::hub::is_id(&id) {
        bail!(Missing, "no file or folder `{id}`");
    }
    Ok(TokenizerHandle(crate::vlm::Llm::tokenizer_of(state.presets(), &id)?))
}

#[export_module]
pub mod text {
    /// Opens a tokenizer: a `tokenizer.json`, a `tokenizer.model` (SentencePiece, or tiktoken as Llama-3 has it), a GGUF
    /// file, a folder that holds one of the first two, or an LLM's preset or hub id.
    ///
    /// ```rhai
    /// let t = tokenizer("tiny-llama");
    /// print(t.decode(t.encode("a red circle")));
    /// ```
    #[rhai_fn(name = "tokenizer", return_raw)]
    pub fn tokenizer(context: NativeCallContext, id: &str) -> Fallible<TokenizerHandle> {
        Ok(open(&State::of(&context)?, id)?)
    }

    /// Ids of a text; the file's own rule says whether a BOS is added.
    #[rhai_fn(name = "encode", return_raw)]
    pub fn encode(t: TokenizerHandle, text: &str) -> Fallible<Array> {
        Ok(array_of(t.0.encode(text)?.into_iter().map(i64::from)))
    }

    /// Text of ids, without special tokens.
    #[rhai_fn(name = "decode", return_raw)]
    pub fn decode(t: TokenizerHandle, ids: Array) -> Fallible<String> {
        Ok(t.0.decode(&token_ids(&ids)?)?)
    }

    /// Number of tokens, added ones included.
    #[rhai_fn(get = "vocab", pure)]
    pub fn vocab(t: &mut TokenizerHandle) -> i64 {
        t.0.vocab() as i64
    }

    /// Opens a chat template: `plain v1 llama_3 llama_3_1 phi_4 gemma_2 mistral_instruct deepseek_r1 chatml tiny`.
    ///
    /// ```rhai
    /// let r = template("tiny").render(tokenizer("tiny-llama"), [
    ///     #{ from: "human", value: "<image>\nwhat color is the shape?" }, #{ from: "gpt", value: "red" }]);
    /// print(r.text);
    /// print(r.labels);
    /// ```
    #[rhai_fn(name = "template", return_raw)]
    pub fn template(context: NativeCallContext, name: &str) -> Fallible<TemplateHandle> {
        let state = State::of(&context)?;
        let id = state.places().id(PresetKind::Templates, name)?;
        Ok(TemplateHandle(Template::load(state.presets(), &id)?))
    }

    /// The template's name.
    #[rhai_fn(get = "name", pure)]
    pub fn name(t: &mut TemplateHandle) -> String {
        t.0.name().to_string()
    }

    /// A conversation for training: `#{ text, ids, labels }`; -200 marks the image, -100 an unsupervised position.
    #[rhai_fn(name = "render", return_raw)]
    pub fn render(
        context: NativeCallContext,
        t: TemplateHandle,
        tokenizer: TokenizerHandle,
        turns: Array,
    ) -> Fallible<Map> {
        let template = State::of(&context)?.fitting().writable(t.0, &tokenizer.0)?;
        let rendered = template.render(&tokenizer.0, &convert::turns(&turns)?)?;
        let mut map = Map::new();
        map.insert("text".into(), rendered.text.into());
        map.insert("ids".into(), Dynamic::from_array(array_of(rendered.ids)));
        map.insert("labels".into(), Dynamic::from_array(array_of(rendered.labels)));
        Ok(map)
    }

    /// The ids to generate an answer from.
    #[rhai_fn(name = "prompt", return_raw)]
    pub fn prompt(
        context: NativeCallContext,
        t: TemplateHandle,
        tokenizer: TokenizerHandle,
        turns: Array,
    ) -> Fallible<Array> {
        let template = State::of(&context)?.fitting().writable(t.0, &tokenizer.0)?;
        Ok(array_of(template.prompt(&tokenizer.0, &convert::turns(&turns)?)?))
    }
}

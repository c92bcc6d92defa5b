//! Whole models: facts, logits, loss, saving.

use rhai::plugin::*;
use rhai::{Array, Map};

use super::Fallible;
use crate::error;
use crate::events::Event;
use crate::script::convert::{self, Options};
use crate::script::handles::{
    EncoderHandle, LlmHandle, ProjectorHandle, TableHandle, TemplateHandle, TensorHandle, VlmHandle,
};
use crate::script::options::{SAVE, SAVE_ENCODER};
use crate::script::state::State;
use crate::show::{Cell, Table, count};

fn save_tower(state: &State, e: &EncoderHandle, folder: &str, overwrite: bool) -> Fallible<()> {
    Ok(state.places().write_model(folder, overwrite, |folder| e.0.save(folder))?)
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
        .row(part("all", format!("template {}", vlm.template().name()), vlm.params()))
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
        ProjectorHandle { choice: part.choice.clone(), part: Some(part) }
    }

    /// Its LLM.
    #[rhai_fn(get = "llm", pure)]
    pub fn llm(m: &mut VlmHandle) -> LlmHandle {
        LlmHandle(m.0.llm.clone())
    }

    /// The template it is asked and saved by: what it was made with, or trained by last.
    #[rhai_fn(get = "template", pure)]
    pub fn template(m: &mut VlmHandle) -> TemplateHandle {
        TemplateHandle(m.0.template())
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

    /// Logits of every position of a conversation after splicing, (positions, vocab); for a picture, several (an
    /// array, each with a mark in a turn of its own), or none.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    /// print(m.logits(image("tests/fixtures/images/red-circle.png"), turns).shape);
    /// ```
    #[rhai_fn(name = "logits", return_raw)]
    pub fn logits(m: VlmHandle, image: Dynamic, turns: Array) -> Fallible<TensorHandle> {
        Ok(TensorHandle(m.0.logits(&convert::images(&image)?, &convert::turns(&turns)?)?))
    }

    /// Mean cross-entropy over the supervised positions of a conversation; pictures as for `logits`.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// let turns = [#{ from: "human", value: "<image>\nIs it red?" }, #{ from: "gpt", value: "Yes" }];
    /// print(m.loss(image("tests/fixtures/images/red-circle.png"), turns));
    /// ```
    #[rhai_fn(name = "loss", return_raw)]
    pub fn loss(m: VlmHandle, image: Dynamic, turns: Array) -> Fallible<f64> {
        Ok(m.0.loss(&convert::images(&image)?, &convert::turns(&turns)?)?)
    }

    /// Saves the model as a LLaVA-MORE checkpoint folder that `load` opens. Into a folder that holds another model: all files
    /// of that give way, other files stay, and a save that fails leaves it as it was.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// m.save("target/example-model");
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save(context: NativeCallContext, m: VlmHandle, folder: &str) -> Fallible<()> {
        Ok(State::of(&context)?.places().write_model(folder, false, |folder| m.0.save(folder))?)
    }

    /// The same with options. Layout "transformers" adds an `<image>` token where the tokenizer has none, and cannot express
    /// `s2` and projectors other than an `mlp2x_gelu` without `pool`. The adapter of a LoRA training is added to the weights that are written; `merge: false`
    /// writes the adapter alone instead, with the projector beside it, and its base, too, where that is not what its name opens
    /// (trained before, random).
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// m.save("target/example-transformers", #{ layout: "transformers" });
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_with(context: NativeCallContext, m: VlmHandle, folder: &str, options: Map) -> Fallible<()> {
        let options = Options::new(options, &SAVE)?;
        let state = State::of(&context)?;
        let (layout, merge): (String, bool) = (options.get("layout")?, options.get("merge")?);
        let write = |folder: &_| match (layout.as_str(), merge) {
            ("llava-more", true) => m.0.save(folder),
            ("llava-more", false) => {
                if let Some(text) = m.0.save_adapter(folder, false)? {
                    state.listeners().tell(&Event::Warning { text });
                }
                Ok(())
            }
            (layout, false) => Err(error!(Option, "`merge: false` has a layout of its own, not `{layout}`")),
            _ => {
                if let Some(note) = m.0.save_transformers(folder)? {
                    state.output().text(&format!("note: {note}"));
                }
                Ok(())
            }
        };
        Ok(state.places().write_model(folder, options.get("overwrite")?, write)?)
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
    pub fn save_encoder(context: NativeCallContext, e: EncoderHandle, folder: &str) -> Fallible<()> {
        save_tower(&State::of(&context)?, &e, folder, false)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// load("tests/fixtures/training/checkpoint").encoder.save("target/example-tower", #{ overwrite: true });
    /// ```
    #[rhai_fn(name = "save", return_raw)]
    pub fn save_encoder_with(context: NativeCallContext, e: EncoderHandle, folder: &str, options: Map) -> Fallible<()> {
        let overwrite = Options::new(options, &SAVE_ENCODER)?.get("overwrite")?;
        save_tower(&State::of(&context)?, &e, folder, overwrite)
    }
}

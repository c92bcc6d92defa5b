//! Building models: `encoder`, `llm`, `projector`, `vlm`, `load`.

use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::Fallible;
use crate::error::Result;
use crate::image::Aspect;
use crate::models::projectors::pool::PoolKind;
use crate::models::projectors::{Kind, POOLING, TOKENS};
use crate::models::registry::Target;
use crate::preset::PresetKind;
use crate::script::convert::Options;
use crate::script::handles::{EncoderHandle, LlmHandle, ProjectorHandle, VlmHandle};
use crate::script::options::{COMPOSE, COMPOSE_PRESET, ENCODER, LLM, LOAD, PROJECTOR};
use crate::script::state::State;
use crate::text::{Template, Tokenizer};
use crate::train::Run;
use crate::vlm::checkpoint::{self, LoadOptions};
use crate::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ModelPreset, ProjectorChoice, Select, Vlm, Weights};
use crate::weights::Quantize;
use crate::{bail, error};

/// dtype and device of an option map.
pub(super) fn target(state: &State, options: &Options) -> Result<Target> {
    state.fitting().target(&options.get::<String>("dtype")?, &options.get::<String>("device")?)
}

/// The same, for parts whose linear layers can be quantized.
fn quantized_target(state: &State, options: &Options) -> Result<Target> {
    let quantize = options.get::<Option<String>>("quantize")?.map(|name| Quantize::parse(&name)).transpose()?;
    Ok(Target { quantize: state.fitting().quantize(quantize), ..target(state, options)? })
}

/// `weights: "random"` or `"none"`; stored weights are the default.
fn weights(options: &Options) -> Result<Weights> {
    Ok(match options.get::<Option<String>>("weights")?.as_deref() {
        Some("random") => Weights::Random,
        Some(_) => Weights::None,
        None => Weights::Stored,
    })
}

fn seed(options: &Options, state: &State) -> Result<u64> {
    Ok(options.get::<Option<usize>>("seed")?.map_or_else(|| state.seed(), |seed| seed as u64))
}

fn open_encoder(state: &State, id: &str, map: Map) -> Result<EncoderHandle> {
    let options = Options::new(map, &ENCODER)?;
    let select = options.get::<Option<String>>("select")?.map(|name| Select::parse(&name)).transpose()?;
    let mut options = EncoderOptions {
        select_layer: options.get("select_layer")?,
        select,
        s2: options.get("s2")?,
        weights: weights(&options)?,
        seed: seed(&options, state)?,
        target: target(state, &options)?,
    };
    let opened = state.places().id(PresetKind::Encoders, id)?;
    if opened != id {
        state.fitting().encoder(&opened, &mut options)?;
    }
    let encoder = Encoder::open(state.presets(), &opened, options)?;
    state.tell_notes(encoder.origin.config.notes());
    Ok(EncoderHandle(Arc::new(encoder)))
}

fn open_llm(state: &State, id: &str, map: Map) -> Result<LlmHandle> {
    let options = Options::new(map, &LLM)?;
    let (weights, seed) = (weights(&options)?, seed(&options, state)?);
    let options = LlmOptions { weights, seed, target: quantized_target(state, &options)? };
    let id = state.places().id(PresetKind::Llms, id)?;
    let llm = Llm::open(state.presets(), &id, options)?;
    state.tell_notes(llm.origin.config.notes());
    Ok(LlmHandle(Arc::new(llm)))
}

fn compose(
    state: &State,
    encoder: EncoderHandle,
    projector: ProjectorHandle,
    llm: LlmHandle,
    map: Map,
) -> Result<VlmHandle> {
    let options = Options::new(map, &COMPOSE)?;
    let named = state.fitting().template(options.get("template")?, &|| llm.0.tokenizer().ok().cloned())?;
    let by_hand = named.is_some();
    let Some(template) = named.or_else(|| llm.0.template.clone()) else {
        return Err(error!(Option, "LLM `{}` does not say which template it was made for", llm.0.id)
            .help("name it: `vlm(encoder, projector, llm, #{ template: \"llama_3_1\" })`"));
    };
    let template = Template::load(state.presets(), &template)?;
    let aspect = Aspect::parse(&options.get::<String>("image")?)?;
    let seed = seed(&options, state)?;
    let vlm = Vlm::compose(encoder.0, &projector.choice, llm.0, template, aspect, seed)?;
    if by_hand {
        vlm.choose_by_hand(None);
    }
    finished(state, vlm, &options)
}

/// The parts of a model preset with a new projector.
fn compose_preset(state: &State, id: &str, map: Map) -> Result<VlmHandle> {
    let options = Options::new(map, &COMPOSE_PRESET)?;
    let weights = weights(&options)?;
    let preset = ModelPreset::open(state.presets(), &state.places().id(PresetKind::Models, id)?)?;
    let template = preset_template(state, &preset, &options)?;
    let (seed, target) = (seed(&options, state)?, target(state, &options)?);
    finished(state, preset.compose(state.presets(), template.as_deref(), weights, seed, &target)?, &options)
}

/// The option `template`; whether a stand-in can write it is seen by its tokenizer.
fn preset_template(state: &State, preset: &ModelPreset, options: &Options) -> Result<Option<String>> {
    let tokenizer = || Llm::tokenizer_of(state.presets(), &preset.llm).ok();
    state.fitting().template(options.get("template")?, &tokenizer)
}

fn open_model(state: &State, path: &str, map: Map) -> Result<VlmHandle> {
    let options = Options::new(map, &LOAD)?;
    let (weights, target) = (weights(&options)?, quantized_target(state, &options)?);
    let presets = state.presets();
    let (id, place) = state.places().model(path)?;
    let base: Option<String> = options.get("base")?;
    if presets.contains(PresetKind::Models, &id) {
        // What stands in for a folder has no use for the folder's base.
        if base.is_some() && place.is(path) {
            return Err(error!(Option, "load: `base` goes with a folder without an LLM, `{path}` is a preset"));
        }
        let template = preset_template(state, &ModelPreset::open(presets, &id)?, &options)?;
        let seed = seed(&options, state)?;
        return finished(
            state,
            ModelPreset::load(presets, &id, template.as_deref(), weights, seed, &target)?,
            &options,
        );
    }
    if weights != Weights::Stored {
        return Err(error!(Option, "load: `weights` goes with a model preset, `{path}` is none")
            .help("`presets(\"models\")` lists them"));
    }
    let template = state.fitting().template(options.get("template")?, &|| Tokenizer::open(&place).ok())?;
    let base = base.map_or(Ok(None), |base| state.places().base(&base))?;
    let mut vlm = checkpoint::open_with(presets, &id, &LoadOptions { template, base }, &target)?;
    // The run a checkpoint lies in knows what its parts were called.
    let run = place.parent().and_then(|folder| Run::open(folder).ok()?.lock().ok());
    vlm.opened.made_of = run.map_or(String::new(), |lock| lock.model);
    finished(state, vlm, &options)
}

/// Tells what opening found; `reference_quirks: true` asks as the released inference does.
fn finished(state: &State, vlm: Vlm, options: &Options) -> Result<VlmHandle> {
    if options.get("reference_quirks")? {
        vlm.take_reference_quirks();
    }
    state.tell_notes(&vlm.notes);
    Ok(VlmHandle(Arc::new(vlm)))
}

pub(super) fn choose_projector(state: &State, name: &str, map: Map) -> Result<ProjectorHandle> {
    let kind = Kind::of(name)?;
    let mut choice = ProjectorChoice::new(state.fitting().projector(name))?;
    let options = Options::new(map, &PROJECTOR)?;
    if let Some(spec) = PROJECTOR.specs().find(|spec| !kind.takes(spec.key) && options.value(spec.key).is_some()) {
        return Err(choice.lacks(spec.key));
    }
    let count = |key: &str| -> Result<Option<usize>> {
        let count = options.get::<Option<usize>>(key)?;
        Ok(if key == TOKENS { count.map(|tokens| state.fitting().pooled(tokens)) } else { count })
    };
    if kind.pools() {
        match (options.get::<Option<String>>(POOLING)?, count(TOKENS)?) {
            (None, None) => {}
            (Some(pool), Some(tokens)) => choice = choice.pooled(PoolKind::parse(&pool)?, tokens)?,
            _ => bail!(Option, "projector: `pool` and `tokens` go together"),
        }
    }
    for number in kind.numbers {
        if let Some(value) = count(number.spec.key)? {
            choice = choice.with(number.spec.key, value)?;
        }
    }
    Ok(ProjectorHandle { choice, part: None })
}

#[export_module]
pub mod build {
    /// Opens a vision encoder: a preset id, a folder in Hugging Face layout, or a hub id (`org/name`, `org/name@revision`).
    ///
    /// ```rhai
    /// let e = encoder("tiny-clip");
    /// print(`${e.tokens} tokens of width ${e.width}`);
    /// ```
    #[rhai_fn(name = "encoder", return_raw)]
    pub fn encoder(context: NativeCallContext, id: &str) -> Fallible<EncoderHandle> {
        Ok(open_encoder(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens a vision encoder with options. With `s2` the picture is seen at several scales.
    ///
    /// ```rhai
    /// let e = encoder("tiny-clip", #{ select_layer: -1, select: "cls_patch" });
    /// print(e.tokens);  // 65
    /// let e = encoder("tiny-clip", #{ s2: [64, 128] });
    /// print(`${e.tokens} tokens of width ${e.width} from ${e.image_size} pixels`);  // 64, 192, 128
    /// ```
    #[rhai_fn(name = "encoder", return_raw)]
    pub fn encoder_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<EncoderHandle> {
        Ok(open_encoder(&State::of(&context)?, id, options)?)
    }

    /// Opens an LLM: a preset id, a folder in Hugging Face layout, a GGUF file (of several parts any one), which becomes f32,
    /// or a hub id (`org/name`, `org/name@revision`). float8 weights are computed with their scales; weights quantized in
    /// other formats are refused by name. A folder that holds an adapter alone, as PEFT writes it, opens with the base it names.
    ///
    /// ```rhai
    /// let lm = llm("tiny-llama");
    /// print(lm);
    /// ```
    #[rhai_fn(name = "llm", return_raw)]
    pub fn llm(context: NativeCallContext, id: &str) -> Fallible<LlmHandle> {
        Ok(open_llm(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens an LLM with options. With `quantize`, rows that do not fit the 256 values of a k type get q8_0, others stay as
    /// they are; a warning and `storage` say what became of them.
    ///
    /// ```rhai
    /// let lm = llm("tiny-llama", #{ seed: 1 });
    /// print(lm.params);
    /// ```
    #[rhai_fn(name = "llm", return_raw)]
    pub fn llm_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<LlmHandle> {
        Ok(open_llm(&State::of(&context)?, id, options)?)
    }

    /// Names a projector: `mlp2x_gelu` (any depth), `linear`, `identity` or `resampler`. Its widths are those of what it joins.
    ///
    /// ```rhai
    /// let p = projector("mlp2x_gelu");
    /// ```
    #[rhai_fn(name = "projector", return_raw)]
    pub fn projector(context: NativeCallContext, name: &str) -> Fallible<ProjectorHandle> {
        Ok(choose_projector(&State::of(&context)?, name, Map::new())?)
    }

    /// Names a projector with options. `pool` reduces the visual tokens of a picture to a smaller grid in front of `mlp2x_gelu`,
    /// `linear` and `identity`. `resampler` is Flamingo's perceiver: learned queries attend to all features of a picture,
    /// whatever their number. Its tokens have no place in the picture, so `m.attention` has no map of them.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
    /// print(m);
    /// print(vlm(m.encoder, projector("resampler", #{ tokens: 16, layers: 2 }), m.llm));  // tiny-clip -> resampler (16 tokens, ...
    /// ```
    #[rhai_fn(name = "projector", return_raw)]
    pub fn projector_with(context: NativeCallContext, name: &str, options: Map) -> Fallible<ProjectorHandle> {
        Ok(choose_projector(&State::of(&context)?, name, options)?)
    }

    /// Joins an encoder, a projector and an LLM; widths, context and template are checked here.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu"), llm("tiny-llama"));
    /// print(m);
    /// ```
    #[rhai_fn(name = "vlm", return_raw)]
    pub fn vlm(
        context: NativeCallContext,
        encoder: EncoderHandle,
        projector: ProjectorHandle,
        llm: LlmHandle,
    ) -> Fallible<VlmHandle> {
        Ok(compose(&State::of(&context)?, encoder, projector, llm, Map::new())?)
    }

    /// Joins parts with options; `seed` is that of the projector's first weights. A model with a `template` is trained by it.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("linear"), llm("tiny-llama"), #{ seed: 1, image: "square" });
    /// ```
    #[rhai_fn(name = "vlm", return_raw)]
    pub fn vlm_with(
        context: NativeCallContext,
        encoder: EncoderHandle,
        projector: ProjectorHandle,
        llm: LlmHandle,
        options: Map,
    ) -> Fallible<VlmHandle> {
        Ok(compose(&State::of(&context)?, encoder, projector, llm, options)?)
    }

    /// Joins the parts of a model preset (`presets("models")`), each with its own weights, and a new projector: where
    /// stage 1 of a published row begins.
    ///
    /// ```rhai
    /// print(vlm("tiny-llava"));
    /// ```
    #[rhai_fn(name = "vlm", return_raw)]
    pub fn vlm_of_preset(context: NativeCallContext, id: &str) -> Fallible<VlmHandle> {
        Ok(compose_preset(&State::of(&context)?, id, Map::new())?)
    }

    /// The same with options.
    ///
    /// ```rhai
    /// print(vlm("llava-more-phi-4-mini-clip", #{ weights: "none" }).params);
    /// ```
    #[rhai_fn(name = "vlm", return_raw)]
    pub fn vlm_of_preset_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<VlmHandle> {
        Ok(compose_preset(&State::of(&context)?, id, options)?)
    }

    /// Opens a whole model: a preset id (`presets("models")`), a checkpoint folder of LLaVA-MORE or of transformers'
    /// `LlavaForConditionalGeneration`, or its hub id.
    ///
    /// ```rhai
    /// let m = load("tests/fixtures/training/checkpoint");
    /// print(m);
    /// ```
    #[rhai_fn(name = "load", return_raw)]
    pub fn load(context: NativeCallContext, path: &str) -> Fallible<VlmHandle> {
        Ok(open_model(&State::of(&context)?, path, Map::new())?)
    }

    /// Opens a whole model with options; `weights` and `seed` go with a model preset only.
    ///
    /// ```rhai
    /// print(load("llava-more-llama-3.1-8b-siglip", #{ weights: "none" }));
    /// let m = load("tests/fixtures/training/checkpoint", #{ template: "plain" });
    /// ```
    #[rhai_fn(name = "load", return_raw)]
    pub fn load_with(context: NativeCallContext, path: &str, options: Map) -> Fallible<VlmHandle> {
        Ok(open_model(&State::of(&context)?, path, options)?)
    }
}

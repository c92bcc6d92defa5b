//! Building models: `encoder`, `llm`, `projector`, `vlm`, `load`.

use std::path::Path;
use std::sync::Arc;

use rhai::plugin::*;
use rhai::{Map, NativeCallContext};

use super::Fallible;
use crate::error::{Error, Result};
use crate::image::Aspect;
use crate::models::projectors::pool::PoolKind;
use crate::models::projectors::{Kind, TOKENS};
use crate::models::registry::Target;
use crate::preset::PresetKind;
use crate::script::convert::Options;
use crate::script::handles::{EncoderHandle, LlmHandle, ProjectorHandle, VlmHandle};
use crate::script::state::State;
use crate::text::{Template, Tokenizer};
use crate::train::Run;
use crate::vlm::checkpoint::{self, LoadOptions};
use crate::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ModelPreset, ProjectorChoice, Select, Vlm, Weights};
use crate::weights::Quantize;
use crate::{bail, device, error};

/// dtype and device of an option map; f32 on the CPU is the default, and what smoke runs take.
pub(super) fn target(state: &State, options: &Options) -> Result<Target> {
    let dtype = device::dtype(&options.string("dtype")?.unwrap_or_else(|| "f32".to_string()))?;
    if state.smoke() {
        return Ok(Target::cpu());
    }
    let device = device::device(&options.string("device")?.unwrap_or_else(|| "cpu".to_string()))?;
    Ok(Target { dtype, device, quantize: None })
}

/// The same, for parts whose linear layers can be quantized.
fn quantized_target(state: &State, options: &Options) -> Result<Target> {
    let quantize = options.string("quantize")?.map(|name| Quantize::parse(&name)).transpose()?;
    // Stand-ins are not GGUF files, whose blocks could be kept.
    let quantize = quantize.filter(|quantize| !state.smoke() || *quantize != Quantize::Keep);
    Ok(Target { quantize, ..target(state, options)? })
}

/// `weights: "random"` or `"none"`; stored weights are the default.
fn weights(options: &Options) -> Result<Weights> {
    match options.string("weights")?.as_deref() {
        None => Ok(Weights::Stored),
        Some("random") => Ok(Weights::Random),
        Some("none") => Ok(Weights::None),
        Some(other) => Err(Error::unknown("kind of weights", other, &["random", "none"], "")),
    }
}

fn seed(options: &Options, state: &State) -> Result<u64> {
    Ok(options.count("seed")?.map_or_else(|| state.seed(), |seed| seed as u64))
}

fn open_encoder(state: &State, id: &str, map: Map) -> Result<EncoderHandle> {
    let keys = ["select_layer", "select", "s2", "weights", "seed", "dtype", "device"];
    let options = Options::new(map, "encoder", &keys)?;
    let select = options.string("select")?.map(|name| Select::parse(&name)).transpose()?;
    let mut options = EncoderOptions {
        select_layer: options.int("select_layer")?,
        select,
        s2: options.counts("s2")?,
        weights: weights(&options)?,
        seed: seed(&options, state)?,
        target: target(state, &options)?,
    };
    let opened = state.stand_in(PresetKind::Encoders, id);
    if opened != id {
        state.adapt_encoder(&opened, &mut options)?;
    }
    let encoder = Encoder::open(state.presets(), &opened, options)?;
    state.tell_notes(encoder.origin.config.notes());
    Ok(EncoderHandle(Arc::new(encoder)))
}

fn open_llm(state: &State, id: &str, map: Map) -> Result<LlmHandle> {
    let options = Options::new(map, "llm", &["weights", "seed", "dtype", "device", "quantize"])?;
    let (weights, seed) = (weights(&options)?, seed(&options, state)?);
    let options = LlmOptions { weights, seed, target: quantized_target(state, &options)? };
    let id = state.stand_in(PresetKind::Llms, id);
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
    let options = Options::new(map, "vlm", &["seed", "image", "template", "reference_quirks"])?;
    let named = state.template(options.string("template")?, llm.0.tokenizer().ok())?;
    let by_hand = named.is_some();
    let Some(template) = named.or_else(|| llm.0.template.clone()) else {
        return Err(error!(Option, "LLM `{}` does not say which template it was made for", llm.0.id)
            .help("name it: `vlm(encoder, projector, llm, #{ template: \"llama_3_1\" })`"));
    };
    let template = Template::load(state.presets(), &template)?;
    let aspect = Aspect::parse(&options.string("image")?.unwrap_or_else(|| "pad".to_string()))?;
    let seed = seed(&options, state)?;
    let vlm = Vlm::compose(encoder.0, &projector.choice, llm.0, template, aspect, seed)?;
    if by_hand {
        vlm.choose_by_hand(None);
    }
    finished(state, vlm, &options)
}

/// The parts of a model preset with a new projector.
fn compose_preset(state: &State, id: &str, map: Map) -> Result<VlmHandle> {
    let keys = ["seed", "template", "weights", "dtype", "device", "reference_quirks"];
    let options = Options::new(map, "vlm", &keys)?;
    let weights = weights(&options)?;
    let preset = ModelPreset::open(state.presets(), &state.stand_in(PresetKind::Models, id))?;
    let template = preset_template(state, &preset, &options)?;
    let (seed, target) = (seed(&options, state)?, target(state, &options)?);
    finished(state, preset.compose(state.presets(), template.as_deref(), weights, seed, &target)?, &options)
}

/// The option `template`; whether a stand-in can write it is seen by its tokenizer.
fn preset_template(state: &State, preset: &ModelPreset, options: &Options) -> Result<Option<String>> {
    let name = options.string("template")?;
    let tokenizer =
        name.as_ref().filter(|_| state.smoke()).and_then(|_| Llm::tokenizer_of(state.presets(), &preset.llm).ok());
    state.template(name, tokenizer.as_ref())
}

fn open_model(state: &State, path: &str, map: Map) -> Result<VlmHandle> {
    let keys = ["template", "base", "dtype", "device", "quantize", "weights", "seed", "reference_quirks"];
    let options = Options::new(map, "load", &keys)?;
    let (weights, target) = (weights(&options)?, quantized_target(state, &options)?);
    let presets = state.presets();
    // A folder that is there is what the script made or was given, in a smoke run as well.
    let place = state.found(Path::new(path));
    let is_there = state.smoke() && place.is_dir();
    let id = if is_there || place != Path::new(path) {
        place.display().to_string()
    } else {
        state.stand_in(PresetKind::Models, path)
    };
    let base = options.string("base")?;
    if presets.contains(PresetKind::Models, &id) {
        if base.is_some() && !state.smoke() {
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
    let tokenizer = is_there.then(|| Tokenizer::open(&place).ok()).flatten();
    let template = state.template(options.string("template")?, tokenizer.as_ref())?;
    // A path of the script, or an id.
    let base = base.map(|base| {
        let place = state.found(Path::new(&base));
        if place.exists() { place.display().to_string() } else { base }
    });
    let base = base.filter(|base| !state.smoke() || Path::new(base).exists());
    let mut vlm = checkpoint::open_with(presets, &id, &LoadOptions { template, base }, &target)?;
    // The run a checkpoint lies in knows what its parts were called.
    let run = Path::new(&id).parent().and_then(|folder| Run::open(folder).ok()?.lock().ok());
    vlm.opened.made_of = run.map_or(String::new(), |lock| lock.model);
    finished(state, vlm, &options)
}

/// Tells what opening found; `reference_quirks: true` asks as the released inference does.
fn finished(state: &State, vlm: Vlm, options: &Options) -> Result<VlmHandle> {
    if options.bool("reference_quirks")?.unwrap_or(false) {
        vlm.take_reference_quirks();
    }
    state.tell_notes(&vlm.notes);
    Ok(VlmHandle(Arc::new(vlm)))
}

pub(super) fn choose_projector(state: &State, name: &str, map: Map) -> Result<ProjectorHandle> {
    let kind = Kind::of(name)?;
    // Widths that are equal in the parts of a script differ in their stand-ins.
    let name = if state.smoke() && name == "identity" { "linear" } else { name };
    let mut keys: Vec<&str> = kind.numbers.iter().map(|number| number.key).collect();
    if kind.pools() {
        keys.extend(["pool", TOKENS]);
    }
    let options = Options::new(map, "projector", &keys)?;
    let mut choice = ProjectorChoice::new(name)?;
    if kind.pools() {
        match (options.string("pool")?, options.count(TOKENS)?) {
            (None, None) => {}
            (Some(pool), Some(tokens)) => choice = choice.pooled(PoolKind::parse(&pool)?, state.pooled(tokens))?,
            _ => bail!(Option, "projector: `pool` and `tokens` go together"),
        }
    }
    for number in kind.numbers {
        if let Some(value) = options.count(number.key)? {
            choice = choice.with(number.key, if number.key == TOKENS { state.pooled(value) } else { value })?;
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

    /// Opens a vision encoder with options: `select_layer` (-2 is the output of the last block but one), `select`
    /// ("patch" or "cls_patch"), `s2`, `weights` ("random", or "none": facts and preprocessing only), `seed`, `dtype`,
    /// `device`. `s2` lists the sides in pixels of several scales the picture is seen at; their features stand side by
    /// side in the channels.
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
    /// other ways are refused by name. A folder that holds an adapter alone, as PEFT writes it, opens with the base it names.
    ///
    /// ```rhai
    /// let lm = llm("tiny-llama");
    /// print(lm);
    /// ```
    #[rhai_fn(name = "llm", return_raw)]
    pub fn llm(context: NativeCallContext, id: &str) -> Fallible<LlmHandle> {
        Ok(open_llm(&State::of(&context)?, id, Map::new())?)
    }

    /// Opens an LLM with options: `weights` ("random", or "none": sizes and counts only), `seed`, `dtype`, `device`,
    /// `quantize` ("q8_0", "q6_k", "q5_k", "q4_k", ...; "keep" leaves a GGUF file's blocks as they are): the weights of
    /// its linear layers stay in blocks of a few bits, for the CPU and not for training. Rows that do not fit the 256
    /// values of a k type get q8_0, others stay as they are; a warning and `storage` say what became of them.
    ///
    /// ```rhai
    /// let lm = llm("tiny-llama", #{ seed: 1 });
    /// print(lm.params);
    /// ```
    #[rhai_fn(name = "llm", return_raw)]
    pub fn llm_with(context: NativeCallContext, id: &str, options: Map) -> Fallible<LlmHandle> {
        Ok(open_llm(&State::of(&context)?, id, options)?)
    }

    /// Names a projector: `mlp2x_gelu` (any depth), `linear` or `identity`. Its widths are those of what it joins.
    ///
    /// ```rhai
    /// let p = projector("mlp2x_gelu");
    /// ```
    #[rhai_fn(name = "projector", return_raw)]
    pub fn projector(context: NativeCallContext, name: &str) -> Fallible<ProjectorHandle> {
        Ok(choose_projector(&State::of(&context)?, name, Map::new())?)
    }

    /// Names a projector that reduces the visual tokens first: `pool` ("average" or "pixel_shuffle") and `tokens`.
    ///
    /// ```rhai
    /// let m = vlm(encoder("tiny-clip"), projector("mlp2x_gelu", #{ pool: "average", tokens: 4 }), llm("tiny-llama"));
    /// print(m);
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

    /// Joins parts with options: `seed` of the projector's start, `image` ("pad" or "square"), `template` (by which it is to be
    /// trained, then), `reference_quirks` (ask as the released inference does: no generation header for Gemma).
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

    /// The same with options: `seed`, `template`, `weights` ("random", or "none": sizes and counts only), `dtype`, `device`,
    /// `reference_quirks`.
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

    /// Opens a whole model with options: `template` (instead of what the folder says it was trained by), `base` (where the LLM
    /// is that a folder with a projector or an adapter goes with, instead of where the folder says), `dtype`, `device`, `quantize`
    /// (as for `llm`), `reference_quirks` (ask as the released inference does); for a model preset also `weights` ("none":
    /// sizes and counts only, "random") and `seed`.
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

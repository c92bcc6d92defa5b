//! Opening LLaVA-MORE checkpoint folders: one config.json with LLM and tower keys, all tensors in one set of
//! safetensors, the tower's own config in a sub-folder or beside it.
//! Source: LLaVA-MORE 2460d39, `model/builder.py`, and the config of the released models.

use std::path::Path;
use std::sync::Arc;

use super::lora;
use super::{
    Encoder, EncoderOptions, Llm, LlmOptions, Origin, Part, ProjectorChoice, ProjectorPart, Select, Vlm, Weights,
};
use crate::assets::Folder;
use crate::error::{Context, Result};
use crate::image::Aspect;
use crate::models::encoders::s2;
use crate::models::projectors::pool::PoolKind;
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::text::Template;
use crate::weights::{Source, TensorFiles};
use crate::{bail, error};

/// Keys of config.json beyond the reference's: how visual tokens are reduced before the projector.
pub(super) const POOL: &str = "mm_projector_pool";
pub(super) const POOL_TOKENS: &str = "mm_projector_tokens";

/// Opens a whole model. `template` overrides what the folder says.
pub fn load(presets: &Presets, path: &Path, template: Option<&str>, target: &Target) -> Result<Vlm> {
    load_parts(presets, path, template, target).context(|| format!("loading `{}`", path.display()))
}

fn load_parts(presets: &Presets, path: &Path, template: Option<&str>, target: &Target) -> Result<Vlm> {
    let origin = Origin::open(Folder::Disk(path.to_path_buf()))?;
    let files = Arc::new(TensorFiles::open(path)?);
    let names = files.names();
    if names.is_empty() {
        bail!(Weights, "{} holds no tensors", files.name());
    }
    let encoder = Arc::new(load_encoder(presets, &origin, &files, target)?);
    let config = &origin.config;

    let stage_1 = !files.has("model.embed_tokens.weight");
    let llm = if stage_1 {
        let llm = base_llm(presets, &origin, target)?;
        if origin.folder.has(lora::CONFIG) {
            llm.adapt_from(&origin.folder, files.clone())?;
        }
        llm
    } else {
        let architecture = config.string("model_architecture", "")?;
        let template = Some(architecture).filter(|name| !name.is_empty());
        let source = Source::Files { files: files.clone(), prefix: String::new() };
        let id = path.file_name().map_or_else(|| "llm".into(), |name| name.to_string_lossy().into_owned());
        let mut llm = Llm::build(&id, origin.clone(), source, template, &stored(target))?;
        let other = [Part::Encoder.prefix(), Part::Projector.prefix()];
        llm.unused.retain(|(name, _)| !other.iter().any(|prefix| name.starts_with(prefix)));
        llm
    };
    let name = config.string("mm_projector_type", "linear")?;
    let prefix = Part::Projector.prefix().to_string();
    let source = Source::Files { files, prefix };
    let pool = config.string(POOL, "")?;
    let pool = match pool.as_str() {
        "" => None,
        kind => Some((PoolKind::parse(kind)?, config.required(POOL_TOKENS)?)),
    };
    let projector = ProjectorPart::build(&ProjectorChoice { name, pool }, &encoder, llm.width(), source, target)?;

    let Some(template) = template.map(str::to_string).or_else(|| llm.template.clone()) else {
        return Err(error!(Option, "config.json has no `model_architecture`, so the template is unknown")
            .help("name it: `load(folder, #{ template: \"llama_3_1\" })`"));
    };
    let template = Template::load(presets, &template)?;
    let aspect = match config.string("image_aspect_ratio", "square")?.as_str() {
        "pad" => Aspect::Pad,
        "square" => Aspect::Square,
        other => return Err(config.unsupported("image_aspect_ratio", other, "square and pad")),
    };
    Vlm::assemble(encoder, Arc::new(projector), Arc::new(llm), template, aspect)
}

/// The tower: tensors of the checkpoint when it has them, else those of the folder `mm_vision_tower` names.
fn load_encoder(presets: &Presets, origin: &Origin, files: &Arc<TensorFiles>, target: &Target) -> Result<Encoder> {
    let config = &origin.config;
    let name = config.string("mm_vision_tower", "")?;
    if name.is_empty() {
        bail!(Missing, "config.json has no `mm_vision_tower`");
    }
    let layer = config.value().get("mm_vision_select_layer").and_then(|layer| layer.as_i64());
    let options = EncoderOptions {
        select_layer: layer.or(Some(-2)),
        select: Some(Select::parse(&config.string("mm_vision_select_feature", "patch")?)?),
        s2: s2::from_config(config)?,
        weights: Weights::Stored,
        seed: 0,
        target: target.clone(),
    };
    let inside = origin.folder.join(&name);
    let prefix = Part::Encoder.prefix();
    let stored = files.names().iter().any(|tensor| tensor.starts_with(prefix));
    match (inside.has("config.json"), stored) {
        (true, true) => {
            let tower = Origin::open(inside)?;
            let source = Source::Files { files: files.clone(), prefix: prefix.to_string() };
            Encoder::build(&name, tower, source, options)
        }
        (true, false) => Encoder::open(presets, &inside.locate(""), options),
        (false, _) => Encoder::open(presets, &name, options),
    }
    .context(|| format!("vision tower `{name}`"))
}

/// An LLM's stored weights.
fn stored(target: &Target) -> LlmOptions {
    LlmOptions { weights: Weights::Stored, seed: 0, target: target.clone() }
}

/// A stage-1 folder holds the projector only; the LLM is the one it was trained with.
fn base_llm(presets: &Presets, origin: &Origin, target: &Target) -> Result<Llm> {
    let base = origin.config.string("_name_or_path", "")?;
    if base.is_empty() {
        bail!(Missing, "this folder holds a projector only, and config.json has no `_name_or_path` for its LLM");
    }
    Llm::open(presets, &base, stored(target))
        .context(|| format!("this folder holds a projector only; its base LLM `{base}`"))
}

//! LLaVA-MORE checkpoint folders: one config.json with the keys of LLM and tower, all tensors in one set of files, the
//! tower's own config in a sub-folder or beside it. A stage-1 folder holds the projector alone.
//! Source: LLaVA-MORE 2460d39, `model/builder.py`, and the config of the released models.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{ModelParts, PartPlace, folder_name};
use crate::bail;
use crate::error::Result;
use crate::hub;
use crate::models::config::Config;
use crate::models::encoders::s2;
use crate::models::keys;
use crate::models::registry::{Target, llava_of_llm, llm_keys, llm_of_llava};
use crate::vlm::{EncoderOptions, Origin, Part, ProjectorChoice, Select, Vlm, Weights, base};
use crate::weights::TensorFiles;

/// The `model_type` of the LLM in a LLaVA-MORE one: `llava_phi` is on `phi3`.
pub(in crate::vlm) fn family(model_type: &str) -> &str {
    llm_of_llava(model_type).unwrap_or_else(|| model_type.strip_prefix("llava_").unwrap_or(model_type))
}

/// The `model_type` and the class that LLaVA-MORE gives a model with this LLM.
pub(in crate::vlm) fn class(family: &str) -> (String, String) {
    let model_type = llava_of_llm(family).map_or_else(|| format!("llava_{family}"), str::to_string);
    let word = model_type.trim_start_matches("llava_");
    let capital: String = word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect();
    (model_type, format!("Llava{capital}ForCausalLM"))
}

/// Our name of a tensor. The reference takes what follows `mm_projector.` wherever it stands: files of stage 1 may leave
/// `model.` out, those of DeepSpeed and of PEFT put words before it.
fn ours(name: &str) -> String {
    match name.rsplit_once("mm_projector.") {
        Some((_, rest)) if !Vlm::is_adapter(name) || !name.contains(".lora_") => {
            format!("{}{rest}", Part::Projector.prefix())
        }
        _ => name.to_string(),
    }
}

/// An object of llmore's own: where the tower is as llmore opens it (a folder inside or what [`base::find`] finds), and what
/// the parts were called.
pub(in crate::vlm) const LLMORE: &str = "llmore";

/// Says that the tower among the tensors was trained: the reference takes its weights from them then, else from the hub.
pub(in crate::vlm) const TRAINED_TOWER: &str = "unfreeze_mm_vision_tower";

/// A value of that object.
pub(in crate::vlm) fn own<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    config.value().get(LLMORE)?.get(key)?.as_str()
}

/// The parts of a folder.
pub(super) fn parts(origin: &Origin, path: &Path, target: &Target) -> Result<ModelParts> {
    let config = &origin.config;
    keys::check(config, keys::Part::Llava, &[], &llm_keys())?;
    let files = Arc::new(TensorFiles::open_folder(&origin.folder)?.renamed(ours)?);
    let base = base::read(&origin.folder)?;
    let tower_is_trained = config.bool(TRAINED_TOWER, false)?;
    if tower_is_trained && !stores_tower(&files) {
        config.note(
            "`unfreeze_mm_vision_tower` is true, but the folder holds no tensor of the tower: those that \
             `mm_vision_tower` names are used, which are not those it was trained with",
        );
    }
    let aspect = super::aspect(config)?;
    let projector = ProjectorChoice::from_config(config)?;
    let architecture = config.string("model_architecture", "")?;
    Ok(ModelParts {
        tower_is_trained,
        tower: tower(origin, &files, base::path_of_tower(base.as_ref()))?,
        encoder: encoder_options(config, target)?,
        llm: llm(origin, path, &files, base::path_of_llm(base.as_ref()))?,
        projector,
        template: Some(architecture).filter(|name| !name.is_empty()),
        aspect,
        files,
        llm_name: base::name_of_llm(base.as_ref()).map(str::to_string),
        looked: base::looked_for(
            &origin.folder,
            base::path_of_llm(base.as_ref()),
            &config.string("_name_or_path", "")?,
        ),
    })
}

fn encoder_options(config: &Config, target: &Target) -> Result<EncoderOptions> {
    let layer = match config.value().get("mm_vision_select_layer").filter(|layer| !layer.is_null()) {
        None => -2,
        Some(layer) => layer.as_i64().ok_or_else(|| {
            let known = "the number of one layer; LLaVA reads one, and several are not joined";
            config.unsupported("mm_vision_select_layer", &layer.to_string(), known)
        })?,
    };
    Ok(EncoderOptions {
        select_layer: Some(layer),
        select: Some(Select::parse(&config.string("mm_vision_select_feature", "patch")?)?),
        s2: s2::from_config(config)?,
        weights: Weights::Stored,
        seed: 0,
        target: target.clone(),
    })
}

/// The tower: a folder inside the checkpoint, or whatever the name stands for. Its tensors are those of the checkpoint
/// where that has them: then config and processor are all that is needed of the other place.
fn tower(origin: &Origin, files: &TensorFiles, way: Option<&str>) -> Result<PartPlace> {
    let name = origin.config.string("mm_vision_tower", "")?;
    if name.is_empty() {
        bail!(Missing, "`{}` has no `mm_vision_tower`", origin.folder.locate("config.json"));
    }
    let (ours, here) = (own(&origin.config, "tower"), |place: &str| origin.folder.join(place).has("config.json"));
    // A folder that is not here any more leads nowhere; the name may.
    let ours = ours.filter(|place| here(place) || *place != base::TOWER_FOLDER);
    let place = ours.unwrap_or(&name);
    if !here(place) || !stores_tower(files) {
        return Ok(PartPlace::Elsewhere(base::find(&origin.folder, way, place)));
    }
    let mut tower = Origin::open(origin.folder.join(place))?.without_place();
    tower.known.called = own(&origin.config, "encoder").map(str::to_string);
    tower.known.hub = (name != place && hub::is_id(&name)).then(|| hub::without_revision(&name).to_string());
    Ok(PartPlace::Inside { id: place.to_string(), origin: tower })
}

fn stores_tower(files: &TensorFiles) -> bool {
    files.names().iter().any(|tensor| tensor.starts_with(Part::Encoder.prefix()))
}

/// The LLM: in the checkpoint, or, where that holds a projector only, the one `_name_or_path` names.
fn llm(origin: &Origin, path: &Path, files: &TensorFiles, way: Option<&str>) -> Result<PartPlace> {
    let config = &origin.config;
    let tied = config.bool("tie_word_embeddings", false)?;
    if files.has("model.embed_tokens.weight") || (tied && files.has("lm_head.weight")) {
        let family = family(&config.string("model_type", "")?).to_string();
        let mut config = config.with("model_type", json!(family));
        if !files.has("lm_head.weight") {
            config = config.with("tie_word_embeddings", json!(true));
        }
        let origin = Origin::new(origin.folder.clone(), config);
        return Ok(PartPlace::Inside { id: folder_name(path), origin });
    }
    let base = config.string("_name_or_path", "")?;
    if base.is_empty() {
        bail!(Missing, "this folder holds a projector only, and config.json has no `_name_or_path` for its LLM");
    }
    Ok(PartPlace::Elsewhere(base::find(&origin.folder, way, &base)))
}

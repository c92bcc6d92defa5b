//! What a folder without the LLM says about the parts that lie elsewhere: where they are, as seen from the folder, and a
//! hash of their weights. Names alone would lead to other weights from another working folder or on another day.

use std::path::Path;

use serde_json::{Value, json};

use super::origin::gguf_file;
use super::paths::{relative, settled};
use super::{Encoder, Llm, Part, Vlm};
use crate::assets::Folder;
use crate::error;
use crate::error::Result;
use crate::weights::ParamSet;

/// Beside an adapter; PEFT does not read it.
pub(super) const OF_ADAPTER: &str = "adapter_base.json";
/// Beside a projector.
pub(super) const OF_PROJECTOR: &str = "projector_base.json";
const TOWER: &str = "vision_tower";
const PATH: &str = "path";

/// What is written into `folder` about the parts that are not in it.
pub(super) fn describe(vlm: &Vlm, folder: &Path, parts: &[Part]) -> Result<Value> {
    let mut base = vlm.llm.base()?;
    place(&mut base, folder, vlm.llm.origin.place());
    if !parts.contains(&Part::Encoder) {
        let mut tower = vlm.encoder.base()?;
        place(&mut tower, folder, vlm.encoder.origin.place());
        base[TOWER] = tower;
    }
    Ok(base)
}

fn place(base: &mut Value, folder: &Path, place: Option<&str>) {
    if let Some(path) = place.and_then(|place| relative(folder, Path::new(place))) {
        base[PATH] = json!(path);
    }
}

/// What a folder says about its base, if it does.
pub(super) fn read(folder: &Folder) -> Result<Option<Value>> {
    let file = [OF_ADAPTER, OF_PROJECTOR].into_iter().find(|file| folder.has(file));
    file.map(|file| folder.json(file)).transpose()
}

/// What stands for the LLM in what [`read`] gives.
pub(super) fn path_of_llm(base: Option<&Value>) -> Option<&str> {
    base?.get(PATH)?.as_str()
}

/// The same of the tower.
pub(super) fn path_of_tower(base: Option<&Value>) -> Option<&str> {
    base?.get(TOWER)?.get(PATH)?.as_str()
}

/// Where a part is that a folder knows by the way from it or by a name: the first that leads to a model as seen from the
/// folder, else the name, which may be a preset, a hub id or a path.
pub(super) fn find(folder: &Folder, way: Option<&str>, name: &str) -> String {
    let inside = |place: &str| {
        let path = folder.join(place).path()?.to_path_buf();
        let is_model =
            path.join("config.json").is_file() || gguf_file(&path).ok().flatten().is_some_and(|f| f.is_file());
        is_model.then(|| settled(&path).display().to_string())
    };
    way.into_iter().chain([name]).find_map(inside).unwrap_or_else(|| name.to_string())
}

/// Refuses parts that have other weights of the same types than those a folder was made with.
pub(super) fn check(folder: &Folder, llm: &Llm, encoder: Option<&Encoder>) -> Result<()> {
    let Some(expected) = read(folder)? else { return Ok(()) };
    let what = if folder.has(OF_ADAPTER) { "adapter" } else { "projector" };
    let file = folder.locate(if folder.has(OF_ADAPTER) { OF_ADAPTER } else { OF_PROJECTOR });
    compare(&llm.base()?, &expected, what, &format!("LLM `{}`", llm.id), &file)?;
    match (encoder, expected.get(TOWER)) {
        (Some(encoder), Some(expected)) => {
            compare(&encoder.base()?, expected, what, &format!("vision tower `{}`", encoder.id), &file)
        }
        _ => Ok(()),
    }
}

fn compare(here: &Value, expected: &Value, what: &str, part: &str, file: &str) -> Result<()> {
    if here["types"] != expected["types"] || here["sha256"] == expected["sha256"] {
        return Ok(());
    }
    let short = |base: &Value| base["sha256"].as_str().unwrap_or_default().chars().take(12).collect::<String>();
    let (trained, here) = (short(expected), short(here));
    Err(error!(Weights, "the {what} was trained on other weights than {part} has: {trained}, here {here}")
        .help(format!("open it where the base is the one it was trained on; without `{file}` nothing is compared")))
}

/// A hash over parameters without adapters, and the types they are stored in here, as other types hold other values.
fn fingerprint(params: &ParamSet) -> Result<Value> {
    Ok(json!({ "sha256": super::fingerprint::of(params)?, "types": params.storage().into_keys().collect::<Vec<_>>() }))
}

impl Llm {
    /// What it is known by as the base of an adapter or a projector.
    fn base(&self) -> Result<Value> {
        fingerprint(&self.params)
    }
}

impl Encoder {
    fn base(&self) -> Result<Value> {
        fingerprint(&self.params)
    }
}

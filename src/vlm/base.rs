//! What a folder without the LLM says about the parts that lie elsewhere: where they are, as seen from the folder, and a
//! hash of their weights. Names alone would lead to other weights from another working folder or on another day.

use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;
use serde_json::{Value, json};

use super::origin::gguf_file;
use super::paths::{relative, settled};
use super::{Encoder, Llm, Origin, Part, Vlm, Weights};
use crate::assets::Folder;
use crate::error;
use crate::error::Result;
use crate::weights::{ParamSet, Quantize};

/// Beside an adapter; PEFT does not read it.
pub(super) const OF_ADAPTER: &str = "adapter_base.json";
/// Beside a projector.
pub(super) const OF_PROJECTOR: &str = "projector_base.json";
/// The base of an adapter, in its folder, where no name leads to it.
pub(super) const BASE_FOLDER: &str = "adapter-base";
/// Config and processor of a tower in the folder of a model.
pub(super) const TOWER_FOLDER: &str = "vision-tower";
const TOWER: &str = "vision_tower";
const PATH: &str = "path";
/// What the LLM was called, and how its weights were quantized.
const NAME: &str = "name";
const QUANTIZE: &str = "quantize";
const COUNT: &str = "weights";
/// Models near a base that is not there, as many as are named.
const NEAR: usize = 4;

/// What is written into `folder` about the parts that are not in it; `name` is what it calls the LLM.
pub(super) fn describe(vlm: &Vlm, folder: &Path, (name, parts): (&str, &[Part])) -> Result<Value> {
    let mut base = vlm.llm.base()?;
    base[NAME] = json!(vlm.llm.id);
    base[COUNT] = json!(vlm.llm.params.count());
    let quantize = vlm.target().quantize;
    // Widened, and in blocks again: q8_0 gives the same blocks, others do not.
    let same_blocks = [None, Some(Quantize::To(GgmlDType::Q8_0))].contains(&quantize);
    if let Some(quantize) = quantize.filter(|_| name != BASE_FOLDER || same_blocks) {
        base[QUANTIZE] = json!(quantize.name());
    }
    match name {
        BASE_FOLDER => {
            base[PATH] = json!(BASE_FOLDER);
            if !same_blocks {
                base["sha256"] = Value::Null;
            }
        }
        _ => place(&mut base, folder, vlm.llm.origin.place()),
    }
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

/// What the LLM was called, where it lies beside an adapter, whose folder says nothing.
pub(super) fn name_of_llm(base: Option<&Value>) -> Option<&str> {
    path_of_llm(base).filter(|path| Path::new(path).ends_with(BASE_FOLDER))?;
    base?.get(NAME)?.as_str()
}

/// How the LLM's weights were quantized.
pub(super) fn quantized(base: Option<&Value>) -> Result<Option<Quantize>> {
    let name = base.and_then(|base| base.get(QUANTIZE)?.as_str());
    name.map(Quantize::parse).transpose()
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

/// Where the LLM of a folder was looked for, and which folders lie there that could be it.
pub(super) fn looked_for(folder: &Folder, way: Option<&str>, name: &str) -> String {
    let Some(root) = folder.path() else { return format!("it was looked for as `{name}`") };
    let at = |place: &str| settled(&root.join(place));
    let mut places: Vec<String> = way.iter().map(|way| format!("at `{}`", at(way).display())).collect();
    places.push(format!("as `{name}`, seen from there and by itself"));
    let near: Vec<String> = near(folder, way).iter().take(NEAR).map(|path| format!("`{}`", path.display())).collect();
    let beside = if near.is_empty() { String::new() } else { format!("; models near it: {}", near.join(", ")) };
    format!("it was looked for {}{beside}", places.join(" and "))
}

/// The folders of models beside the place that a way leads to.
pub(super) fn near(folder: &Folder, way: Option<&str>) -> Vec<PathBuf> {
    let place = folder.path().zip(way).map(|(root, way)| settled(&root.join(way)));
    let Some(parent) = place.as_deref().and_then(Path::parent) else { return Vec::new() };
    let entries = crate::fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    let own = folder.path().map(settled);
    let mut near: Vec<PathBuf> =
        entries.filter(|path| path.join("config.json").is_file() && Some(settled(path)) != own).collect();
    near.sort();
    near
}

/// Whether an LLM, as it is, lies beside the adapter in a folder.
pub(super) fn is_beside(llm: &Llm, folder: &Path) -> bool {
    let known = read(&Folder::Disk(folder.to_path_buf())).ok().flatten();
    known.is_some_and(|known| known[PATH] == BASE_FOLDER && is_same(llm, &known))
}

/// Whether an LLM has as many weights as what a folder says about its base.
pub(super) fn is_as_large(llm: &Llm, base: &Value) -> bool {
    base.get(COUNT).is_none_or(|count| *count == json!(llm.params.count()))
}

/// Whether it has the same.
pub(super) fn is_same(llm: &Llm, base: &Value) -> bool {
    llm.base().is_ok_and(|own| own["sha256"] == base["sha256"])
}

/// Refuses parts that have other weights of the same types than those a folder was made with. Of other types it is said.
pub(super) fn check(origin: &Origin, llm: &Llm, encoder: Option<&Encoder>) -> Result<()> {
    let folder = &origin.folder;
    let Some(expected) = read(folder)? else { return Ok(()) };
    let what = if folder.has(OF_ADAPTER) { "adapter" } else { "projector" };
    let file = folder.locate(if folder.has(OF_ADAPTER) { OF_ADAPTER } else { OF_PROJECTOR });
    let compare = |here: &Value, expected: &Value, part: &str| -> Result<()> {
        compare(here, expected, what, part, &file)?.into_iter().for_each(|note| origin.config.note(note));
        Ok(())
    };
    compare(&llm.base()?, &expected, &format!("LLM `{}`", llm.id))?;
    match (encoder, expected.get(TOWER)) {
        (Some(encoder), Some(expected)) => {
            compare(&encoder.base()?, expected, &format!("vision tower `{}`", encoder.id))
        }
        _ => Ok(()),
    }
}

/// The sentence to say where the two cannot be the same.
fn compare(here: &Value, expected: &Value, what: &str, part: &str, file: &str) -> Result<Option<String>> {
    if expected["sha256"].is_null() || here["sha256"] == expected["sha256"] {
        return Ok(None);
    }
    if here["types"] != expected["types"] {
        let types = |base: &Value| {
            let list = base["types"].as_array().into_iter().flatten().filter_map(Value::as_str);
            list.collect::<Vec<_>>().join(", ")
        };
        return Ok(Some(format!(
            "the {what} was trained on {part} in {}, which is in {} here: what it computes differs a little",
            types(expected),
            types(here)
        )));
    }
    let short = |base: &Value| base["sha256"].as_str().unwrap_or_default().chars().take(12).collect::<String>();
    let (trained, here) = (short(expected), short(here));
    Err(error!(Weights, "the {what} was trained on other weights than {part} has: {trained}, here {here}")
        .help(format!(
            "open it where the base is the one it was trained on, or name that: `load(folder, #{{ base: \"..\" }})`; without \
             `{file}` nothing is compared"
        )))
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

    /// What opens it: its place, else what it is called.
    pub(super) fn name(&self) -> &str {
        self.origin.place().unwrap_or(&self.id)
    }

    /// Why its name would not lead from `folder` to the weights that it has, if so.
    ///
    /// # Errors
    /// What reading weights from their device gives.
    pub fn why_not_by_name(&self, folder: &Path) -> Result<Option<String>> {
        let (id, place) = (&self.id, self.origin.place());
        Ok(if !self.is_as_stored {
            Some(format!("LLM `{id}` was opened with random weights of a seed, which its name does not open"))
        } else if self.params.is_changed()? {
            Some(format!("the weights of LLM `{id}` were changed since it was opened, so its name does not open them"))
        } else if place.is_none() {
            Some(format!("LLM `{id}` has no place that opens it"))
        } else if self.origin.is_rewritten() {
            Some(format!("`{}` was written anew since LLM `{id}` was opened from it", self.name()))
        } else if gives_way(self.name(), folder) {
            Some(format!("`{}` is replaced, from which LLM `{id}` was opened", folder.display()))
        } else {
            None
        })
    }
}

/// Whether a save into `folder` replaces what lies at a place.
fn gives_way(place: &str, folder: &Path) -> bool {
    let folder = folder.canonicalize().unwrap_or_else(|_| settled(folder));
    let place = Path::new(place);
    let place = place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
    place.is_absolute() && [&folder, &folder.join(BASE_FOLDER), &folder.join(TOWER_FOLDER)].contains(&&place)
}

impl Encoder {
    fn base(&self) -> Result<Value> {
        fingerprint(&self.params)
    }

    /// Whether its weights are others than those of what it was opened from.
    pub(super) fn is_changed(&self) -> Result<bool> {
        Ok(self.weights() == Weights::Random || self.params.is_changed()?)
    }

    /// Whether its name leads from `folder` to the weights that it has.
    pub(super) fn is_by_name(&self, folder: &Path) -> Result<bool> {
        let Some(place) = self.origin.place().filter(|_| self.weights() == Weights::Stored) else { return Ok(false) };
        Ok(!self.origin.is_rewritten() && !gives_way(place, folder) && !self.params.is_changed()?)
    }
}

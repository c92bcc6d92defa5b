//! Which files of a folder hold its weights: one file, the parts that an index names, parts without an index, a stage-1
//! projector, an adapter. What is there and not read is said; what is lacking is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::assets::{Folder, refuse_pointer};
use crate::error::{Error, Result};
use crate::{bail, error};

/// The whole model in one file. transformers (5.24.0, `utils/hub.py`) takes it before an index.
pub const WHOLE: &str = "model.safetensors";
/// The file that says which tensor is in which part.
pub const INDEX: &str = "model.safetensors.index.json";
/// The tensors of a LoRA adapter; a projector may stand beside them.
pub const ADAPTER: &str = "adapter_model.safetensors";
/// What else a folder's weights may be called, the first one wins.
const SINGLE: [&str; 3] = ["mm_projector.safetensors", "pytorch_model.bin", "mm_projector.bin"];
/// Ends of the names of files that hold weights, in whatever format.
const KINDS: [&str; 9] = ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "msgpack", "gguf", "safetensors.index.json"];

/// The files to read, and what people should know about the choice.
pub(super) struct Found {
    pub paths: Vec<PathBuf>,
    pub note: Option<String>,
}

/// The files of a checkpoint folder.
pub(super) fn found(folder: &Path) -> Result<Found> {
    let plain = |paths| Ok(Found { paths, note: None });
    let (index, here) = (folder.join(INDEX), folder.display());
    if folder.join(WHOLE).is_file() {
        // A broken index beside the one file that is read is nobody's trouble.
        let others = indexed_files(&Folder::Disk(folder.to_path_buf())).unwrap_or_default();
        let beside = index.is_file() && !(others.len() == 1 && others.contains(WHOLE));
        let note = beside.then(|| {
            format!("`{here}` holds {WHOLE} and {INDEX}: {WHOLE} is read, as transformers does, and no other part")
        });
        return Ok(Found { paths: vec![folder.join(WHOLE)], note });
    }
    if index.is_file() {
        let names = indexed_files(&Folder::Disk(folder.to_path_buf()))?;
        let lacking: Vec<String> =
            names.iter().filter(|name| !folder.join(name).is_file()).map(|name| format!("`{name}`")).collect();
        if !lacking.is_empty() {
            return Err(error!(Missing, "`{here}` lacks {} that {INDEX} names", lacking.join(", "))
                .help("fetch the files that are lacking"));
        }
        return plain(names.iter().map(|name| folder.join(name)).collect());
    }
    if let Some(found) = parts(folder)? {
        return Ok(found);
    }
    let (single, adapter) = (SINGLE.into_iter().find(|name| folder.join(name).is_file()), folder.join(ADAPTER));
    let beside = adapter.is_file() && matches!(single, None | Some("mm_projector.safetensors"));
    let found: Vec<PathBuf> =
        single.map(|name| folder.join(name)).into_iter().chain(beside.then_some(adapter)).collect();
    if found.is_empty() { Err(nothing(folder)) } else { plain(found) }
}

/// Parts that no index names: `model-00001-of-00002.safetensors`. All have to be there.
fn parts(folder: &Path) -> Result<Option<Found>> {
    let names = names(folder);
    let mut sets: BTreeMap<(&str, usize), BTreeSet<usize>> = BTreeMap::new();
    for name in &names {
        // `model.fp16-..` are parts of a variant.
        if let Some((stem, number, count)) = name.strip_suffix(".safetensors").and_then(part)
            && !stem.contains('.')
        {
            sets.entry((stem, count)).or_default().insert(number);
        }
    }
    let here = folder.display();
    let file = |stem: &str, number: usize, count: usize| format!("{stem}-{number:05}-of-{count:05}.safetensors");
    let mut sets = sets.into_iter();
    let Some(((stem, count), there)) = sets.next() else { return Ok(None) };
    if let Some(((other, others), _)) = sets.next() {
        let (one, two) = (file(stem, 1, count), file(other, 1, others));
        return Err(error!(Missing, "`{here}` holds parts of two models and no {INDEX}: `{one}` and `{two}`")
            .help("keep the parts of one of them in the folder"));
    }
    let lacking = (1..=count).filter(|number| !there.contains(number)).map(|number| file(stem, number, count));
    let lacking: Vec<String> = lacking.take(4).map(|name| format!("`{name}`")).collect();
    if !lacking.is_empty() {
        return Err(error!(
            Missing,
            "`{here}` holds {} of {count} parts, without {INDEX}: {} is lacking",
            there.len(),
            lacking.join(", ")
        )
        .help("fetch the files that are lacking"));
    }
    let note = format!("`{here}` has no {INDEX}: its {count} parts `{stem}-*.safetensors` are read together");
    let paths = (1..=count).map(|number| folder.join(file(stem, number, count))).collect();
    Ok(Some(Found { paths, note: Some(note) }))
}

/// Whether a file is a part of a model as an index names it, or of one without.
pub fn is_part(name: &str) -> bool {
    name.strip_suffix(".safetensors").and_then(part).is_some_and(|(stem, ..)| !stem.contains('.'))
}

/// `model-00001-of-00002` as its stem, number and count.
pub(super) fn part(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, count) = (Some(number).filter(|n| digits(n))?, Some(count).filter(|n| digits(n))?);
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (1..=count).contains(&number).then_some((stem, number, count))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = crate::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter(|entry| entry.path().is_file()).map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The error of a folder without weights that can be read: it says what is there instead.
fn nothing(folder: &Path) -> Error {
    let here = folder.display();
    let names = names(folder);
    let torch = |name: &String| name.strip_suffix(".bin").and_then(part).is_some();
    if folder.join("pytorch_model.bin.index.json").is_file() || names.iter().any(torch) {
        return error!(Missing, "`{here}` holds torch files in several parts")
            .help("llmore reads one pytorch_model.bin, or safetensors in any number of parts: `save_pretrained` of transformers writes those");
    }
    let like =
        |name: &&String| KINDS.iter().any(|kind| name.strip_suffix(kind).is_some_and(|stem| stem.ends_with('.')));
    let found: Vec<&String> = names.iter().filter(like).collect();
    let expected = format!("expected {WHOLE}, {INDEX}, mm_projector.safetensors or a .bin of torch");
    let Some(first) = found.first() else {
        return error!(Missing, "no weights in `{here}`").help(expected);
    };
    let list: Vec<String> = found.iter().take(4).map(|name| format!("`{name}`")).collect();
    let error = error!(Missing, "no weights in `{here}` under a name that is opened; there is {}", list.join(", "));
    // `save_pretrained(.., variant="fp16")` puts a word before the ending.
    let variant = found.iter().find_map(|name| variant(name));
    match variant {
        Some((name, plain)) => error.help(format!(
            "`{name}` is a variant, which transformers opens by `variant=`: rename it to `{plain}`, or link it under that name"
        )),
        None if first.ends_with(".gguf") => error.help(format!("open the file itself: `llm(\"{}\")`", folder.join(first).display())),
        None => error.help(expected),
    }
}

/// A variant's file and the name without the variant's word.
fn variant(name: &str) -> Option<(&str, String)> {
    // model.fp16-00001-of-00002.safetensors
    if let Some((stem, number, count)) = name.strip_suffix(".safetensors").and_then(part) {
        return stem.starts_with("model.").then(|| (name, format!("model-{number:05}-of-{count:05}.safetensors")));
    }
    for (start, end) in [("model.", ".safetensors"), ("model.safetensors.index.", ".json"), ("pytorch_model.", ".bin")]
    {
        let word = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
        if word.is_some_and(|word| !word.is_empty() && !word.contains('.')) {
            return Some((name, format!("{}{end}", start.trim_end_matches('.'))));
        }
    }
    None
}

/// Refuses what stands in a file's place: the pointer of Git LFS.
pub(super) fn check_pointer(path: &Path) -> Result<()> {
    use std::io::Read;
    let mut head = Vec::new();
    let file = crate::fs::open(path).map_err(|error| Error::file(path, error))?;
    file.take(512).read_to_end(&mut head).map_err(|error| Error::file(path, error))?;
    refuse_pointer(path, &head)
}

/// The files that a folder's index names; none of them lies outside the folder.
pub fn indexed_files(folder: &Folder) -> Result<BTreeSet<String>> {
    let (index, value) = (folder.locate(INDEX), folder.json(INDEX)?);
    let Some(map) = value.get("weight_map").and_then(|map| map.as_object()) else {
        bail!(Decode, "`{index}` has no `weight_map`");
    };
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            Some(file) if file.contains(['/', '\\']) || !file.ends_with(".safetensors") => {
                bail!(
                    Decode,
                    "`{index}`: tensor `{tensor}` is in `{file}`, which is no safetensors file of this folder"
                )
            }
            Some(file) => names.insert(file.to_string()),
            None => bail!(Decode, "`{index}`: the file of tensor `{tensor}` is {file}"),
        };
    }
    if names.is_empty() {
        bail!(Decode, "`{index}` names no file");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_and_variants() {
        assert_eq!(part("model-00002-of-00003"), Some(("model", 2, 3)));
        for name in ["model-00004-of-00003", "model-2-of-3", "model-00000-of-00003", "model"] {
            assert_eq!(part(name), None, "{name}");
        }
        let plain = |name| variant(name).map(|(_, plain)| plain);
        assert_eq!(plain("model.fp16.safetensors").as_deref(), Some("model.safetensors"));
        assert_eq!(plain("model.safetensors.index.fp16.json").as_deref(), Some("model.safetensors.index.json"));
        assert_eq!(plain("model.fp16-00001-of-00002.safetensors").as_deref(), Some("model-00001-of-00002.safetensors"));
        assert_eq!(plain("pytorch_model.fp16.bin").as_deref(), Some("pytorch_model.bin"));
        assert_eq!(plain("consolidated.safetensors"), None);
    }
}

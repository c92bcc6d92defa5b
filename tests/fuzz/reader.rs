//! What a reader is to the mutator: seeds, words, and a function that reads one input.

use std::path::{Path, PathBuf};

use super::bytes;
use super::draw::Draw;
use super::frames::{self, Frame};

/// Reads one input: whether it was read whole.
pub type Read = Box<dyn FnMut(&Input) -> bool>;

/// Something that reads files or texts of others.
pub struct Reader {
    pub name: &'static str,
    /// Small files or texts that can be read.
    pub seeds: fn() -> Vec<Seed>,
    /// Keys and marks of the format.
    pub words: &'static [&'static str],
    /// Prepares an empty folder, and reads inputs with it from then on.
    pub open: fn(&Path) -> Read,
}

/// What inputs are made from.
pub struct Seed {
    /// Which file it is in the place of.
    pub kind: String,
    pub bytes: Vec<u8>,
    pub frame: Frame,
}

/// A mutated seed.
pub struct Input {
    pub kind: String,
    pub bytes: Vec<u8>,
}

impl Input {
    /// The input as text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// The input as the file of a folder. What was there is replaced, not overwritten: a map of it stays whole.
    pub fn write(&self, path: PathBuf) -> PathBuf {
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &self.bytes).unwrap();
        path
    }
}

/// The input of this index; the first ones are the seeds as they are.
pub fn input(reader: &Reader, seeds: &[Seed], seed: u64, index: u64) -> Input {
    if let Some(whole) = seeds.get(index as usize) {
        return Input { kind: whole.kind.clone(), bytes: whole.bytes.clone() };
    }
    let mut draw = Draw::new(seed, reader.name, index);
    let from = &seeds[draw.below(seeds.len())];
    let other = &seeds[draw.below(seeds.len())].bytes;
    let framed =
        if draw.one_in(2) { None } else { frames::within(from.frame, &mut draw, &from.bytes, other, reader.words) };
    let mut data = framed.unwrap_or_default();
    if data.is_empty() {
        data.clone_from(&from.bytes);
        bytes::mutate(&mut draw, &mut data, other, reader.words);
    }
    Input { kind: from.kind.clone(), bytes: data }
}

/// A file of the repository.
pub fn file(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder of the repository whose names end so, none larger than `most` bytes, in the order of their names.
pub fn files(folder: &str, ending: &str, most: usize) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut names: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.to_string_lossy().ends_with(ending));
    names.sort();
    names.iter().map(|name| std::fs::read(name).unwrap()).filter(|bytes| bytes.len() <= most).collect()
}

/// Seeds of one kind.
pub fn seeds(kind: &str, frame: Frame, all: Vec<Vec<u8>>) -> Vec<Seed> {
    all.into_iter().map(|bytes| Seed { kind: kind.to_string(), bytes, frame }).collect()
}

//! Data sets of the hub, and folders as people download them: of all their files those of one configuration and one split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::containers;
use super::dataset::Dataset;
use super::open::Format;
use super::pictures::Pictures;
use super::table::{Wanted, find};
use crate::error;
use crate::error::{Context, Result};
use crate::hub::{self, Hub};

/// The split that is taken where none is named.
const SPLIT: &str = "train";
/// What names of files end with that are not read, and that no repository is called.
const ENDINGS: [&str; 2] = ["csv", "gz"];
/// How many names a message lists.
const SHOWN: usize = 8;

/// Which part of a published set is wanted.
#[derive(Clone, Debug, Default)]
pub struct SetChoice {
    pub split: Option<String>,
    pub configuration: Option<String>,
}

impl SetChoice {
    /// Whether nothing in particular is.
    pub fn is_any(&self) -> bool {
        self.split.is_none() && self.configuration.is_none()
    }

    fn wanted(&self) -> Wanted {
        let split = self.split.clone().unwrap_or_else(|| SPLIT.to_string());
        Wanted {
            split: vec![split],
            configuration: self.configuration.clone().into_iter().collect(),
            ..Wanted::default()
        }
    }

    /// Refuses files that do not say that they are what was asked for by name.
    fn check(&self, root: &str, names: &BTreeSet<String>, chosen: &[String]) -> Result<()> {
        let asked = [("configuration", &self.configuration), ("split", &self.split)];
        for (noun, asked) in asked.into_iter().filter_map(|(noun, asked)| Some((noun, asked.as_ref()?))) {
            if let Some(other) = chosen.iter().find(|name| !says(name, asked)) {
                return Err(error!(Missing, "`{root}` has no {noun} `{asked}`: `{other}` is not named so")
                    .help(format!("it holds {}", shown(names))));
            }
        }
        Ok(())
    }

    /// The files of the part out of the names of all.
    fn choose(&self, root: &str, names: &BTreeSet<String>) -> Result<Vec<String>> {
        let tables: BTreeSet<String> =
            names.iter().filter(|name| containers::is_table(Path::new(name))).cloned().collect();
        let chosen = self.wanted().choose(root, names).map_err(|error| {
            error.help(format!(
                "choose with `dataset(\"{root}\", #{{ config: \"...\", split: \"...\" }})`; it holds {}",
                shown(&tables)
            ))
        })?;
        self.check(root, &tables, &chosen)?;
        Ok(chosen)
    }
}

/// Whether a text is a data set of the hub rather than a path: nothing of that name is here, nor is it called like a file.
pub fn is_on_hub(text: &str) -> bool {
    let path = Path::new(text);
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let is_file = containers::is_table(path)
        || Archive::is_one(path)
        || ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()));
    hub::is_id(text) && !path.exists() && !is_file
}

impl Dataset {
    /// A data set of the hub, `owner/name` or `owner/name@revision`: the files of its split `train`, or of the one that is
    /// chosen.
    ///
    /// # Errors
    /// What the hub fails with; `Missing` or `Data` naming what there is where nothing fits; what opening the files gives.
    pub fn of_hub(hub: &Hub, id: &str, choice: &SetChoice, pictures: Option<Pictures>) -> Result<Self> {
        let repo = id.split_once('@').map_or(id, |(repo, _)| repo);
        let chosen = std::cell::RefCell::new(Vec::new());
        let choose = |names: &BTreeSet<String>| {
            let files = choice.choose(repo, names)?;
            chosen.replace(files.clone());
            Ok(files)
        };
        let folder = hub.dataset(id, &choose).context(|| format!("no file or folder `{id}`"))?;
        let files: Vec<PathBuf> = chosen.take().iter().map(|name| folder.join(name)).collect();
        Dataset::of_files(id, &files, pictures)
    }

    /// The chosen part of a folder as people download data sets.
    ///
    /// # Errors
    /// As for [`Dataset::of_hub`].
    pub fn of_folder(folder: &Path, choice: &SetChoice, pictures: Option<Pictures>) -> Result<Self> {
        let name = folder.display().to_string();
        let help = format!("choose with `dataset(\"{name}\", #{{ config: \"...\", split: \"...\" }})`");
        let files = find(folder, &choice.wanted(), &[]).map_err(|error| error.help(help))?;
        let below = |path: &PathBuf| path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned();
        let names: Vec<String> = files.iter().map(below).collect();
        choice.check(&name, &names.iter().cloned().collect(), &names)?;
        Dataset::of_files(&name, &files, pictures)
    }

    /// Several files of one format as one set.
    fn of_files(name: &str, files: &[PathBuf], pictures: Option<Pictures>) -> Result<Self> {
        let Some(first) = files.first() else { return Err(error!(Missing, "`{name}` holds no file of samples")) };
        if first.extension().is_some_and(|ending| ending == "tsv") {
            return Err(error!(Data, "`{name}`: `{}` is a table of questions, no conversations", first.display())
                .help("training reads JSON, JSON lines and parquet; `benchmark` reads tables"));
        }
        Dataset::open_files(name, files, Format::of(first), pictures)
    }
}

/// Whether the name of a file says a word: in a folder's name or its own.
fn says(name: &str, word: &str) -> bool {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.', ' '], "-");
    let (name, word) = (plain(name), plain(word));
    let whole = |(at, _): (usize, &str)| {
        let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        edge(name[..at].chars().next_back()) && edge(name[at + word.len()..].chars().next())
    };
    name.match_indices(&word).any(whole)
}

/// The first of the names, in back quotes.
fn shown(names: &BTreeSet<String>) -> String {
    let list: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    if list.is_empty() { "no file of samples".to_string() } else { format!("{}{more}", list.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whole_words() {
        assert!(says("data/train-00000-of-00001.parquet", "train"));
        assert!(says("en_US/x.parquet", "en-us") && says("b/TRAIN.json", "train"));
        assert!(!says("data/training.json", "train") && !says("x.parquet", "train"));
    }

    #[test]
    fn a_path_is_no_id() {
        assert!(is_on_hub("org/name") && is_on_hub("org/name@main"));
        assert!(!is_on_hub("folder/file.json") && !is_on_hub("src/data") && !is_on_hub("name"));
    }
}

//! Of all the files of a set as people download it, those of one configuration and one split; or an error that names
//! what there is. By names alone, so that it works for a folder and for the hub's list of files.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Name, PARTIAL, same_words, words};
use crate::error;
use crate::error::{Error, Result};

/// What of a published set is wanted; nothing in particular by default.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names that the set goes by: a file or folder called so is it.
    pub names: Vec<String>,
    /// Names of the configuration; `*` stands for all of them together.
    pub configuration: Vec<String>,
    /// Names of the split; the first that is there counts.
    pub split: Vec<String>,
    /// Configurations, and words in the names of files, that are another set.
    pub others: Vec<String>,
    /// Names that other sets go by.
    pub foreign: Vec<String>,
    /// Files that belong together though they are named by what they hold.
    pub parts: Vec<String>,
}

/// How many names a message lists.
const SHOWN: usize = 8;

impl Wanted {
    /// The wanted files out of the names of all below `root`, sorted.
    ///
    /// # Errors
    /// `Missing` when there is no table, or the right configuration or split is not among those that there are; `Data` when
    /// files are incomplete, there twice, or of several sets that nothing tells apart.
    pub fn choose<'a>(&self, root: &str, names: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>> {
        let last = root.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let all: Vec<Name> = names.into_iter().filter_map(|path| Name::parse(path, last)).collect();
        let files = self.of_format(root, all)?;
        let files = match self.is_any() {
            true => files,
            false => self.of_set(root, last, files)?,
        };
        complete(root, &files, !self.is_any())?;
        let mut paths: Vec<String> = files.into_iter().map(|file| file.path).collect();
        paths.sort();
        Ok(paths)
    }

    /// Whether a file that is given by its path is another split than the wanted one: only where it is named as
    /// published sets are, since a user's own file may be called anything.
    pub(super) fn check_file(&self, path: &str) -> Result<()> {
        let mut parts = path.rsplit('/');
        let (file, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let Some(name) = Name::parse(file, folder) else { return Ok(()) };
        let foreign = self.others.iter().any(|other| words(&name.label).contains(&other.to_lowercase()));
        match &name.split {
            Some(split) if name.is_published() && !self.split.is_empty() && !self.split.contains(split) => {
                Err(self.no_split(path, BTreeSet::from([split.as_str()])))
            }
            _ if foreign => Err(self.another(path, &name.label)),
            _ => Ok(()),
        }
    }

    fn is_any(&self) -> bool {
        self.split.is_empty() && self.configuration.is_empty() && self.names.is_empty()
    }

    /// Files of one format: parquet where there is some.
    fn of_format(&self, root: &str, mut files: Vec<Name>) -> Result<Vec<Name>> {
        let Some(format) = files.iter().map(|file| file.format).min() else {
            return Err(error!(Missing, "`{root}` holds no .parquet, .jsonl, .tsv or .json file")
                .help("three levels of folders are searched; give the folder that holds the files"));
        };
        if let Some(error) = format.refused(root) {
            return Err(error);
        }
        files.retain(|file| file.format == format);
        Ok(files)
    }

    fn of_set(&self, root: &str, last: &str, mut files: Vec<Name>) -> Result<Vec<Name>> {
        let is_ours = |file: &Name| {
            self.configuration.iter().any(|name| file.configuration.contains(&name.to_lowercase()))
                || self.names.iter().any(|name| same_words(name, &file.label))
        };
        if files.iter().any(is_ours) {
            files.retain(is_ours);
        }
        let files = self.of_split(root, files)?;
        let files = self.of_configuration(root, last, files)?;
        self.of_label(root, files)
    }

    fn of_split(&self, root: &str, mut files: Vec<Name>) -> Result<Vec<Name>> {
        let there = |split: &&String| files.iter().any(|file| file.split.as_ref() == Some(split));
        if let Some(split) = self.split.iter().find(there) {
            files.retain(|file| file.split.as_ref() == Some(split));
            return Ok(files);
        }
        let known: BTreeSet<&str> = files.iter().filter_map(|file| file.split.as_deref()).collect();
        match self.split.is_empty() || known.is_empty() {
            true => Ok(files),
            false => Err(self.no_split(root, known)),
        }
    }

    fn no_split(&self, root: &str, known: BTreeSet<&str>) -> Error {
        let wanted = self.split.first().map_or("", String::as_str);
        if known.contains(format!("{PARTIAL}{wanted}").as_str()) {
            return error!(Missing, "`{root}` holds only the first part of the split `{wanted}` (`{PARTIAL}{wanted}`)")
                .help("the hub converts the first 5 GB of large sets; take the files of the branch `main`");
        }
        error!(Missing, "`{root}` holds {}, `{}` asks `{wanted}`", several("split", known), self.name()).help(format!(
            "give the files of the split `{wanted}`: `{wanted}-*.parquet`, `{wanted}/`, `{wanted}.parquet`"
        ))
    }

    /// Files of one configuration.
    fn of_configuration(&self, root: &str, last: &str, mut files: Vec<Name>) -> Result<Vec<Name>> {
        if self.configuration.iter().any(|name| name == "*") {
            return Ok(files);
        }
        let groups: BTreeSet<Vec<String>> = files.iter().map(|file| file.configuration.clone()).collect();
        let any = |names: &[String], name: &str| names.iter().any(|other| other.eq_ignore_ascii_case(name));
        let named = |group: &&Vec<String>| {
            let names = self.configuration.iter().chain(&self.names);
            names.into_iter().any(|name| group.iter().any(|part| same_words(part, name)))
        };
        let mut fitting: Vec<&Vec<String>> = groups.iter().filter(named).collect();
        if fitting.is_empty() {
            fitting = groups.iter().filter(|group| group.is_empty() || groups.len() == 1).collect();
        }
        let group = match fitting.as_slice() {
            [only] => (*only).clone(),
            _ => {
                let folders = several("folder", groups.iter().map(|group| group.join("/")));
                return Err(error!(Data, "`{root}` holds {folders}, and `{}` is one of them at most", self.name())
                    .help("give the folder of the benchmark: `data: \".../folder\"`"));
            }
        };
        let is_own = |name: &str| any(&self.configuration, name) || any(&self.names, name);
        // The opened folder itself may be called anything but a configuration of the same set.
        let foreign = match group.is_empty() {
            true => Some(last).filter(|name| any(&self.others, name)),
            false => group.iter().map(String::as_str).find(|name| any(&self.others, name) || any(&self.foreign, name)),
        };
        if let Some(foreign) = foreign.filter(|name| !is_own(name)) {
            return Err(self.another(root, foreign));
        }
        files.retain(|file| file.configuration == group);
        Ok(files)
    }

    fn another(&self, root: &str, found: &str) -> Error {
        let wanted = self.configuration.first().map_or_else(|| self.name(), String::as_str);
        error!(Data, "`{root}` is `{found}`, benchmark `{}` asks `{wanted}`", self.name())
    }

    /// Files that belong together by their names: of one name, of names that differ by a number, or parts of the set.
    fn of_label(&self, root: &str, mut files: Vec<Name>) -> Result<Vec<Name>> {
        let base = |file: &Name| match (self.part(&file.label), &file.split) {
            (Some(_), _) => String::new(),
            // Named by its folder and a number.
            (None, Some(split)) if file.label.is_empty() => without_number(split),
            _ => without_number(&file.label),
        };
        let labels = |files: &[Name]| files.iter().map(base).collect::<BTreeSet<_>>();
        let has = |file: &Name, names: &[String]| {
            let words = words(&file.label);
            names.iter().any(|name| words.contains(&name.to_lowercase()))
        };
        if labels(&files).len() > 1 && files.iter().any(|file| has(file, &self.configuration)) {
            files.retain(|file| has(file, &self.configuration));
        }
        if labels(&files).len() > 1 {
            files.retain(|file| !has(file, &self.others));
        }
        match labels(&files).len() {
            1 => Ok(files),
            0 => Err(error!(Missing, "`{root}` holds other sets than `{}`", self.name())),
            _ => {
                let names = several("file", files.iter().map(|file| file.path.clone()));
                Err(error!(Data, "`{root}` holds {names}, and nothing tells which is `{}`", self.name())
                    .help("give one file: `data: \".../file\"`"))
            }
        }
    }

    /// The part of the set that a file's name names.
    pub fn part_of_file(&self, file: &str) -> Option<&str> {
        self.part(&Name::parse(file, "")?.label)
    }

    fn part(&self, label: &str) -> Option<&str> {
        let words = words(label);
        self.parts.iter().map(String::as_str).find(|part| words.last().is_some_and(|word| word == part))
    }

    fn name(&self) -> &str {
        self.names.first().map_or("the set", String::as_str)
    }
}

/// Every file of a numbered set is there, once.
fn complete(root: &str, files: &[Name], one_place: bool) -> Result<()> {
    let mut sets: BTreeMap<(String, &str), Vec<&Name>> = BTreeMap::new();
    let mut places: BTreeMap<&[String], BTreeMap<String, &Name>> = BTreeMap::new();
    for file in files {
        sets.entry((file.place(), &file.label)).or_default().push(file);
        // Where nothing in particular is wanted, folders of files may belong together.
        if one_place {
            places.entry(&file.configuration).or_default().insert(file.place(), file);
        }
    }
    let twice = |a: &Name, b: &Name| {
        error!(Data, "`{root}` holds the same part twice: `{}` and `{}`", a.path, b.path)
            .help("they may be two versions of the set: keep one, or give its folder")
    };
    for set in places.values().map(|set| set.values().collect::<Vec<_>>()) {
        if let [a, b, ..] = set[..] {
            return Err(twice(a, b));
        }
    }
    for ((place, label), mut set) in sets {
        set.sort_by_key(|file| file.shard.map(|shard| shard.number));
        let of = |file: &Name| file.shard.map(|shard| shard.of);
        let again = |pair: &&[&Name]| pair[0].shard == pair[1].shard || of(pair[0]) != of(pair[1]);
        if let Some(pair) = set.windows(2).find(again) {
            return Err(twice(pair[0], pair[1]));
        }
        let numbers: BTreeSet<usize> = set.iter().filter_map(|file| Some(file.shard?.number)).collect();
        let last = numbers.last().copied().unwrap_or(0);
        let of = set.first().and_then(|file| file.shard).map_or(0, |shard| shard.of.unwrap_or(last + 1));
        let missing: Vec<usize> = (0..of).filter(|number| !numbers.contains(number)).collect();
        if let Some(first) = missing.first() {
            let name = match set.first().and_then(|file| file.shard?.of) {
                Some(_) => format!("{label}-{first:05}-of-{of:05}"),
                None => format!("{first:04}"),
            };
            let place = if place.is_empty() { root.to_string() } else { format!("{root}/{place}") };
            let more = if missing.len() > 1 { format!(" and {} more", missing.len() - 1) } else { String::new() };
            return Err(error!(Missing, "`{place}` lacks `{name}`{more}: {} of {of} files are there", numbers.len())
                .help("the download is not whole: fetch the set again, the files that are there are kept"));
        }
    }
    Ok(())
}

fn without_number(label: &str) -> String {
    label.trim_end_matches(|c: char| c.is_ascii_digit() || "-_.".contains(c)).to_string()
}

/// `the splits a, b`: a noun and names, the first of them.
fn several<S: AsRef<str>>(noun: &str, names: impl IntoIterator<Item = S>) -> String {
    let names: Vec<S> = names.into_iter().collect();
    let shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|name| if name.as_ref().is_empty() { "`.`".to_string() } else { format!("`{}`", name.as_ref()) })
        .collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("the {noun}{} {}{more}", if names.len() == 1 { "" } else { "s" }, shown.join(", "))
}

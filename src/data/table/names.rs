//! What a file's place and name say of a published set: `en/dev-00000-of-00002-1f3a.parquet`, `ScienceQA-IMG/test/0000.parquet`
//! (the hub's conversion), `test.parquet`, `MMBench_DEV_EN.tsv`.

use crate::data::containers::TableKind;

/// Words that name a split, alone or as a part of a name.
const SPLITS: [&str; 19] = [
    "train",
    "training",
    "trainval",
    "train2014",
    "train2017",
    "validation",
    "val",
    "valid",
    "minival",
    "val2014",
    "val2017",
    "dev",
    "test",
    "testing",
    "testdev",
    "testmini",
    "test2015",
    "submission",
    "challenge",
];
/// Folders of the configuration without a name.
const DEFAULTS: [&str; 2] = ["data", "default"];
/// The hub converts the first 5 GB of large splits under such names.
pub(super) const PARTIAL: &str = "partial-";

/// A table among the files of a set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Name {
    /// Below the opened folder, with slashes.
    pub path: String,
    pub format: TableKind,
    /// The folder.
    pub folder: String,
    /// Lower case; `None` when neither the name nor a folder says it.
    pub split: Option<String>,
    /// Folders that are neither the split's nor the default configuration's, in lower case.
    pub configuration: Vec<String>,
    /// The file's name without its numbers and ending; empty where it is a number.
    pub label: String,
    pub shard: Option<Shard>,
}

/// `-00001-of-00003`, or `0001` as a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shard {
    pub number: usize,
    pub of: Option<usize>,
}

impl Name {
    /// What a path says; `None` when it is no table. `root` is the name of the folder that was opened.
    pub(super) fn parse(path: &str, root: &str) -> Option<Self> {
        let format = TableKind::of(path)?;
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let folders: Vec<String> = folder.split('/').filter(|part| !part.is_empty()).map(str::to_lowercase).collect();
        if path.split('/').any(|part| part.starts_with('.')) {
            return None;
        }
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let (label, shard) = shard_of(stem);
        let is_split = |name: &String| SPLITS.contains(&name.trim_start_matches(PARTIAL));
        let by_folder = || folders.iter().rev().find(|name| is_split(name)).cloned();
        // Only of a file that is named by a number the opened folder says the split: any folder may be called `test`.
        let by_root = || Some(root.to_lowercase()).filter(|root| label.is_empty() && is_split(root));
        let split = split_of(label).or_else(by_folder).or_else(by_root);
        let configuration = folders
            .into_iter()
            .filter(|name| split.as_ref() != Some(name) && !DEFAULTS.contains(&name.as_str()))
            .collect();
        let (path, folder, label) = (path.to_string(), folder.to_string(), label.to_string());
        Some(Name { path, format, folder, split, configuration, label, shard })
    }

    /// The folder without the split's: files that belong together have it in common.
    pub(super) fn place(&self) -> String {
        let is_split = |part: &&str| Some(part.to_lowercase()) == self.split;
        self.folder.split('/').filter(|part| !is_split(part)).collect::<Vec<_>>().join("/")
    }

    /// Whether the name begins with a split and says which of how many files it is.
    pub(super) fn is_published(&self) -> bool {
        let numbered = self.label.is_empty() || self.shard.is_some_and(|shard| shard.of.is_some());
        numbered && (self.label.is_empty() || SPLITS.contains(&self.label.to_lowercase().as_str()))
    }
}

/// A stem without its numbers, and the numbers.
fn shard_of(stem: &str) -> (&str, Option<Shard>) {
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.chars().all(|c| c.is_ascii_digit()));
    if let (4.., Some(number)) = (stem.len(), number(stem)) {
        return ("", Some(Shard { number, of: None }));
    }
    let whole = || {
        let (before, after) = stem.rsplit_once("-of-")?;
        let (label, at) = before.rsplit_once('-')?;
        // A hash may follow.
        let of = after.split_once('-').map_or(after, |(of, _)| of);
        Some((label, Shard { number: number(at)?, of: Some(number(of)?) }))
    };
    match whole() {
        Some((label, shard)) => (label, Some(shard)),
        None => (stem, None),
    }
}

/// The words of a name, in lower case.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// Whether two names are of the same words, in any order: `MMBench_DEV_EN`, `mmbench_en_dev`.
pub(super) fn same_words(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut words = words(text);
        words.sort();
        words
    };
    sorted(a) == sorted(b)
}

/// The split that a label names: the label itself, or the words in it that do.
fn split_of(label: &str) -> Option<String> {
    let label = label.to_lowercase();
    if SPLITS.contains(&label.as_str()) {
        return Some(label);
    }
    let mut found: Vec<String> = words(&label).into_iter().filter(|word| SPLITS.contains(&word.as_str())).collect();
    found.dedup();
    (!found.is_empty()).then(|| found.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_split_configuration_and_shard() {
        let name = |path: &str, root: &str| {
            let name = Name::parse(path, root).unwrap();
            let shard = name.shard.map(|shard| (shard.number, shard.of));
            (name.split.unwrap_or_default(), name.configuration.join("/"), name.label, shard)
        };
        let told = |split: &str, configuration: &str, label: &str, shard| {
            (split.to_string(), configuration.to_string(), label.to_string(), shard)
        };
        assert_eq!(
            name("data/test-00001-of-00004-a29504db.parquet", "x"),
            told("test", "", "test", Some((1, Some(4))))
        );
        assert_eq!(name("en/dev-00000-of-00001.parquet", "x"), told("dev", "en", "dev", Some((0, Some(1)))));
        assert_eq!(name("ScienceQA-IMG/test/0000.parquet", "x"), told("test", "scienceqa-img", "", Some((0, None))));
        assert_eq!(name("0003.parquet", "train"), told("train", "", "", Some((3, None))));
        assert_eq!(name("a.jsonl", "train"), told("", "", "a", None));
        assert_eq!(name("validation.parquet", ""), told("validation", "", "validation", None));
        assert_eq!(
            name("default/partial-validation/0000.parquet", ""),
            told("partial-validation", "", "", Some((0, None)))
        );
        assert_eq!(name("MMBench_DEV_EN.tsv", ""), told("dev", "", "MMBench_DEV_EN", None));
        assert_eq!(name("MMMU_DEV_VAL.tsv", "").0, "dev_val");
        assert_eq!(name("coco/coco_pope_random.json", ""), told("", "coco", "coco_pope_random", None));
        assert_eq!(name("chartqa/lite-00000-of-00001.parquet", "").0, "");
        assert_eq!(name("testdev_balanced_instructions/testdev-00000-of-00001.parquet", "").0, "testdev");
        assert!(
            Name::parse(".cache/huggingface/test.parquet", "").is_none()
                && Name::parse("dataset_infos.json", "").is_none()
        );
    }
}

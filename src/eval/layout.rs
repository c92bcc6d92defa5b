//! Where a benchmark's rows lie in its set as people download it, and whose rows they are: which configuration, which
//! split, which fields. What a preset says of it is in its table `[layout]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::fields::{Fields, OneOrMany};
use super::prompt::Recipe;
use super::second_table::SecondTable;
use crate::data::table::{Reading, Rows, Wanted, find};
use crate::error::{Error, Result};
use crate::preset::{PresetKind, Presets};
use crate::{bail, error, hub};

/// What a preset says of the files and columns of its set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Layout {
    /// Names of the configuration, `*` for all of them together.
    configuration: Option<OneOrMany<String>>,
    /// The configuration that holds the pictures, where the rows do not.
    pictures: Option<String>,
    /// Configurations of the same set, and words in names of files, that are another benchmark.
    others: Vec<String>,
    /// Last words of the names of files that are the set together; the rows' category, where they have none.
    parts: Vec<String>,
    /// Folders beside a file in which pictures may be that its rows name.
    folders: Vec<String>,
    /// Other names of fields in other publications: `other = "name"`.
    aliases: BTreeMap<String, String>,
    /// Fields by which rows of this set are told from others.
    signature: Vec<String>,
    /// Categories that no other set has, where fields alone do not tell.
    categories: Vec<String>,
    /// Sets without a preset whose rows look alike, and fields that tell them.
    foreign: BTreeMap<String, Vec<String>>,
}

/// One benchmark's set.
pub(super) struct Set<'a> {
    id: &'a str,
    layout: &'a Layout,
    fields: &'a Fields,
    /// Where it is published: ids of the hub.
    homes: Vec<String>,
    wanted: Wanted,
    /// What is read of a row, and what every row has to have.
    pub(super) reading: Reading,
    needed: Vec<String>,
    others: Vec<Other>,
}

/// What is known of another preset's set.
struct Other {
    id: String,
    homes: Vec<String>,
    signature: Vec<String>,
    categories: Vec<String>,
}

impl<'a> Set<'a> {
    pub(super) fn new(
        presets: &Presets,
        id: &'a str,
        (source, split): (Vec<String>, Vec<String>),
        layout: &'a Layout,
        fields: &'a Fields,
        prompts: &[&str],
    ) -> Result<Self> {
        let homes: Vec<String> = source.into_iter().filter(|source| hub::is_id(source)).collect();
        let others: Vec<Other> = presets
            .ids(PresetKind::Benchmarks)
            .into_iter()
            .filter(|other| other != id)
            .filter_map(|other| Other::of(presets, other))
            .filter(|other| other.signature != layout.signature || other.homes != homes)
            .collect();
        let mut names = vec![id.to_string()];
        names.extend(homes.iter().map(|home| home.rsplit('/').next().unwrap_or_default().to_string()));
        names.extend(names.clone().iter().flat_map(|name| split.iter().map(move |split| format!("{name}_{split}"))));
        let mut foreign: Vec<String> = others.iter().map(|other| other.id.clone()).collect();
        // Benchmarks of one configuration each share their home.
        let own = presets.ids(PresetKind::Benchmarks).into_iter().filter(|other| other != id);
        foreign.extend(own.filter(|other| layout.others.contains(other)));
        let configuration = layout.configuration.as_ref().map_or(Vec::new(), OneOrMany::all);
        let (others_of_set, parts) = (layout.others.clone(), layout.parts.clone());
        let wanted = Wanted { names, configuration, split, others: others_of_set, foreign, parts };
        let (mut needed, optional) = fields.names();
        let mut reading = Reading::default();
        optional.iter().for_each(|field| reading.want(field));
        for (number, prompt) in prompts.iter().enumerate() {
            let (shown, may_lack) = Recipe::parse(prompt)?.fields();
            shown.iter().chain(&may_lack).for_each(|field| reading.want(field));
            if number == 0 {
                needed.extend(shown);
            }
        }
        needed.iter().for_each(|field| reading.want(field));
        reading.aliases = layout.aliases.iter().map(|(other, name)| (other.clone(), name.clone())).collect();
        reading.pictures = layout.folders.clone();
        Ok(Set { id, layout, fields, homes, wanted, reading, needed, others })
    }

    /// The files of the set in a folder or file, or of a data set on the hub.
    ///
    /// # Errors
    /// What [`find`] and the hub fail with; `Data` for the data set of another benchmark.
    pub(super) fn files(&self, presets: &Presets, data: &Path) -> Result<Vec<PathBuf>> {
        let text = data.to_string_lossy();
        let files = match !data.exists() && hub::is_id(&text) {
            true => self.fetch(presets, &text).and_then(|folder| find(&folder, &self.wanted, &self.homes)),
            false => find(data, &self.wanted, &self.homes),
        };
        files.map_err(|error| self.with_help(error))
    }

    fn fetch(&self, presets: &Presets, id: &str) -> Result<PathBuf> {
        let repo = id.split_once('@').map_or(id, |(repo, _)| repo);
        let is_home = |homes: &[String]| homes.iter().any(|home| home.eq_ignore_ascii_case(repo));
        if let Some(other) = self.others.iter().find(|other| is_home(&other.homes) && !is_home(&self.homes)) {
            bail!(Data, "`{id}` is the data set of benchmark `{}`, not of `{}`", other.id, self.id);
        }
        let choose = |names: &BTreeSet<String>| {
            let mut files = self.wanted.choose(repo, names)?;
            // Where there are pictures apart, they come along.
            if let Some(wanted) = self.wanted_pictures()
                && names.iter().any(|name| name.split('/').any(|part| wanted.configuration.iter().any(|c| c == part)))
            {
                files.extend(wanted.choose(repo, names)?);
            }
            Ok(files)
        };
        presets.hub().dataset(id, &choose)
    }

    fn wanted_pictures(&self) -> Option<Wanted> {
        let configuration = vec![self.layout.pictures.clone()?];
        Some(Wanted { configuration, split: self.wanted.split.clone(), ..Wanted::default() })
    }

    /// The pictures that lie apart: those that are given, or those of the set that lie beside its files; and whether they
    /// are given.
    ///
    /// # Errors
    /// `Option` when pictures are given to a benchmark that has them in its rows.
    pub(super) fn pictures(&self, files: &[PathBuf], images: Option<&Path>) -> Result<Option<(SecondTable, bool)>> {
        let wanted = self.wanted_pictures();
        if let Some(images) = images {
            if !self.fields.second_table() {
                return Err(error!(Option, "benchmark `{}` takes no `images` (`{}`)", self.id, images.display())
                    .help(format!("its pictures are in the rows of `data`, in the field `{}`", self.fields.image())));
            }
            let wanted = match images.is_file() {
                true => Wanted::default(),
                false => wanted.unwrap_or_default(),
            };
            return Ok(Some((SecondTable::open(images, &wanted, &self.homes)?, true)));
        }
        let (Some(wanted), Some(first)) = (wanted, files.first()) else { return Ok(None) };
        let beside = first
            .ancestors()
            .skip(1)
            .take(4)
            .flat_map(|folder| wanted.configuration.iter().map(move |configuration| folder.join(configuration)));
        match beside.into_iter().find(|folder| folder.is_dir()) {
            Some(folder) => Ok(Some((SecondTable::open(&folder, &wanted, &self.homes)?, false))),
            None => Ok(None),
        }
    }

    /// The field and value that a file's name gives its rows.
    pub(super) fn label(&self, path: &Path) -> Option<(String, String)> {
        let file = path.file_name()?.to_string_lossy().into_owned();
        Some((self.fields.category()?.clone(), self.wanted.part_of_file(&file)?.to_string()))
    }

    /// Whether the rows are this set's.
    ///
    /// # Errors
    /// `Data` for rows of another set, and for rows that lack what all questions need.
    pub(super) fn check(&self, rows: &Rows) -> Result<()> {
        let has = |name: &String| rows.fields().contains(name);
        let place = rows.path().display();
        if rows.fields().is_empty() {
            return Ok(());
        }
        let is_whose = |signature: &[String]| !signature.is_empty() && signature.iter().all(has);
        if let Some((name, _)) = self.layout.foreign.iter().find(|(_, fields)| is_whose(fields)) {
            return Err(self.with_help(error!(Data, "`{place}` holds rows of {name}, not of `{}`", self.id)));
        }
        let size = if is_whose(&self.layout.signature) { self.layout.signature.len() } else { 0 };
        let is_known = |name: &String| self.reading.keeps(name);
        let category = self.fields.category().and_then(|field| rows.value(rows.range().start, field)?.as_str());
        let fitting = self.others.iter().filter(|other| {
            let is_theirs = |category: &str| other.categories.iter().any(|name| name == category);
            let tells = other.signature.iter().any(|name| !is_known(name)) || category.is_some_and(is_theirs);
            // Rows with a field that this set needs and that one has not are somebody's own.
            let suffices = self.needed.iter().all(|name| other.signature.contains(name));
            tells && suffices && other.signature.len() > size && is_whose(&other.signature)
        });
        let other = fitting.max_by_key(|other| other.signature.len());
        if let Some(other) = other {
            let fields = other.signature.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let (id, home) = (&other.id, other.homes.first().map_or("", String::as_str));
            let error = error!(Data, "`{place}` holds rows of `{id}`, not of `{}`: {home} has {fields}", self.id);
            return Err(self.with_help(error));
        }
        let Some(lacking) = self.needed.iter().find(|name| !has(name)) else { return Ok(()) };
        let fields = rows.named_fields();
        let has_any = |names: &[&str]| names.iter().any(|name| rows.fields().iter().any(|field| field == name));
        let what = match self.fields.answer() {
            _ if has_any(&["conversations"]) => "conversations, as models are trained on, not questions with answers",
            Some(answer) if !has(answer) && has_any(&["question", "text"]) => "questions without answers",
            _ => {
                return Err(self.with_help(error!(Data, "`{place}`: there is no field `{lacking}`; fields: {fields}")));
            }
        };
        Err(self.with_help(error!(
            Data,
            "`{place}` holds {what}: benchmark `{}` needs the field `{lacking}`; fields: {fields}", self.id
        )))
    }

    /// Whether rows have a field for their own pictures.
    pub(super) fn has_pictures(&self, rows: &Rows) -> bool {
        rows.fields().contains(&self.fields.image())
    }

    /// An error with the published set as its next step, where it names none.
    pub(super) fn with_help(&self, error: Error) -> Error {
        match error.help_text() {
            Some(_) => error,
            None => error.help(self.published()),
        }
    }

    /// Which published set is wanted, and how it is opened.
    pub(super) fn published(&self) -> String {
        let (id, home) = (self.id, self.homes.first().map_or("OWNER/NAME", String::as_str));
        let part = |noun: &str, names: &[String]| match names.first().filter(|name| *name != "*") {
            Some(name) => format!(", {noun} `{name}`"),
            None => String::new(),
        };
        let configuration = part("configuration", &self.wanted.configuration);
        let split = part("split", &self.wanted.split);
        let images = match &self.layout.pictures {
            Some(pictures) => {
                format!(", with the pictures of `{pictures}` beside it or as `images: \"folder or file\"`")
            }
            None => String::new(),
        };
        format!(
            "the set is {}{configuration}{split}: `benchmark(\"{id}\", #{{ data: \"folder or file\" }})`{images}; `data: \"{home}\"` \
             fetches it",
            self.homes.join(" or ")
        )
    }
}

impl Other {
    /// `None` for a benchmark without a set of its own, and for one that cannot be read.
    fn of(presets: &Presets, id: String) -> Option<Self> {
        #[derive(Deserialize)]
        struct Preset {
            source: OneOrMany<String>,
            #[serde(default)]
            layout: Layout,
        }
        let preset: Preset = presets.table(PresetKind::Benchmarks, &id).ok()?.try_into().ok()?;
        let Layout { signature, categories, .. } = preset.layout;
        Some(Other { id, homes: preset.source.all(), signature, categories })
    }
}

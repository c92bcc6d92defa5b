//! Models and data sets of the Hugging Face hub, in the cache that Python's `huggingface_hub` uses: each finds what the other
//! has downloaded. A complete snapshot in the cache is used without contacting the hub.
//!
//! This file does what hf-hub 0.5 does not: it compares a file's size with the size the hub announced, resumes correctly
//! when a server ignores range requests and when hf-hub retries by itself, and checks the file names that the server
//! sends for the cache.

mod dataset;
mod progress;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

pub use self::dataset::Choose;
use self::progress::Tell;
use crate::assets::Folder;
use crate::error;
use crate::error::{Context, Error, Result};
use crate::events::Listeners;
use crate::sandbox;
use crate::weights::{INDEX, WHOLE, indexed_files};

/// Files that are fetched whenever a repository has them.
const SMALL: [&str; 10] = [
    "added_tokens.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    INDEX,
];
/// Names of a single weight file, in order of preference.
const SINGLE: [&str; 4] = [WHOLE, "mm_projector.safetensors", "pytorch_model.bin", "mm_projector.bin"];
/// How often an interrupted download is resumed.
const ATTEMPTS: usize = 3;
/// The HTTP status of a range that begins past the end of the file: the part that has arrived belongs to another file.
const BEYOND_THE_END: u16 = 416;

/// The address of the hub and the folder of its cache; see [`crate::settings::Settings`].
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The folder of `models--org--name`.
    pub cache: PathBuf,
    /// Such as `https://huggingface.co`.
    pub endpoint: String,
    pub token: Option<String>,
    /// No requests are sent to the hub.
    pub offline: bool,
}

/// The hub as a session uses it; the default one has no access and no cache.
#[derive(Clone, Default)]
pub struct Hub(Option<Arc<Inner>>);

struct Inner {
    settings: HubSettings,
    listeners: Listeners,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({})", self.0.as_ref().map_or("none", |inner| inner.settings.endpoint.as_str()))
    }
}

/// A repository and the files that are wanted of it.
struct Wanted<'a> {
    kind: RepoType,
    id: &'a str,
    repo: &'a str,
    revision: &'a str,
    /// Files that must be there; `a or b` means one of the two.
    files: &'a [&'a str],
    weights: bool,
}

/// Whether a text has the form of a repository id: `org/name` or `org/name@revision`.
pub fn is_id(text: &str) -> bool {
    let (repo, revision) = split(text);
    let word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !word.is_empty() && word.len() <= 96 && !word.starts_with(['.', '-']) && word.chars().all(plain)
    };
    repo.split('/').count() == 2 && repo.split('/').all(word) && revision.split('/').all(word)
}

/// The id, with its commit, of a snapshot folder in the hub's cache: `models--org--name/snapshots/commit`.
pub fn id_of(path: &Path) -> Option<String> {
    let commit = path.file_name()?.to_str()?;
    let snapshots = path.parent()?;
    let repo = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    let id = format!("{}@{commit}", repo.replacen("--", "/", 1));
    (snapshots.ends_with("snapshots") && is_id(&id)).then_some(id)
}

/// An id without its revision.
pub fn without_revision(id: &str) -> &str {
    split(id).0
}

fn split(id: &str) -> (&str, &str) {
    id.split_once('@').unwrap_or((id, "main"))
}

impl Hub {
    /// The hub with these settings; `listeners` receive the progress of downloads.
    pub fn new(settings: HubSettings, listeners: Listeners) -> Self {
        Hub(Some(Arc::new(Inner { settings, listeners })))
    }

    /// The folder with the files of a model: from the cache if it has `files` (and the weights, where they are
    /// wanted), else from the hub. `a or b` in `files` means one of the two.
    ///
    /// # Errors
    /// `Missing` when files are neither in the cache nor on the hub; `File` when the hub cannot be reached or its answers
    /// are inconsistent.
    pub fn folder(&self, id: &str, files: &[&str], weights: bool) -> Result<PathBuf> {
        let (repo, revision) = split(id);
        let wanted = Wanted { kind: RepoType::Model, id, repo, revision, files, weights };
        let Some(inner) = &self.0 else {
            return Err(error!(Missing, "no folder `{id}`, and this session has no access to the hub"));
        };
        let snapshot = inner.cached(&wanted).filter(|path| sandbox::readable(path).is_ok());
        let lacking = snapshot.as_deref().map_or_else(|| vec!["config.json".to_string()], |path| wanted.lacking(path));
        match snapshot {
            Some(path) if lacking.is_empty() => Ok(path),
            _ if sandbox::is_on() => Err(inner.refused(&wanted)),
            _ if inner.settings.offline => Err(inner.offline(&wanted, &lacking)),
            _ => inner.fetch(&wanted).context(|| format!("`{id}` is no folder here; from {}", inner.settings.endpoint)),
        }
    }
}

impl Wanted<'_> {
    fn is_dataset(&self) -> bool {
        matches!(self.kind, RepoType::Dataset)
    }

    fn repo(&self, revision: &str) -> Repo {
        Repo::with_revision(self.repo.to_string(), self.kind, revision.to_string())
    }

    /// The wanted files that a snapshot lacks.
    fn lacking(&self, folder: &Path) -> Vec<String> {
        let is_there = |files: &str| files.split(" or ").any(|file| folder.join(file).is_file());
        let mut lacking: Vec<String> =
            self.files.iter().filter(|files| !is_there(files)).map(|files| files.to_string()).collect();
        if self.weights && (folder.join(WHOLE).is_file() || !folder.join(INDEX).is_file()) {
            if !SINGLE.iter().any(|name| folder.join(name).is_file()) {
                lacking.push(WHOLE.to_string());
            }
        } else if self.weights {
            // A broken index is reported by whoever reads the weights.
            let shards = indexed_files(&Folder::Disk(folder.to_path_buf())).unwrap_or_default();
            lacking.extend(shards.into_iter().filter(|shard| !folder.join(shard).is_file()));
        }
        lacking
    }

    /// The files to fetch; files that name further files come first.
    fn select(&self, names: &BTreeSet<String>) -> Vec<String> {
        // The config of a tower may be in a folder of its own.
        let small = |name: &&String| match name.split('/').collect::<Vec<_>>().as_slice() {
            [file] => SMALL.contains(file),
            [_, file] => ["config.json", "preprocessor_config.json", "processor_config.json"].contains(file),
            _ => false,
        };
        let mut selected: Vec<String> = names.iter().filter(small).cloned().collect();
        if self.weights && (names.contains(WHOLE) || !names.contains(INDEX)) {
            selected.extend(SINGLE.iter().find(|name| names.contains(**name)).map(|name| name.to_string()));
        }
        selected
    }
}

impl Inner {
    fn cache(&self) -> Cache {
        Cache::new(self.settings.cache.clone())
    }

    /// The snapshot of the wanted revision, if the cache has one.
    fn cached(&self, wanted: &Wanted) -> Option<PathBuf> {
        let repo = wanted.repo(wanted.revision);
        let refs = self.settings.cache.join(repo.folder_name()).join("refs").join(wanted.revision);
        let commit = crate::fs::read_to_string(&refs).unwrap_or_else(|_| wanted.revision.to_string());
        let commit = commit.trim();
        let snapshot = self.cache().repo(repo).pointer_path(commit);
        (is_safe(commit) && snapshot.is_dir()).then_some(snapshot)
    }

    /// What the sandbox says of a repository that it does not find in the cache, or must not read there.
    fn refused(&self, wanted: &Wanted) -> Error {
        let refused = sandbox::may_fetch(wanted.id).err();
        refused.unwrap_or_else(|| self.offline(wanted, &["what is wanted".to_string()]))
    }

    fn offline(&self, wanted: &Wanted, lacking: &[String]) -> Error {
        let folder = self.settings.cache.join(wanted.repo(wanted.revision).folder_name());
        error!(
            Missing,
            "`{}` is neither a folder nor whole in the hub's cache: `{}` lacks {}",
            wanted.id,
            folder.display(),
            lacking.join(", ")
        )
        .help(format!(
            "the hub is switched off (HF_HUB_OFFLINE): unset it, or run `huggingface-cli download {}{}` where there is a network and copy the folder",
            if wanted.is_dataset() { "--repo-type dataset " } else { "" },
            wanted.repo
        ))
    }

    fn fetch(&self, wanted: &Wanted) -> Result<PathBuf> {
        let api = self.api().map_err(|error| self.failed(wanted, error))?;
        let (names, commit) = self.list(&api, wanted).map_err(|failure| failure.told(|e| self.failed(wanted, e)))?;
        let place = self.place(&api, wanted, &commit);
        for name in wanted.select(&names) {
            self.file(&place, &name)?;
        }
        // A single weight file is preferred over an index of shards.
        if wanted.weights && names.contains(INDEX) && !names.contains(WHOLE) {
            for shard in indexed_files(&Folder::Disk(place.snapshot.clone()))? {
                self.file(&place, &shard)?;
            }
        }
        if !place.snapshot.join("config.json").is_file() {
            return Err(error!(Missing, "the repository has no config.json")
                .help("llmore opens repositories in the layout of transformers"));
        }
        self.keep(wanted, &commit)?;
        Ok(place.snapshot)
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        ApiBuilder::from_cache(self.cache())
            .with_endpoint(self.settings.endpoint.clone())
            .with_token(self.settings.token.clone())
            .with_progress(false)
            .build()
    }

    /// The names of a repository's files, and the commit they are of.
    fn list(&self, api: &Api, wanted: &Wanted) -> std::result::Result<(BTreeSet<String>, String), Failure> {
        let info = api.repo(wanted.repo(wanted.revision)).info().map_err(Failure::Hub)?;
        match is_safe(&info.sha) {
            true => Ok((info.siblings.into_iter().map(|file| file.rfilename).collect(), info.sha)),
            false => Err(Failure::Wrong(error!(File, "the hub names the commit `{}`", info.sha))),
        }
    }

    /// Fetches by commit, so that a change on the hub in the meantime cannot mix two versions.
    fn place<'a>(&self, api: &'a Api, wanted: &'a Wanted<'a>, commit: &str) -> Transfer<'a> {
        let snapshot = self.cache().repo(wanted.repo(commit)).pointer_path(commit);
        Transfer { api, repo: api.repo(wanted.repo(commit)), wanted, snapshot }
    }

    /// Writes the ref; to be called last, because a ref promises a complete snapshot.
    fn keep(&self, wanted: &Wanted, commit: &str) -> Result<()> {
        let cached = self.cache().repo(wanted.repo(wanted.revision));
        cached.create_ref(commit).map_err(|error| Error::file(&self.settings.cache, error))
    }

    /// Fetches one file into the snapshot, unless it is there. An interrupted download is resumed where it ended.
    fn file(&self, place: &Transfer, name: &str) -> Result<()> {
        if place.snapshot.join(name).is_file() {
            return Ok(());
        }
        let task = format!("{}: {name}", place.wanted.repo);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(place, name, &task) {
                Ok(()) => return Ok(()),
                Err(Failure::Hub(error)) if tries >= ATTEMPTS || is_final(&error) => {
                    return Err(self.failed(place.wanted, error).context(format!("`{name}`")));
                }
                Err(Failure::Wrong(error)) if tries >= ATTEMPTS => return Err(error.context(format!("`{name}`"))),
                Err(_) => {}
            }
        }
    }

    fn once(&self, place: &Transfer, name: &str, task: &str) -> std::result::Result<(), Failure> {
        let Transfer { api, repo, snapshot, .. } = place;
        let said = api.metadata(&repo.url(name)).map_err(Failure::Hub)?;
        if !is_safe(said.etag()) || !snapshot.ends_with(said.commit_hash()) {
            let (etag, commit) = (said.etag(), said.commit_hash());
            return Err(Failure::Wrong(error!(File, "the hub answers with etag `{etag}` and commit `{commit}`")));
        }
        let blobs = snapshot.parent().and_then(Path::parent).map(|folder| folder.join("blobs")).unwrap_or_default();
        let (blob, part) = (blobs.join(said.etag()), blobs.join(said.etag()).with_extension("part"));
        let length = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let size = said.size() as u64;
        if length(&part) >= size {
            // Complete already, or another file: the server has nothing to send beyond this position.
            let _ = crate::fs::remove_file(&part);
        }
        let tell = Tell::new(&self.listeners, task);
        repo.download_with_progress(name, tell).map_err(|error| {
            if status(&error) == Some(BEYOND_THE_END) {
                let _ = crate::fs::remove_file(&part);
            }
            Failure::Hub(error)
        })?;
        let got = length(&blob);
        if got == size {
            return Ok(());
        }
        let _ = crate::fs::remove_file(&snapshot.join(name));
        // A file that is too short can be resumed; one that is too long is another file.
        let _ = if got < size { crate::fs::rename(&blob, &part) } else { crate::fs::remove_file(&blob) };
        Err(Failure::Wrong(error!(File, "{got} bytes arrived, the hub says it has {size}")))
    }

    fn failed(&self, wanted: &Wanted, error: ApiError) -> Error {
        let status = status(&error);
        let (noun, below) = if wanted.is_dataset() { ("data set ", "datasets/") } else { ("", "") };
        match status {
            Some(401 | 403) => error!(Missing, "the hub does not give it out without a token (status {})", status.unwrap_or(0))
                .help(format!(
                    "check the name; where it is gated accept its terms at {}/{}{}, then set HF_TOKEN or run `huggingface-cli login`{}",
                    self.settings.endpoint,
                    below,
                    wanted.repo,
                    if self.settings.token.is_some() { " (the token that is set is not enough)" } else { "" }
                )),
            Some(404) => error!(Missing, "the hub has no {}`{}` at revision `{}`", noun, wanted.repo, wanted.revision)
                .help("it is `org/name` or `org/name@revision`"),
            _ => error!(File, "{error}")
                .help("check the connection and HF_ENDPOINT; what has arrived is kept, and the next try goes on from there"),
        }
    }
}

/// The source and the target of the files of one commit.
struct Transfer<'a> {
    api: &'a Api,
    repo: ApiRepo,
    wanted: &'a Wanted<'a>,
    snapshot: PathBuf,
}

/// Why a download failed: the connection or the hub, or the content that arrived.
enum Failure {
    Hub(ApiError),
    Wrong(Error),
}

impl Failure {
    fn told(self, tell: impl FnOnce(ApiError) -> Error) -> Error {
        match self {
            Failure::Hub(error) => tell(error),
            Failure::Wrong(error) => error,
        }
    }
}

/// Whether a retry cannot help: the hub refused, or another process is writing the file.
fn is_final(error: &ApiError) -> bool {
    matches!(status(error), Some(status @ 400..500) if status != BEYOND_THE_END)
        || matches!(error, ApiError::LockAcquisition(_))
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match error.as_ref() {
            ureq::Error::StatusCode(status) => Some(*status),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a word from a server is safe as a file name.
fn is_safe(word: &str) -> bool {
    !word.is_empty() && word.len() <= 128 && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_paths() {
        for id in ["openai/clip-vit-large-patch14-336", "a/b@main", "a/b@refs/pr/3", "org/Name_1.5"] {
            assert!(is_id(id), "{id}");
        }
        for path in ["/a/b", "a", "./a/b", "a/b/c", "../a", "a/b@../x", "a/", "a b/c", "a\\b", "a/..", "a/b@"] {
            assert!(!is_id(path), "{path}");
        }
    }
}

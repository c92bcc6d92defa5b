//! An LLM with adapters: hung on it, opened with it, added to its weights.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use super::lora::{BASE_KEY, CONFIG, Lora, LoraOptions};
use super::{Llm, Origin, Weights, base};
use crate::assets::Folder;
use crate::error;
use crate::error::Result;
use crate::models::config::Config;
use crate::weights::{ADAPTER, Source, TensorFiles, quantized_name};

impl Llm {
    /// The adapters on this LLM.
    pub fn lora(&self) -> Option<Arc<Lora>> {
        self.lora.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hangs adapters on it, or goes on with those it has; other ones than asked for are an error.
    pub fn adapt(&self, options: &LoraOptions, source: Source) -> Result<Arc<Lora>> {
        if let Some(lora) = self.lora() {
            if lora.fits(&self.params, options)? {
                return Ok(lora);
            }
            return Err(error!(Option, "the LLM carries another adapter: {}", lora.describe())
                .help("give the same `lora`, or add the adapter to the weights first: `m.merge()`"));
        }
        self.carry(Lora::attach(&self.params, options, source, &self.target().device)?)
    }

    fn carry(&self, lora: Lora) -> Result<Arc<Lora>> {
        let lora = Arc::new(lora);
        *self.lora.write().unwrap_or_else(PoisonError::into_inner) = Some(lora.clone());
        Ok(lora)
    }

    /// Hangs the adapter of a folder on it.
    pub(super) fn adapt_from(&self, folder: &Folder, files: Arc<TensorFiles>) -> Result<()> {
        let config = Config::new(folder.json(CONFIG)?, format!("`{}`", folder.locate(CONFIG)));
        let lora = Lora::open(&self.params, &config, files, &self.target().device)?;
        self.origin.config.notes().extend(config.notes());
        self.carry(lora).map(|_| ())
    }

    /// The base of a folder that holds an adapter alone, with the adapter on it: `open` opens the base.
    pub(super) fn with_adapter(path: &Path, weights: Weights, open: impl FnOnce(&str) -> Result<Self>) -> Result<Self> {
        let folder = Folder::Disk(path.to_path_buf());
        let config = Config::new(folder.json(CONFIG)?, format!("`{}`", folder.locate(CONFIG)));
        let name = config.string(BASE_KEY, "")?;
        if name.is_empty() {
            return Err(error!(Missing, "`{}` holds an adapter alone, and {CONFIG} names no base", path.display())
                .help(format!("write the path or the hub id of its base into `{BASE_KEY}`")));
        }
        let mut place = base::find(&folder, None, &name);
        if let (true, Some(revision)) = (crate::hub::is_id(&place), config.value().get("revision"))
            && let Some(revision) = revision.as_str()
            && !Path::new(&place).exists()
        {
            place = format!("{place}@{revision}");
        }
        let mut llm = open(&place).map_err(|error| {
            let error = error.context(format!("`{}` holds an adapter alone; its base `{place}`", path.display()));
            error.help(format!(
                "write the path of its base into `{BASE_KEY}` of {CONFIG}, absolute or as seen from the folder"
            ))
        })?;
        if let Some(name) = Path::new(&place).file_name().filter(|_| Path::new(&place).is_absolute()) {
            llm.id = name.to_string_lossy().into_owned();
        }
        if weights == Weights::Stored {
            let older = path.join("adapter_model.bin");
            let file = if older.is_file() && !folder.has(ADAPTER) { older } else { path.join(ADAPTER) };
            let files = Arc::new(TensorFiles::open(&file)?);
            base::check(&Origin::new(folder.clone(), config.clone()), &llm, None)?;
            llm.origin.config.notes().extend(config.notes());
            llm.adapt_from(&folder, files)?;
        }
        Ok(llm)
    }

    /// Adds the adapters to the weights and takes them off.
    pub fn merge(&self) -> Result<()> {
        let Some(lora) = self.lora() else {
            return Err(error!(Option, "LLM `{}` carries no adapter", self.id)
                .help("a trainer with the option `lora` gives it one"));
        };
        if let Some(blocks) = lora.sites.iter().find_map(|site| site.blocks()) {
            let kind = quantized_name(blocks.dtype());
            return Err(error!(Option, "the weights are quantized ({kind}), nothing can be added to them")
                .help("`m.save(dir)` writes them widened with the adapter added, `#{ merge: false }` the adapter"));
        }
        for site in &lora.sites {
            site.assign(&site.merged()?)?;
            site.set_adapter(None);
        }
        *self.lora.write().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

//! Writing models: everything is written into a temporary folder beside the target and renamed, so that what is under
//! the real name is whole. No tensor of the loaded checkpoint is lost.

mod llava_more;
mod transformers;

use std::path::Path;

use candle_core::Tensor;
use serde_json::Value;

use super::{Encoder, Part, Vlm, Weights, base};
use crate::error;
use crate::error::{Context, Error, Result};
use crate::image::{self, Aspect, Preprocessing};
use crate::weights::{INDEX, WHOLE, save_shards, write_atomically};

/// Weights above this many bytes are written in parts, as transformers does.
const SHARD: usize = 5_000_000_000;

impl Vlm {
    /// Writes layout llava-more, which loads by itself; adapters are added to their weights. What is in `folder` under the same names is replaced.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_folder(folder, |temporary| llava_more::write(self, temporary, &Part::ALL))
    }

    /// Writes a stage-1 folder: the projector and the config.
    pub fn save_projector(&self, folder: &Path) -> Result<()> {
        write_folder(folder, |temporary| {
            let parts = self.beside_llm(false);
            write_json(&temporary.join(base::OF_PROJECTOR), &base::describe(self, folder, parts)?)?;
            llava_more::write(self, temporary, parts)
        })
    }

    /// Writes the adapter as PEFT does, beside it what its base is known by, the projector and the config of a stage-1 folder and, `with_encoder`, the
    /// tower.
    pub fn save_adapter(&self, folder: &Path, with_encoder: bool) -> Result<()> {
        let Some(lora) = self.llm.lora() else {
            return Err(
                error!(Option, "LLM `{}` carries no adapter", self.llm.id).help("`m.save(dir)` saves the model")
            );
        };
        write_folder(folder, |temporary| {
            let parts = self.beside_llm(with_encoder);
            lora.save(temporary, self.llm.origin.place().unwrap_or(&self.llm.id))?;
            write_json(&temporary.join(base::OF_ADAPTER), &base::describe(self, folder, parts)?)?;
            llava_more::write(self, temporary, parts)
        })
    }

    /// What a folder without the LLM holds. The tower is left out where its place leads to the same weights again.
    fn beside_llm(&self, with_encoder: bool) -> &'static [Part] {
        let elsewhere = self.encoder.weights() == Weights::Stored && self.encoder.origin.place().is_some();
        if with_encoder || !elsewhere { &[Part::Projector, Part::Encoder] } else { &[Part::Projector] }
    }

    /// Writes what `LlavaForConditionalGeneration` and `AutoProcessor` of transformers 4.49 and 5.x load; gives back what
    /// has to be known about it, if there is something.
    ///
    /// # Errors
    /// `Option` for what transformers cannot express; nothing is left in the folder then.
    pub fn save_transformers(&self, folder: &Path) -> Result<Option<&'static str>> {
        transformers::check(self).context(|| format!("saving to `{}`", folder.display()))?;
        write_folder(folder, |temporary| transformers::write(self, temporary))?;
        Ok(transformers::note(self))
    }

    /// The tensors of some parts under their checkpoint names, adapters added to their weights, and those of the source
    /// that no layer uses.
    pub fn tensors(&self, parts: &[Part]) -> Result<Vec<(String, Tensor)>> {
        let mut tensors: Vec<(String, Tensor)> = self
            .named_params()
            .into_iter()
            .filter(|(name, part, _)| parts.contains(part) && !Vlm::is_adapter(name))
            .map(|(name, _, param)| Ok((name, param.merged()?)))
            .collect::<Result<_>>()?;
        for (part, unused) in [(Part::Encoder, &self.encoder.unused), (Part::Llm, &self.llm.unused)] {
            if parts.contains(&part) {
                tensors
                    .extend(unused.iter().map(|(name, tensor)| (format!("{}{name}", part.prefix()), tensor.clone())));
            }
        }
        Ok(tensors)
    }
}

impl Encoder {
    /// Writes the tower alone, in Hugging Face layout.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_folder(folder, |temporary| {
            let used = self.params.iter().map(|param| (param.name().to_string(), param.tensor().detach()));
            let tensors: Vec<(String, Tensor)> = used.chain(self.unused.iter().cloned()).collect();
            save_shards(&tensors, temporary, SHARD)?;
            self.save_config(temporary, self.aspect)
        })
    }

    /// Config and processor; the aspect is the processor's to say where no model does.
    fn save_config(&self, folder: &Path, aspect: Option<Aspect>) -> Result<()> {
        let prepared = Preprocessing { processor: self.processor.clone(), aspect };
        write_text(&folder.join(image::folder::ALONE), prepared.to_json().as_bytes())?;
        write_json(&folder.join("config.json"), self.origin.config.value())
    }
}

/// Lets `write` fill a temporary folder beside `folder` and puts it in place. In a folder that is there already, files
/// are replaced one by one, config.json last.
fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let Some(name) = folder.file_name() else {
        return Err(error!(File, "`{}` is not the name of a folder", folder.display()));
    };
    let temporary = folder.with_file_name(format!(".{}.part", name.to_string_lossy()));
    let fill = || {
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary).map_err(|error| Error::file(&temporary, error))?;
        }
        std::fs::create_dir_all(&temporary).map_err(|error| Error::file(&temporary, error))?;
        write(&temporary)?;
        if folder.exists() {
            return replace(&temporary, folder);
        }
        std::fs::rename(&temporary, folder).map_err(|error| Error::file(folder, error))
    };
    let done = fill().context(|| format!("saving to `{}`", folder.display()));
    if temporary.exists() {
        let _ = std::fs::remove_dir_all(&temporary);
    }
    done
}

fn replace(from: &Path, to: &Path) -> Result<()> {
    let failed = |error| Error::file(to, error);
    // Of an earlier save: an index would say that the weights are in its parts, and one file is read before an index.
    let stale = match from.join(INDEX).exists() {
        true => to.join(WHOLE),
        false => to.join(INDEX),
    };
    if stale.exists() {
        std::fs::remove_file(stale).map_err(failed)?;
    }
    let stale = to.join(image::folder::WHOLE);
    if from.join(image::folder::ALONE).exists() && !from.join(image::folder::WHOLE).exists() && stale.exists() {
        // It would overrule the image processor that is saved now.
        std::fs::remove_file(&stale).map_err(|error| Error::file(&stale, error))?;
    }
    let entries = std::fs::read_dir(from).map_err(failed)?.collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.sort_by_key(|name| name == "config.json");
    for name in names {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            std::fs::create_dir_all(&target).map_err(failed)?;
            replace(&source, &target)?;
        } else {
            std::fs::rename(&source, &target).map_err(|error| Error::file(&target, error))?;
        }
    }
    Ok(())
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error!(File, "`{}`: {error}", path.display()))?;
    write_text(path, format!("{text}\n").as_bytes())
}

fn write_text(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |temporary| std::fs::write(temporary, bytes).map_err(|error| Error::file(temporary, error)))
}

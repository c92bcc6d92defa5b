//! Writing models: everything is written into a temporary folder beside the target and put in place, so that what is under
//! the real name is whole. No tensor of the loaded checkpoint is lost, and what is written opens: a part that its name does
//! not lead to is written as well.

mod alone;
mod llava_more;
mod swap;
mod transformers;

use std::path::Path;

use candle_core::Tensor;

use super::base::BASE_FOLDER;
use super::{Encoder, Llm, Part, Vlm, base};
use crate::error;
use crate::error::{Context, Result};
use crate::image::{self, Aspect, Preprocessing};
use crate::vlm::written::{write_json, write_text};
use crate::weights::save_shards;

pub use swap::model_files;
use swap::write_folder;

/// Weights above this many bytes are written in parts, as transformers does.
const SHARD: usize = 5_000_000_000;

impl Vlm {
    /// Writes layout llava-more, which loads by itself; adapters are added to their weights. What is in `folder` under the same names is replaced.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_folder(folder, None, |temporary| llava_more::write(self, temporary, (&self.llm.id, &Part::ALL)))
    }

    /// Writes a stage-1 folder: the projector and the config, and the whole model where the LLM is not what its name opens.
    /// Gives the sentence that says so.
    pub fn save_projector(&self, folder: &Path) -> Result<Option<String>> {
        let why = self.llm.why_not_by_name(folder)?;
        match &why {
            Some(_) => self.save(folder)?,
            None => write_folder(folder, None, |temporary| {
                let (parts, name) = (self.beside_llm(false, folder)?, self.llm.name());
                write_json(&temporary.join(base::OF_PROJECTOR), &base::describe(self, folder, (name, parts))?)?;
                llava_more::write(self, temporary, (name, parts))
            })?,
        }
        Ok(why.map(|why| format!("{why}: all weights are written beside the projector")))
    }

    /// Writes the adapter as PEFT does, beside it what its base is known by, the projector and the config of a stage-1 folder and, `with_encoder`, the
    /// tower. The base itself is written, too, where it is not what its name opens; gives the sentence that says so.
    pub fn save_adapter(&self, folder: &Path, with_encoder: bool) -> Result<Option<String>> {
        self.save_adapter_after(None, folder, with_encoder)
    }

    /// The same; a base that lies beside an earlier adapter and is the same is linked where it can be, not written again.
    pub fn save_adapter_after(
        &self,
        earlier: Option<&Path>,
        folder: &Path,
        with_encoder: bool,
    ) -> Result<Option<String>> {
        let Some(lora) = self.llm.lora() else {
            return Err(
                error!(Option, "LLM `{}` carries no adapter", self.llm.id).help("`m.save(dir)` saves the model")
            );
        };
        let why = self.llm.why_not_by_name(folder)?;
        write_folder(folder, earlier, |temporary| {
            let name = match &why {
                Some(_) => BASE_FOLDER,
                None => self.llm.name(),
            };
            let place = temporary.join(BASE_FOLDER);
            if why.is_some() && !earlier.is_some_and(|earlier| self.link_base(earlier, &place)) {
                alone::write(&self.llm, &place)?;
            }
            let parts = self.beside_llm(with_encoder, folder)?;
            lora.save(temporary, name)?;
            write_json(&temporary.join(base::OF_ADAPTER), &base::describe(self, folder, (name, parts))?)?;
            llava_more::write(self, temporary, (name, parts))
        })?;
        Ok(why.map(|why| format!("{why}: its weights are written beside the adapter, in `{BASE_FOLDER}`")))
    }

    /// Links the base of an earlier adapter, if that is the same and links are possible.
    fn link_base(&self, earlier: &Path, place: &Path) -> bool {
        base::is_beside(&self.llm, earlier) && swap::link(&earlier.join(BASE_FOLDER), place)
    }

    /// What a folder without the LLM holds. The tower is left out where its place leads to the same weights again.
    fn beside_llm(&self, with_encoder: bool, folder: &Path) -> Result<&'static [Part]> {
        let is_found = !with_encoder && self.encoder.is_by_name(folder)?;
        Ok(if is_found { &[Part::Projector] } else { &[Part::Projector, Part::Encoder] })
    }

    /// Writes what `LlavaForConditionalGeneration` and `AutoProcessor` of transformers 4.49 and 5.x load; gives back what
    /// has to be known about it, if there is something.
    ///
    /// # Errors
    /// `Option` for what transformers cannot express; nothing is left in the folder then.
    pub fn save_transformers(&self, folder: &Path) -> Result<Option<&'static str>> {
        transformers::check(self).context(|| format!("saving to `{}`", folder.display()))?;
        write_folder(folder, None, |temporary| transformers::write(self, temporary))?;
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
        write_folder(folder, None, |temporary| {
            let used = self.params.iter().map(|param| Ok((param.name().to_string(), param.tensor()?.detach())));
            let tensors = used.chain(self.unused.iter().cloned().map(Ok)).collect::<Result<Vec<_>>>()?;
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

/// The tokenizer of an LLM and what belongs to it.
fn tokenizer_files(llm: &Llm, folder: &Path) -> Result<()> {
    write_text(&folder.join("tokenizer.json"), llm.tokenizer()?.json())?;
    llm.origin.beside().iter().try_for_each(|(name, bytes)| write_text(&folder.join(name), bytes))
}

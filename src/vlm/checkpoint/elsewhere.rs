//! An LLM that lies elsewhere: where it is looked for, how it is opened, and what is said when it is not there.

use std::path::Path;
use std::sync::Arc;

use super::{ModelParts, PartPlace, folder_name, layout, options, parts};
use crate::assets::Folder;
use crate::error::Result;
use crate::models::registry::Target;
use crate::preset::Presets;
use crate::vlm::paths::settled;
use crate::vlm::{Llm, LlmOptions, Origin, Vlm, Weights, base};
use crate::{bail, error};

/// A checkpoint whose LLM is that of a checkpoint whose LLM is elsewhere, and so on: nobody makes more than a few.
const LONGEST_CHAIN: usize = 8;

impl ModelParts {
    /// Takes another place for the LLM than the folder names.
    pub(super) fn take_base(&mut self, base: Option<&str>) -> Result<()> {
        let Some(base) = base else { return Ok(()) };
        if !matches!(self.llm, PartPlace::Elsewhere(_)) {
            return Err(error!(Option, "`base` is for a folder without an LLM, and this one holds its own")
                .help("leave `base` out"));
        }
        let place =
            if Path::new(base).exists() { settled(Path::new(base)).display().to_string() } else { base.to_string() };
        (self.llm, self.llm_name) = (PartPlace::Elsewhere(place), None);
        self.looked = format!("it was looked for as `{base}`, which `base` names");
        Ok(())
    }

    /// What an LLM that lies elsewhere is opened as: in the blocks it was in when the folder was written, where nobody says
    /// otherwise.
    pub(super) fn quantized_as_trained(&self, origin: &Origin, target: &Target) -> Result<Target> {
        let mut target = target.clone();
        if matches!(self.llm, PartPlace::Elsewhere(_)) && target.quantize.is_none() && target.device.is_cpu() {
            target.quantize = base::quantized(base::read(&origin.folder)?.as_ref())?;
            if let Some(quantize) = target.quantize {
                origin.config.note(format!(
                    "its LLM is opened with `quantize: \"{}\"`, as it was when the folder was written",
                    quantize.name()
                ));
            }
        }
        Ok(target)
    }

    /// Takes a model that lies near where the LLM is expected and is not, when it has the same weights: its folder was
    /// renamed.
    pub(super) fn find_by_hash(&mut self, presets: &Presets, origin: &Origin, target: &Target) -> Result<()> {
        let PartPlace::Elsewhere(id) = &self.llm else { return Ok(()) };
        let Some(known) =
            base::read(&origin.folder)?.filter(|_| Path::new(id).is_absolute() && !Path::new(id).exists())
        else {
            return Ok(());
        };
        for path in base::near(&origin.folder, base::path_of_llm(Some(&known))) {
            let place = path.display().to_string();
            let open = |weights| base_llm(presets, &place, &options(weights, target), 1);
            if open(Weights::None).is_ok_and(|llm| base::is_as_large(&llm, &known))
                && open(Weights::Stored).is_ok_and(|llm| base::is_same(&llm, &known))
            {
                let text = format!("its LLM is not at `{id}`; `{place}` has the same weights and is taken for it");
                origin.config.note(text);
                self.llm = PartPlace::Elsewhere(place);
                break;
            }
        }
        Ok(())
    }

    pub(super) fn base_llm(&self, presets: &Presets, id: &str, options: &LlmOptions) -> Result<Llm> {
        let mut llm = base_llm(presets, id, options, LONGEST_CHAIN).map_err(|error| {
            let near = error.help_text().map(|help| format!("{help}; ")).unwrap_or_default();
            error.help(format!("{near}{}", self.looked))
        })?;
        if let Some(name) = &self.llm_name {
            llm.id = name.clone();
        }
        Ok(llm)
    }
}

/// The LLM that a folder without one goes with; `chain` is how many folders may lead to it.
fn base_llm(presets: &Presets, id: &str, options: &LlmOptions, chain: usize) -> Result<Llm> {
    let open = || {
        let path = Path::new(id);
        if !path.join("config.json").is_file() {
            return Llm::open(presets, id, options.clone());
        }
        let origin = Origin::open(Folder::Disk(path.to_path_buf()))?;
        match layout(&origin.config) {
            Ok(_) => llm_of_model(presets, &origin, path, options, chain),
            Err(_) => Llm::open(presets, id, options.clone()),
        }
    };
    let named = |mut llm: Llm| {
        // What it is called; where it lies is in its origin.
        if Path::new(id).is_absolute() {
            llm.id = folder_name(Path::new(id));
        }
        llm
    };
    open().map(named).map_err(|error| {
        let near = error.help_text().map(|help| format!("{help}; ")).unwrap_or_default();
        let error = error.context(format!("this folder holds no LLM; its base `{id}`"));
        error.help(format!(
            "{near}the base is what `_name_or_path` of config.json names: a path (as seen from this folder, or absolute), \
             a preset or a hub id; `load(folder, #{{ base: \"..\" }})` names another place"
        ))
    })
}

/// The LLM of a whole model, without tower and projector.
fn llm_of_model(presets: &Presets, origin: &Origin, path: &Path, options: &LlmOptions, chain: usize) -> Result<Llm> {
    let parts = parts(origin, path, &options.target)?;
    if parts.files.names().iter().any(|name| Vlm::is_adapter(name)) {
        return Err(error!(Weights, "`{}` holds an adapter, which is no base", path.display())
            .help("write the model with its adapter added first: `load(folder).save(dir)`"));
    }
    match &parts.llm {
        PartPlace::Inside { .. } => {
            let hollow = parts.hollow_llm(presets, &options.target)?;
            if options.weights == Weights::None { Ok(hollow) } else { parts.filled(Arc::new(hollow)) }
        }
        PartPlace::Elsewhere(id) if chain > 0 => base_llm(presets, id, options, chain - 1),
        PartPlace::Elsewhere(id) => {
            bail!(Missing, "`{}` leads to `{id}` and further, and never to an LLM", path.display())
        }
    }
}

//! Opens the model of a cell and its trainers. A frozen encoder, its features and the data sets are shared by successive
//! cells; the LLM and the projector are opened for each cell.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::cells::{StudyCell, below};
use super::{Study, StudyOptions};
use crate::data::{Dataset, Format, Pictures};
use crate::error;
use crate::error::{Context, Result};
use crate::events::Listeners;
use crate::image::Aspect;
use crate::preset::{PresetKind, from_table};
use crate::text::Template;
use crate::train::{RunPlace, TrainOptions, Trainer, TrainerSetup};
use crate::vlm::{Encoder, EncoderOptions, FeatureCache, Llm, LlmOptions, Part, Vlm, Weights};

/// Parts that are kept for the cells that follow.
#[derive(Default)]
pub(super) struct SharedParts {
    encoder: Option<(u64, Arc<Encoder>)>,
    /// Of that encoder, by stage.
    features: BTreeMap<usize, Arc<FeatureCache>>,
    datasets: BTreeMap<String, Dataset>,
}

impl Study {
    /// Opens every part without weights and combines every pair, so that what does not fit is found before the first step.
    pub(super) fn check_parts(&self) -> Result<()> {
        let encoders = self.record.encoders.iter().map(|id| self.open_encoder(id, Weights::None, 0));
        let encoders: Vec<_> = encoders.map(|encoder| encoder.map(Arc::new)).collect::<Result<_>>()?;
        for id in &self.record.llms {
            let llm = Arc::new(self.open_llm(id, Weights::None, 0)?);
            self.check_templates(&llm).context(|| format!("LLM `{id}`"))?;
            for encoder in &encoders {
                let fits = self.join(encoder.clone(), llm.clone(), 0);
                fits.context(|| format!("encoder `{}` with LLM `{id}`", encoder.id))?;
            }
        }
        Ok(())
    }

    /// Refuses templates of stages that an LLM cannot use, where its tokenizer is available.
    fn check_templates(&self, llm: &Llm) -> Result<()> {
        let Ok(tokenizer) = llm.tokenizer() else { return Ok(()) };
        for stage in 0..self.stages.len() {
            let name = self.stages[stage].get("template").and_then(toml::Value::as_str);
            if let Some(name) = name {
                let template = Template::load(&self.setup.presets, name)?;
                template.check(tokenizer).context(|| self.stage_name(stage))?;
            }
        }
        Ok(())
    }

    /// The untrained model of a cell.
    pub(super) fn compose(&self, cell: &StudyCell, kept: &mut SharedParts) -> Result<Arc<Vlm>> {
        // Random initial weights are drawn with the seed of the cell that owns the run.
        let seed = self.record.owner(cell, 0).seed;
        let encoder = self.encoder(&cell.encoder, seed, kept)?;
        let llm = Arc::new(self.open_llm(&cell.llm, Weights::Stored, seed)?);
        Ok(Arc::new(self.join(encoder, llm, seed)?))
    }

    fn encoder(&self, id: &str, seed: u64, kept: &mut SharedParts) -> Result<Arc<Encoder>> {
        let stays = !self.trains_encoder();
        let fits = |(drawn, encoder): &&(u64, Arc<Encoder>)| {
            encoder.id == id && (encoder.weights() != Weights::Random || *drawn == seed)
        };
        if let Some((_, encoder)) = kept.encoder.as_ref().filter(fits) {
            return Ok(encoder.clone());
        }
        // The old encoder is dropped first: both may not fit into memory.
        kept.encoder = None;
        kept.features.clear();
        let encoder = Arc::new(self.open_encoder(id, Weights::Stored, seed)?);
        kept.encoder = stays.then(|| (seed, encoder.clone()));
        Ok(encoder)
    }

    fn trains_encoder(&self) -> bool {
        self.stages.iter().any(|stage| rate(stage, Part::Encoder) > 0.0)
    }

    fn open_encoder(&self, id: &str, weights: Weights, seed: u64) -> Result<Encoder> {
        let target = self.options.target.clone();
        let options = EncoderOptions { select_layer: None, select: None, s2: None, weights, seed, target };
        Encoder::open(&self.setup.presets, id, options)
    }

    fn open_llm(&self, id: &str, weights: Weights, seed: u64) -> Result<Llm> {
        Llm::open(&self.setup.presets, id, LlmOptions { weights, seed, target: self.options.target.clone() })
    }

    fn join(&self, encoder: Arc<Encoder>, llm: Arc<Llm>, seed: u64) -> Result<Vlm> {
        let Some(name) = &llm.template else {
            return Err(error!(Option, "LLM `{}` does not say which template it was made for", llm.id)
                .help("a preset for it can: `template = \"llama_3_1\"` in presets/llms/<id>.toml"));
        };
        let template = Template::load(&self.setup.presets, name)?;
        Vlm::compose(encoder, &self.options.projector, llm, template, Aspect::Pad, seed)
    }

    /// The trainer of a stage, before its first step.
    pub(super) fn trainer(
        &self,
        vlm: &Arc<Vlm>,
        (cell, stage): (&StudyCell, usize),
        kept: &mut SharedParts,
        listeners: Listeners,
    ) -> Result<Trainer> {
        let folder = self.run_folder(cell, stage)?;
        let seed = self.record.owner(cell, stage).seed;
        let options: TrainOptions = from_table(StudyOptions::of_stage(&self.stages[stage], seed, &folder))?;
        let template = match &options.template {
            Some(name) => Template::load(&self.setup.presets, name)?,
            None => vlm.template(),
        };
        let data = options.data.clone().unwrap_or_default();
        let setup = TrainerSetup {
            template,
            aspect: options.image.as_deref().map_or(Ok(vlm.aspect()), Aspect::parse)?,
            listeners,
            interrupt: self.setup.interrupt.clone(),
            lock: self.setup.lock.clone(),
            folder: RunPlace::Given(folder),
            cache: self.setup.cache.clone(),
            features: kept.features.get(&stage).cloned(),
            repeats: self.repeated_run(cell, stage)?,
        };
        let trainer = Trainer::new(vlm.clone(), self.dataset(&data, kept)?, options, setup)?;
        if let Some(features) = trainer.features().filter(|_| kept.encoder.is_some()) {
            kept.features.insert(stage, features);
        }
        Ok(trainer)
    }

    /// The run folder of a stage.
    pub(super) fn run_folder(&self, cell: &StudyCell, stage: usize) -> Result<std::path::PathBuf> {
        below(&self.options.out, &cell.stages[stage])
    }

    /// The data of a stage: a preset, or a file in the folder `data`.
    fn dataset(&self, name: &str, kept: &mut SharedParts) -> Result<Dataset> {
        if let Some(known) = kept.datasets.get(name) {
            return Ok(known.clone());
        }
        let presets = &self.setup.presets;
        let dataset = match &self.options.data {
            _ if presets.contains(PresetKind::Datasets, name) => Dataset::preset(presets, name)?,
            None if !name.contains(['.', '/']) => Dataset::preset(presets, name)?,
            None => {
                let opened = Dataset::open(Path::new(name), Format::of(Path::new(name)), None);
                opened.map_err(|error| error.help("`data: \"folder\"` says where the files of the stages are"))?
            }
            Some(root) => {
                let (path, pictures) = (root.join(name), root.join("images"));
                let pictures = pictures.exists().then(|| Pictures::at(&pictures)).transpose()?;
                Dataset::open(&path, Format::of(&path), pictures)?
            }
        };
        kept.datasets.insert(name.to_string(), dataset.clone());
        Ok(dataset)
    }
}

/// The learning rate of a part in the options of a stage.
pub(super) fn rate(stage: &toml::Table, part: Part) -> f64 {
    let rate = stage.get("train").and_then(|train| train.get(part.name()));
    rate.and_then(|rate| rate.as_float().or_else(|| rate.as_integer().map(|rate| rate as f64))).unwrap_or(0.0)
}

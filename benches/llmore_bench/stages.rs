//! Optimizer steps of the two LLaVA stages as llmore's own trainer makes them: packed rows, logits at labels
//! only, features of the frozen encoder kept after the first epoch.

use std::path::Path;
use std::sync::Arc;

use llmore::data::Dataset;
use llmore::error::{Error, Result};
use llmore::events::{Interrupt, Listeners};
use llmore::image::Aspect;
use llmore::preset::{Presets, from_table};
use llmore::text::Template;
use llmore::train::{Lock, TrainOptions, Trainer, TrainerSetup};
use llmore::vlm::{Vlm, checkpoint};
use llmore::weights::save_tensors;
use serde_json::{Value, json};

use crate::{Options, models, report};

/// Steps of one epoch; the first is not timed.
const STEPS: usize = 5;

struct Stage {
    data: &'static str,
    template: &'static str,
    batch: usize,
    trains_llm: bool,
}

/// The stage a measurement's name ends in.
fn stage(name: &str) -> Stage {
    let toy = name.starts_with("toy");
    match name.ends_with("stage1") {
        true => Stage { data: "tiny-captions", template: "plain", batch: if toy { 64 } else { 4 }, trains_llm: false },
        false => Stage { data: "tiny-instruct", template: "tiny", batch: if toy { 32 } else { 2 }, trains_llm: true },
    }
}

impl Stage {
    fn dataset(&self) -> Result<Dataset> {
        Ok(Dataset::preset(&Presets::default(), self.data)?.shuffle(0).take(STEPS * self.batch))
    }

    fn options(&self) -> Result<TrainOptions> {
        let llm = if self.trains_llm { 2e-4 } else { 0.0 };
        let text = format!(
            "batch = {}\nepochs = 2\norder = \"sequential\"\nschedule = \"constant\"\nwarmup_ratio = 0.0\nclip = 1.0\n\
             train = {{ projector = 1e-3, llm = {llm:?} }}",
            self.batch
        );
        let table = text.parse().map_err(|error| llmore::error!(Option, "the bench's options: {error}"))?;
        from_table(table)
    }
}

/// Two epochs of a few steps: the first runs the encoder, the second has its features.
pub fn step(name: &str, options: &Options) -> Result<()> {
    let folder = options.inputs.join(name.split('-').next().unwrap_or(name));
    let presets = Presets::default();
    let vlm = checkpoint::load(&presets, &folder, Some("tiny"), &llmore::models::registry::Target::cpu())?;
    let stage = stage(name);
    let setup = TrainerSetup {
        template: Template::load(&presets, stage.template)?,
        aspect: Aspect::Square,
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        lock: Lock::default(),
        folder: llmore::train::RunPlace::Given(options.inputs.join("runs")),
        cache: options.inputs.join("cache"),
        features: None,
        repeats: None,
    };
    let mut trainer = Trainer::new(Arc::new(vlm), stage.dataset()?, stage.options()?, setup)?;
    let (seconds, losses) = report::time(0, 2 * STEPS, || Ok(trainer.step()?.loss))?;
    report::print(&format!("{name}-first-epoch"), "step", &seconds[1..STEPS], &losses[..STEPS]);
    report::print(name, "step", &seconds[STEPS + 1..], &losses);
    Ok(())
}

/// Writes both models as checkpoints, and their samples as ids, labels and pixels.
pub fn export(options: &Options) -> Result<()> {
    for size in ["toy", "small"] {
        let folder = options.inputs.join(size);
        let vlm = models::vlm(size)?;
        vlm.save(&folder)?;
        for number in [1, 2] {
            export_samples(&vlm, &folder, &stage(&format!("{size}-stage{number}")), number)?;
        }
    }
    Ok(())
}

fn export_samples(vlm: &Vlm, folder: &Path, stage: &Stage, number: usize) -> Result<()> {
    let template = Template::load(&Presets::default(), stage.template)?;
    let dataset = stage.dataset()?;
    let (mut samples, mut pixels) = (Vec::new(), Vec::new());
    for index in 0..dataset.len() {
        let sample = dataset.get(index)?;
        let rendered = template.render(vlm.tokenizer()?, &sample.turns)?;
        let image = sample
            .open_images()?
            .into_iter()
            .next()
            .ok_or_else(|| llmore::error!(Data, "`{}` has no image", sample.id))?;
        pixels.push(vlm.encoder.preprocess(&image, Aspect::Square)?);
        samples.push(json!({ "ids": rendered.ids, "labels": rendered.labels }));
    }
    let pixels = candle_core::Tensor::stack(&pixels, 0)?; // (samples, 3, height, width)
    save_tensors(&[("pixels".to_string(), pixels)], &folder.join(format!("stage{number}.safetensors")))?;
    let value = json!({
        "batch": stage.batch,
        "steps": STEPS,
        "trains_llm": stage.trains_llm,
        "samples": Value::Array(samples),
    });
    let path = folder.join(format!("stage{number}.json"));
    std::fs::write(&path, value.to_string()).map_err(|error| Error::file(&path, error))
}

//! Twenty optimizer steps of both stages against LLaVA-MORE's own training code: `fixtures/training/how.md` says
//! how the numbers were made. Tolerances are those of DESIGN.md section 6.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use llmore::data::Dataset;
use llmore::error::Result;
use llmore::events::{Interrupt, Listeners};
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::preset::{Presets, from_table};
use llmore::text::Template;
use llmore::train::{Lock, RunPlace, TrainOptions, Trainer, TrainerSetup};
use llmore::vlm::{Vlm, checkpoint};
use llmore::weights::TensorFiles;

use super::scratch::scratch;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/training")
}

pub fn options(text: &str) -> TrainOptions {
    from_table(text.parse().unwrap()).unwrap()
}

pub fn setup(template: &str, aspect: Aspect, folder: &Path) -> TrainerSetup {
    TrainerSetup {
        template: Template::load(&Presets::default(), template).unwrap(),
        aspect,
        listeners: Listeners::default(),
        interrupt: Interrupt::default(),
        lock: Lock::default(),
        folder: RunPlace::Given(folder.to_path_buf()),
        cache: folder.join("cache"),
        features: None,
        repeats: None,
    }
}

fn load(template: &str) -> Arc<Vlm> {
    let presets = Presets::default();
    Arc::new(checkpoint::load(&presets, &fixtures().join("checkpoint"), Some(template), &Target::cpu()).unwrap())
}

struct Reference(TensorFiles);

impl Reference {
    fn open() -> Self {
        Reference(TensorFiles::open(&fixtures().join("expected.safetensors")).unwrap())
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.0.load(name, &Device::Cpu).unwrap().to_dtype(candle_core::DType::F32).unwrap()
    }

    fn list(&self, name: &str) -> Vec<f64> {
        self.tensor(name).to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
    }
}

fn max_difference(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    f64::from(difference.to_scalar::<f32>().unwrap())
}

fn reproduces(stage: &str, template: &str, aspect: Aspect, table: &str) -> Result<()> {
    let reference = Reference::open();
    let vlm = load(template);
    let dataset = Dataset::llava_json(&fixtures().join(format!("{stage}.json")), Some(&fixtures().join("images")))?;
    let folder = scratch(&format!("reference-{stage}"));
    let mut trainer = Trainer::new(vlm.clone(), dataset, options(table), setup(template, aspect, &folder))?;
    assert!(trainer.audit()?.passed(), "{:?}", trainer.audit()?);
    let (losses, rates) = (reference.list(&format!("{stage}.losses")), reference.list(&format!("{stage}.lr")));
    let (norms, tokens) = (reference.list(&format!("{stage}.grad_norm")), reference.list(&format!("{stage}.tokens")));
    let mut worst = 0.0f64;
    for i in 0..20 {
        let next = trainer.loss()?;
        let step = trainer.step()?;
        worst = worst.max((step.loss - losses[i]).abs());
        assert!((next - step.loss).abs() < 1e-6, "step {i}: loss() {next}, step {}", step.loss);
        assert!((step.loss - losses[i]).abs() < 1e-4, "{stage} step {i}: {} against {}", step.loss, losses[i]);
        assert!((step.lr - rates[i]).abs() < 1e-9, "{stage} step {i}: rate {} against {}", step.lr, rates[i]);
        assert!((step.grad_norm / norms[i] - 1.0).abs() < 1e-4, "{stage} step {i}: {} {}", step.grad_norm, norms[i]);
        assert_eq!(step.tokens as f64, tokens[i], "{stage} step {i}");
        if i == 0 {
            gradients_agree(stage, &trainer, &reference)?;
        }
    }
    for (name, _, param) in vlm.named_params() {
        if reference.0.has(&format!("{stage}.final.{name}")) {
            let difference =
                max_difference(&param.tensor().unwrap(), &reference.tensor(&format!("{stage}.final.{name}")));
            assert!(difference < 1e-4, "{stage}: final {name} differs by {difference}");
        }
    }
    println!("{stage}: worst loss difference over 20 steps {worst:.1e}");
    Ok(())
}

fn gradients_agree(stage: &str, trainer: &Trainer, reference: &Reference) -> Result<()> {
    let prefix = format!("{stage}.first_gradient.");
    let mut compared = 0;
    for name in reference.0.names() {
        let Some(tensor) = name.strip_prefix(&prefix) else { continue };
        let expected = reference.tensor(&name);
        let scale = f64::from(expected.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?).max(1e-3);
        let difference = max_difference(&trainer.gradient(tensor)?, &expected);
        assert!(difference / scale < 1e-4, "{stage}: gradient of {tensor} differs by {difference}");
        compared += 1;
    }
    assert!(compared > 0, "the fixture holds gradients");
    Ok(())
}

#[test]
fn stage_1_reproduces_the_reference() {
    let table = "batch = 4\nsteps = 20\norder = \"sequential\"\ntrain = { projector = 1e-3 }";
    reproduces("stage1", "plain", Aspect::Square, table).unwrap();
}

#[test]
fn stage_2_reproduces_the_reference() {
    let table = "batch = 4\nsteps = 20\norder = \"sequential\"\ntrain = { projector = 1e-3, llm = 1e-3 }";
    reproduces("stage2", "llama_3_1", Aspect::Pad, table).unwrap();
}

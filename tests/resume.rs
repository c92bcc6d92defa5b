//! Training is a function of its options: the same run twice gives the same bits, a stopped and resumed one, too.
//! And the audit refuses what would silently not train.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use llmore::data::Dataset;
use llmore::image::Aspect;
use llmore::models::registry::Target;
use llmore::models::{Forward, LanguageModel};
use llmore::nn::cache::Cache;
use llmore::nn::decoder::DecoderSpec;
use llmore::nn::packing::Packing;
use llmore::preset::Presets;
use llmore::text::Template;
use llmore::train::{Run, Status, Trainer};
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, ProjectorChoice, Vlm, Weights};

use super::scripting::scratch;
use super::training::{options, setup};

const OPTIONS: &str = "batch = 8\nmicro_batch = 3\nsteps = 6\nsave_every_steps = 2\nseed = 5\nclip = 1.0\n\
                       train = { projector = 1e-3, llm = 2e-3 }";

pub fn llm() -> Llm {
    Llm::open(
        &Presets::default(),
        "tiny-llama",
        LlmOptions { weights: Weights::Stored, seed: 5, target: Target::cpu() },
    )
    .unwrap()
}

pub fn model(llm: Llm) -> Arc<Vlm> {
    let presets = Presets::default();
    let open = EncoderOptions {
        select_layer: None,
        select: None,
        s2: None,
        weights: Weights::Random,
        seed: 5,
        target: Target::cpu(),
    };
    let encoder = Arc::new(Encoder::open(&presets, "tiny-clip", open).unwrap());
    let template = Template::load(&presets, "tiny").unwrap();
    let choice = ProjectorChoice::new("mlp2x_gelu").unwrap();
    Arc::new(Vlm::compose(encoder, &choice, Arc::new(llm), template, Aspect::Pad, 5).unwrap())
}

pub fn trainer(vlm: &Arc<Vlm>, table: &str, folder: &Path) -> Trainer {
    let dataset = Dataset::preset(&Presets::default(), "tiny-instruct").unwrap().take(20);
    Trainer::new(vlm.clone(), dataset, options(table), setup("tiny", Aspect::Pad, folder)).unwrap()
}

pub fn bytes(run: &Path, file: &str) -> Vec<u8> {
    std::fs::read(Run::open(run).unwrap().checkpoint().unwrap().unwrap().join(file)).unwrap()
}

#[test]
fn a_resumed_run_ends_like_an_uninterrupted_one_to_the_last_bit() {
    let folder = scratch("resume");
    let (whole, stopped) = (folder.join("whole"), folder.join("stopped"));
    let mut first = trainer(&model(llm()), OPTIONS, &whole);
    assert_eq!(first.fit(&mut |_| Ok(true)).unwrap(), Status::Done);

    let mut second = trainer(&model(llm()), OPTIONS, &stopped);
    assert_eq!(second.fit(&mut |step| Ok(step.step < 3)).unwrap(), Status::Stopped);
    assert_eq!(Run::open(&stopped).unwrap().status().unwrap(), "stopped");

    let mut third = trainer(&model(llm()), OPTIONS, &stopped);
    third.resume(&stopped).unwrap();
    assert_eq!(third.done(), 3);
    assert_eq!(third.fit(&mut |_| Ok(true)).unwrap(), Status::Done);

    let losses = |t: &Trainer| t.history().iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(&first), losses(&third));
    for file in ["model.safetensors", "optimizer.safetensors"] {
        assert!(bytes(&whole, file) == bytes(&stopped, file), "{file} differs");
    }
    assert_eq!(Run::open(&stopped).unwrap().steps().unwrap().len(), 6);
}

#[test]
fn features_do_not_depend_on_the_images_they_are_computed_with() {
    let vlm = model(llm());
    let dataset = Dataset::preset(&Presets::default(), "tiny-emoji").unwrap();
    let images: Vec<_> = (0..7).map(|i| dataset.get(i).unwrap().open_images().unwrap()[0].clone()).collect();
    let all = vlm.features(&images.iter().collect::<Vec<_>>(), Aspect::Pad).unwrap();
    let bits =
        |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for (i, image) in images.iter().enumerate() {
        let alone = vlm.features(&[image], Aspect::Pad).unwrap();
        assert!(bits(&alone) == bits(&all.get(i).unwrap()), "image {i}");
    }
}

#[test]
fn a_trainer_that_was_made_differently_does_not_resume() {
    let folder = scratch("drift");
    let mut first = trainer(&model(llm()), OPTIONS, &folder);
    first.fit(&mut |step| Ok(step.step < 2)).unwrap();
    let mut other = trainer(&model(llm()), &OPTIONS.replace("seed = 5", "seed = 6"), &folder);
    let error = other.resume(&folder).unwrap_err().to_string();
    assert!(error.contains("`seed` was 5, is 6"), "{error}");
}

#[test]
fn a_checkpoint_of_a_run_opens_as_a_model() {
    let folder = scratch("checkpoint-opens");
    let vlm = model(llm());
    trainer(&vlm, OPTIONS, &folder).fit(&mut |step| Ok(step.step < 2)).unwrap();
    let path = Run::open(&folder).unwrap().checkpoint().unwrap().unwrap();
    let loaded = llmore::vlm::checkpoint::load(&Presets::default(), &path, None, &Target::cpu()).unwrap();
    assert_eq!(loaded.weights_sha256().unwrap(), vlm.weights_sha256().unwrap());
}

/// A decoder whose hidden states pass through candle-nn's stock RMSNorm, which has no backward.
struct SilentNorm(Box<dyn LanguageModel>);

impl LanguageModel for SilentNorm {
    fn spec(&self) -> &DecoderSpec {
        self.0.spec()
    }

    fn embed(&self, ids: &Arc<[u32]>) -> candle_core::Result<Tensor> {
        self.0.embed(ids)
    }

    fn hidden(&self, embeds: &Tensor, packing: &Packing, cache: Option<&Cache>) -> candle_core::Result<Tensor> {
        let hidden = self.0.hidden(embeds, packing, cache)?;
        let weight = Tensor::ones(self.spec().width, hidden.dtype(), hidden.device())?;
        candle_nn::ops::rms_norm(&hidden, &weight, 1e-5)
    }

    fn forward<'a>(
        &'a self,
        packing: &'a Packing,
        cache: Option<&'a Cache>,
    ) -> candle_core::Result<Box<dyn Forward + 'a>> {
        self.0.forward(packing, cache)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        self.0.logits(hidden)
    }

    fn loss_sum(&self, hidden: &Tensor, targets: &Arc<[u32]>) -> candle_core::Result<Tensor> {
        self.0.loss_sum(hidden, targets)
    }

    fn cache(&self, rows: usize) -> candle_core::Result<Cache> {
        self.0.cache(rows)
    }
}

#[test]
fn the_audit_catches_an_op_without_a_backward() {
    let mut broken = llm();
    broken.model = Box::new(SilentNorm(broken.model));
    let folder = scratch("audit");
    let mut trainer = trainer(&model(broken), OPTIONS, &folder);
    let audit = trainer.audit().unwrap();
    assert!(!audit.passed());
    // The tied head still learns; everything behind the silent op does not.
    assert!(audit.unreached.contains(&"model.layers.0.self_attn.q_proj.weight".to_string()), "{audit:?}");
    let error = trainer.fit(&mut |_| Ok(true)).unwrap_err();
    assert!(error.message().contains("receive no gradient"), "{error}");
    assert!(!folder.join("run.lock").exists(), "nothing was started");

    let healthy = self::trainer(&model(llm()), OPTIONS, &folder).audit().unwrap();
    assert!(healthy.passed(), "{healthy:?}");
}

//! The model as a whole: an encoder, a projector and an LLM with what joins them: preprocessing, splicing,
//! generation, checkpoints. Tensor names are those of layout llava-more.

mod adapted;
mod attention;
mod base;
mod check;
pub mod checkpoint;
mod conventions;
mod encoder;
mod feature_file;
mod features;
mod fingerprint;
mod forward;
pub mod generate;
mod llm;
mod look;
mod lora;
mod olora;
mod origin;
mod paths;
mod peft;
mod preset;
mod projector;
mod save;
mod sites;
mod splice;
mod stamp;
mod written;

use std::sync::Arc;

use candle_core::Tensor;

pub use attention::{AttentionMap, Looking};
pub use check::MaskCheck;
pub use conventions::Conventions;
pub use encoder::{Encoder, EncoderOptions, Select};
pub use features::FeatureCache;
pub use llm::{Llm, LlmOptions};
pub use lora::{Lora, LoraOptions, Targets};
pub use origin::{Origin, Weights};
pub use preset::ModelPreset;
pub use projector::ProjectorPart;
pub use save::model_files;
pub use splice::{Batch, Sequence, batch};

use crate::error::Result;
use crate::image::{Aspect, Image};
pub use crate::models::projectors::ProjectorChoice;
use crate::models::registry::Target;
use crate::notes::Notes;
use crate::text::{Template, Tokenizer};
use crate::weights::{Param, ParamSet, Source};
use crate::{bail, error};

/// The parts that can be trained at their own rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Encoder,
    Projector,
    Llm,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 3] = [Part::Encoder, Part::Projector, Part::Llm];

    /// The key in a trainer's `train` map.
    pub fn name(self) -> &'static str {
        match self {
            Part::Encoder => "encoder",
            Part::Projector => "projector",
            Part::Llm => "llm",
        }
    }

    /// What stands before the part's tensor names in a checkpoint.
    pub fn prefix(self) -> &'static str {
        match self {
            Part::Encoder => "model.vision_tower.vision_tower.",
            Part::Projector => "model.mm_projector.",
            Part::Llm => "",
        }
    }
}

/// A vision-language model.
pub struct Vlm {
    pub encoder: Arc<Encoder>,
    pub projector: Arc<ProjectorPart>,
    pub llm: Arc<Llm>,
    /// How it is asked and saved; training changes it.
    held: conventions::Held,
    /// What opening the parts found that people should know.
    pub notes: Notes,
    pub opened: Opened,
}

/// Where a whole model was opened: names of models that are called alike go by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Its folder; empty for a model that was joined from parts.
    pub folder: String,
    /// What the run that wrote it was about, where that is known.
    pub made_of: String,
}

impl Vlm {
    /// Joins the parts; a new projector starts from `seed`. Everything that cannot fit is refused here.
    pub fn compose(
        encoder: Arc<Encoder>,
        projector: &ProjectorChoice,
        llm: Arc<Llm>,
        template: Template,
        aspect: Aspect,
        seed: u64,
    ) -> Result<Self> {
        let target = llm.target();
        let hollow = [encoder.weights(), llm.weights()].contains(&Weights::None);
        let source = if hollow { Source::Shapes } else { Source::Random { seed } };
        let part = ProjectorPart::build(projector, &encoder, llm.width(), source, &target)?;
        Vlm::assemble(encoder, Arc::new(part), llm, template, aspect)
    }

    /// Joins finished parts.
    pub fn assemble(
        encoder: Arc<Encoder>,
        projector: Arc<ProjectorPart>,
        llm: Arc<Llm>,
        template: Template,
        aspect: Aspect,
    ) -> Result<Self> {
        if projector.input != encoder.width() || projector.output != llm.width() {
            bail!(
                Shape,
                "projector {} -> {} does not fit encoder `{}` (width {}) and LLM `{}` (width {})",
                projector.input,
                projector.output,
                encoder.id,
                encoder.width(),
                llm.id,
                llm.width()
            );
        }
        if projector.tokens() >= llm.context() {
            return Err(error!(
                Shape,
                "an image takes {} tokens of encoder `{}`, the context of LLM `{}` holds {}",
                projector.tokens(),
                encoder.id,
                llm.id,
                llm.context()
            )
            .help(
                "pool the tokens (`projector(name, #{ pool: \"average\", tokens: n })`) or choose a longer context",
            ));
        }
        match llm.tokenizer() {
            Ok(tokenizer) => template.check(tokenizer)?,
            // There is nothing to check the template against, and nothing to compute either.
            Err(error) if llm.weights() != Weights::None => return Err(error),
            Err(_) => {}
        }
        let notes = Notes::default();
        notes.extend(encoder.origin.config.notes());
        notes.extend(llm.origin.config.notes());
        Ok(Vlm {
            encoder,
            projector,
            llm,
            held: conventions::Held::new(template, aspect),
            notes,
            opened: Opened::default(),
        })
    }

    /// One line that says what this is, e.g. `clip-vit-l-336 -> mlp2x_gelu -> llama-3.1-8b-instruct`.
    pub fn describe(&self) -> String {
        format!("{} -> {} -> {}", self.encoder.id, self.projector.label(), self.llm.id)
    }

    /// Visual tokens per image, as the LLM sees them.
    pub fn image_tokens(&self) -> usize {
        self.projector.tokens()
    }

    /// Number of weights, adapters included.
    pub fn params(&self) -> usize {
        let adapters = self.llm.lora().map_or(0, |lora| lora.params.count());
        self.encoder.count() + self.projector.params.count() + self.llm.params.count() + adapters
    }

    /// Every parameter with its part and its checkpoint name; adapters, under PEFT's names, come last.
    pub fn named_params(&self) -> Vec<(String, Part, Arc<Param>)> {
        let lora = self.llm.lora();
        let sets = [
            (Part::Llm, Part::Llm.prefix(), Some(&self.llm.params)),
            (Part::Projector, Part::Projector.prefix(), Some(&self.projector.params)),
            (Part::Encoder, Part::Encoder.prefix(), Some(&self.encoder.params)),
            (Part::Llm, sites::PREFIX, lora.as_ref().map(|lora| &lora.params)),
        ];
        let named = |(part, prefix, set): (Part, &str, Option<&ParamSet>)| {
            let params = set.into_iter().flat_map(|set| set.iter());
            params.map(|p| (format!("{prefix}{}", p.name()), part, p.clone())).collect::<Vec<_>>()
        };
        sets.into_iter().flat_map(named).collect()
    }

    /// Whether a name of [`named_params`](Self::named_params) is an adapter's.
    pub fn is_adapter(name: &str) -> bool {
        name.starts_with(sites::PREFIX)
    }

    /// Whether a parameter takes part in the forward pass: blocks after the selected layer of the encoder do not.
    pub fn is_used(&self, part: Part, name: &str) -> bool {
        part != Part::Encoder || self.encoder.is_used(name)
    }

    /// Freezes everything, so that inference builds no graph.
    pub fn freeze(&self) -> Result<()> {
        for set in [&self.encoder.params, &self.projector.params, &self.llm.params] {
            set.set_trainable(false)?;
        }
        self.llm.lora().map_or(Ok(()), |lora| Ok(lora.params.set_trainable(false)?))
    }

    /// The tokenizer of the LLM.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.llm.tokenizer()
    }

    /// Visual features before the projector, (images, tokens, encoder width).
    pub fn features(&self, images: &[&Image], aspect: Aspect) -> Result<Tensor> {
        let pixels = images.iter().map(|image| self.encoder.pixels(image, aspect)).collect::<Result<Vec<_>>>()?;
        self.encoder.encode(&Tensor::stack(&pixels, 0)?)
    }

    /// What the LLM sees of a picture, (tokens, LLM width): the encoder and the projector on this picture alone.
    pub fn visual_tokens(&self, image: &Image) -> Result<Tensor> {
        Ok(self.projector.project(&self.features(&[image], self.aspect())?)?.squeeze(0)?)
    }

    /// Where and in which dtype the LLM computes.
    pub fn target(&self) -> Target {
        self.llm.target()
    }
}

/// The bytes of f32 values, little-endian on every machine llmore is built for.
fn as_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

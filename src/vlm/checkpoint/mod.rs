//! Opening whole models. Each layout says where the parts are and shows the tensors under the names of layout
//! llava-more (a view, nothing is copied); from there on there is one way. Everything that can be checked without the
//! weights is checked before they are read.

mod adapter;
mod elsewhere;
pub(super) mod llava_more;
pub(super) mod transformers;
pub(super) mod versions;

use std::path::Path;
use std::sync::Arc;

use super::{
    Encoder, EncoderOptions, Llm, LlmOptions, Origin, Part, ProjectorChoice, ProjectorPart, Vlm, Weights, base, origin,
    paths,
};
use crate::assets::Folder;
use crate::error::{Context, Error, Result};
use crate::image::Aspect;
use crate::models::config::Config;
use crate::models::registry::{self, Target};
use crate::models::{encoders, llms};
use crate::preset::Presets;
use crate::text::Template;
use crate::weights::{Source, TensorFiles};
use crate::{bail, error};

/// What a layout finds in a folder.
struct ModelParts {
    /// Tensors under the names of layout llava-more.
    files: Arc<TensorFiles>,
    tower: PartPlace,
    /// Whether the tower among the tensors was trained, so that no name leads to its weights.
    tower_is_trained: bool,
    encoder: EncoderOptions,
    llm: PartPlace,
    projector: ProjectorChoice,
    template: Option<String>,
    /// What the model's config says of pictures that are no squares.
    aspect: Option<Aspect>,
    /// What the LLM was called that lies in the folder as an adapter's base.
    llm_name: Option<String>,
    /// Where an LLM that is not in the folder was looked for.
    looked: String,
}

/// What goes over what a folder says.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The template to ask by.
    pub template: Option<String>,
    /// Where the LLM is that the folder does not hold.
    pub base: Option<String>,
}

/// Where a part is.
enum PartPlace {
    /// Its tensors are among those of the checkpoint.
    Inside { id: String, origin: Origin },
    /// Somewhere else: a folder, a preset, a hub id.
    Elsewhere(String),
}

impl LoadOptions {
    /// With a template alone.
    pub fn by(template: Option<&str>) -> Self {
        LoadOptions { template: template.map(str::to_string), base: None }
    }
}

/// Opens a whole model by folder or hub id. `template` overrides what the checkpoint says.
pub fn open(presets: &Presets, id: &str, template: Option<&str>, target: &Target) -> Result<Vlm> {
    open_with(presets, id, &LoadOptions::by(template), target)
}

/// The same with all options.
pub fn open_with(presets: &Presets, id: &str, options: &LoadOptions, target: &Target) -> Result<Vlm> {
    load_with(presets, &origin::locate(presets, id, "config.json", Weights::Stored)?, options, target)
}

/// Opens a whole model from a folder. `template` overrides what the checkpoint says.
pub fn load(presets: &Presets, path: &Path, template: Option<&str>, target: &Target) -> Result<Vlm> {
    load_with(presets, path, &LoadOptions::by(template), target)
}

/// The same with all options.
pub fn load_with(presets: &Presets, path: &Path, options: &LoadOptions, target: &Target) -> Result<Vlm> {
    let open = || -> Result<Vlm> {
        adapter::refuse_alone(path)?;
        let origin = Origin::open(Folder::Disk(path.to_path_buf())).map_err(|error| match paths::cut_off(path) {
            Some(help) => error.help(help),
            None => error,
        })?;
        let mut parts = parts(&origin, path, target)?;
        parts.take_base(options.base.as_deref())?;
        let target = &parts.quantized_as_trained(&origin, target)?;
        if options.base.is_none() {
            parts.find_by_hash(presets, &origin, target)?;
        }
        let files = parts.files.clone();
        let elsewhere = [&parts.llm, &parts.tower].map(|place| matches!(place, PartPlace::Elsewhere(_)));
        parts.tell_strays();
        let mut vlm = parts.build(presets, options.template.as_deref(), target)?;
        if let [true, tower] = elsewhere {
            base::check(&origin, &vlm.llm, tower.then_some(vlm.encoder.as_ref()))?;
        }
        if files.names().iter().any(|name| Vlm::is_adapter(name)) {
            vlm.llm.adapt_from(&origin.folder, files.clone())?;
            vlm.notes.extend(vlm.llm.origin.config.notes());
        }
        vlm.notes.extend(origin.config.notes());
        vlm.notes.extend(files.notes());
        vlm.opened.folder = path.display().to_string();
        Ok(vlm)
    };
    open().map_err(|error| with_edits(error, path)).context(|| format!("loading `{}`", path.display()))
}

/// What fails in a folder where files were edited may fail because of that.
fn with_edits(error: Error, path: &Path) -> Error {
    let edits = origin::edited_since(path).unwrap_or_default();
    if edits.is_empty() {
        return error;
    }
    let help: Vec<String> = error.help_text().map(str::to_string).into_iter().chain(edits).collect();
    error.help(help.join("; "))
}

/// What a folder holds, by its layout.
fn parts(origin: &Origin, path: &Path, target: &Target) -> Result<ModelParts> {
    match layout(&origin.config)? {
        Layout::LlavaMore => llava_more::parts(origin, path, target),
        Layout::Transformers => transformers::parts(origin, path, target),
    }
}

enum Layout {
    LlavaMore,
    Transformers,
}

/// The layout that a config.json belongs to.
fn layout(config: &Config) -> Result<Layout> {
    let model_type = config.string("model_type", "")?;
    let known = |table: &[&str]| table.contains(&model_type.as_str());
    let llms = registry::model_types(llms::ALL);
    let encoders = registry::model_types(encoders::ALL);
    match model_type.as_str() {
        "llava" => Ok(Layout::Transformers),
        _ if model_type.starts_with("llava_") && llms.contains(&llava_more::family(&model_type)) => {
            Ok(Layout::LlavaMore)
        }
        // Early uploads kept the LLM's own `model_type`.
        _ if config.value().get("mm_vision_tower").is_some() => Ok(Layout::LlavaMore),
        _ if known(&llms) => Err(error!(Weights, "this is an LLM alone (`model_type` is `{model_type}`)")
            .help("open it with `llm(folder)` and join it with a tower: `vlm(encoder(..), projector(\"mlp2x_gelu\"), llm(..))`")),
        _ if known(&encoders) => Err(error!(Weights, "this is a vision tower alone (`model_type` is `{model_type}`)")
            .help("open it with `encoder(folder)` and join it with an LLM: `vlm(encoder(..), projector(\"mlp2x_gelu\"), llm(..))`")),
        other => Err(config.unsupported("model_type", other, "`llava` of transformers and LLaVA-MORE's `llava_<LLM>`")),
    }
}

/// What config.json says of pictures that are no squares.
fn aspect(config: &Config) -> Result<Option<Aspect>> {
    match config.string("image_aspect_ratio", "")?.as_str() {
        "" => Ok(None),
        "pad" => Ok(Some(Aspect::Pad)),
        "square" => Ok(Some(Aspect::Square)),
        other => Err(config.unsupported("image_aspect_ratio", other, "square and pad")),
    }
}

impl ModelParts {
    /// Notes the tensors of a folder without an LLM that belong to none of its parts.
    fn tell_strays(&self) {
        if !matches!(self.llm, PartPlace::Elsewhere(_)) {
            return;
        }
        let known = [Part::Encoder.prefix(), Part::Projector.prefix()];
        let stray = |name: &String| !known.iter().any(|start| name.starts_with(start)) && !Vlm::is_adapter(name);
        let names: Vec<String> = self.files.names().into_iter().filter(stray).map(|name| format!("`{name}`")).collect();
        if let Some(more) = names.len().checked_sub(1) {
            let list = names[..more.min(7) + 1].join(", ");
            let left = more.saturating_sub(7);
            let tail = if left > 0 { format!(" and {left} more") } else { String::new() };
            self.files.notes().add(format!("{}: nothing reads {list}{tail}", self.files.name()));
        }
    }

    /// Joins the parts without weights, which finds what does not fit, then reads the weights.
    fn build(self, presets: &Presets, template: Option<&str>, target: &Target) -> Result<Vlm> {
        let hollow_encoder = Arc::new(self.encoder(presets, Weights::None)?);
        let hollow_llm = self.hollow_llm(presets, target)?;
        let said = self.template.clone().or(hollow_llm.template.clone());
        let Some(name) = template.map(str::to_string).or_else(|| said.clone()) else {
            return Err(error!(Option, "config.json has no `model_architecture`, so the template is unknown")
                .help("name it: `load(folder, #{ template: \"llama_3_1\" })`"));
        };
        let by_hand = template.is_some();
        let template = Template::load(presets, &name)?;
        let projector = Source::Files { files: self.files.clone(), prefix: Part::Projector.prefix().to_string() };
        let projector =
            Arc::new(ProjectorPart::build(&self.projector, &hollow_encoder, hollow_llm.width(), projector, target)?);
        let hollow_llm = Arc::new(hollow_llm);
        let aspect = self.aspect(&hollow_encoder);
        Vlm::assemble(hollow_encoder, projector.clone(), hollow_llm.clone(), template.clone(), aspect)?;

        let llm = match &self.llm {
            PartPlace::Inside { .. } => self.filled(hollow_llm)?,
            PartPlace::Elsewhere(id) => {
                drop(hollow_llm);
                self.base_llm(presets, id, &options(Weights::Stored, target))?
            }
        };
        let encoder = self.encoder(presets, Weights::Stored)?;
        let vlm = Vlm::assemble(Arc::new(encoder), projector, Arc::new(llm), template, aspect)?;
        if by_hand {
            vlm.choose_by_hand(said.as_deref());
        }
        Ok(vlm)
    }

    /// What happens to pictures that are no squares: what the processor says, as transformers does, else what the model's
    /// config says. The processor of a tower that lies elsewhere knows nothing of this model.
    fn aspect(&self, encoder: &Encoder) -> Aspect {
        match (encoder.aspect, self.aspect) {
            (_, Some(said)) if matches!(self.tower, PartPlace::Elsewhere(_)) => said,
            (Some(own), Some(said)) if own != said => {
                let does = if own == Aspect::Pad { "pads" } else { "does not pad" };
                encoder.origin.config.note(format!(
                    "the image processor {does} (`do_pad`), though the model's config has `image_aspect_ratio` \"{}\": \
                     the processor decides, as in transformers 5",
                    said.name()
                ));
                own
            }
            (own, said) => own.or(said).unwrap_or(Aspect::Square),
        }
    }

    fn encoder(&self, presets: &Presets, weights: Weights) -> Result<Encoder> {
        let mut options = self.encoder.clone();
        options.weights = weights;
        let stored = match self.files.names().iter().any(|tensor| tensor.starts_with(Part::Encoder.prefix())) {
            _ if weights == Weights::None => Some(Source::Shapes),
            true => Some(Source::Files { files: self.files.clone(), prefix: Part::Encoder.prefix().to_string() }),
            false => None,
        };
        let is_trained = self.tower_is_trained && stored.is_some();
        match (&self.tower, stored) {
            (PartPlace::Inside { id, origin }, Some(stored)) => Encoder::build(id, origin.clone(), stored, options),
            (PartPlace::Inside { id, .. }, None) => bail!(Weights, "{} holds no tensors of `{id}`", self.files.name()),
            (PartPlace::Elsewhere(id), stored) => {
                Encoder::open_with(presets, id, options, stored).map(|mut encoder| {
                    if Path::new(id).is_absolute() {
                        encoder.id = folder_name(Path::new(id));
                    }
                    encoder
                })
            }
        }
        .map(|mut encoder| {
            encoder.origin.known.is_changed |= is_trained;
            encoder
        })
        .map_err(|error| {
            let help = error.help_text().map(str::to_string);
            let error = error.context("vision tower");
            match (help, &self.tower) {
                (None, PartPlace::Elsewhere(_)) => {
                    error.help("the tower is what `mm_vision_tower` of config.json names: a path, a preset or a hub id")
                }
                _ => error,
            }
        })
    }

    fn hollow_llm(&self, presets: &Presets, target: &Target) -> Result<Llm> {
        match &self.llm {
            PartPlace::Inside { id, origin } => {
                if !origin.folder.has("tokenizer.json") && !origin.folder.has("tokenizer.model") {
                    return Err(error!(Missing, "no `{}`", origin.folder.locate("tokenizer.json"))
                        .help("llmore reads the tokenizer from that file; transformers writes it with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`"));
                }
                Llm::build(id, origin.clone(), Source::Shapes, self.template.clone(), &options(Weights::None, target))
            }
            PartPlace::Elsewhere(id) => self.base_llm(presets, id, &options(Weights::None, target)),
        }
    }

    /// The LLM inside the checkpoint with its weights; what belongs to the other parts is theirs to keep.
    fn filled(&self, hollow: Arc<Llm>) -> Result<Llm> {
        let Some(llm) = Arc::into_inner(hollow) else { bail!(Weights, "the LLM is in use already") };
        let mut llm = llm.filled(Source::Files { files: self.files.clone(), prefix: String::new() })?;
        let others = [Part::Encoder.prefix(), Part::Projector.prefix()];
        llm.unused.retain(|(name, _)| !others.iter().any(|prefix| name.starts_with(prefix)));
        Ok(llm)
    }
}

fn options(weights: Weights, target: &Target) -> LlmOptions {
    LlmOptions { weights, seed: 0, target: target.clone() }
}

/// What to call a part: the name of its folder.
fn folder_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "llm".into(), |name| name.to_string_lossy().into_owned())
}

//! The types scripts hold. A handle is a cheap clone that shares what it points to; each prints on one line.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{DType, Tensor};
use rhai::{Array, Dynamic, Engine, Map};

use super::error::ScriptError;
use crate::chat::Chat;
use crate::data::{Dataset, ImageSource, Sample};
use crate::device::device_name;
use crate::error::Result;
use crate::eval::{Benchmark, Results, compare};
use crate::image::Image;
use crate::models::registry::Target;
use crate::show::{self, Figure, Table};
use crate::study::Study;
use crate::text::{Template, Tokenizer};
use crate::train::{Plan, Recipe, Run, Trainer};
use crate::vlm::{Encoder, Llm, ProjectorChoice, ProjectorPart, Vlm};

#[derive(Clone)]
pub(super) struct EncoderHandle(pub Arc<Encoder>);
#[derive(Clone)]
pub(super) struct LlmHandle(pub Arc<Llm>);
/// A projector before it is built into a model (only what was chosen), or the one of a model.
#[derive(Clone)]
pub(super) struct ProjectorHandle {
    pub choice: ProjectorChoice,
    pub part: Option<Arc<ProjectorPart>>,
}
#[derive(Clone)]
pub(super) struct VlmHandle(pub Arc<Vlm>);
#[derive(Clone)]
pub(super) struct TokenizerHandle(pub Tokenizer);
#[derive(Clone)]
pub(super) struct TemplateHandle(pub Template);
#[derive(Clone)]
pub(super) struct ChatHandle(pub Arc<Mutex<Chat>>);
#[derive(Clone)]
pub(super) struct DatasetHandle(pub Dataset);
/// A picture, decoded when somebody first looks at it; clones share it.
#[derive(Clone)]
pub(super) struct ImageHandle(Arc<Picture>);
struct Picture {
    /// The sample it is of, for errors.
    sample: Option<String>,
    source: ImageSource,
    decoded: OnceLock<Image>,
}
#[derive(Clone)]
pub(super) struct RecipeHandle(pub Arc<Recipe>);
#[derive(Clone)]
pub(super) struct TrainerHandle(pub Arc<Mutex<Trainer>>);
#[derive(Clone)]
pub(super) struct PlanHandle(pub Plan);
#[derive(Clone)]
pub(super) struct RunHandle(pub Run);
#[derive(Clone)]
pub(super) struct BenchmarkHandle(pub Arc<Benchmark>);
#[derive(Clone)]
pub(super) struct ResultsHandle(pub Arc<Results>);
#[derive(Clone)]
pub(super) struct StudyHandle(pub Arc<Mutex<Study>>);
#[derive(Clone)]
pub(super) struct TableHandle(pub Table);
#[derive(Clone)]
pub(super) struct FigureHandle(pub Figure);
#[derive(Clone)]
pub(super) struct TensorHandle(pub Tensor);

impl ImageHandle {
    /// A picture in memory.
    pub(super) fn new(image: Image) -> Self {
        let source = ImageSource::decoded(image, "image".to_string());
        ImageHandle(Arc::new(Picture { sample: None, source, decoded: OnceLock::new() }))
    }

    /// A sample's pictures.
    pub(super) fn of(sample: &Sample) -> Vec<Self> {
        let handle = |source: &ImageSource| {
            let (sample, source) = (Some(sample.id.clone()), source.clone());
            ImageHandle(Arc::new(Picture { sample, source, decoded: OnceLock::new() }))
        };
        sample.images.iter().map(handle).collect()
    }

    /// A picture of a benchmark's question.
    pub(super) fn of_source(source: &ImageSource) -> Self {
        ImageHandle(Arc::new(Picture { sample: None, source: source.clone(), decoded: OnceLock::new() }))
    }

    /// The pixels.
    pub(super) fn get(&self) -> Result<Image> {
        if let Some(image) = self.0.decoded.get() {
            return Ok(image.clone());
        }
        let opened = self.0.source.open();
        let image = opened.map_err(|error| match &self.0.sample {
            Some(id) => error.context(format!("sample `{id}`")),
            None => error,
        })?;
        Ok(self.0.decoded.get_or_init(|| image).clone())
    }

    /// Whether this is a clone of the other one.
    pub(super) fn is(&self, other: &ImageHandle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The lower-case name of a dtype.
pub(super) fn dtype_name(dtype: DType) -> &'static str {
    dtype.as_str()
}

fn place(target: &Target) -> String {
    format!("{}, {}", dtype_name(target.dtype), device_name(&target.device))
}

impl fmt::Display for EncoderHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoder = &self.0;
        let (params, place) = (show::count(encoder.count()), place(encoder.target()));
        let (tokens, width) = (encoder.tokens(), encoder.width());
        write!(f, "Encoder({}, {tokens} tokens x {width}, {params}, {place})", encoder.id)
    }
}

impl fmt::Display for LlmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (llm, spec) = (&self.0, self.0.model.spec());
        let params = show::count(llm.params.count());
        write!(f, "Llm({}, {} layers x {}, {params}, {})", llm.id, spec.layers, spec.width, place(&llm.target()))
    }
}

impl fmt::Display for ProjectorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            None => write!(f, "Projector({})", self.choice.label()),
            Some(part) => {
                let params = show::count(part.params.count());
                write!(f, "Projector({}, {} -> {}, {params})", part.label(), part.input, part.output)
            }
        }
    }
}

impl fmt::Display for VlmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params = show::count(self.0.params());
        write!(f, "Vlm({}, {params}, {})", self.0.describe(), place(&self.0.target()))
    }
}

impl fmt::Display for TokenizerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({}, {} tokens)", self.0.name(), self.0.vocab())
    }
}

impl fmt::Display for TemplateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({})", self.0.name())
    }
}

impl fmt::Display for ChatHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turns = self.0.try_lock().map_or(0, |chat| chat.history().len());
        write!(f, "Chat({turns} turns)")
    }
}

impl fmt::Display for DatasetHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dataset({}, {} samples)", self.0.name(), self.0.len())
    }
}

impl fmt::Display for ImageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Ok(image) => write!(f, "Image({} x {})", image.width, image.height),
            Err(error) => write!(f, "Image(unreadable: {})", error.message()),
        }
    }
}

impl fmt::Display for RecipeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipe({}, {} stages)", self.0.id, self.0.stages.len())
    }
}

impl fmt::Display for TrainerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.try_lock() {
            Ok(t) => write!(f, "Trainer({}, step {} of {})", t.options().name, t.done(), t.steps()),
            Err(_) => write!(f, "Trainer(busy)"),
        }
    }
}

impl fmt::Display for PlanHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.0;
        write!(f, "Plan({}, {} steps of {}, {} trained)", plan.name, plan.steps, plan.batch, show::count(plan.trained))
    }
}

impl fmt::Display for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run({}, {})", self.0.dir().display(), self.0.status().unwrap_or_else(|_| "no events".to_string()))
    }
}

impl fmt::Display for BenchmarkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let questions = self.0.counted().unwrap_or_else(|| format!("{} questions", self.0.items.len()));
        write!(f, "Benchmark({}, {questions})", self.0.id)
    }
}

impl fmt::Display for ResultsHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = &self.0;
        write!(
            f,
            "Results({}, {}, {} questions)",
            results.benchmark,
            compare::shown(results, results.score()),
            results.rows.len()
        )
    }
}

impl fmt::Display for StudyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(study) = self.0.try_lock() else { return write!(f, "Study(running)") };
        let record = study.record();
        let (grid, benchmarks) = (record.grid(), record.benchmarks.join(", "));
        write!(f, "Study({grid}, {benchmarks}, {} of {} cells done)", record.finished(), record.cells.len())
    }
}

impl fmt::Display for TableHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text(None, false))
    }
}

impl fmt::Display for FigureHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TensorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shape, tensor) = (self.0.dims(), &self.0);
        write!(f, "Tensor({shape:?}, {}, {})", dtype_name(tensor.dtype()), device_name(tensor.device()))
    }
}

/// Gives every handle its name and its one line.
pub(super) fn register(engine: &mut Engine) {
    fn one<T: fmt::Display + Clone + Send + Sync + 'static>(engine: &mut Engine, name: &str) {
        engine.register_type_with_name::<T>(name);
        engine.register_fn("to_string", |value: &mut T| value.to_string());
        engine.register_fn("to_debug", |value: &mut T| value.to_string());
    }
    one::<EncoderHandle>(engine, "Encoder");
    one::<LlmHandle>(engine, "Llm");
    one::<ProjectorHandle>(engine, "Projector");
    one::<VlmHandle>(engine, "Vlm");
    one::<TokenizerHandle>(engine, "Tokenizer");
    one::<TemplateHandle>(engine, "Template");
    one::<ChatHandle>(engine, "Chat");
    one::<DatasetHandle>(engine, "Dataset");
    one::<ImageHandle>(engine, "Image");
    one::<RecipeHandle>(engine, "Recipe");
    one::<TrainerHandle>(engine, "Trainer");
    one::<PlanHandle>(engine, "Plan");
    one::<RunHandle>(engine, "Run");
    one::<BenchmarkHandle>(engine, "Benchmark");
    one::<ResultsHandle>(engine, "Results");
    one::<StudyHandle>(engine, "Study");
    one::<TableHandle>(engine, "Table");
    one::<FigureHandle>(engine, "Figure");
    one::<TensorHandle>(engine, "Tensor");
    one::<ScriptError>(engine, "Error");
}

/// A clone of a handle whose methods take callbacks.
pub(super) fn callback_receiver(value: &Dynamic) -> Option<Dynamic> {
    macro_rules! first_of {
        ($($handle:ty),+) => {
            $(if let Some(handle) = value.read_lock::<$handle>() { return Some(Dynamic::from(handle.clone())); })+
        };
    }
    first_of!(TrainerHandle, DatasetHandle, VlmHandle, LlmHandle, ChatHandle);
    None
}

/// A value on one line, as the REPL and `print` show it.
pub fn describe(value: &Dynamic) -> String {
    macro_rules! try_types {
        ($($handle:ty),+) => {
            $(if let Some(handle) = value.read_lock::<$handle>() { return handle.to_string(); })+
        };
    }
    try_types!(
        EncoderHandle,
        LlmHandle,
        ProjectorHandle,
        VlmHandle,
        TokenizerHandle,
        TemplateHandle,
        ChatHandle,
        DatasetHandle,
        ImageHandle,
        RecipeHandle,
        TrainerHandle,
        PlanHandle,
        RunHandle,
        BenchmarkHandle,
        ResultsHandle,
        StudyHandle,
        TableHandle,
        FigureHandle,
        TensorHandle,
        ScriptError
    );
    if let Some(array) = value.read_lock::<Array>() {
        let items: Vec<String> = array.iter().map(describe_inner).collect();
        return format!("[{}]", items.join(", "));
    }
    if let Some(map) = value.read_lock::<Map>() {
        let items: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", describe_inner(value))).collect();
        return format!("#{{ {} }}", items.join(", "));
    }
    value.to_string()
}

fn describe_inner(value: &Dynamic) -> String {
    if value.is_string() { format!("{:?}", value.to_string()) } else { describe(value) }
}

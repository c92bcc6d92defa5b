//! What feeds the trainer: samples are read, rendered, decoded and preprocessed on threads of their own while the step
//! before them runs. At most `AHEAD` micro-batches wait, whatever the size of the data set; their order is the order in
//! which they are asked for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use rayon::prelude::*;

use super::options::Turns;
use crate::data::{Dataset, ImageSource, Sample};
use crate::error::{Context, Error, Result};
use crate::image::Aspect;
use crate::text::{IMAGE_ID, Rendered, Template};
use crate::vlm::{FeatureCache, Vlm};
use crate::{bail, error};

/// Micro-batches that are prepared before they are asked for.
const AHEAD: usize = 2;

/// A sample that waits for its forward pass.
pub(super) struct Ready {
    pub rendered: Rendered,
    pub images: Vec<Pixels>,
}

/// A sample's picture.
pub(super) struct Pixels {
    id: String,
    source: ImageSource,
    key: String,
    /// (3, height, width); `None` where the features are kept already, or another sample of the micro-batch has it.
    pixels: Option<Tensor>,
}

/// Everything that preparing a sample takes.
pub(super) struct Loader {
    pub vlm: Arc<Vlm>,
    pub dataset: Dataset,
    pub template: Template,
    pub turns: Turns,
    pub aspect: Aspect,
    /// Of a frozen encoder; a trained one has new features every time.
    pub features: Option<Arc<FeatureCache>>,
    /// What is in the pictures seen so far, by where they are; for features that outlive the run.
    contents: Mutex<HashMap<String, String>>,
}

impl Loader {
    pub(super) fn new(
        vlm: Arc<Vlm>,
        dataset: Dataset,
        template: Template,
        turns: Turns,
        aspect: Aspect,
        features: Option<Arc<FeatureCache>>,
    ) -> Self {
        Loader { vlm, dataset, template, turns, aspect, features, contents: Mutex::default() }
    }

    /// The same without kept features, for what must leave no trace.
    pub(super) fn without_features(&self) -> Self {
        Loader::new(self.vlm.clone(), self.dataset.clone(), self.template.clone(), self.turns, self.aspect, None)
    }

    /// What identifies a picture where its features are kept.
    fn key(&self, id: &str, source: &ImageSource) -> Result<String> {
        let place = source.key();
        if !self.features.as_ref().is_some_and(|features| features.wants_contents()) {
            return Ok(place);
        }
        let known = self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some(key) = known {
            return Ok(key);
        }
        let key = source.sha256().map_err(|error| self.of_sample(id, error))?;
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).insert(place, key.clone());
        Ok(key)
    }

    /// Reads and renders samples; pictures are not opened.
    pub(super) fn render(&self, positions: &[usize]) -> Result<Vec<(Sample, Rendered)>> {
        positions.par_iter().map(|&position| self.render_one(position)).collect()
    }

    fn render_one(&self, position: usize) -> Result<(Sample, Rendered)> {
        let sample = self.dataset.get(position)?;
        let render = match self.turns {
            Turns::Together => Template::render_about,
            Turns::Apart => Template::render_apart,
        };
        let rendered = render(&self.template, self.vlm.tokenizer()?, &sample.turns, sample.images.len())
            .context(|| format!("sample `{}` of `{}`", sample.id, self.dataset.name()))?;
        let marks = rendered.ids.iter().filter(|&&id| id == IMAGE_ID).count();
        if marks != sample.images.len() {
            let images = match sample.images.len() {
                0 => "no image".to_string(),
                1 => "an image".to_string(),
                count => format!("{count} images"),
            };
            let (id, name) = (&sample.id, self.dataset.name());
            return Err(error!(Data, "sample `{id}` of `{name}` has {images} and {marks} `<image>` marks")
                .help("`d.verify()` lists all samples like this one"));
        }
        Ok((sample, rendered))
    }

    /// A micro-batch up to the pixels its encoder takes.
    pub(super) fn prepare(&self, positions: &[usize]) -> Result<Vec<Ready>> {
        let keyed = |(sample, rendered): (Sample, Rendered)| {
            let Sample { id, images, .. } = sample;
            let pixels =
                |source: ImageSource| Ok(Pixels { id: id.clone(), key: self.key(&id, &source)?, source, pixels: None });
            Ok((rendered, images.into_iter().map(pixels).collect::<Result<Vec<_>>>()?))
        };
        let mut keyed = self.render(positions)?.into_par_iter().map(keyed).collect::<Result<Vec<_>>>()?;
        // Of pictures whose features are kept, each is opened once at most.
        let mut seen = HashSet::new();
        let mut wanted: Vec<&mut Pixels> = keyed.iter_mut().flat_map(|(_, images)| images).collect();
        wanted.retain(|image| match &self.features {
            Some(features) => !features.has(&image.key) && seen.insert(image.key.clone()),
            None => true,
        });
        wanted.into_par_iter().try_for_each(|image| {
            image.pixels = Some(self.open(image)?);
            Ok::<_, Error>(())
        })?;
        Ok(keyed.into_iter().map(|(rendered, images)| Ready { rendered, images }).collect())
    }

    /// The encoder's features of a micro-batch's pictures, (images, tokens, encoder width); `None` without pictures.
    pub(super) fn encode(&self, samples: &[Ready]) -> Result<Option<Tensor>> {
        let images: Vec<&Pixels> = samples.iter().flat_map(|sample| &sample.images).collect();
        if images.is_empty() {
            return Ok(None);
        }
        let pixels = |i: usize| match &images[i].pixels {
            Some(pixels) => Ok(pixels.clone()),
            None => self.open(images[i]),
        };
        let features = match &self.features {
            Some(features) => {
                let keys: Vec<&str> = images.iter().map(|image| image.key.as_str()).collect();
                features.get(&self.vlm, &keys, pixels)?
            }
            None => {
                let pixels = (0..images.len()).map(pixels).collect::<Result<Vec<_>>>()?;
                self.vlm.encoder.encode(&Tensor::stack(&pixels, 0)?)?
            }
        };
        Ok(Some(features))
    }

    /// Decodes and preprocesses a picture.
    fn open(&self, image: &Pixels) -> Result<Tensor> {
        let opened = image.source.open().and_then(|decoded| self.vlm.encoder.pixels(&decoded, self.aspect));
        opened.map_err(|error| self.of_sample(&image.id, error))
    }

    /// An error about a sample's picture.
    fn of_sample(&self, id: &str, error: Error) -> Error {
        error
            .context(format!("sample `{id}` of `{}`", self.dataset.name()))
            .help(format!("`d.show({id:?}, m)` shows the sample, `d.verify()` lists all pictures like this one"))
    }
}

/// Where a prepared micro-batch arrives.
type Arrival = Receiver<Result<Vec<Ready>>>;

/// Micro-batches in preparation, in order, each with its positions.
#[derive(Default)]
pub(super) struct Feed {
    waiting: VecDeque<(Vec<usize>, Arrival)>,
    threads: Option<rayon::ThreadPool>,
}

impl Feed {
    /// The first of `upcoming`, prepared; those after it are begun, as far as there is room.
    pub(super) fn take(
        &mut self,
        loader: &Arc<Loader>,
        mut upcoming: impl Iterator<Item = Vec<usize>>,
    ) -> Result<Vec<Ready>> {
        let Some(wanted) = upcoming.next() else { bail!(Train, "there is no further micro-batch") };
        // Another order than expected: after `resume`, or a step that was interrupted.
        if self.waiting.front().is_none_or(|(positions, _)| *positions != wanted) {
            self.waiting.clear();
            self.begin(loader, wanted)?;
        }
        let known = self.waiting.len();
        for positions in upcoming.skip(known - 1).take((AHEAD + 1).saturating_sub(known)) {
            self.begin(loader, positions)?;
        }
        let lost = || Error::new(crate::error::Kind::Data, "a thread that prepares samples has ended");
        match self.waiting.pop_front() {
            Some((_, ready)) => ready.recv().map_err(|_| lost())?,
            None => Err(lost()),
        }
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn begin(&mut self, loader: &Arc<Loader>, positions: Vec<usize>) -> Result<()> {
        let threads = match &mut self.threads {
            Some(threads) => threads,
            none => none.insert(threads()?),
        };
        let (tell, hear) = sync_channel(1);
        let (loader, chosen) = (loader.clone(), positions.clone());
        threads.spawn_fifo(move || {
            // Nobody may be waiting any more.
            let _ = tell.send(loader.prepare(&chosen));
        });
        self.waiting.push_back((positions, hear));
        Ok(())
    }
}

/// Threads that take nothing from those that compute but their share of the processor.
fn threads() -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(rayon::current_num_threads().div_ceil(2))
        .thread_name(|number| format!("llmore-data-{number}"))
        .build()
        .map_err(|error| error!(Device, "threads that prepare samples cannot be started: {error}"))
}

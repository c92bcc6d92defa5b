//! Image processors: resize, center crop, rescale, normalize, in the order and precision of the Pillow processors of
//! transformers (4.49's slow ones, 5.24's `*Pil`). `config.rs` reads and writes them.

use serde::{Deserialize, Serialize};

use super::resize::{resample, resample_floats};
use super::{Image, Resample};
use crate::error::{Error, Result};
use crate::{bail, error};

/// How an image that is not square is brought into the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Passed on as it is; the processor's own resizing may distort or crop it.
    Square,
    /// Centered on a square of the mean color first (LLaVA's `expand2square`).
    Pad,
}

impl Aspect {
    /// `square` or `pad`.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "square" => Ok(Aspect::Square),
            "pad" => Ok(Aspect::Pad),
            _ => Err(Error::unknown("image mode", name, &["square", "pad"], "")),
        }
    }

    /// `square` or `pad`.
    pub fn name(self) -> &'static str {
        match self {
            Aspect::Square => "square",
            Aspect::Pad => "pad",
        }
    }
}

/// The first step of a processor: the target of the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter edge gets this length, the other one follows.
    ShortestEdge(usize),
    /// Exactly this size; the aspect ratio is not kept.
    Exact { height: usize, width: usize },
    /// The shorter edge gets `shortest`, or less, so that the other one has `longest` at most.
    Between { shortest: usize, longest: usize },
    /// As large as fits into this size, the aspect ratio kept.
    Within { height: usize, width: usize },
    /// No resizing.
    Keep,
}

/// The order of resizing and rescaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Bytes are resized, then brought to floats.
    ResizeFirst,
    /// Floats are resized (DINOv3's processor, which exists for torchvision only).
    RescaleFirst,
}

/// An image processor of transformers as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProcessor {
    /// The first step.
    pub resize: Resize,
    /// Then the center crop to this (height, width); zeros where the image is smaller.
    pub crop: Option<(usize, usize)>,
    /// The filter of the resize.
    pub resample: Resample,
    /// The factor on 0..255, usually 1 / 255.
    pub rescale: f64,
    /// Whether mean and deviation are applied.
    pub normalize: bool,
    /// Subtracted per channel after rescaling; also the color of padding.
    pub mean: [f64; 3],
    /// Divided by per channel.
    pub std: [f64; 3],
    /// The order of resizing and rescaling.
    pub order: Order,
}

/// The most pixels a resized or padded image may have.
const MAX_PIXELS: usize = 1 << 28;

impl ImageProcessor {
    /// The (height, width) of the output of [`ImageProcessor::preprocess`] for an image of this size.
    pub fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        self.crop.unwrap_or_else(|| self.resized(width, height))
    }

    /// The same processor, resizing and cropping to squares of `side` pixels.
    pub fn with_side(self, side: usize) -> Self {
        let resize = match self.resize {
            Resize::ShortestEdge(_) => Resize::ShortestEdge(side),
            Resize::Exact { .. } => Resize::Exact { height: side, width: side },
            Resize::Between { .. } | Resize::Within { .. } | Resize::Keep => self.resize,
        };
        ImageProcessor { resize, crop: self.crop.map(|_| (side, side)), ..self }
    }

    /// The pixels a vision tower takes, (3, height, width) in row-major order.
    ///
    /// # Errors
    /// `Data` for an image without pixels, or one so narrow that its resized form would exceed the limit.
    pub fn preprocess(&self, image: &Image, aspect: Aspect) -> Result<Vec<f32>> {
        if image.width == 0 || image.height == 0 || image.pixels.len() != image.width * image.height * 3 {
            bail!(Data, "an image of {} x {} with {} bytes", image.width, image.height, image.pixels.len());
        }
        let padded = match aspect {
            Aspect::Pad if image.width != image.height => Some(self.pad(image)?),
            _ => None,
        };
        let image = padded.as_ref().unwrap_or(image);
        let (resized_height, resized_width) = self.resized(image.width, image.height);
        let (height, width) = self.output_size(image.width, image.height);
        check_pixels(image, height, width)?;
        let (top, rows) = center(resized_height, height);
        let (left, columns) = center(resized_width, width);
        let window = (columns.len(), rows.len());
        let (size, place) = ((resized_width, resized_height), (left, top));
        if self.order == Order::RescaleFirst {
            let floats = resample_floats(image, self.rescale, size, columns, rows, self.resample);
            let value = |channel: usize| move |sample: f32| self.value(sample, channel);
            return Ok(planes(&floats, window, place, (width, height), 0.0, value));
        }
        let bytes = resample(image, size, columns, rows, self.resample);
        let tables = [0, 1, 2].map(|channel| self.table(channel));
        let value = |channel: usize| {
            let table = &tables[channel];
            move |byte: u8| table[usize::from(byte)]
        };
        Ok(planes(&bytes, window, place, (width, height), 0, value))
    }

    /// The RGB bytes, row by row, from which [`ImageProcessor::preprocess`] made pixels (3, height, width): its inverse.
    pub fn bytes_of(&self, pixels: &[f32]) -> Vec<u8> {
        let plane = pixels.len() / 3;
        let byte = |place: usize, channel: usize| {
            let value = f64::from(pixels[channel * plane + place]);
            let value = if self.normalize { value * self.std[channel] + self.mean[channel] } else { value };
            (value / self.rescale).round() as u8
        };
        (0..plane).flat_map(|place| [0, 1, 2].map(|channel| byte(place, channel))).collect()
    }

    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        match self.resize {
            Resize::Keep => (height, width),
            Resize::Exact { height, width } => (height, width),
            Resize::Within { height: most_rows, width: most_columns } => {
                let scale = (most_rows as f64 / height as f64).min(most_columns as f64 / width as f64);
                ((height as f64 * scale) as usize, (width as f64 * scale) as usize)
            }
            Resize::Between { shortest, longest } => between((width, height), shortest, longest),
            Resize::ShortestEdge(edge) => {
                let (short, long) = (width.min(height).max(1), width.max(height));
                // Python's int(edge * long / short): exact product, one rounding, truncated.
                let long = ((edge * long) as f64 / short as f64) as usize;
                if width <= height { (long, edge) } else { (edge, long) }
            }
        }
    }

    fn pad(&self, image: &Image) -> Result<Image> {
        let side = image.width.max(image.height);
        check_pixels(image, side, side)?;
        let color = self.mean.map(|mean| (mean * 255.0) as u8);
        let mut pixels = color.repeat(side * side);
        let (left, top) = ((side - image.width) / 2, (side - image.height) / 2);
        for (y, row) in image.pixels.chunks_exact(image.width * 3).enumerate() {
            let first = ((top + y) * side + left) * 3;
            pixels[first..first + row.len()].copy_from_slice(row);
        }
        Ok(Image { width: side, height: side, pixels: pixels.into() })
    }

    /// The float value of every byte: rescaled in f64, cast to f32, normalized in f32.
    fn table(&self, channel: usize) -> [f32; 256] {
        std::array::from_fn(|byte| self.value((byte as f64 * self.rescale) as f32, channel))
    }

    fn value(&self, rescaled: f32, channel: usize) -> f32 {
        match self.normalize {
            true => (rescaled - self.mean[channel] as f32) / self.std[channel] as f32,
            false => rescaled,
        }
    }
}

/// Writes the window's samples at `(left, top)` of an image filled with `black`, channel by channel, converted to floats.
fn planes<T: Copy, F: Fn(T) -> f32>(
    samples: &[T],
    (columns, rows): (usize, usize),
    (left, top): (usize, usize),
    (width, height): (usize, usize),
    black: T,
    value: impl Fn(usize) -> F,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(3 * width * height);
    for channel in 0..3 {
        let value = value(channel);
        let plane = out.len();
        out.resize(plane + width * height, value(black));
        for (y, row) in samples.chunks_exact((columns * 3).max(1)).take(rows).enumerate() {
            let first = plane + (top + y) * width + left;
            for (out, pixel) in out[first..first + columns].iter_mut().zip(row.chunks_exact(3)) {
                *out = value(pixel[channel]);
            }
        }
    }
    out
}

/// The (height, width) whose shorter edge is `shortest`, or less where the longer one is limited.
fn between((width, height): (usize, usize), shortest: usize, longest: usize) -> (usize, usize) {
    let (short, long) = (width.min(height).max(1), width.max(height));
    let limit = longest as f64 * short as f64 / long as f64;
    let limited = long as f64 / short as f64 * shortest as f64 > longest as f64;
    // Python's round() of the shorter edge; the longer one follows from the unrounded value.
    let edge = if limited { limit.round_ties_even() as usize } else { shortest };
    let exact = if limited { limit } else { shortest as f64 };
    let follow = (exact * long as f64 / short as f64) as usize;
    match (width < height, short == edge) {
        (_, true) => (height, width),
        (true, false) => (follow, edge),
        (false, false) => (edge, follow),
    }
}

fn check_pixels(image: &Image, height: usize, width: usize) -> Result<()> {
    if height.saturating_mul(width) > MAX_PIXELS || height == 0 || width == 0 {
        return Err(error!(Data, "an image of {} x {} would become {width} x {height}", image.width, image.height)
            .help("crop it to a less extreme shape first"));
    }
    Ok(())
}

/// Where the center crop of an axis begins in the output, and which part of the resized axis it covers.
fn center(resized: usize, crop: usize) -> (usize, std::ops::Range<usize>) {
    if crop <= resized {
        let first = (resized - crop) / 2;
        (0, first..first + crop)
    } else {
        ((crop - resized).div_ceil(2), 0..resized)
    }
}

//! Image processors: resize, center crop, rescale, normalize, in the order and precision of transformers 4.49
//! (its slow processors). `config.rs` reads and writes them.

use serde::{Deserialize, Serialize};

use super::resize::resample;
use super::{Image, Resample};
use crate::error::{Error, Result};
use crate::{bail, error};

/// How an image that is not square meets the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// Straight in: what the processor does to it happens.
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

/// What the first step of a processor makes of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter edge gets this length, the other one follows.
    ShortestEdge(usize),
    /// Exactly this size; the aspect ratio is not kept.
    Exact { height: usize, width: usize },
    /// No resizing.
    Keep,
}

/// An image processor of transformers as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageProcessor {
    /// The first step.
    pub resize: Resize,
    /// Then the center of this (height, width); zeros where the image is smaller.
    pub crop: Option<(usize, usize)>,
    /// The filter of the resize.
    pub resample: Resample,
    /// Factor on 0..255, usually 1 / 255.
    pub rescale: f64,
    /// Subtracted per channel after rescaling.
    pub mean: [f64; 3],
    /// Divided by per channel.
    pub std: [f64; 3],
}

/// The most pixels a resized or padded image may have.
const MAX_PIXELS: usize = 1 << 28;

impl ImageProcessor {
    /// The (height, width) of what [`ImageProcessor::preprocess`] makes of an image of this size.
    pub fn output_size(&self, width: usize, height: usize) -> (usize, usize) {
        self.crop.unwrap_or_else(|| self.resized(width, height))
    }

    /// The same processor, resizing and cropping to squares of `side` pixels.
    pub fn with_side(self, side: usize) -> Self {
        let resize = match self.resize {
            Resize::ShortestEdge(_) => Resize::ShortestEdge(side),
            Resize::Exact { .. } => Resize::Exact { height: side, width: side },
            Resize::Keep => Resize::Keep,
        };
        ImageProcessor { resize, crop: self.crop.map(|_| (side, side)), ..self }
    }

    /// The pixels a vision tower takes, (3, height, width) in row-major order.
    ///
    /// # Errors
    /// `Data` for an image without pixels, or one so narrow that its resized form would be absurdly large.
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
        let bytes = resample(image, (resized_width, resized_height), columns, rows, self.resample);
        Ok(self.normalized(&bytes, window, (left, top), (width, height)))
    }

    /// The RGB bytes that pixels (3, height, width) of [`ImageProcessor::preprocess`] were made of, row by row.
    pub fn bytes_of(&self, pixels: &[f32]) -> Vec<u8> {
        let plane = pixels.len() / 3;
        let byte = |place: usize, channel: usize| {
            let value = f64::from(pixels[channel * plane + place]) * self.std[channel] + self.mean[channel];
            (value / self.rescale).round() as u8
        };
        (0..plane).flat_map(|place| [0, 1, 2].map(|channel| byte(place, channel))).collect()
    }

    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        match self.resize {
            Resize::Keep => (height, width),
            Resize::Exact { height, width } => (height, width),
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

    /// Puts the window's bytes at `(left, top)` of a black image and brings it to floats, channel by channel.
    fn normalized(
        &self,
        bytes: &[u8],
        (columns, rows): (usize, usize),
        (left, top): (usize, usize),
        (width, height): (usize, usize),
    ) -> Vec<f32> {
        let mut out = Vec::with_capacity(3 * width * height);
        for channel in 0..3 {
            let table = self.table(channel);
            let plane = out.len();
            out.resize(plane + width * height, table[0]);
            for (y, row) in bytes.chunks_exact((columns * 3).max(1)).take(rows).enumerate() {
                let first = plane + (top + y) * width + left;
                for (value, pixel) in out[first..first + columns].iter_mut().zip(row.chunks_exact(3)) {
                    *value = table[usize::from(pixel[channel])];
                }
            }
        }
        out
    }

    /// Every byte's value: rescaled in f64, cast to f32, normalized in f32.
    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, std) = (self.mean[channel] as f32, self.std[channel] as f32);
        std::array::from_fn(|byte| ((byte as f64 * self.rescale) as f32 - mean) / std)
    }
}

fn check_pixels(image: &Image, height: usize, width: usize) -> Result<()> {
    if height.saturating_mul(width) > MAX_PIXELS || height == 0 || width == 0 {
        return Err(error!(Data, "an image of {} x {} would become {width} x {height}", image.width, image.height)
            .help("crop it to a less extreme shape first"));
    }
    Ok(())
}

/// Where the center crop of an axis begins in the output, and which part of the resized axis it shows.
fn center(resized: usize, crop: usize) -> (usize, std::ops::Range<usize>) {
    if crop <= resized {
        let first = (resized - crop) / 2;
        (0, first..first + crop)
    } else {
        ((crop - resized).div_ceil(2), 0..resized)
    }
}

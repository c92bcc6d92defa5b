//! Pillow's resampling, bit for bit: 8-bit samples, coefficients in fixed point with 22 fractional bits, a
//! horizontal and a vertical pass with bytes in between. The filter widens when an image shrinks. Checked
//! against Pillow 13.0.0 (older versions never run the vertical pass first: up to one level apart on tall images).

use std::f64::consts::PI;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Image;

/// The interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The sample below the center, no filter.
    Nearest,
    /// Windowed sinc, support 3.
    Lanczos,
    /// Triangle, support 1.
    Bilinear,
    /// Cubic with a = -0.5, support 2.
    Bicubic,
    /// Mean of what a pixel covers, support 0.5.
    Box,
    /// Sinc under Hamming's window, support 1.
    Hamming,
}

impl Resample {
    /// All filters, indexed by their numbers in Pillow.
    const BY_NUMBER: [Resample; 6] =
        [Resample::Nearest, Resample::Lanczos, Resample::Bilinear, Resample::Bicubic, Resample::Box, Resample::Hamming];

    /// The filter with this number in Pillow.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Self::BY_NUMBER.get(usize::try_from(number).ok()?).copied()
    }

    /// The number of this filter in Pillow.
    pub(super) fn number(self) -> usize {
        Self::BY_NUMBER.iter().position(|filter| *filter == self).unwrap_or_default()
    }

    fn support(self) -> f64 {
        match self {
            Resample::Nearest => 0.0,
            Resample::Lanczos => 3.0,
            Resample::Bilinear | Resample::Hamming => 1.0,
            Resample::Bicubic => 2.0,
            Resample::Box => 0.5,
        }
    }

    fn weight(self, at: f64) -> f64 {
        const A: f64 = -0.5;
        let x = at.abs();
        match self {
            Resample::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Resample::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Resample::Bilinear if x < 1.0 => 1.0 - x,
            Resample::Box if at > -0.5 && at <= 0.5 => 1.0,
            Resample::Hamming if x < 1.0 => sinc(x) * (0.54 + 0.46 * (x * PI).cos()),
            Resample::Lanczos if (-3.0..3.0).contains(&at) => sinc(at) * sinc(at / 3.0),
            _ => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Fractional bits of a coefficient: 32 minus 8 for the sample and 2 for overshoot.
const PRECISION: u32 = 32 - 8 - 2;
/// One half, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);
/// Rows the horizontal pass takes at once, interleaved so that the inner loop runs over neighbors in memory.
const ROWS: usize = 8;
const LANES: usize = ROWS * 3;

/// The window `columns` x `rows` of the image resized to `(width, height)`; RGB rows.
pub(super) fn resample(
    image: &Image,
    (width, height): (usize, usize),
    columns: Range<usize>,
    rows: Range<usize>,
    filter: Resample,
) -> Vec<u8> {
    if filter == Resample::Nearest && (image.width, image.height) != (width, height) {
        return nearest(image, (width, height), columns, rows);
    }
    let across = (image.width != width).then(|| Taps::new(image.width, width, columns.clone(), filter));
    let down = (image.height != height).then(|| Taps::new(image.height, height, rows.clone(), filter));
    // Pillow 13 runs the vertical pass first where the height loses more than twice as many pixels as the width.
    let tall = image.height > height && image.height + 2 * width > height + 2 * image.width;
    let job = Job { across, down, columns, rows, tall };
    let source = Plane { pixels: &image.pixels, width: image.width, left: 0, top: 0 };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: `passes_avx2` is safe code compiled for AVX2, which is all that it asks for; the processor was just asked.
        return unsafe { passes_avx2(&source, &job) };
    }
    passes(&source, &job)
}

/// Pillow adds up the step from pixel to pixel, so its rounding errors add up too.
fn nearest(image: &Image, (width, height): (usize, usize), columns: Range<usize>, rows: Range<usize>) -> Vec<u8> {
    let places = |input: usize, output: usize, window: Range<usize>| -> Vec<usize> {
        let step = input as f64 / output as f64;
        let along = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
        along.skip(window.start).take(window.len()).map(|at| (at as usize).min(input - 1)).collect()
    };
    let columns = places(image.width, width, columns);
    let line = |y: usize| columns.iter().map(move |x| (y * image.width + x) * 3);
    let rows = places(image.height, height, rows);
    rows.into_iter().flat_map(line).flat_map(|first| &image.pixels[first..first + 3]).copied().collect()
}

/// The window of the image scaled to floats by `factor` and then resized, as torchvision resizes floats: no rounding
/// to bytes, the horizontal pass first. RGB rows.
pub(super) fn resample_floats(
    image: &Image,
    factor: f64,
    (width, height): (usize, usize),
    columns: Range<usize>,
    rows: Range<usize>,
    filter: Resample,
) -> Vec<f32> {
    let floats: [f32; 256] = std::array::from_fn(|byte| byte as f32 * factor as f32);
    let weights = |input: usize, output: usize, window: Range<usize>| -> Vec<(usize, Vec<f32>)> {
        let kept = |at: usize| (at, vec![1.0]);
        if input == output {
            return window.map(kept).collect();
        }
        let (scale, mut raw) = (input as f64 / output as f64, Vec::new());
        let one = |at| {
            let start = normalized_weights(input, scale, at, filter, &mut raw);
            (start, raw.iter().map(|weight| *weight as f32).collect())
        };
        window.map(one).collect()
    };
    let (across, down) = (weights(image.width, width, columns), weights(image.height, height, rows));
    let first = down.iter().map(|(start, _)| *start).min().unwrap_or(0);
    let end = down.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
    let mut between = Vec::with_capacity((end - first) * across.len() * 3);
    for y in first..end {
        let row = &image.pixels[y * image.width * 3..(y + 1) * image.width * 3];
        for (start, weights) in &across {
            let channel = |channel: usize| {
                let samples = row[start * 3..].iter().skip(channel).step_by(3);
                samples.zip(weights).map(|(byte, weight)| floats[usize::from(*byte)] * weight).sum::<f32>()
            };
            between.extend([0, 1, 2].map(channel));
        }
    }
    let length = across.len() * 3;
    let mut out = vec![0.0; down.len() * length];
    for ((start, weights), out) in down.iter().zip(out.chunks_exact_mut(length.max(1))) {
        for (row, weight) in between[(start - first) * length..].chunks_exact(length.max(1)).zip(weights) {
            out.iter_mut().zip(row).for_each(|(sum, sample)| *sum += sample * weight);
        }
    }
    out
}

/// The passes to run and the window of the output they are run for.
struct Job {
    across: Option<Taps>,
    down: Option<Taps>,
    columns: Range<usize>,
    rows: Range<usize>,
    tall: bool,
}

/// Rows of RGB bytes; the first pixel is the one at `(left, top)`.
struct Plane<'a> {
    pixels: &'a [u8],
    width: usize,
    left: usize,
    top: usize,
}

impl Plane<'_> {
    #[inline(always)]
    fn row(&self, y: usize, columns: &Range<usize>) -> &[u8] {
        let first = (y - self.top) * self.width;
        &self.pixels[(first + columns.start - self.left) * 3..(first + columns.end - self.left) * 3]
    }
}

/// For every output position the first input position and the fixed-point weights from there on.
struct Taps {
    starts: Vec<usize>,
    counts: Vec<usize>,
    weights: Vec<i32>,
    stride: usize,
}

/// The first input position that an output position reads; writes its weights, which add up to 1, into `weights`.
fn normalized_weights(input: usize, scale: f64, position: usize, filter: Resample, weights: &mut Vec<f64>) -> usize {
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let center = (position as f64 + 0.5) * scale;
    let start = (center - support + 0.5).max(0.0) as usize;
    let end = ((center + support + 0.5) as usize).min(input);
    weights.clear();
    weights.extend((start..end).map(|x| filter.weight((x as f64 - center + 0.5) * (1.0 / stretch))));
    let sum: f64 = weights.iter().sum();
    if sum != 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    start
}

impl Taps {
    fn new(input: usize, output: usize, window: Range<usize>, filter: Resample) -> Self {
        let scale = input as f64 / output as f64;
        let stride = (filter.support() * scale.max(1.0)).ceil() as usize * 2 + 1;
        let (mut starts, mut counts) = (Vec::with_capacity(window.len()), Vec::with_capacity(window.len()));
        let mut weights = vec![0; window.len() * stride];
        let mut raw = Vec::with_capacity(stride);
        for (position, weights) in window.zip(weights.chunks_exact_mut(stride)) {
            let start = normalized_weights(input, scale, position, filter, &mut raw);
            for (weight, normalized) in weights.iter_mut().zip(&raw) {
                let fixed = normalized * f64::from(1u32 << PRECISION);
                *weight = (fixed + 0.5f64.copysign(fixed)) as i32;
            }
            starts.push(start);
            counts.push(raw.len());
        }
        Taps { starts, counts, weights, stride }
    }

    /// The range of input positions that all output positions read.
    fn inputs(&self) -> Range<usize> {
        let ends = self.starts.iter().zip(&self.counts).map(|(start, count)| start + count);
        self.starts.first().copied().unwrap_or(0)..ends.max().unwrap_or(0)
    }

    #[inline(always)]
    fn at(&self, position: usize) -> (usize, &[i32]) {
        let first = position * self.stride;
        (self.starts[position], &self.weights[first..first + self.counts[position]])
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn passes_avx2(source: &Plane, job: &Job) -> Vec<u8> {
    passes(source, job)
}

#[inline(always)]
fn passes(source: &Plane, job: &Job) -> Vec<u8> {
    match (&job.across, &job.down) {
        (None, None) => job.rows.clone().flat_map(|y| source.row(y, &job.columns)).copied().collect(),
        (Some(across), None) => horizontal(source, &job.rows, across),
        (None, Some(down)) => vertical(source, &job.columns, down),
        (Some(across), Some(down)) if job.tall => {
            let columns = across.inputs();
            let pixels = vertical(source, &columns, down);
            let between = Plane { pixels: &pixels, width: columns.len(), left: columns.start, top: 0 };
            horizontal(&between, &(0..job.rows.len()), across)
        }
        (Some(across), Some(down)) => {
            let rows = down.inputs();
            let pixels = horizontal(source, &rows, across);
            let between = Plane { pixels: &pixels, width: job.columns.len(), left: 0, top: rows.start };
            vertical(&between, &(0..job.columns.len()), down)
        }
    }
}

/// The horizontal pass: the weighted columns of these rows.
#[inline(always)]
fn horizontal(plane: &Plane, rows: &Range<usize>, taps: &Taps) -> Vec<u8> {
    let inputs = taps.inputs();
    let width = taps.starts.len();
    let mut out = vec![0; rows.len() * width * 3];
    let mut block = vec![[0u8; LANES]; inputs.len()];
    for (index, out) in out.chunks_mut(ROWS * width * 3).enumerate() {
        let top = rows.start + index * ROWS;
        for row in 0..out.len() / (width * 3) {
            let pixels = plane.row(top + row, &inputs).chunks_exact(3);
            for (lanes, pixel) in block.iter_mut().zip(pixels) {
                lanes[row * 3..row * 3 + 3].copy_from_slice(pixel);
            }
        }
        for x in 0..width {
            let (start, weights) = taps.at(x);
            let mut sums = [HALF; LANES];
            for (lanes, weight) in block[start - inputs.start..].iter().zip(weights) {
                for (sum, sample) in sums.iter_mut().zip(lanes) {
                    *sum += i32::from(*sample) * weight;
                }
            }
            let bytes = sums.map(clip);
            for (row, pixel) in out.chunks_exact_mut(width * 3).zip(bytes.chunks_exact(3)) {
                row[x * 3..x * 3 + 3].copy_from_slice(pixel);
            }
        }
    }
    out
}

/// The vertical pass: the weighted rows of these columns.
#[inline(always)]
fn vertical(plane: &Plane, columns: &Range<usize>, taps: &Taps) -> Vec<u8> {
    let length = columns.len() * 3;
    let mut out = vec![0; taps.starts.len() * length];
    let mut sums = vec![0i32; length];
    for (y, out) in out.chunks_exact_mut(length.max(1)).enumerate() {
        let (start, weights) = taps.at(y);
        sums.fill(HALF);
        for (row, weight) in weights.iter().enumerate() {
            for (sum, sample) in sums.iter_mut().zip(plane.row(start + row, columns)) {
                *sum += i32::from(*sample) * weight;
            }
        }
        for (byte, sum) in out.iter_mut().zip(&sums) {
            *byte = clip(*sum);
        }
    }
    out
}

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_pass_for_avx2_is_the_portable_one() {
        let (width, height) = (37, 53);
        let pixels: Vec<u8> = (0..width * height * 3).map(|at| ((at * 2_654_435_761) >> 7) as u8).collect();
        let image = Image { width, height, pixels: pixels.into() };
        for filter in Resample::BY_NUMBER {
            for (wide, high) in [(16, 16), (80, 11), (37, 90), (37, 53), (9, 53)] {
                let fast = resample(&image, (wide, high), 0..wide, 1..high, filter);
                assert_eq!(fast.len(), wide * (high - 1) * 3);
                if filter == Resample::Nearest {
                    continue;
                }
                let across = (width != wide).then(|| Taps::new(width, wide, 0..wide, filter));
                let down = (height != high).then(|| Taps::new(height, high, 1..high, filter));
                let tall = height > high && height + 2 * wide > high + 2 * width;
                let job = Job { across, down, columns: 0..wide, rows: 1..high, tall };
                let source = Plane { pixels: &image.pixels, width, left: 0, top: 0 };
                assert!(fast == passes(&source, &job), "{filter:?} to {wide} x {high}");
            }
        }
    }
}

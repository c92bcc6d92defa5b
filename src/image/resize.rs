//! Pillow's resampling, bit for bit: 8-bit samples, coefficients in fixed point with 22 fractional bits, a
//! horizontal pass rounded to bytes and then a vertical one. The filter widens when an image shrinks.
//! Source: Pillow 13.0.0, `src/libImaging/Resample.c`.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Image;

/// The interpolation filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// Cubic with a = -0.5, support 2; Pillow's number 3.
    Bicubic,
    /// Triangle, support 1; Pillow's number 2.
    Bilinear,
}

impl Resample {
    fn support(self) -> f64 {
        match self {
            Resample::Bicubic => 2.0,
            Resample::Bilinear => 1.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Resample::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Resample::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Resample::Bilinear if x < 1.0 => 1.0 - x,
            _ => 0.0,
        }
    }
}

/// Fractional bits of a coefficient: 32 less 8 for the sample and 2 for overshoot.
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
    let across = (image.width != width).then(|| Taps::new(image.width, width, columns.clone(), filter));
    let down = (image.height != height).then(|| Taps::new(image.height, height, rows.clone(), filter));
    let needed = down.as_ref().map_or(rows, Taps::inputs);
    let source = Source { pixels: &image.pixels, width: image.width, rows: needed, columns };
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; the function is the portable one compiled for it.
        return unsafe { passes_avx2(&source, across.as_ref(), down.as_ref()) };
    }
    passes(&source, across.as_ref(), down.as_ref())
}

struct Source<'a> {
    pixels: &'a [u8],
    width: usize,
    /// The input rows that matter.
    rows: Range<usize>,
    /// The output columns, which are input columns when there is no horizontal pass.
    columns: Range<usize>,
}

/// For every output position the first input position and the fixed-point weights from there on.
struct Taps {
    starts: Vec<usize>,
    counts: Vec<usize>,
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    fn new(input: usize, output: usize, window: Range<usize>, filter: Resample) -> Self {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let stride = support.ceil() as usize * 2 + 1;
        let (mut starts, mut counts) = (Vec::with_capacity(window.len()), Vec::with_capacity(window.len()));
        let mut weights = vec![0; window.len() * stride];
        let mut raw = vec![0.0; stride];
        for (position, weights) in window.zip(weights.chunks_exact_mut(stride)) {
            let center = (position as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(input);
            let raw = &mut raw[..end - start];
            for (x, weight) in raw.iter_mut().enumerate() {
                *weight = filter.weight(((x + start) as f64 - center + 0.5) * (1.0 / stretch));
            }
            let sum: f64 = raw.iter().sum();
            for (weight, raw) in weights.iter_mut().zip(raw.iter()) {
                let normalized = if sum == 0.0 { *raw } else { raw / sum };
                let fixed = normalized * f64::from(1u32 << PRECISION);
                *weight = (fixed + 0.5f64.copysign(fixed)) as i32;
            }
            starts.push(start);
            counts.push(raw.len());
        }
        Taps { starts, counts, weights, stride }
    }

    /// The input positions that any output position reads.
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
fn passes_avx2(source: &Source, across: Option<&Taps>, down: Option<&Taps>) -> Vec<u8> {
    passes(source, across, down)
}

#[inline(always)]
fn passes(source: &Source, across: Option<&Taps>, down: Option<&Taps>) -> Vec<u8> {
    let rows = match across {
        Some(taps) => horizontal(source, taps),
        None => cropped(source),
    };
    match down {
        Some(taps) => vertical(&rows, source, taps),
        None => rows,
    }
}

fn cropped(source: &Source) -> Vec<u8> {
    let row = |y: usize| {
        let first = y * source.width;
        &source.pixels[(first + source.columns.start) * 3..(first + source.columns.end) * 3]
    };
    source.rows.clone().flat_map(row).copied().collect()
}

#[inline(always)]
fn horizontal(source: &Source, taps: &Taps) -> Vec<u8> {
    let inputs = taps.inputs();
    let width = taps.starts.len();
    let mut out = vec![0; source.rows.len() * width * 3];
    let mut block = vec![[0u8; LANES]; inputs.len()];
    for (index, rows) in out.chunks_mut(ROWS * width * 3).enumerate() {
        let top = source.rows.start + index * ROWS;
        for row in 0..rows.len() / (width * 3) {
            let first = (top + row) * source.width;
            let pixels = &source.pixels[(first + inputs.start) * 3..(first + inputs.end) * 3];
            for (lanes, pixel) in block.iter_mut().zip(pixels.chunks_exact(3)) {
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
            for (row, pixel) in rows.chunks_exact_mut(width * 3).zip(bytes.chunks_exact(3)) {
                row[x * 3..x * 3 + 3].copy_from_slice(pixel);
            }
        }
    }
    out
}

#[inline(always)]
fn vertical(rows: &[u8], source: &Source, taps: &Taps) -> Vec<u8> {
    let length = source.columns.len() * 3;
    let mut out = vec![0; taps.starts.len() * length];
    let mut sums = vec![0i32; length];
    for (y, out) in out.chunks_exact_mut(length).enumerate() {
        let (start, weights) = taps.at(y);
        let inputs = rows[(start - source.rows.start) * length..].chunks_exact(length);
        sums.fill(HALF);
        for (row, weight) in inputs.zip(weights) {
            for (sum, sample) in sums.iter_mut().zip(row) {
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

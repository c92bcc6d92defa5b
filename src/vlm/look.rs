//! Visualization of encoders: the picture as the tower receives it, and its features as colors. Three principal components of
//! the patches' features become red, green and blue, so that patches with similar features have similar colors.

use candle_core::{DType, Device, Tensor};

use super::encoder::Encoder;
use crate::bail;
use crate::error::Result;
use crate::image::{Aspect, Image};
use crate::show::Picture;

/// Rounds of power iteration; components of equal variance stay mixed.
const ROUNDS: usize = 300;

impl Encoder {
    /// Patch features as colors, one pixel per patch: the three strongest principal components of the selected features,
    /// each scaled from its lowest value (0) to its highest (255). The sign of a component is chosen so that its value of
    /// largest magnitude is positive.
    ///
    /// # Errors
    /// As [`Encoder::pixels`].
    pub fn map(&self, image: &Image, aspect: Aspect) -> Result<Picture> {
        let features = self.encode(&self.pixels(image, aspect)?.unsqueeze(0)?)?.squeeze(0)?; // (tokens, width)
        let ((rows, columns), extra) = (self.grid(), self.extra_tokens());
        let patches = features.narrow(0, extra, rows * columns)?;
        let values = patches.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
        let components = principal_components(&values);
        let mut rgb = vec![0u8; rows * columns * 3];
        for (channel, scores) in components.iter().enumerate() {
            let (low, high) = scores.iter().fold((f64::MAX, f64::MIN), |(low, high), s| (low.min(*s), high.max(*s)));
            let span = if high > low { high - low } else { 1.0 };
            for (place, score) in scores.iter().enumerate() {
                rgb[place * 3 + channel] = ((score - low) / span * 255.0).round() as u8;
            }
        }
        Picture::new(columns, rows, rgb)
    }

    /// The picture as the tower receives it, recovered from the pixels (3, height, width) of its processor.
    pub fn seen(&self, pixels: &Tensor) -> Result<Picture> {
        let (channels, height, width) = pixels.dims3()?;
        if channels != 3 {
            bail!(Shape, "pixels have {channels} channels, expected 3");
        }
        Picture::new(width, height, self.processor.bytes_of(&pixels.flatten_all()?.to_vec1::<f32>()?))
    }
}

/// The scores of each row in the three strongest principal components, strongest first; zeros where no variance is
/// left.
fn principal_components(rows: &[Vec<f32>]) -> [Vec<f64>; 3] {
    let width = rows.first().map_or(0, Vec::len);
    let mean = |column: usize| rows.iter().map(|row| f64::from(row[column])).sum::<f64>() / rows.len() as f64;
    let means: Vec<f64> = (0..width).map(mean).collect();
    let centered: Vec<Vec<f64>> =
        rows.iter().map(|row| row.iter().zip(&means).map(|(value, mean)| f64::from(*value) - mean).collect()).collect();
    let total: f64 = centered.iter().map(|row| dot(row, row)).sum();
    let mut axes: Vec<Vec<f64>> = Vec::new();
    [0, 1, 2].map(|_| {
        let axis = strongest_axis(&centered, &axes, total);
        let mut scores: Vec<f64> = centered.iter().map(|row| dot(row, &axis)).collect();
        let farthest =
            scores.iter().copied().fold(0f64, |far, score| if score.abs() > far.abs() { score } else { far });
        if farthest < 0.0 {
            scores.iter_mut().for_each(|score| *score = -*score);
        }
        axes.push(axis);
        scores
    })
}

/// The unit vector of largest variance of the centered rows, orthogonal to `known`; zeros when there is none.
fn strongest_axis(centered: &[Vec<f64>], known: &[Vec<f64>], total: f64) -> Vec<f64> {
    let width = centered.first().map_or(0, Vec::len);
    let mut axis: Vec<f64> = (0..width).map(|column| (column as f64 + 1.0).sin()).collect();
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; width];
        for row in centered {
            let score = dot(row, &axis);
            next.iter_mut().zip(row).for_each(|(sum, value)| *sum += score * value);
        }
        for other in known {
            let along = dot(&next, other);
            next.iter_mut().zip(other).for_each(|(value, part)| *value -= along * part);
        }
        let length = dot(&next, &next).sqrt();
        if length <= 1e-12 * total {
            return vec![0.0; width];
        }
        next.iter_mut().for_each(|value| *value /= length);
        let turned = 1.0 - dot(&next, &axis).abs();
        axis = next;
        if turned.abs() < 1e-12 {
            break;
        }
    }
    axis
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_the_axes_in_order_of_their_spread() {
        // Rows made of three orthogonal directions with spreads 9, 4 and 1; the mean is not zero.
        let axes = [[0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0.5, 0.5, -0.5, -0.5]];
        let weights = |i: usize| [9.0 * (i as f64 * 1.7).cos(), 4.0 * (i as f64 * 2.9).cos(), (i as f64 * 4.3).cos()];
        let row = |i: usize| -> Vec<f32> {
            (0..4).map(|c| (7.0 + (0..3).map(|k| weights(i)[k] * axes[k][c]).sum::<f64>()) as f32).collect()
        };
        let rows: Vec<Vec<f32>> = (0..500).map(row).collect();
        let scores = principal_components(&rows);
        for (k, scores) in scores.iter().enumerate() {
            let truth: Vec<f64> = (0..500).map(|i| weights(i)[k]).collect();
            let mean = truth.iter().sum::<f64>() / 500.0;
            let truth: Vec<f64> = truth.iter().map(|w| w - mean).collect();
            let cosine = dot(scores, &truth) / (dot(scores, scores) * dot(&truth, &truth)).sqrt();
            assert!(cosine.abs() > 0.999, "component {k}: {cosine}");
            let farthest = scores.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
            assert!(farthest > 0.0);
        }
    }

    #[test]
    fn rows_that_do_not_differ_have_no_components() {
        let scores = principal_components(&vec![vec![1.0, 2.0]; 5]);
        assert!(scores.iter().flatten().all(|score| *score == 0.0));
        // Two directions at most in two columns.
        let scores = principal_components(&[vec![1.0, 0.0], vec![0.0, 2.0], vec![3.0, 1.0]]);
        assert!(scores[0].iter().any(|s| *s != 0.0) && scores[2].iter().all(|score| score.abs() < 1e-6));
    }
}

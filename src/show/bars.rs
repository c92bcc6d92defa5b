//! Bars and histograms. Bars are horizontal, so that names of any length can be read.

use super::axis::{self, Axis, LABEL, MARGIN, Plane};
use super::color::{self, AXIS, INK, QUIET};
use super::figure::{Figure, Labels};
use super::font;
use super::scene::{Anchor, Scene};
use super::units;
use crate::error;
use crate::error::Result;

const ROW: f64 = 30.0;

impl Figure {
    /// One bar per name, in the order given, with its value at its end. A value that is not finite is written but has no
    /// bar. Errors: no bars.
    pub fn bar(bars: &[(String, f64)], labels: &Labels) -> Result<Figure> {
        if bars.is_empty() {
            return Err(error!(Data, "nothing to draw: no bars"));
        }
        let mut scene = Scene { width: axis::WIDTH, height: axis::HEIGHT, items: Vec::new() };
        let mut top = axis::heading(&mut scene, &labels.title, &[]);
        if !labels.y.is_empty() {
            scene.text((MARGIN, top + LABEL), &labels.y, LABEL, QUIET, Anchor::Start);
            top += LABEL * 1.9;
        }
        let (low, high) = axis::range(bars.iter().map(|bar| bar.1).chain([0.0])).unwrap_or((0.0, 0.0));
        let span = if high > low { high - low } else { 1.0 };
        let widest = bars.iter().map(|bar| font::width(&bar.0, LABEL, false)).fold(0.0, f64::max);
        let names = widest.min(scene.width * 0.4);
        let value = bars.iter().map(|bar| font::width(&written(bar.1), LABEL, false)).fold(0.0, f64::max) + 8.0;
        // The values of bars that point left are written to the left of them.
        let left = MARGIN + names + 10.0 + if low < 0.0 { value } else { 0.0 };
        let reach = scene.width - MARGIN - value - left;
        let zero = left + reach * (-low / span);
        for (i, (name, size)) in bars.iter().enumerate() {
            let middle = top + ROW * (i as f64 + 0.5);
            let baseline = middle + LABEL * 0.36;
            scene.text((MARGIN + names, baseline), &font::cut(name, LABEL, names), LABEL, INK, Anchor::End);
            let length = if size.is_finite() { reach * size / span } else { 0.0 };
            let start = zero + length.min(0.0);
            scene.rect((start, middle - ROW * 0.34), (length.abs(), ROW * 0.68), color::series(0));
            let (at, anchor) =
                if length < 0.0 { (zero + length - 6.0, Anchor::End) } else { (zero + length + 6.0, Anchor::Start) };
            scene.text((at, baseline), &written(*size), LABEL, INK, anchor);
        }
        let bottom = top + ROW * bars.len() as f64;
        scene.line(vec![(zero, top), (zero, bottom)], AXIS, 1.0);
        scene.height = bottom + MARGIN;
        if !labels.x.is_empty() {
            scene.text((left + reach / 2.0, bottom + LABEL * 1.6), &labels.x, LABEL, QUIET, Anchor::Middle);
            scene.height += LABEL * 1.4;
        }
        let title = if labels.title.is_empty() { "bar" } else { &labels.title };
        Ok(Figure { scene, about: format!("{title}, {} bars", bars.len()) })
    }

    /// How often values fall into equal bins (one per integer when the values are few integers). Values that are not finite
    /// are left out and counted in the label. Errors: no finite value.
    pub fn hist(values: &[f64], labels: &Labels) -> Result<Figure> {
        let mut finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        if finite.is_empty() {
            return Err(error!(Data, "nothing to draw: {} values, none of them finite", values.len()));
        }
        finite.sort_by(f64::total_cmp);
        let (start, step, counts) = bins(&finite);
        let end = start + step * counts.len() as f64;

        let mut scene = Scene { width: axis::WIDTH, height: axis::HEIGHT, items: Vec::new() };
        let top = axis::heading(&mut scene, &labels.title, &[]);
        let most = counts.iter().copied().max().unwrap_or(1);
        let x = Axis::new((start, end), false, 0.015, 8, finite.iter().all(|value| value.fract() == 0.0));
        let y = Axis::new((0.0, most as f64), false, 0.05, 5, true).from(0.0);
        let left_out = values.len() - finite.len();
        let x_label = match left_out {
            0 => labels.x.clone(),
            n => format!("{} ({n} not finite)", labels.x).trim().to_string(),
        };
        let y_label = if labels.y.is_empty() { "count" } else { &labels.y };
        let plane = Plane::frame(&mut scene, top, (&x, &x_label), (&y, y_label));
        for (i, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let from = plane.point(x.place(start + step * i as f64), y.place(*count as f64));
            let to = plane.point(x.place(start + step * (i + 1) as f64), 0.0);
            // A thin line of background between two bins.
            scene.rect((from.0 + 0.5, from.1), (to.0 - from.0 - 1.0, to.1 - from.1), color::series(0));
        }
        scene.line(vec![(plane.left, plane.bottom), (plane.right, plane.bottom)], AXIS, 1.0);
        let title = if labels.title.is_empty() { "hist" } else { &labels.title };
        Ok(Figure { scene, about: format!("{title}, {} values", values.len()) })
    }
}

/// A number with the typographic minus sign that the ticks have.
fn written(value: f64) -> String {
    units::number(value).replace('-', "\u{2212}")
}

/// `(start, width, counts)` of the bins over sorted values: Freedman and Diaconis' width, between 10 and 60 bins.
fn bins(sorted: &[f64]) -> (f64, f64, Vec<usize>) {
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let span = high - low;
    let (start, step, n) = if sorted.iter().all(|value| value.fract() == 0.0) && span < 60.0 {
        (low - 0.5, 1.0, span as usize + 1)
    } else if span <= 0.0 {
        let step = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        (low - step / 2.0, step, 1)
    } else {
        let quantile = |q: f64| sorted[(q * (sorted.len() - 1) as f64) as usize];
        let ideal = 2.0 * (quantile(0.75) - quantile(0.25)) / (sorted.len() as f64).cbrt();
        let wanted = if ideal > 0.0 { span / ideal } else { (sorted.len() as f64).sqrt() };
        let n = wanted.ceil().clamp(10.0, 60.0) as usize;
        (low, span / n as f64, n)
    };
    let mut counts = vec![0; n];
    for value in sorted {
        counts[(((value - start) / step) as usize).min(n - 1)] += 1;
    }
    (start, step, counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin() {
        let mut noise: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 12.9898).sin() * 3.0).collect();
        noise.sort_by(f64::total_cmp);
        let (_, _, counts) = bins(&noise);
        assert_eq!(counts.iter().sum::<usize>(), 1000);
        assert!((10..=60).contains(&counts.len()));
        assert_eq!(bins(&[0.0, 1.0, 1.0, 3.0]), (-0.5, 1.0, vec![1, 2, 0, 1]));
        assert_eq!(bins(&[0.25; 7]).2, vec![7]);
    }

    #[test]
    fn empty_data_is_an_error() {
        assert!(Figure::bar(&[], &Labels::default()).is_err());
        assert!(Figure::hist(&[f64::NAN], &Labels::default()).is_err());
        assert!(Figure::bar(&[("a".into(), f64::NAN)], &Labels::default()).is_ok());
    }
}

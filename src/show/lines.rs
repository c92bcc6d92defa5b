//! Line charts. Long noisy series (losses) are drawn twice: every value faintly, and a local linear fit on top.

use super::axis::{self, Axis, Plane};
use super::color;
use super::figure::{Chart, Figure, LinePlot};
use super::scene::{Item, Scene};
use crate::error;
use crate::error::Result;

/// Series longer than this are smoothed.
const NOISY: usize = 100;
/// More points than this are reduced to the extremes of each pixel column.
const DENSE: usize = 4000;

/// The y at which a chart starts, below a title and one row of legend.
const USUAL_TOP: f64 = 75.0;

type Points = Vec<(f64, f64)>;

/// A line per series over 1, 2, 3, ...
pub(super) fn chart(chart: Chart) -> Result<Figure> {
    let points = |values: Vec<f64>| values.into_iter().enumerate().map(|(i, y)| (i as f64 + 1.0, y)).collect();
    let series = chart.series.into_iter().map(|(name, values)| (name, points(values))).collect();
    Figure::line(LinePlot { series, ..LinePlot::default() })
}

impl Figure {
    /// Lines through the points of each series, in the order given. A value that is not finite (or not positive when `log`)
    /// breaks its line. Errors: nothing to draw.
    pub fn line(plot: LinePlot) -> Result<Figure> {
        Figure::line_of(plot, (axis::WIDTH, axis::HEIGHT))
    }

    /// The same with a page of the given width and height.
    pub fn line_of(plot: LinePlot, (width, height): (f64, f64)) -> Result<Figure> {
        let usable = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!plot.log || y > 0.0);
        let points = || plot.series.iter().flat_map(|(_, points)| points.iter().copied().filter(usable));
        let (Some(xs), Some(ys)) = (axis::range(points().map(|p| p.0)), axis::range(points().map(|p| p.1))) else {
            let wanted = if plot.log { "finite positive values" } else { "finite values" };
            return Err(error!(Data, "nothing to plot: {} series without {wanted}", plot.series.len()));
        };
        let whole = points().all(|(x, _)| x.fract() == 0.0);

        let mut scene = Scene { width, height, items: Vec::new() };
        let named = |(i, (name, _)): (usize, &(String, Points))| (name.clone(), color::series(i));
        let legend: Vec<_> = plot.series.iter().enumerate().map(named).collect();
        let top = axis::heading(&mut scene, &plot.title, &legend);
        // A long legend makes the page taller, not the chart smaller.
        scene.height += (top - USUAL_TOP).max(0.0).ceil();
        let x = Axis::new(xs, false, 0.015, 7, whole);
        let y = y_axis(ys, plot.log);
        let plane = Plane::frame(&mut scene, top, (&x, &plot.x), (&y, &plot.y));

        let place = |points: &[(f64, f64)]| -> Points {
            points.iter().map(|p| plane.point(x.place(p.0), y.place(p.1))).collect()
        };
        let mut strong = Scene::default();
        for (i, (_, points)) in plot.series.iter().enumerate() {
            let hue = color::series(i);
            let noisy = points.len() > NOISY && is_noisy(points);
            for run in points.split(|point| !usable(point)).filter(|run| !run.is_empty()) {
                let curve = if noisy {
                    scene.line(thinned(place(run), plane.left, plane.right), color::faint(hue, 0.28), 1.0);
                    place(&smoothed(run, plot.log))
                } else {
                    place(run)
                };
                // Dots where values are far apart, and where a value has no neighbor to be joined to.
                if points.len() <= 30 || run.len() == 1 {
                    strong.items.extend(curve.iter().map(|&(x, y)| Item::Dot { x, y, radius: 3.0, color: hue }));
                }
                if run.len() > 1 {
                    strong.line(thinned(curve, plane.left, plane.right), hue, 2.0);
                }
            }
        }
        scene.items.append(&mut strong.items);
        let title = if plot.title.is_empty() { "line" } else { &plot.title };
        Ok(Figure { scene, about: format!("{title}, {} series", plot.series.len()) })
    }
}

/// From zero when the values come close to it, else around the values.
fn y_axis((low, high): (f64, f64), log: bool) -> Axis {
    let axis = Axis::new((low, high), log, 0.05, 5, false);
    let near_zero = !log && low >= 0.0 && high > 0.0 && low < 0.3 * (high - low);
    if near_zero { Axis::new((0.0, high), false, 0.05, 5, false).from(0.0) } else { axis }
}

/// Whether the series changes direction so often that its trend is hard to see; learning rates and cumulated counts do not.
fn is_noisy(points: &[(f64, f64)]) -> bool {
    let turns = |w: &&[(f64, f64)]| (w[1].1 - w[0].1) * (w[2].1 - w[1].1) < 0.0;
    points.windows(3).filter(turns).count() * 5 > points.len()
}

/// At each point the value of the straight line fitted to the window around it, which keeps slopes and is not biased at the
/// ends; the fit is to the logarithms on a logarithmic axis.
fn smoothed(points: &[(f64, f64)], log: bool) -> Points {
    let reach = (points.len() / 30).max(4);
    // Running sums of y and of index * y.
    let mut sums = vec![(0.0, 0.0)];
    for (i, (_, y)) in points.iter().enumerate() {
        let y = if log { y.ln() } else { *y };
        sums.push((sums[i].0 + y, sums[i].1 + i as f64 * y));
    }
    let fit = |i: usize| {
        let (from, to) = (i.saturating_sub(reach), (i + reach + 1).min(points.len()));
        let n = (to - from) as f64;
        let middle = (from + to - 1) as f64 / 2.0;
        let mean = (sums[to].0 - sums[from].0) / n;
        // The sum of squared distances of n successive integers from their mean.
        let spread = (n * (n * n - 1.0) / 12.0).max(1.0);
        let slope = (sums[to].1 - sums[from].1 - middle * mean * n) / spread;
        let value = mean + slope * (i as f64 - middle);
        (points[i].0, if log { value.exp() } else { value })
    };
    (0..points.len()).map(fit).collect()
}

/// Reduces too many points to the first, lowest, highest and last of each half pixel.
fn thinned(places: Points, left: f64, right: f64) -> Points {
    if places.len() <= DENSE {
        return places;
    }
    let column = |x: f64| ((x - left).clamp(0.0, right - left) * 2.0) as i64;
    let mut kept = Vec::new();
    for group in places.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let by_height = |a: &usize, b: &usize| group[*a].1.total_cmp(&group[*b].1);
        let extremes = [(0..group.len()).min_by(by_height), (0..group.len()).max_by(by_height)];
        let mut picked = vec![0, group.len() - 1];
        picked.extend(extremes.into_iter().flatten());
        picked.sort_unstable();
        picked.dedup();
        kept.extend(picked.into_iter().map(|i| group[i]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_slope_and_flattens_noise() {
        let slope: Points = (0..200).map(|i| (f64::from(i), 3.0 * f64::from(i) + 1.0)).collect();
        for (before, after) in slope.iter().zip(smoothed(&slope, false)) {
            assert!((before.1 - after.1).abs() < 1e-6);
        }
        let noise: Points = (0..200).map(|i| (f64::from(i), 2.0 + f64::from(i % 2))).collect();
        assert!(is_noisy(&noise) && !is_noisy(&slope));
        assert!(smoothed(&noise, false)[20..180].iter().all(|p| (p.1 - 2.5).abs() < 0.06));
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let mut places: Points = (0..20_000).map(|i| (f64::from(i) / 40.0, 10.0)).collect();
        places[7_777].1 = 99.0;
        let kept = thinned(places, 0.0, 500.0);
        assert!(kept.len() < 4_100, "{}", kept.len());
        assert!(kept.iter().any(|p| p.1 == 99.0));
    }

    #[test]
    fn nothing_finite_is_an_error() {
        let plot = |ys: &[f64], log| LinePlot {
            series: vec![("loss".into(), ys.iter().map(|y| (0.0, *y)).collect())],
            log,
            ..LinePlot::default()
        };
        assert!(Figure::line(plot(&[], false)).is_err());
        assert!(Figure::line(plot(&[f64::NAN], false)).is_err());
        assert!(Figure::line(plot(&[-1.0, 0.0], true)).is_err());
        assert!(Figure::line(plot(&[f64::NAN, 1.0, f64::INFINITY], true)).is_ok());
    }
}

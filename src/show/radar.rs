//! Radar charts: one spoke per value, one closed line per series. All spokes share one scale, and its rings are labeled:
//! when the values are close together the center is not zero, and the innermost ring shows its value.

use std::f64::consts::TAU;

use super::axis::{self, LABEL, MARGIN};
use super::color::{self, AXIS, Color, GRID, INK, PAPER, QUIET};
use super::figure::{Chart, Figure};
use super::font;
use super::scene::{Anchor, Item, Scene};
use super::units;
use crate::error;
use crate::error::Result;

const RADIUS: f64 = 165.0;
/// The number of rings to aim for between the center and the rim.
const RINGS: f64 = 4.0;

/// With more series than this the areas are not filled: overlapping colors become unreadable.
const FILLED: usize = 2;

/// Named series with one value per axis; a value that is not finite breaks its line. Empty texts are left out.
#[derive(Clone, Debug, Default)]
pub struct Radar {
    pub axes: Vec<String>,
    pub series: Vec<(String, Vec<f64>)>,
    pub title: String,
    /// The quantity and its unit.
    pub note: String,
}

/// The scale that all spokes share.
struct Scale {
    low: f64,
    step: f64,
    rings: usize,
}

/// A radar chart with a spoke per position.
pub(super) fn chart(chart: Chart) -> Result<Figure> {
    Figure::radar(&Radar { axes: chart.positions(), series: chart.series, ..Radar::default() })
}

impl Figure {
    /// A radar chart. Errors: fewer than three axes, series of another length, no finite value.
    pub fn radar(chart: &Radar) -> Result<Figure> {
        let n = chart.axes.len();
        if n < 3 {
            return Err(error!(Data, "a radar chart needs three axes or more, there are {n}"));
        }
        if let Some((name, values)) = chart.series.iter().find(|(_, values)| values.len() != n) {
            return Err(error!(Shape, "series `{name}` has {} values for {n} axes", values.len()));
        }
        let values = chart.series.iter().flat_map(|(_, values)| values.iter().copied());
        let Some(range) = axis::range(values) else {
            return Err(error!(Data, "nothing to draw: {} series without finite values", chart.series.len()));
        };
        let scale = Scale::over(range);
        let mut scene = Scene { width: axis::WIDTH, height: axis::HEIGHT, items: Vec::new() };
        let legend: Vec<(String, Color)> =
            chart.series.iter().enumerate().map(|(i, (name, _))| (name.clone(), color::series(i))).collect();
        let top = axis::heading(&mut scene, &chart.title, &legend);
        let center = (scene.width / 2.0, top + LABEL * 2.4 + RADIUS);
        let at = |spoke: usize, radius: f64| {
            let angle = TAU * spoke as f64 / n as f64;
            (center.0 + radius * angle.sin(), center.1 - radius * angle.cos())
        };
        web(&mut scene, &scale, n, &at);
        for (spoke, name) in chart.axes.iter().enumerate() {
            label(&mut scene, name, spoke as f64 / n as f64, at(spoke, RADIUS + 10.0));
        }
        let mut lines = Scene::default();
        for (i, (_, values)) in chart.series.iter().enumerate() {
            let hue = color::series(i);
            let corner = |spoke: usize| at(spoke % n, RADIUS * scale.place(values[spoke % n]));
            if chart.series.len() <= FILLED && values.iter().all(|value| value.is_finite()) {
                let points: Vec<_> = (0..n).map(corner).collect();
                scene.items.push(Item::Area { points, color: hue, strength: 0.1 });
            }
            for spoke in 0..n {
                if values[spoke].is_finite() && values[(spoke + 1) % n].is_finite() {
                    lines.line(vec![corner(spoke), corner(spoke + 1)], hue, 2.0);
                }
            }
            let dots = (0..n).filter(|spoke| values[*spoke].is_finite());
            lines.items.extend(dots.map(corner).map(|(x, y)| Item::Dot { x, y, radius: 3.0, color: hue }));
        }
        numbers(&mut scene, &scale, &at);
        scene.items.append(&mut lines.items);
        let lowest = (0..n).map(|spoke| at(spoke, RADIUS).1).fold(center.1, f64::max);
        scene.height = lowest + LABEL * 2.6 + MARGIN * 0.5;
        if !chart.note.is_empty() {
            scene.text((MARGIN, scene.height - MARGIN * 0.5), &chart.note, LABEL, QUIET, Anchor::Start);
            scene.height += LABEL * 0.6;
        }
        let title = if chart.title.is_empty() { "radar" } else { &chart.title };
        Ok(Figure { scene, about: format!("{title}, {} series on {n} axes", chart.series.len()) })
    }
}

impl Scale {
    /// Rings at round numbers from zero to the largest value; from below the smallest one when all values are far from zero.
    fn over((low, high): (f64, f64)) -> Self {
        let far = low > 0.6 * high && low > 0.0;
        let start = if far { (low - 0.6 * (high - low).max(0.05 * high)).max(0.0) } else { low.min(0.0) };
        let rough = ((high - start) / RINGS).max(1e-9);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= rough * 0.999);
        let step = step.unwrap_or(10.0 * power);
        let low = (start / step).floor() * step;
        let rings = (((high - low) / step) - 1e-9).ceil().max(1.0) as usize;
        Scale { low, step, rings }
    }

    fn ring(&self, number: usize) -> f64 {
        self.low + self.step * number as f64
    }

    /// The relative distance from the center: 0 in the center, 1 on the rim.
    fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.step * self.rings as f64)
    }
}

/// Spokes and rings.
fn web(scene: &mut Scene, scale: &Scale, n: usize, at: &dyn Fn(usize, f64) -> (f64, f64)) {
    for ring in 1..=scale.rings {
        let radius = RADIUS * ring as f64 / scale.rings as f64;
        let corners: Vec<_> = (0..=n).map(|spoke| at(spoke % n, radius)).collect();
        let (color, width) = if ring == scale.rings { (AXIS, 1.2) } else { (GRID, 1.0) };
        corners.windows(2).for_each(|side| scene.line(side.to_vec(), color, width));
    }
    (0..n).for_each(|spoke| scene.line(vec![at(spoke, 0.0), at(spoke, RADIUS)], GRID, 1.0));
}

/// The labels of the rings, along the first spoke.
fn numbers(scene: &mut Scene, scale: &Scale, at: &dyn Fn(usize, f64) -> (f64, f64)) {
    for ring in 0..=scale.rings {
        let (x, y) = at(0, RADIUS * ring as f64 / scale.rings as f64);
        let text = units::number(scale.ring(ring)).replace('-', "\u{2212}");
        let (size, wide) = (LABEL * 0.88, font::width(&text, LABEL * 0.88, false));
        // Grid lines are drawn first, data over them.
        scene.rect((x - 8.0 - wide, y - size * 0.55), (wide + 4.0, size * 1.1), PAPER);
        scene.text((x - 6.0, y + size * 0.36), &text, size, QUIET, Anchor::End);
    }
}

/// A spoke's name outside the rim, aligned away from it; `turn` is the spoke's angle as a fraction of a full turn, 0 to 1.
fn label(scene: &mut Scene, name: &str, turn: f64, (x, y): (f64, f64)) {
    let (side, up) = ((TAU * turn).sin(), (TAU * turn).cos());
    let anchor = match side {
        side if side > 0.1 => Anchor::Start,
        side if side < -0.1 => Anchor::End,
        _ => Anchor::Middle,
    };
    let room = match anchor {
        Anchor::Middle => scene.width * 0.5,
        Anchor::Start => scene.width - MARGIN - x,
        Anchor::End => x - MARGIN,
    };
    // The baseline is above the point at the top, below it at the bottom.
    let baseline = y + LABEL * (0.36 - 0.5 * up);
    scene.text((x, baseline), &font::cut(name, LABEL, room), LABEL, INK, anchor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_round_and_hold_every_value() {
        let rings = |range| {
            let scale = Scale::over(range);
            (scale.ring(0), scale.ring(scale.rings), scale.rings)
        };
        assert_eq!(rings((0.0, 1.0)), (0.0, 1.0, 4));
        assert_eq!(rings((10.0, 83.0)), (0.0, 100.0, 4));
        let (low, high, _) = rings((78.0, 86.0));
        assert!(low > 60.0 && low <= 78.0 && (86.0..=90.0).contains(&high), "{low} {high}");
        for value in [3.0, 0.0, -2.0] {
            let scale = Scale::over((value, value));
            assert!((0.0..=1.0).contains(&scale.place(value)), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let radar = |axes: usize, values: &[f64]| Radar {
            axes: (0..axes).map(|i| format!("axis {i}")).collect(),
            series: vec![("a".to_string(), values.to_vec())],
            ..Radar::default()
        };
        assert!(Figure::radar(&radar(2, &[1.0, 2.0])).is_err());
        assert!(Figure::radar(&radar(3, &[1.0, 2.0])).is_err());
        assert!(Figure::radar(&radar(3, &[f64::NAN; 3])).is_err());
        let figure = Figure::radar(&radar(3, &[1.0, f64::NAN, 2.0])).unwrap();
        assert_eq!(figure.to_string().split(", ").next(), Some("Figure(radar"));
        assert!(figure.svg().unwrap().contains("axis 2"));
    }
}

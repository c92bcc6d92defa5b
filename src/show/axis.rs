//! Axes: positions and labels of ticks, and the frame of a chart (title, legend, grid, axis labels).
//! Grid lines are horizontal unless asked otherwise; the label of the y axis is written above it, not rotated.

use super::color::{AXIS, Color, GRID, INK, QUIET};
use super::font;
use super::scene::{Anchor, Scene};
use super::units;

pub(super) const WIDTH: f64 = 640.0;
pub(super) const HEIGHT: f64 = 360.0;
pub(super) const MARGIN: f64 = 20.0;
pub(super) const TITLE: f64 = 16.0;
pub(super) const LABEL: f64 = 12.0;

/// One direction of a chart: the range of values, linear or logarithmic, with its ticks.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis over `low..high` (both finite; positive when `log`), widened on both sides by `padding` of its length, with
    /// about `wanted` ticks; `whole` allows ticks at integers only.
    pub(super) fn new((low, high): (f64, f64), log: bool, padding: f64, wanted: usize, whole: bool) -> Self {
        let (low, high) = if log { (low.log10(), high.log10()) } else { (low, high) };
        let (low, high) = match high - low {
            span if span > 0.0 && span.is_finite() => (low - padding * span, high + padding * span),
            _ if log => (low - 0.5, high + 0.5),
            _ if low == 0.0 || whole => (low - 1.0, high + 1.0),
            _ => (low - 0.1 * low.abs(), high + 0.1 * high.abs()),
        };
        let ticks = if log { log_ticks(low, high, wanted) } else { Vec::new() };
        let ticks = if !ticks.is_empty() {
            ticks
        } else if log {
            let inside = linear_ticks(10f64.powf(low), 10f64.powf(high), wanted, false);
            inside.into_iter().filter(|tick| *tick > 0.0).collect()
        } else {
            linear_ticks(low, high, wanted, whole)
        };
        let texts = tick_texts(&ticks);
        Axis { low, high, log, ticks: ticks.into_iter().zip(texts).collect() }
    }

    /// The same axis starting exactly at `low`, for charts whose marks start at the axis.
    pub(super) fn from(mut self, low: f64) -> Self {
        self.low = low;
        self.ticks.retain(|(tick, _)| *tick >= low);
        self
    }

    /// The relative position of `value`: 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }
}

/// Multiples of 1, 2 or 5 times a power of ten within the range.
fn linear_ticks(low: f64, high: f64, wanted: usize, whole: bool) -> Vec<f64> {
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = match rough / power {
        ratio if ratio < 1.5 => 1.0,
        ratio if ratio < 3.5 => 2.0,
        ratio if ratio < 7.5 => 5.0,
        _ => 10.0,
    } * power;
    let step = if whole { step.max(1.0) } else { step };
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Powers of ten, with 2 and 5 or all digits between them where there are few; `low` and `high` are exponents. Empty when
/// the range holds fewer than three.
fn log_ticks(low: f64, high: f64, wanted: usize) -> Vec<f64> {
    let all = |mantissas: &[f64]| -> Vec<f64> {
        let decades = low.floor() as i32..=high.floor() as i32;
        let ticks = decades.flat_map(|decade| mantissas.iter().map(move |m| m * 10f64.powi(decade)));
        ticks.filter(|tick| (low - 1e-9..=high + 1e-9).contains(&tick.log10())).collect()
    };
    let sets: [&[f64]; 3] = [&[1.0], &[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]];
    let ticks = sets.iter().map(|set| all(set)).find(|ticks| ticks.len() >= 3).unwrap_or_default();
    let every = ticks.len().div_ceil(wanted.max(1) + 2).max(1);
    ticks.into_iter().step_by(every).collect()
}

/// The ticks in one notation, with the fewest decimals that distinguish them.
fn tick_texts(ticks: &[f64]) -> Vec<String> {
    let largest = ticks.iter().fold(0f64, |most, tick| most.max(tick.abs()));
    let steps = || ticks.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let step = steps().fold(f64::INFINITY, f64::min).min(largest);
    let signed = |text: String| text.replace('-', "\u{2212}");
    let even = steps().all(|other| other - step < 1e-6 * step);
    if !even || largest < 1e-3 {
        return ticks.iter().map(|tick| signed(units::number(*tick))).collect();
    }
    let (divisor, unit) = match largest {
        v if v >= 1e9 && step >= 1e6 => (1e9, " B"),
        v if v >= 1e6 && step >= 1e3 => (1e6, " M"),
        v if v >= 1e4 && step >= 100.0 => (1e3, " k"),
        _ => (1.0, ""),
    };
    let exact = |decimals: &i32| {
        let power = 10f64.powi(*decimals) / divisor;
        ticks.iter().all(|tick| (tick * power - (tick * power).round()).abs() < 1e-3 * step * power)
    };
    let decimals = (0..7).find(exact).unwrap_or(6) as usize;
    let write = |tick: &f64| match *tick {
        0.0 => "0".to_string(),
        tick => signed(format!("{:.decimals$}{unit}", tick / divisor)),
    };
    ticks.iter().map(write).collect()
}

/// The smallest and largest finite value; `None` when there is none.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.filter(|value| value.is_finite());
    finite.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// Draws the title and the legend (only for more than one entry) and returns the y below them.
pub(super) fn heading(scene: &mut Scene, title: &str, legend: &[(String, Color)]) -> f64 {
    let limit = scene.width - 2.0 * MARGIN;
    let mut y = MARGIN - 4.0;
    for line in font::wrap(title, TITLE * 1.06, limit, 2).iter().filter(|line| !line.is_empty()) {
        y += TITLE * 1.3;
        scene.heading((MARGIN, y), line, TITLE, INK);
    }
    if legend.len() > 1 {
        y += LABEL * 2.0;
        let mut x = MARGIN;
        for (name, color) in legend {
            let name = font::cut(name, LABEL, limit - 24.0);
            let wide = 24.0 + font::width(&name, LABEL, false);
            if x + wide > MARGIN + limit && x > MARGIN {
                x = MARGIN;
                y += LABEL * 1.6;
            }
            scene.line(vec![(x, y - LABEL * 0.36), (x + 16.0, y - LABEL * 0.36)], *color, 3.0);
            scene.text((x + 22.0, y), &name, LABEL, INK, Anchor::Start);
            x += wide + 18.0;
        }
    }
    y + LABEL
}

/// The rectangle a chart's marks are drawn in.
#[derive(Clone, Copy)]
pub(super) struct Plane {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Plane {
    /// Draws grid, ticks and axis labels below `top` and returns the rectangle between them.
    pub(super) fn frame(
        scene: &mut Scene,
        top: f64,
        (x, x_label): (&Axis, &str),
        (y, y_label): (&Axis, &str),
    ) -> Plane {
        let widest = y.ticks.iter().map(|(_, text)| font::width(text, LABEL, false)).fold(0.0, f64::max);
        let label_room = if y_label.is_empty() { 4.0 } else { LABEL * 1.9 };
        let below = if x_label.is_empty() { 0.0 } else { LABEL * 1.7 };
        let plane = Plane {
            left: MARGIN + widest + 8.0,
            top: top + label_room,
            right: scene.width - MARGIN - 4.0,
            bottom: scene.height - MARGIN - LABEL * 1.1 - below,
        };
        if !y_label.is_empty() {
            scene.text(
                (MARGIN, top + LABEL),
                &font::cut(y_label, LABEL, scene.width - 2.0 * MARGIN),
                LABEL,
                QUIET,
                Anchor::Start,
            );
        }
        for (value, text) in &y.ticks {
            let (_, at) = plane.point(0.0, y.place(*value));
            scene.line(vec![(plane.left, at), (plane.right, at)], GRID, 1.0);
            scene.text((plane.left - 8.0, at + LABEL * 0.36), text, LABEL, QUIET, Anchor::End);
        }
        scene.line(vec![(plane.left, plane.bottom), (plane.right, plane.bottom)], AXIS, 1.0);
        let mut free = f64::NEG_INFINITY;
        for (value, text) in &x.ticks {
            let (at, _) = plane.point(x.place(*value), 0.0);
            scene.line(vec![(at, plane.bottom), (at, plane.bottom + 4.0)], AXIS, 1.0);
            let half = font::width(text, LABEL, false) / 2.0;
            if at - half > free && at + half < scene.width - 2.0 {
                scene.text((at, plane.bottom + LABEL * 1.5), text, LABEL, QUIET, Anchor::Middle);
                free = at + half + 8.0;
            }
        }
        if !x_label.is_empty() {
            let label = font::cut(x_label, LABEL, plane.right - plane.left);
            let middle = (plane.left + plane.right) / 2.0;
            scene.text((middle, scene.height - MARGIN + 2.0), &label, LABEL, QUIET, Anchor::Middle);
        }
        plane
    }

    /// The point, in logical pixels, at a relative position (0..1) on both axes.
    pub(super) fn point(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + x * (self.right - self.left), self.bottom - y * (self.bottom - self.top))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(range: (f64, f64), log: bool, wanted: usize, whole: bool) -> String {
        let axis = Axis::new(range, log, 0.0, wanted, whole);
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_and_told_apart() {
        assert_eq!(texts((0.0, 1.0), false, 5, false), "0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(texts((0.0, 5198.0), false, 6, true), "0 1000 2000 3000 4000 5000");
        assert_eq!(texts((1.0, 3.0), false, 6, true), "1 2 3");
        assert_eq!(texts((0.0, 60_000.0), false, 4, true), "0 20 k 40 k 60 k");
        assert_eq!(
            texts((-2e-5, 2e-5), false, 4, false),
            "\u{2212}2e\u{2212}5 \u{2212}1e\u{2212}5 0 1e\u{2212}5 2e\u{2212}5"
        );
        assert_eq!(texts((0.0, 4e-8), false, 4, false), "0 1e\u{2212}8 2e\u{2212}8 3e\u{2212}8 4e\u{2212}8");
    }

    #[test]
    fn log_ticks_fill_short_ranges() {
        assert_eq!(texts((0.01, 100.0), true, 5, false), "0.01 0.1 1 10 100");
        assert_eq!(texts((0.5, 8.0), true, 5, false), "0.5 1 2 5");
        assert_eq!(texts((1e-6, 1e6), true, 5, false), "1e\u{2212}6 1e\u{2212}4 0.01 1 100 10,000 1e6");
        assert_eq!(texts((1.0, 1.2), true, 4, false), "1.00 1.05 1.10 1.15 1.20");
    }

    #[test]
    fn a_single_value_gets_an_axis_around_it() {
        for (value, log) in [(0.0, false), (3.5, false), (-2.0, false), (0.2, true)] {
            let axis = Axis::new((value, value), log, 0.05, 5, false);
            assert!((axis.place(value) - 0.5).abs() < 1e-9, "{value}: {axis:?}");
            assert!(!axis.ticks.is_empty(), "{value}");
        }
    }
}

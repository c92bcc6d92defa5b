//! Horizontal bars in groups, with confidence intervals: one color per series.

use super::axis::{self, Axis, LABEL, MARGIN};
use super::color::{self, AXIS, Color, GRID, INK, QUIET};
use super::figure::{Chart, Figure};
use super::font;
use super::scene::{Anchor, Scene};
use super::units;
use crate::error;
use crate::error::Result;

/// Heights of a bar, of the gap between two bars, and of the gap between two groups.
const BAR: f64 = 14.0;
const GAP: f64 = 4.0;
const BETWEEN: f64 = 14.0;

/// A bar: its value and the interval of that value.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    pub value: f64,
    pub interval: Option<(f64, f64)>,
}

/// Groups of bars; every group has one position per series, empty where there is no bar. Empty texts are left out.
#[derive(Clone, Debug, Default)]
pub struct GroupedBars {
    pub groups: Vec<(String, Vec<Option<Bar>>)>,
    pub series: Vec<String>,
    pub title: String,
    /// The quantity and its unit, written at the axis.
    pub x: String,
}

/// Bars without intervals, in one group per position.
pub(super) fn chart(chart: Chart) -> Result<Figure> {
    let bar = |position: usize, values: &[f64]| {
        let value = values.get(position).copied().filter(|value| value.is_finite());
        value.map(|value| Bar { value, interval: None })
    };
    let group = |(position, name): (usize, String)| {
        (name, chart.series.iter().map(|(_, values)| bar(position, values)).collect())
    };
    let groups = chart.positions().into_iter().enumerate().map(group).collect();
    let series = chart.series.iter().map(|(name, _)| name.clone()).collect();
    Figure::grouped_bars(&GroupedBars { groups, series, ..GroupedBars::default() })
}

impl Figure {
    /// A chart of grouped bars, each with its value and its interval. Errors: no finite value.
    pub fn grouped_bars(chart: &GroupedBars) -> Result<Figure> {
        let bars = || chart.groups.iter().flat_map(|(_, bars)| bars.iter().flatten());
        if !bars().any(|bar| bar.value.is_finite()) {
            return Err(error!(Data, "nothing to draw: no bar has a finite value"));
        }
        let ends = |bar: &Bar| bar.interval.map_or([bar.value; 3], |(low, high)| [low, bar.value, high]);
        let (low, high) = axis::range(bars().flat_map(ends).chain([0.0])).unwrap_or((0.0, 1.0));

        let mut scene = Scene { width: axis::WIDTH, height: axis::HEIGHT, items: Vec::new() };
        let legend: Vec<(String, Color)> =
            chart.series.iter().enumerate().map(|(i, name)| (name.clone(), color::series(i))).collect();
        let top = axis::heading(&mut scene, &chart.title, &legend) + 6.0;
        let names = chart.groups.iter().map(|(name, _)| font::width(name, LABEL, false)).fold(0.0, f64::max);
        let names = names.min(scene.width * 0.35);
        let texts = bars().map(|bar| font::width(&written(bar.value), LABEL, false)).fold(0.0, f64::max) + 10.0;
        let left = MARGIN + names + 12.0 + if low < 0.0 { texts } else { 0.0 };
        let right = scene.width - MARGIN - texts;
        let x = Axis::new((low, high), false, 0.0, 6, false);
        let place = |value: f64| left + x.place(value) * (right - left);

        let height = |bars: usize| bars as f64 * BAR + bars.saturating_sub(1) as f64 * GAP;
        let count = |(_, bars): &(String, Vec<Option<Bar>>)| bars.len().max(1);
        let total: f64 = chart.groups.iter().map(|group| height(count(group)) + BETWEEN).sum();
        let bottom = top + total;
        for (value, text) in &x.ticks {
            let at = place(*value);
            scene.line(vec![(at, top), (at, bottom)], GRID, 1.0);
            scene.text((at, bottom + LABEL * 1.4), text, LABEL, QUIET, Anchor::Middle);
        }
        let mut y = top + BETWEEN / 2.0;
        for group in &chart.groups {
            let tall = height(count(group));
            let middle = y + tall / 2.0 + LABEL * 0.36;
            scene.text((MARGIN + names, middle), &font::cut(&group.0, LABEL, names), LABEL, INK, Anchor::End);
            for (i, bar) in group.1.iter().enumerate() {
                let row = y + i as f64 * (BAR + GAP);
                if let Some(bar) = bar.filter(|bar| bar.value.is_finite()) {
                    draw(&mut scene, bar, color::series(i), row, &place);
                }
            }
            y += tall + BETWEEN;
        }
        scene.line(vec![(place(0.0), top), (place(0.0), bottom)], AXIS, 1.0);
        scene.height = bottom + LABEL * 1.8 + MARGIN * 0.6;
        if !chart.x.is_empty() {
            scene.text(((left + right) / 2.0, bottom + LABEL * 3.0), &chart.x, LABEL, QUIET, Anchor::Middle);
            scene.height += LABEL * 1.6;
        }
        let title = if chart.title.is_empty() { "bars" } else { &chart.title };
        Ok(Figure { scene, about: format!("{title}, {} bars", chart.groups.len() * chart.series.len()) })
    }
}

/// A bar with its interval as a line across its end, and its value to the right of both.
fn draw(scene: &mut Scene, bar: Bar, hue: Color, top: f64, place: &dyn Fn(f64) -> f64) {
    let (zero, end, middle) = (place(0.0), place(bar.value), top + BAR / 2.0);
    scene.rect((zero.min(end), top), ((end - zero).abs(), BAR), hue);
    let mut beyond = end;
    if let Some((low, high)) = bar.interval.filter(|(low, high)| low.is_finite() && high.is_finite()) {
        let (from, to) = (place(low), place(high));
        // Visible on the bar and on the background.
        scene.line(vec![(from, middle), (to, middle)], INK, 1.4);
        for end in [from, to] {
            scene.line(vec![(end, middle - 3.5), (end, middle + 3.5)], INK, 1.4);
        }
        beyond = if bar.value < 0.0 { beyond.min(from) } else { beyond.max(to) };
    }
    let (at, anchor) = if bar.value < 0.0 { (beyond - 6.0, Anchor::End) } else { (beyond + 6.0, Anchor::Start) };
    scene.text((at, middle + LABEL * 0.36), &written(bar.value), LABEL, INK, anchor);
}

/// A value with one decimal when it is in the range of percentages, else as numbers are written elsewhere.
fn written(value: f64) -> String {
    let text = if (1.0..1000.0).contains(&value.abs()) { format!("{value:.1}") } else { units::number(value) };
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_make_the_page_taller_and_gaps_are_allowed() {
        let bar = |value: f64| Some(Bar { value, interval: Some((value - 2.0, value + 2.0)) });
        let chart = |n: usize| GroupedBars {
            groups: (0..n).map(|i| (format!("b{i}"), vec![bar(40.0), None, bar(60.0)])).collect(),
            series: vec!["a".into(), "b".into(), "c".into()],
            ..GroupedBars::default()
        };
        let (one, three) = (Figure::grouped_bars(&chart(1)).unwrap(), Figure::grouped_bars(&chart(3)).unwrap());
        assert!(three.size().1 > one.size().1);
        assert!(three.svg().unwrap().contains("60.0"));
        assert!(Figure::grouped_bars(&GroupedBars::default()).is_err());
        let empty = GroupedBars { groups: vec![("b".into(), vec![None])], ..GroupedBars::default() };
        assert!(Figure::grouped_bars(&empty).is_err());
    }
}

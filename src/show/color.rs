//! The colors of figures: a palette that color-blind readers can distinguish (Okabe and Ito), grays for what is not data,
//! and two color scales for maps.

/// Red, green, blue.
pub(super) type Color = [u8; 3];

pub(super) const INK: Color = [0x22, 0x26, 0x2b];
pub(super) const QUIET: Color = [0x5b, 0x63, 0x6d];
pub(super) const AXIS: Color = [0x9a, 0xa2, 0xab];
pub(super) const GRID: Color = [0xe6, 0xe9, 0xed];
pub(super) const MISSING: Color = [0xd5, 0xd8, 0xdc];
pub(super) const PAPER: Color = [0xff, 0xff, 0xff];
pub(super) const RIGHT: Color = [0x00, 0x8a, 0x65];
pub(super) const WRONG: Color = [0xc8, 0x4e, 0x00];

const SERIES: [Color; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0xe6, 0x9f, 0x00],
    [0x56, 0xb4, 0xe9],
    [0x5b, 0x63, 0x6d],
];

/// The color of the i-th series; the seven colors are repeated in a darker shade, then from the start.
pub(super) fn series(i: usize) -> Color {
    let color = SERIES[i % SERIES.len()];
    if (i / SERIES.len()).is_multiple_of(2) { color } else { mix(color, INK, 0.55) }
}

/// `color` mixed with white: `strength` 1 is the color, 0 white.
pub(super) fn faint(color: Color, strength: f64) -> Color {
    mix(PAPER, color, strength)
}

fn mix(from: Color, to: Color, t: f64) -> Color {
    std::array::from_fn(|c| (f64::from(from[c]) + t * (f64::from(to[c]) - f64::from(from[c]))).round() as u8)
}

/// `INK`, `QUIET`, `AXIS`, `GRID`, ... for a dark background; the last one is the background.
const GRAYS: [(Color, Color); 6] = [
    (INK, [0xe6, 0xe9, 0xed]),
    (QUIET, [0xa3, 0xac, 0xb6]),
    (AXIS, [0x6b, 0x74, 0x7e]),
    (GRID, [0x2e, 0x34, 0x3b]),
    (MISSING, [0x4a, 0x52, 0x5b]),
    (PAPER, [0x1b, 0x1f, 0x24]),
];

/// `SERIES`, `RIGHT` and `WRONG` for a dark background: lighter, the same hues.
const NIGHT_SERIES: [Color; 9] = [
    [0x4d, 0x9f, 0xe3],
    [0xff, 0x8a, 0x3d],
    [0x2f, 0xc2, 0x9a],
    [0xe0, 0x95, 0xbf],
    [0xf2, 0xb9, 0x3b],
    [0x8c, 0xd0, 0xf5],
    [0xa3, 0xac, 0xb6],
    [0x3d, 0xc9, 0x9b],
    [0xff, 0x8a, 0x4c],
];

/// The color that replaces `color` on a dark background. A mixture of a palette color with white becomes the same mixture
/// of that color's dark variant with the dark background.
pub(super) fn night(color: Color) -> Color {
    if let Some((_, night)) = GRAYS.iter().find(|(day, _)| *day == color) {
        return *night;
    }
    let (ink, paper) = (GRAYS[0].1, GRAYS[5].1);
    let hues = SERIES.into_iter().chain([RIGHT, WRONG]).zip(NIGHT_SERIES);
    let strong = hues.clone().chain(hues.map(|(day, night)| (mix(day, INK, 0.55), mix(night, ink, 0.45))));
    let thinned = strong.chain([(INK, ink)]).map(|(day, night)| {
        let strength = strength(color, day);
        let miss: f64 = (0..3).map(|c| (f64::from(faint(day, strength)[c]) - f64::from(color[c])).powi(2)).sum();
        (miss, mix(paper, night, strength))
    });
    thinned.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(color, |(_, night)| night)
}

/// The share of `strong` in `color` when `color` is a mixture of it with white.
fn strength(color: Color, strong: Color) -> f64 {
    let away = |of: Color, c: usize| f64::from(PAPER[c]) - f64::from(of[c]);
    let (along, length) = (0..3).fold((0.0, 0.0), |(along, length), c| {
        (along + away(color, c) * away(strong, c), length + away(strong, c).powi(2))
    });
    (along / length).clamp(0.0, 1.0)
}

/// Viridis at ten points, from dark (low) to light (high) in even steps of lightness.
const SEQUENTIAL: [Color; 10] = [
    [0x44, 0x01, 0x54],
    [0x48, 0x28, 0x78],
    [0x3e, 0x49, 0x89],
    [0x31, 0x68, 0x8e],
    [0x26, 0x82, 0x8e],
    [0x1f, 0x9e, 0x89],
    [0x35, 0xb7, 0x79],
    [0x6e, 0xce, 0x58],
    [0xb5, 0xde, 0x2b],
    [0xfd, 0xe7, 0x25],
];

/// Blue below zero, white at zero, orange above.
const DIVERGING: [Color; 5] =
    [[0x05, 0x4a, 0x80], [0x6f, 0xa8, 0xd0], [0xf7, 0xf7, 0xf7], [0xee, 0x9e, 0x5c], [0xa3, 0x3f, 0x00]];

/// The color scale of a map.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    diverging: bool,
}

impl Scale {
    /// The scale for values from `low` to `high`: the one with white at zero when there are values of both signs.
    pub(super) fn over(low: f64, high: f64) -> Self {
        if low < 0.0 && high > 0.0 {
            let reach = high.max(-low);
            return Scale { low: -reach, high: reach, diverging: true };
        }
        Scale { low, high, diverging: false }
    }

    /// The color of `value`; gray when it is not a number.
    pub(super) fn color(&self, value: f64) -> Color {
        if !value.is_finite() {
            return MISSING;
        }
        let stops: &[Color] = if self.diverging { &DIVERGING } else { &SEQUENTIAL };
        let span = self.high - self.low;
        let t = if span > 0.0 { ((value - self.low) / span).clamp(0.0, 1.0) } else { 0.5 };
        let place = t * (stops.len() - 1) as f64;
        let i = (place as usize).min(stops.len() - 2);
        mix(stops[i], stops[i + 1], place - i as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_color_has_a_twin_on_dark_paper() {
        assert_eq!(night(PAPER), [0x1b, 0x1f, 0x24]);
        assert_eq!(night(SERIES[0]), NIGHT_SERIES[0]);
        // A curve drawn faintly keeps its faintness.
        let (faint_day, faint_night) = (faint(SERIES[1], 0.28), mix(night(PAPER), NIGHT_SERIES[1], 0.28));
        let close = |a: Color, b: Color| a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= 2);
        assert!(close(night(faint_day), faint_night), "{:?} {faint_night:?}", night(faint_day));
        // Dark and light are exchanged.
        let lightness = |color: Color| color.iter().map(|c| u32::from(*c)).sum::<u32>();
        assert!(lightness(night(INK)) > lightness(night(QUIET)) && lightness(night(GRID)) < lightness(night(AXIS)));
    }
}

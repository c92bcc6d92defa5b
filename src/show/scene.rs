//! A figure as a list of marks in logical pixels, drawn over plotters' two backends: PNG pixels and SVG text.
//! Layout happens before (`lines.rs`, `bars.rs`, `tiles.rs`), so that both look the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{BitMapBackend, DrawingArea, DrawingBackend, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color as _, TextStyle};

use super::color::{Color, PAPER};
use super::font;
use super::picture::Picture;
use crate::error;
use crate::error::{Error, Result};

/// PNG pixels per logical pixel.
pub(super) const DENSITY: f64 = 2.0;
/// SVG units per logical pixel: plotters draws at whole units only.
const FINENESS: f64 = 8.0;
/// Above this many pixels a figure is drawn without oversampling.
const LARGE: f64 = 30e6;

/// The side of a text that is at its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// One mark; lengths and positions in logical pixels, y down.
#[derive(Clone)]
pub(super) enum Item {
    Line {
        points: Vec<(f64, f64)>,
        color: Color,
        width: f64,
    },
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        color: Color,
    },
    /// A filled polygon, translucent: `strength` 1 is opaque.
    Area {
        points: Vec<(f64, f64)>,
        color: Color,
        strength: f64,
    },
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        color: Color,
    },
    /// `y` is the baseline.
    Text {
        x: f64,
        y: f64,
        text: String,
        size: f64,
        bold: bool,
        color: Color,
        anchor: Anchor,
    },
    /// Drawn above everything else.
    Picture {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        picture: Picture,
    },
}

/// The marks of a figure and its size.
#[derive(Clone, Default)]
pub(super) struct Scene {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) items: Vec<Item>,
}

impl Scene {
    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, color: Color, width: f64) {
        self.items.push(Item::Line { points, color, width });
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), color: Color) {
        self.items.push(Item::Rect { x, y, width, height, color });
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), text: &str, size: f64, color: Color, anchor: Anchor) {
        self.items.push(Item::Text { x, y, text: text.to_string(), size, bold: false, color, anchor });
    }

    pub(super) fn heading(&mut self, (x, y): (f64, f64), text: &str, size: f64, color: Color) {
        let anchor = Anchor::Start;
        self.items.push(Item::Text { x, y, text: text.to_string(), size, bold: true, color, anchor });
    }

    /// Width and height of the PNG.
    pub(super) fn pixels(&self) -> (usize, usize) {
        ((self.width * DENSITY).round() as usize, (self.height * DENSITY).round() as usize)
    }

    /// The figure as pixels.
    pub(super) fn picture(&self) -> Result<Picture> {
        let (width, height) = self.pixels();
        // plotters does not smooth the edges of thick lines: draw larger, then average.
        let oversample = if (width * height) as f64 * 4.0 > LARGE { 1 } else { 2 };
        let (wide, high) = (width * oversample, height * oversample);
        let mut buffer = vec![255u8; wide * high * 3];
        {
            let area = BitMapBackend::with_buffer(&mut buffer, (wide as u32, high as u32)).into_drawing_area();
            self.paint(&area, DENSITY * oversample as f64, Backend::Pixels)?;
            area.present().map_err(trouble)?;
        }
        let small = Picture::new(wide, high, buffer)?.scaled(width, height);
        let mut rgb = small.rgb.to_vec();
        for item in &self.items {
            if let Item::Picture { x, y, width: w, height: h, picture } = item {
                let scaled = picture.scaled((w * DENSITY).round() as usize, (h * DENSITY).round() as usize);
                let corner = ((x * DENSITY).round() as usize, (y * DENSITY).round() as usize);
                paste(&mut rgb, (width, height), &scaled, corner);
            }
        }
        Picture::new(width, height, rgb)
    }

    /// The figure as an SVG file.
    pub(super) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let (wide, high) = ((self.width * FINENESS).round() as u32, (self.height * FINENESS).round() as u32);
        {
            let area = SVGBackend::with_string(&mut text, (wide, high)).into_drawing_area();
            self.paint(&area, FINENESS, Backend::Svg)?;
            area.present().map_err(trouble)?;
        }
        let drawn = format!("width=\"{wide}\" height=\"{high}\"");
        let shown = format!("width=\"{}\" height=\"{}\"", self.width.round(), self.height.round());
        let mut text = text.replacen(&drawn, &shown, 1);
        let end = text.rfind("</svg>").unwrap_or(text.len());
        text.truncate(end);
        for item in &self.items {
            if let Item::Picture { x, y, width, height, picture } = item {
                text.push_str(&embedded(picture, [*x, *y, *width, *height])?);
            }
        }
        text.push_str("</svg>\n");
        Ok(text)
    }

    /// Draws everything except the pictures; `scale` is units per logical pixel.
    fn paint<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, scale: f64, backend: Backend) -> Result<()> {
        let at = |x: f64, y: f64| ((x * scale).round() as i32, (y * scale).round() as i32);
        area.fill(&rgb(PAPER)).map_err(trouble)?;
        for item in &self.items {
            match item {
                Item::Line { points, color, width } => {
                    let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                    match backend {
                        Backend::Svg => {
                            let stroke = rgb(*color).stroke_width((width * scale).round().max(1.0) as u32);
                            area.draw(&PathElement::new(points, stroke))
                        }
                        Backend::Pixels => stroke_pixels(area, &points, width * scale / 2.0, *color),
                    }
                }
                Item::Rect { x, y, width, height, color } => {
                    // plotters fills up to and including the far corner, so one unit is subtracted.
                    let (right, bottom) = at(x + width, y + height);
                    area.draw(&Rectangle::new([at(*x, *y), (right - 1, bottom - 1)], rgb(*color).filled()))
                }
                Item::Area { points, color, strength } => {
                    let points: Vec<_> = points.iter().map(|(x, y)| at(*x, *y)).collect();
                    area.draw(&Polygon::new(points, rgb(*color).mix(*strength).filled()))
                }
                Item::Dot { x, y, radius, color } => {
                    area.draw(&Circle::new(at(*x, *y), (radius * scale).round() as i32, rgb(*color).filled()))
                }
                Item::Text { x, y, text, size, bold, color, anchor } => {
                    let side = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let style = TextStyle::from(font::font(size * scale, *bold));
                    let hue = rgb(*color);
                    let style = style.color(&hue).pos(Pos::new(side, VPos::Top));
                    area.draw(&Text::new(text.as_str(), at(*x, y - size * backend.baseline()), style))
                }
                Item::Picture { .. } => Ok(()),
            }
            .map_err(trouble)?;
        }
        Ok(())
    }
}

/// What differs between plotters' two backends.
#[derive(Clone, Copy, PartialEq)]
enum Backend {
    Pixels,
    Svg,
}

impl Backend {
    /// The distance from the top anchor of a text to its baseline in this backend, in ems.
    fn baseline(self) -> f64 {
        match self {
            Backend::Pixels => 0.62,
            Backend::Svg => 0.76,
        }
    }
}

/// A line of thickness `2 * half` with round joints: plotters' own thick paths end in spikes where a line turns sharply.
fn stroke_pixels<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    points: &[(i32, i32)],
    half: f64,
    color: Color,
) -> std::result::Result<(), plotters::drawing::DrawingAreaErrorKind<B::ErrorType>> {
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (x1 - x0).hypot(y1 - y0).max(1e-9);
        let (across, along) = ((y1 - y0) / length * half, (x1 - x0) / length * half);
        let corner =
            |x: f64, y: f64, side: f64| ((x - side * across).round() as i32, (y + side * along).round() as i32);
        let corners = vec![corner(x0, y0, 1.0), corner(x1, y1, 1.0), corner(x1, y1, -1.0), corner(x0, y0, -1.0)];
        area.draw(&Polygon::new(corners, rgb(color).filled()))?;
    }
    // Straight grid lines and ticks keep their square ends.
    let joints = if points.len() > 2 { points } else { &[] };
    joints.iter().try_for_each(|joint| area.draw(&Circle::new(*joint, half.round() as i32, rgb(color).filled())))
}

fn rgb([red, green, blue]: Color) -> RGBColor {
    RGBColor(red, green, blue)
}

fn trouble(cause: impl std::fmt::Display) -> Error {
    error!(File, "cannot draw the figure: {cause}")
}

/// Copies `picture` into the pixels of a page; parts outside are cut off.
fn paste(page: &mut [u8], (width, height): (usize, usize), picture: &Picture, (left, top): (usize, usize)) {
    let columns = picture.width.min(width.saturating_sub(left));
    for row in 0..picture.height.min(height.saturating_sub(top)) {
        let from = row * picture.width * 3;
        let to = ((top + row) * width + left) * 3;
        page[to..to + columns * 3].copy_from_slice(&picture.rgb[from..from + columns * 3]);
    }
}

/// An `<image>` element, scaled here to the pixels of the PNG because not every viewer keeps enlarged pixels sharp.
fn embedded(picture: &Picture, [x, y, width, height]: [f64; 4]) -> Result<String> {
    let stored = picture.scaled((width * DENSITY).round() as usize, (height * DENSITY).round() as usize);
    let style = if stored.width > picture.width { " style=\"image-rendering:pixelated\"" } else { "" };
    let data = STANDARD.encode(stored.png()?);
    let [x, y, width, height] = [x, y, width, height].map(|length| length * FINENESS);
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" preserveAspectRatio=\"none\"{style} \
         href=\"data:image/png;base64,{data}\"/>\n"
    ))
}

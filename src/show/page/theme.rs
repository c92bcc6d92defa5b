//! Figures that follow the theme of a page: every color in the SVG becomes a CSS variable with one value for a light and
//! one for a dark background.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::super::Figure;
use super::super::color::{Color, night};
use super::super::text::escape;
use crate::error::Result;

/// The colors that the figures of a page use.
#[derive(Default)]
pub(super) struct Colors(BTreeSet<Color>);

impl Colors {
    /// A figure as an `<svg>` element whose colors are variables.
    pub(super) fn svg(&mut self, figure: &Figure) -> Result<String> {
        // plotters escapes texts, except for control characters, which no page may contain.
        let svg = figure.svg()?.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        let label = format!("<svg role=\"img\" aria-label=\"{}\"", escape(&figure.about));
        // The namespace is needed in files, not in elements of a page.
        let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1).replacen("<svg", &label, 1);
        let mut out = String::with_capacity(svg.len() + 1024);
        // Quotes in texts are escaped, so whatever looks like an attribute is one.
        let mut parts = svg.split("=\"#");
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            match hex(part) {
                Some((color, rest)) => {
                    self.0.insert(color);
                    let _ = write!(out, "=\"var({})\"{rest}", name(color));
                }
                None => {
                    out.push_str("=\"#");
                    out.push_str(part);
                }
            }
        }
        Ok(out)
    }

    /// The variables for the light and the dark theme, for `light { ... }` and `dark { ... }`.
    pub(super) fn css(&self) -> [String; 2] {
        let rules = |of: &dyn Fn(Color) -> Color| {
            self.0.iter().fold(String::new(), |css, color| format!("{css}{}:{};", name(*color), written(of(*color))))
        };
        [rules(&|color| color), rules(&night)]
    }
}

/// `RRGGBB"rest` as the color and the rest.
fn hex(text: &str) -> Option<(Color, &str)> {
    let digits = text.get(..6)?;
    let rest = text.get(6..)?.strip_prefix('"')?;
    let number = u32::from_str_radix(digits, 16).ok()?;
    let [_, red, green, blue] = number.to_be_bytes();
    Some(([red, green, blue], rest))
}

fn name([red, green, blue]: Color) -> String {
    format!("--f-{red:02x}{green:02x}{blue:02x}")
}

fn written([red, green, blue]: Color) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

//! The embedded font: registered once with plotters; text is measured and wrapped here. Sizes are in logical pixels per em.

use std::sync::Once;

use plotters::style::{FontDesc, FontFamily, FontStyle, register_font};

/// The font family in SVG files; plotters registers the embedded font under the first name.
pub(super) const FAMILY: &str = "Inter, Helvetica, Arial, sans-serif";
const REGULAR: &[u8] = include_bytes!("font/Inter-Regular.otf");
const SEMI_BOLD: &[u8] = include_bytes!("font/Inter-SemiBold.otf");
/// plotters takes the size to be the height of a line; this is the height of a line in ems, as plotters converts it.
const LINE: f64 = 1.24;
/// plotters measures in whole pixels, so text is measured at this multiple of its size.
const PRECISION: f64 = 32.0;

/// The font for `size` pixels per em.
pub(super) fn font(size: f64, bold: bool) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        // A font that cannot be read becomes an error when the first text is drawn.
        let _ = register_font(FAMILY, FontStyle::Normal, REGULAR);
        let _ = register_font(FAMILY, FontStyle::Bold, SEMI_BOLD);
    });
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FAMILY), size * LINE, style)
}

/// The width of one line of text in logical pixels.
pub(super) fn width(text: &str, size: f64, bold: bool) -> f64 {
    font(size * PRECISION, bold).layout_box(text).map_or(0.0, |(_, (right, _))| f64::from(right) / PRECISION)
}

/// The text broken at spaces into lines no wider than `limit`; its own line breaks are kept. Where there are more than
/// `most` lines the last one ends in an ellipsis.
pub(super) fn wrap(text: &str, size: f64, limit: f64, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
            if !line.is_empty() && width(&longer, size, false) > limit {
                lines.push(std::mem::replace(&mut line, word.to_string()));
            } else {
                line = longer;
            }
        }
        lines.push(line);
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            last.push('\u{2026}');
        }
    }
    lines.into_iter().map(|line| cut(&line, size, limit)).collect()
}

/// The text, shortened with an ellipsis when it is wider than `limit`.
pub(super) fn cut(text: &str, size: f64, limit: f64) -> String {
    if width(text, size, false) <= limit {
        return text.to_string();
    }
    let mut kept: String = text.trim_end_matches('\u{2026}').to_string();
    while kept.pop().is_some() {
        let shown = format!("{}\u{2026}", kept.trim_end());
        if width(&shown, size, false) <= limit {
            return shown;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_weights_are_registered() {
        let (regular, bold) = (width("hidden_states", 12.0, false), width("hidden_states", 12.0, true));
        assert!(regular > 60.0 && bold > regular && bold < 110.0, "{regular} {bold}");
    }

    #[test]
    fn wrapping_keeps_every_line_inside() {
        let lines = wrap("what color is the shape on the left side?\nred", 12.0, 90.0, 5);
        assert!(lines.iter().all(|line| width(line, 12.0, false) <= 90.0), "{lines:?}");
        assert_eq!(lines.join(" "), "what color is the shape on the left side? red");
        let short = wrap("one two three four five six seven", 12.0, 60.0, 2);
        assert_eq!(short.len(), 2);
        assert!(short[1].ends_with('\u{2026}'), "{short:?}");
    }
}

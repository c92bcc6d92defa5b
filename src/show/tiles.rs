//! Figures made of pictures: heatmaps with a color bar, and galleries with captions.

use super::axis::{self, Axis, LABEL, MARGIN};
use super::color::{INK, PAPER, QUIET, RIGHT, Scale, WRONG};
use super::figure::{Figure, Labels};
use super::font;
use super::picture::Picture;
use super::scene::{Anchor, DENSITY, Item, Scene};
use crate::error::Result;
use crate::{bail, error};

const CAPTION: f64 = 11.0;
const GUTTER: f64 = 16.0;
/// The largest number of lines of a caption.
const LINES: usize = 4;

/// Whether a caption belongs to a right or a wrong answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    None,
    Right,
    Wrong,
}

/// The text below a picture: a question and, on its last line, the answer that is marked right or wrong.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    pub text: String,
    pub mark: Mark,
}

impl From<&str> for Caption {
    /// A leading check mark or cross becomes the mark.
    fn from(text: &str) -> Self {
        let (mark, rest) = match text.chars().next() {
            Some('\u{2713}' | '\u{2714}' | '\u{2705}') => (Mark::Right, text.chars().skip(1).collect::<String>()),
            Some('\u{2717}' | '\u{2718}' | '\u{274c}') => (Mark::Wrong, text.chars().skip(1).collect()),
            _ => (Mark::None, text.to_string()),
        };
        Caption { text: rest.trim().to_string(), mark }
    }
}

impl Figure {
    /// A matrix of `rows` x `columns` values (row-major) as colors: viridis, or blue to orange around zero when the values
    /// have both signs; values that are not finite are gray. Errors: a length that does not fit, or no finite value.
    pub fn heatmap(rows: usize, columns: usize, values: &[f32], labels: &Labels) -> Result<Figure> {
        if rows == 0 || columns == 0 || values.len() != rows * columns {
            bail!(Shape, "{} values do not fill a heatmap of {rows} x {columns}", values.len());
        }
        let Some((low, high)) = axis::range(values.iter().map(|value| f64::from(*value))) else {
            return Err(error!(Data, "nothing to draw: {} values, none of them finite", values.len()));
        };
        // Values that come close to zero are shown from zero.
        let low = if low > 0.0 && low < 0.1 * high { 0.0 } else { low };
        let scale = Scale::over(low, high);
        let rgb: Vec<u8> = values.iter().flat_map(|value| scale.color(f64::from(*value))).collect();
        let picture = Picture::new(columns, rows, rgb)?;

        let mut scene = Scene { width: axis::WIDTH, height: axis::HEIGHT, items: Vec::new() };
        let mut top = axis::heading(&mut scene, &labels.title, &[]);
        if !labels.y.is_empty() {
            scene.text((MARGIN, top + LABEL), &labels.y, LABEL, QUIET, Anchor::Start);
            top += LABEL * 1.7;
        }
        let row_room = font::width(&(rows - 1).to_string(), LABEL, false) + 8.0;
        let (left, bar_room) = (MARGIN + row_room, 80.0);
        let (width, height) = cells(columns, rows, scene.width - left - MARGIN - bar_room, 440.0);
        scene.items.push(Item::Picture { x: left, y: top, width, height, picture });
        let title = font::width(&labels.title, axis::TITLE * 1.06, false) + 2.0 * MARGIN;
        scene.width = (left + width + bar_room + MARGIN).max(title.min(scene.width)).ceil();

        let across = Axis::new((0.0, (columns - 1) as f64), false, 0.0, 8, true);
        let down = Axis::new((0.0, (rows - 1) as f64), false, 0.0, 8, true);
        let inside = |axis: &Axis, n: usize| -> Vec<(f64, String)> {
            let ticks = axis.ticks.iter().filter(|(tick, _)| (0.0..n as f64).contains(tick));
            ticks.map(|(tick, text)| ((tick + 0.5) / n as f64, text.clone())).collect()
        };
        for (place, text) in inside(&across, columns) {
            scene.text((left + place * width, top + height + LABEL * 1.4), &text, LABEL, QUIET, Anchor::Middle);
        }
        for (place, text) in inside(&down, rows) {
            scene.text((left - 6.0, top + place * height + LABEL * 0.36), &text, LABEL, QUIET, Anchor::End);
        }
        color_bar(&mut scene, scale, (left + width + 20.0, top), height.max(60.0))?;
        scene.height = top + height.max(60.0) + LABEL * 1.4 + MARGIN;
        if !labels.x.is_empty() {
            scene.text((left + width / 2.0, top + height + LABEL * 3.0), &labels.x, LABEL, QUIET, Anchor::Middle);
            scene.height += LABEL * 1.5;
        }
        let title = if labels.title.is_empty() { "heatmap" } else { &labels.title };
        Ok(Figure { scene, about: format!("{title}, {rows} x {columns}") })
    }

    /// Pictures in rows, each with its caption below; tiny ones are enlarged without smoothing. With fewer captions than pictures
    /// the rest have none. Errors: no pictures.
    pub fn gallery(pictures: &[Picture], captions: &[Caption], title: &str) -> Result<Figure> {
        if pictures.is_empty() {
            return Err(error!(Data, "nothing to show: no pictures"));
        }
        let across = match pictures.len() {
            n @ 1..=4 => n,
            5 | 6 | 9 => 3,
            7..=16 => 4,
            17..=30 => 5,
            _ => 6,
        };
        let room = axis::WIDTH - 2.0 * MARGIN - GUTTER * (across - 1) as f64;
        let tile = (room / across as f64).min(280.0).floor();
        let widest = pictures.iter().map(|picture| shown(picture, tile).0).fold(0.0, f64::max);
        // Tiles as wide as the pictures, so that both edges of the page are straight.
        let (tile, gutter) = match widest {
            widest if across > 1 && widest > 0.8 * tile => {
                (widest, GUTTER + (tile - widest) * across as f64 / (across - 1) as f64)
            }
            _ => (tile, GUTTER),
        };
        let width = (2.0 * MARGIN + tile * across as f64 + gutter * (across - 1) as f64).max(320.0);
        let mut scene = Scene { width, height: 0.0, items: Vec::new() };
        let mut y = axis::heading(&mut scene, title, &[]).max(MARGIN);
        let none = Caption::default();
        for (row, group) in pictures.chunks(across).enumerate() {
            let sizes: Vec<_> = group.iter().map(|picture| shown(picture, tile)).collect();
            let tallest = sizes.iter().map(|size| size.1).fold(0.0, f64::max);
            let mut lines = 0;
            for (i, (picture, (w, h))) in group.iter().zip(sizes).enumerate() {
                let x = MARGIN + (tile + gutter) * i as f64;
                let y_picture = y + ((tallest - h) / 2.0).floor();
                scene.items.push(Item::Picture { x, y: y_picture, width: w, height: h, picture: picture.clone() });
                let caption = captions.get(row * across + i).unwrap_or(&none);
                lines = lines.max(write_caption(&mut scene, caption, (x, y + tallest), tile + gutter - 12.0));
            }
            y += tallest + CAPTION * (0.5 + 1.4 * lines as f64) + GUTTER;
        }
        scene.height = (y - GUTTER + MARGIN).ceil();
        let name = if title.is_empty() { "gallery" } else { title };
        Ok(Figure { scene, about: format!("{name}, {} pictures", pictures.len()) })
    }
}

/// The size of a heatmap: square cells as large as fit, of whole pixels where there is room; cells are longer than wide only
/// where one side of the map would otherwise be too thin to see.
fn cells(columns: usize, rows: usize, wide: f64, high: f64) -> (f64, f64) {
    let side = (wide / columns as f64).min(high / rows as f64).min(36.0);
    let side = if side * DENSITY >= 1.0 { (side * DENSITY).floor() / DENSITY } else { side };
    let fill = |n: usize, room: f64| (side * n as f64).max(40f64.min(room)).min(room);
    (fill(columns, wide), fill(rows, high))
}

/// The size at which a picture is shown in a square tile: whole multiples when it is enlarged.
fn shown(picture: &Picture, tile: f64) -> (f64, f64) {
    let (width, height) = (picture.width as f64, picture.height as f64);
    let factor = tile * DENSITY / width.max(height);
    let factor = if factor > 1.0 { factor.floor() } else { factor };
    ((width * factor / DENSITY).max(0.5), (height * factor / DENSITY).max(0.5))
}

/// The color bar of a heatmap, high end up, with its ticks.
fn color_bar(scene: &mut Scene, scale: Scale, (x, y): (f64, f64), height: f64) -> Result<()> {
    let steps = 256;
    let value = |i: usize| scale.high - (scale.high - scale.low) * (i as f64 + 0.5) / steps as f64;
    let rgb: Vec<u8> = (0..steps).flat_map(|i| scale.color(value(i))).collect();
    let picture = Picture::new(1, steps, rgb)?;
    scene.items.push(Item::Picture { x, y, width: 12.0, height, picture });
    let axis = Axis::new((scale.low, scale.high), false, 0.0, if height > 150.0 { 5 } else { 3 }, false);
    for (tick, text) in &axis.ticks {
        let at = y + height * (1.0 - axis.place(*tick));
        scene.text((x + 18.0, at + LABEL * 0.36), text, LABEL, QUIET, Anchor::Start);
    }
    Ok(())
}

/// Writes a caption below `(x, y)` and returns its number of lines.
fn write_caption(scene: &mut Scene, caption: &Caption, (x, y): (f64, f64), room: f64) -> usize {
    let mark_room = if caption.mark == Mark::None { 0.0 } else { CAPTION * 1.5 };
    // The last line, the answer, is kept when the question is too long.
    let (question, answer) = caption.text.trim_end().rsplit_once('\n').unwrap_or(("", &caption.text));
    let question = font::wrap(question, CAPTION, room, LINES - 1);
    let answer = font::wrap(answer, CAPTION, room - mark_room, LINES - question.len());
    let baseline = |line: usize| y + CAPTION * (1.5 + 1.4 * line as f64);
    for (i, line) in question.iter().enumerate() {
        scene.text((x, baseline(i)), line, CAPTION, QUIET, Anchor::Start);
    }
    for (i, line) in answer.iter().enumerate() {
        scene.text((x + mark_room, baseline(question.len() + i)), line, CAPTION, INK, Anchor::Start);
    }
    if caption.mark != Mark::None {
        badge(scene, caption.mark, (x + CAPTION * 0.55, baseline(question.len()) - CAPTION * 0.36));
    }
    question.len() + answer.len().max(usize::from(caption.mark != Mark::None))
}

/// A filled disc with a check or a cross.
fn badge(scene: &mut Scene, mark: Mark, (x, y): (f64, f64)) {
    let right = mark == Mark::Right;
    scene.items.push(Item::Dot { x, y, radius: CAPTION * 0.55, color: if right { RIGHT } else { WRONG } });
    if right {
        scene.line(vec![(x - 3.0, y), (x - 0.8, y + 2.2), (x + 3.0, y - 2.2)], PAPER, 1.5);
    } else {
        scene.line(vec![(x - 2.2, y - 2.2), (x + 2.2, y + 2.2)], PAPER, 1.5);
        scene.line(vec![(x - 2.2, y + 2.2), (x + 2.2, y - 2.2)], PAPER, 1.5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gallery_grows_pictures_by_whole_factors() {
        let picture = Picture::new(64, 64, vec![200; 64 * 64 * 3]).unwrap();
        let (width, height) = shown(&picture, 138.0);
        assert_eq!((width, height), (128.0, 128.0)); // 256 of 276 pixels
        let figure = Figure::gallery(&vec![picture; 8], &["what?\nred".into()], "").unwrap();
        assert_eq!(figure.size().0, 1280);
    }

    #[test]
    fn marks_come_from_the_first_character() {
        assert_eq!(Caption::from("\u{2713} red").mark, Mark::Right);
        assert_eq!(Caption::from("\u{2717} red").text, "red");
        assert_eq!(Caption::from("red").mark, Mark::None);
    }

    #[test]
    fn heatmaps_of_any_shape_fit_the_page() {
        for (rows, columns) in [(1, 1), (1, 500), (700, 3), (24, 24), (2, 9)] {
            let figure = Figure::heatmap(rows, columns, &vec![0.5; rows * columns], &Labels::default()).unwrap();
            assert!((240..=1280).contains(&figure.size().0));
            assert!(figure.size().1 <= 1100, "{rows} x {columns}: {:?}", figure.size());
        }
        assert!(Figure::heatmap(2, 2, &[0.0; 3], &Labels::default()).is_err());
        assert!(Figure::heatmap(1, 1, &[f32::NAN], &Labels::default()).is_err());
    }
}

//! A figure: laid out once, then written as PNG, SVG or pixels. Everything is embedded; no font of the machine is used.

use std::fmt;
use std::path::Path;

use super::picture::Picture;
use super::scene::Scene;
use crate::error;
use crate::error::{Error, Result};
use crate::files;

/// The texts around a chart. Empty ones are left out.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    pub title: String,
    pub x: String,
    pub y: String,
}

/// Named series of points `(x, y)` under one title; `log` makes the y axis logarithmic.
#[derive(Clone, Debug, Default)]
pub struct LinePlot {
    pub series: Vec<(String, Vec<(f64, f64)>)>,
    pub title: String,
    pub x: String,
    pub y: String,
    pub log: bool,
}

/// The data of a chart: numbers per series.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    pub series: Vec<(String, Vec<f64>)>,
    /// Names of the positions in every series; without any they are 1, 2, 3, ...
    pub names: Vec<String>,
}

/// A finished drawing, made by [`Figure::line`], [`Figure::bar`], [`Figure::hist`], [`Figure::heatmap`] or [`Figure::gallery`].
#[derive(Clone)]
pub struct Figure {
    pub(super) scene: Scene,
    /// A summary for its one-line display: "loss, 2 series".
    pub(super) about: String,
}

impl Figure {
    /// Width and height in pixels of the PNG.
    pub fn size(&self) -> (usize, usize) {
        self.scene.pixels()
    }

    /// The pixels.
    pub fn picture(&self) -> Result<Picture> {
        self.scene.picture()
    }

    /// The figure as a PNG file, at two pixels per logical pixel.
    pub fn png(&self) -> Result<Vec<u8>> {
        self.picture()?.png()
    }

    /// The figure as an SVG file; text stays text.
    pub fn svg(&self) -> Result<String> {
        self.scene.svg()
    }

    /// Writes a `.png` or `.svg` file, as the extension of `path` says, atomically. Missing folders are created.
    pub fn save(&self, path: &Path) -> Result<()> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
        let content = match ending.as_str() {
            "png" => self.png()?,
            "svg" => self.svg()?.into_bytes(),
            _ => {
                let error = error!(Usage, "cannot save a figure as `{}`", path.display());
                return Err(error.help("end the name in .png or .svg"));
            }
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            crate::fs::create_dir_all(folder).map_err(|error| Error::file(path, error))?;
        }
        files::write(path, &content)
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Chart {
    /// The names of the positions; numbers from 1 on where there are none.
    pub(super) fn positions(&self) -> Vec<String> {
        let longest = self.series.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        match self.names.is_empty() {
            true => (1..=longest).map(|position| position.to_string()).collect(),
            false => self.names.clone(),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size();
        write!(f, "Figure({}, {width} x {height})", self.about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss() -> Figure {
        let points = vec![(0.0, 2.0), (1.0, 1.0)];
        let series = vec![("a < b".to_string(), points.clone()), ("c".to_string(), points)];
        Figure::line(LinePlot { series, title: "loss".into(), ..LinePlot::default() }).unwrap()
    }

    #[test]
    fn files_are_what_their_names_say() {
        let folder = crate::scratch::scratch_path("figure");
        let (png, svg) = (folder.join("new/loss.png"), folder.join("loss.SVG"));
        loss().save(&png).unwrap();
        loss().save(&svg).unwrap();
        let decoded = image::open(&png).unwrap();
        assert_eq!((decoded.width(), decoded.height()), (1280, 720));
        assert!(std::fs::read_to_string(&svg).unwrap().contains("a &lt; b"));
        let names = std::fs::read_dir(folder.join("new")).unwrap().count();
        assert_eq!(names, 1, "a temporary file is left");
        let error = loss().save(&folder.join("loss.pdf")).unwrap_err();
        assert_eq!(error.help_text(), Some("end the name in .png or .svg"));
    }

    #[test]
    fn the_pixels_hold_ink_and_both_series() {
        let picture = loss().picture().unwrap();
        let has = |color: [u8; 3]| picture.rgb.chunks_exact(3).any(|pixel| pixel == color);
        assert!(has([0x22, 0x26, 0x2b]) && has([0xd5, 0x5e, 0x00]) && has([0xff; 3]));
        // The two series cover each other in the chart; the legend shows the first.
        assert!(has([0x00, 0x72, 0xb2]));
        assert_eq!(loss().to_string(), "Figure(loss, 2 series, 1280 x 720)");
    }
}

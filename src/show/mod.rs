//! Display: tables, figures, pages and the formatting of numbers. Everything here returns strings, bytes or pixels;
//! the caller puts them on a terminal, into a notebook or into a file.

mod axis;
mod bars;
mod color;
mod figure;
mod font;
mod grouped;
mod lines;
#[cfg(feature = "notebook")]
mod notebook;
mod overlay;
pub mod page;
mod painted;
mod picture;
mod radar;
mod scene;
mod table;
mod text;
mod tiles;
mod units;

pub use figure::{Chart, Figure, Labels, LinePlot};
pub use grouped::{Bar, GroupedBars};
pub use painted::{Painted, Span, Tone};
pub use picture::Picture;
pub use radar::Radar;
pub use table::{Align, Cell, Column, Table};
pub use tiles::{Caption, Mark};
pub use units::{bytes, count, grouped, number, p_value, percent, seconds};

use crate::error::{Error, Result};

/// A kind of chart: its name, and the function that draws it. Scripts draw it by `plot(name, series)`.
struct ChartKind(&'static str, fn(Chart) -> Result<Figure>);

const CHARTS: &[ChartKind] =
    &[ChartKind("line", lines::chart), ChartKind("bar", grouped::chart), ChartKind("radar", radar::chart)];

impl Figure {
    /// A chart of the kind with this name. Errors: `Missing` for an unknown kind, else those of the kind.
    pub fn chart(kind: &str, chart: Chart) -> Result<Figure> {
        let Some(ChartKind(_, draw)) = CHARTS.iter().find(|ChartKind(name, _)| *name == kind) else {
            let names: Vec<&str> = CHARTS.iter().map(|ChartKind(name, _)| *name).collect();
            return Err(Error::unknown("kind of chart", kind, &names, ""));
        };
        draw(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores() -> Chart {
        let names = ["gqa", "pope", "ai2d"].map(str::to_string).to_vec();
        Chart { series: vec![("clip".into(), vec![0.6, 0.8, 0.5]), ("siglip".into(), vec![0.5, 0.9, 0.6])], names }
    }

    #[test]
    fn every_kind_draws_named_and_numbered_positions() {
        for ChartKind(name, _) in CHARTS {
            let figure = Figure::chart(name, scores()).unwrap();
            assert!(figure.to_string().starts_with("Figure("), "{name}");
            Figure::chart(name, Chart { names: Vec::new(), ..scores() }).unwrap();
            assert!(Figure::chart(name, Chart::default()).is_err(), "{name}");
        }
    }

    #[test]
    fn an_unknown_kind_is_an_error_that_names_the_others() {
        let error = Figure::chart("radr", scores()).unwrap_err();
        assert!(error.help_text().is_some_and(|help| help.contains("radar")), "{error}");
    }
}

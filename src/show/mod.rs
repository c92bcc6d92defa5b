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

pub use figure::{Figure, Labels, LinePlot};
pub use grouped::{Bar, GroupedBars};
pub use painted::{Painted, Span, Tone};
pub use picture::Picture;
pub use radar::Radar;
pub use table::{Align, Cell, Column, Table};
pub use tiles::{Caption, Mark};
pub use units::{bytes, count, grouped, number, p_value, percent, seconds};

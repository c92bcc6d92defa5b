//! A page: sections of figures, tables, galleries and texts as one HTML file that loads nothing, follows the reader's
//! theme and reads well on a phone. Everything written into it is escaped; without scripts it still shows everything.

mod gallery;
mod html;
mod table;
mod theme;

pub use gallery::{Card, Gallery, Shot, fitted};

use super::{Figure, Table};
use crate::error::Result;

/// A page from top to bottom.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub title: String,
    /// Below the title: the subject, in a line or two.
    pub about: Vec<String>,
    /// The most important numbers.
    pub headlines: Vec<Headline>,
    pub sections: Vec<Section>,
}

/// A number shown large at the top.
#[derive(Clone, Debug, Default)]
pub struct Headline {
    pub label: String,
    pub value: String,
    /// Its interval, its unit, or what it is a share of.
    pub note: String,
}

/// A section of the page, with an entry in the table of contents.
#[derive(Clone, Debug, Default)]
pub struct Section {
    pub title: String,
    pub blocks: Vec<Block>,
}

/// The parts that a section can have.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Note(String),
    /// A list of things to know.
    List(Vec<String>),
    /// Figures side by side where there is room.
    Figures(Vec<Figure>),
    Table(Table),
    Gallery(Gallery),
    /// A text with its line breaks, collapsed under a title.
    Text {
        title: String,
        text: String,
    },
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Section { title: title.into(), blocks: Vec::new() }
    }

    /// The section with one more block.
    pub fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }
}

impl Headline {
    /// A number with its label and a note.
    pub fn new(label: impl Into<String>, value: impl Into<String>, note: impl Into<String>) -> Self {
        Headline { label: label.into(), value: value.into(), note: note.into() }
    }
}

impl Page {
    /// The HTML of the page.
    pub fn html(&self) -> Result<String> {
        html::write(self)
    }
}

#[cfg(test)]
mod tests;

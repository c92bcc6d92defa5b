//! Display in evcxr notebooks: the kernel calls `evcxr_display` on the value of a cell and reads what it prints.
//! Source: evcxr 0.21, "How to display custom types".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Figure, Painted, Table};

impl Table {
    /// Shows the table as HTML.
    pub fn evcxr_display(&self) {
        println!("EVCXR_BEGIN_CONTENT text/html\n{}\nEVCXR_END_CONTENT", self.html());
    }
}

impl Painted {
    /// Shows the text as HTML.
    pub fn evcxr_display(&self) {
        println!("EVCXR_BEGIN_CONTENT text/html\n{}\nEVCXR_END_CONTENT", self.html());
    }
}

impl Figure {
    /// Shows the figure as a PNG, or the error when it cannot be drawn.
    pub fn evcxr_display(&self) {
        match self.png() {
            Ok(png) => println!("EVCXR_BEGIN_CONTENT image/png\n{}\nEVCXR_END_CONTENT", STANDARD.encode(png)),
            Err(error) => println!("EVCXR_BEGIN_CONTENT text/plain\n{error}\nEVCXR_END_CONTENT"),
        }
    }
}

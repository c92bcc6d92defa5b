//! Display in evcxr notebooks: the kernel calls `evcxr_display` on the value of a cell and reads what it prints.
//! Source: evcxr 0.21, "How to display custom types".

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Figure, Painted, Table};

impl Table {
    /// Shows the table as HTML.
    pub fn evcxr_display(&self) {
        print("text/html", &self.html());
    }
}

impl Painted {
    /// Shows the text as HTML.
    pub fn evcxr_display(&self) {
        print("text/html", &self.html());
    }
}

impl Figure {
    /// Shows the figure as a PNG, or the error when it cannot be drawn.
    pub fn evcxr_display(&self) {
        match self.png() {
            Ok(png) => print("image/png", &STANDARD.encode(png)),
            Err(error) => print("text/plain", &error.to_string()),
        }
    }
}

/// Gives the kernel a value; one that is gone is no panic.
fn print(mime: &str, content: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "EVCXR_BEGIN_CONTENT {mime}\n{content}\nEVCXR_END_CONTENT").and_then(|()| out.flush());
}

//! A session's output on a terminal: text and tables to stdout, figures as pictures with the path of their PNG.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::graphics::{Graphics, encode};
use super::progress::Progress;
use super::query::size;
use super::say::write;
use crate::script::Output;
use crate::settings::variable;
use crate::show::{Figure, Painted, Table};

/// The maximum width of a picture in columns.
const PICTURE_COLUMNS: usize = 100;

/// Prints to stdout, between progress bars.
pub(super) struct Terminal {
    progress: Arc<Progress>,
    json: bool,
    /// The folder for figures.
    folder: PathBuf,
    figures: AtomicUsize,
    /// Detected once, when the first picture is shown.
    graphics: OnceLock<Graphics>,
}

impl Terminal {
    pub(super) fn new(progress: Arc<Progress>, json: bool, runs: PathBuf) -> Self {
        let folder = runs.join("figures");
        Terminal { progress, json, folder, figures: AtomicUsize::new(0), graphics: OnceLock::new() }
    }

    fn print(&self, text: &str) {
        self.progress.suspend(|| write(text));
    }
}

impl Output for Terminal {
    fn text(&self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    fn fragment(&self, text: &str) {
        self.print(text);
    }

    fn painted(&self, text: &Painted) {
        self.print(&format!("{}\n", text.text(has_color())));
    }

    fn table(&self, table: &Table) {
        self.print(&table_text(table, self.json));
    }

    fn figure(&self, figure: &Figure, about: &str) {
        let number = self.figures.fetch_add(1, Ordering::SeqCst) + 1;
        let path = self.folder.join(format!("{}-{number}.png", std::process::id()));
        let graphics = self.graphics.get_or_init(Graphics::of_terminal);
        let columns = terminal_width().unwrap_or(PICTURE_COLUMNS).min(PICTURE_COLUMNS);
        let picture = figure
            .picture()
            .and_then(|picture| encode(*graphics, picture.width, picture.height, &picture.rgb, columns))
            .unwrap_or_default();
        let saved = match figure.save(&path) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("not saved: {error}"),
        };
        let line = if picture.is_empty() { "" } else { "\n" };
        self.print(&format!("{picture}{line}{about} -> {saved}\n"));
    }
}

/// Prints a table to stdout.
pub(super) fn print_table(table: &Table, json: bool) {
    write(&table_text(table, json));
}

fn table_text(table: &Table, json: bool) -> String {
    if json {
        return format!("{}\n", table.json());
    }
    let text = table.text(terminal_width(), has_color());
    if text.ends_with('\n') { text } else { format!("{text}\n") }
}

/// Whether stdout shows colors.
fn has_color() -> bool {
    std::io::stdout().is_terminal() && variable("NO_COLOR").is_none()
}

/// Columns of the terminal; `None` when stdout is none.
fn terminal_width() -> Option<usize> {
    if !std::io::stdout().is_terminal() {
        return None;
    }
    let (_, columns) = size(libc::STDOUT_FILENO)?;
    Some(usize::from(columns))
}

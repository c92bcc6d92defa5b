//! The terminal that progress bars are drawn on. indicatif panics where its own cannot be written, as when the window was
//! closed; this one passes over that.

use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

use super::say::tell_raw;

/// Size where the terminal does not say.
const SIZE: (u16, u16) = (24, 80);

/// Standard error as a screen. What is drawn appears at once, when it is whole.
#[derive(Debug, Default)]
pub(super) struct Screen {
    drawn: Mutex<String>,
}

impl Screen {
    fn push(&self, text: &str) -> std::io::Result<()> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
        Ok(())
    }

    /// Moves the cursor; by 0 the terminal would move it by 1.
    fn go(&self, n: usize, direction: char) -> std::io::Result<()> {
        if n == 0 { Ok(()) } else { self.push(&format!("\u{1b}[{n}{direction}")) }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        size().1
    }

    fn height(&self) -> u16 {
        size().0
    }

    fn move_cursor_up(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> std::io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> std::io::Result<()> {
        self.push(&format!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> std::io::Result<()> {
        self.push(text)
    }

    fn clear_line(&self) -> std::io::Result<()> {
        self.push("\r\u{1b}[2K")
    }

    fn flush(&self) -> std::io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn.lock().unwrap_or_else(PoisonError::into_inner));
        if !drawn.is_empty() {
            tell_raw(&drawn);
        }
        Ok(())
    }
}

/// Rows and columns of the terminal behind standard error.
fn size() -> (u16, u16) {
    super::query::size(libc::STDERR_FILENO).unwrap_or(SIZE)
}

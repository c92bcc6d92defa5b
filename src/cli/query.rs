//! The terminal's settings and size, and queries to it: kitty's graphics query, then DA1, which every terminal answers and so ends the wait.

/// The raw reply, or `None` where there is no terminal or no reply within `patience` milliseconds.
#[cfg(unix)]
pub(super) fn ask(patience: i32) -> Option<Vec<u8>> {
    use std::io::Write;
    use std::time::{Duration, Instant};

    let _raw = Raw::enter()?;
    let mut out = std::io::stdout();
    out.write_all(b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c").and_then(|()| out.flush()).ok()?;
    let deadline = Instant::now() + Duration::from_millis(patience.max(0) as u64);
    let mut reply = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() as i32;
        let mut poll = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` is an array of one pollfd, as the 1 says, borrowed for the call.
        if unsafe { libc::poll(&mut poll, 1, left) } <= 0 {
            return None;
        }
        let mut buffer = [0u8; 256];
        // The standard library's stdin would keep bytes from the REPL.
        // SAFETY: read(2) writes at most `buffer.len()` bytes to the buffer, which is borrowed for the call.
        let n = unsafe { libc::read(libc::STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len()) };
        if n <= 0 {
            return None;
        }
        reply.extend_from_slice(&buffer[..n as usize]);
        let attributes = reply.windows(3).position(|bytes| bytes == b"\x1b[?");
        if attributes.is_some_and(|start| reply[start..].contains(&b'c')) {
            return Some(reply);
        }
    }
}

#[cfg(not(unix))]
pub(super) fn ask(_patience: i32) -> Option<Vec<u8>> {
    None
}

/// Rows and columns of the terminal behind a descriptor, if it is one.
pub(super) fn size(descriptor: i32) -> Option<(u16, u16)> {
    let mut found = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the place it is given, which is one, borrowed for the call; on a descriptor that
    // is no terminal it fails and writes nothing.
    let done = unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, &mut found) };
    (done == 0 && found.ws_col > 0).then_some((found.ws_row, found.ws_col))
}

/// How standard input's terminal was set at a moment.
#[derive(Clone, Copy)]
pub(super) struct Cooked(libc::termios);

impl Cooked {
    /// The settings now; `None` where standard input is no terminal.
    pub(super) fn now() -> Option<Cooked> {
        // SAFETY: termios is a struct of integers and arrays of them, for each of which all bits zero is a value.
        let mut now: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: tcgetattr writes one termios, which `now` is, borrowed for the call; on what is no terminal it fails.
        (unsafe { libc::tcgetattr(libc::STDIN_FILENO, &mut now) } == 0).then_some(Cooked(now))
    }

    /// Sets the terminal as it was.
    pub(super) fn restore(&self) {
        // TCSAFLUSH discards a reply that came too late.
        // SAFETY: tcsetattr reads one termios, which `self.0` is, borrowed for the call.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &self.0) };
    }
}

/// Standard input without echo and line editing until dropped.
#[cfg(unix)]
struct Raw(Cooked);

#[cfg(unix)]
impl Raw {
    fn enter() -> Option<Raw> {
        let before = Cooked::now()?;
        let mut raw = before.0;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO);
        // SAFETY: tcsetattr reads one termios, which `raw` is, borrowed for the call.
        (unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw) } == 0).then_some(Raw(before))
    }
}

#[cfg(unix)]
impl Drop for Raw {
    fn drop(&mut self) {
        self.0.restore();
    }
}

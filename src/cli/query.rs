//! Queries to the terminal: kitty's graphics query, then DA1, which every terminal answers and so ends the wait.

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

/// Standard input without echo and line editing until dropped.
#[cfg(unix)]
struct Raw(libc::termios);

#[cfg(unix)]
impl Raw {
    fn enter() -> Option<Raw> {
        // SAFETY: termios is a struct of integers and arrays of them, for each of which all bits zero is a value.
        let mut before: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: tcgetattr writes one termios, which `before` is, borrowed for the call; on what is no terminal it fails.
        if unsafe { libc::tcgetattr(libc::STDIN_FILENO, &mut before) } != 0 {
            return None;
        }
        let mut raw = before;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO);
        // SAFETY: tcsetattr reads one termios, which `raw` is, borrowed for the call.
        (unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw) } == 0).then_some(Raw(before))
    }
}

#[cfg(unix)]
impl Drop for Raw {
    fn drop(&mut self) {
        // TCSAFLUSH discards a reply that came too late.
        // SAFETY: tcsetattr reads one termios, which `self.0` is, borrowed for the call.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSAFLUSH, &self.0) };
    }
}

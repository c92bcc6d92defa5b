//! What Git LFS leaves in place of a file that it did not fetch.

use crate::error;
use crate::error::Result;

/// How such a pointer begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Refuses a pointer; `name` is the file's or picture's.
pub(super) fn refuse(name: &str, bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(POINTER) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("size ")).unwrap_or("an unknown number of").to_string();
    Err(error!(Decode, "`{name}` is a pointer of Git LFS, in place of a file of {size} bytes")
        .help("fetch the file itself: `git lfs pull` in its folder, or `hf download --repo-type dataset owner/name`"))
}

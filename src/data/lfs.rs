//! Data files that Git LFS did not fetch.

use std::path::Path;

use super::read_at::read_up_to;
use crate::assets::refuse_pointer;
use crate::error::{Error, Result};

/// Refuses a file that is a pointer; gives its first bytes.
pub(super) fn refuse_file(path: &Path) -> Result<Vec<u8>> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut head = vec![0; 512];
        let length = read_up_to(&crate::fs::open(path)?, &mut head, 0)?;
        head.truncate(length);
        Ok(head)
    };
    let head = read().map_err(|error| Error::file(path, error))?;
    refuse_pointer(path, &head)?;
    Ok(head)
}

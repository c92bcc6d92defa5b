//! Files of a model that are no tensors, written whole or not at all.

use std::path::Path;

use serde_json::Value;

use crate::error;
use crate::error::Result;
use crate::files;

/// Writes JSON with indents.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error!(File, "`{}`: {error}", path.display()))?;
    write_text(path, format!("{text}\n").as_bytes())
}

/// Writes a text as it is.
pub(super) fn write_text(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes)
}

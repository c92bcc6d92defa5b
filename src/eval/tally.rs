//! Which questions a results file answers, without reading what was said: a study looks at all of its files before it does
//! anything.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::{bail, error};

/// The ids of a file's questions.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: HashSet<String>,
    /// Left out, and not answered later.
    pub left_out: HashSet<String>,
    /// Whether the last line is cut off: a run has stopped there, or is at it.
    pub is_cut: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    left_out: Option<IgnoredAny>,
}

impl Tally {
    /// Reads a results file.
    ///
    /// # Errors
    /// `Missing` or `File` when it cannot be read, `Decode` for a line that is none, `Data` for a question that is answered
    /// twice.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = crate::fs::read(path).map_err(|error| Error::file(path, error))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut tally = Tally { is_cut: whole < bytes.len(), ..Tally::default() };
        for (number, text) in
            bytes[..whole].split(|byte| *byte == b'\n').enumerate().filter(|(_, text)| !text.is_empty())
        {
            let line: Line = serde_json::from_slice(text)
                .map_err(|error| error!(Decode, "`{}`, line {}: {error}", path.display(), number + 1))?;
            let Some(id) = line.id.filter(|id| !id.is_empty()) else { continue };
            if line.left_out.is_some() {
                tally.left_out.insert(id.into_owned());
            } else if !tally.answered.insert(id.to_string()) {
                bail!(Data, "`{}`: question `{id}` is answered twice", path.display());
            }
        }
        tally.left_out.retain(|id| !tally.answered.contains(id));
        Ok(tally)
    }
}

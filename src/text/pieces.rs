//! Turns a sequence of pieces into text, ids and labels in one pass. Adjacent plain text is encoded as one run,
//! so that merges across the borders of segments are the reference's; a token is supervised when the first byte it
//! covers is.

use super::{IGNORE, IMAGE_ID, IMAGE_MARKER, Tokenizer};
use crate::error;
use crate::error::Result;

/// A rendered conversation; `ids` and `labels` have the same length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The text with special tokens and `<image>` written out.
    pub text: String,
    /// Token ids with one BOS; [`super::IMAGE_ID`] where an image goes.
    pub ids: Vec<i64>,
    /// The id where it is supervised, [`super::IGNORE`] elsewhere; not shifted.
    pub labels: Vec<i64>,
    /// Where branches begin: each attends to the tokens before the first branch and to itself. Empty: one sequence.
    pub branches: Vec<usize>,
}

/// Collects pieces in order; plain text is collected in `run` until something else ends it.
pub(super) struct Builder<'a> {
    tokenizer: &'a Tokenizer,
    text: String,
    ids: Vec<i64>,
    labels: Vec<i64>,
    run: String,
    /// The segments of the run: where each ends, and whether it is supervised.
    stretches: Vec<(usize, bool)>,
    /// Whether a special token precedes the run.
    follows: bool,
    /// Whether that token strips white space after it.
    trim_start: bool,
}

impl<'a> Builder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        Builder {
            tokenizer,
            text: String::new(),
            ids: Vec::new(),
            labels: Vec::new(),
            run: String::new(),
            stretches: Vec::new(),
            follows: false,
            trim_start: false,
        }
    }

    /// Plain text in which `<image>` marks an image.
    pub(super) fn turn(&mut self, value: &str, supervised: bool) -> Result<()> {
        for (index, part) in value.split(IMAGE_MARKER).enumerate() {
            if index > 0 {
                self.image()?;
            }
            self.text(part, supervised);
        }
        Ok(())
    }

    /// Plain text.
    pub(super) fn text(&mut self, text: &str, supervised: bool) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        self.run.push_str(text);
        self.stretches.push((self.run.len(), supervised));
    }

    /// A special token, looked up by its text.
    pub(super) fn token(&mut self, text: &str, supervised: bool) -> Result<()> {
        let Some(id) = self.tokenizer.token_id(text) else {
            return Err(error!(Option, "tokenizer `{}` has no token `{text}`", self.tokenizer.name()));
        };
        let (trim_end, trim_start) = self.tokenizer.strips(id);
        self.flush(trim_end)?;
        (self.follows, self.trim_start) = (true, trim_start);
        self.text.push_str(text);
        self.push(i64::from(id), supervised);
        Ok(())
    }

    /// An image; never supervised.
    pub(super) fn image(&mut self) -> Result<()> {
        self.flush(false)?;
        self.text.push_str(IMAGE_MARKER);
        self.push(IMAGE_ID, false);
        Ok(())
    }

    /// The result, with one BOS in front where the tokenizer adds one.
    pub(super) fn finish(mut self) -> Result<Rendered> {
        self.flush(false)?;
        if let Some(bos) = self.tokenizer.bos().map(i64::from)
            && self.ids.first() != Some(&bos)
        {
            self.ids.insert(0, bos);
            self.labels.insert(0, IGNORE);
        }
        Ok(Rendered { text: self.text, ids: self.ids, labels: self.labels, branches: Vec::new() })
    }

    fn push(&mut self, id: i64, supervised: bool) {
        self.ids.push(id);
        self.labels.push(if supervised { id } else { IGNORE });
    }

    /// Encodes the run.
    fn flush(&mut self, trim_end: bool) -> Result<()> {
        let run = std::mem::take(&mut self.run);
        let stretches = std::mem::take(&mut self.stretches);
        let (follows, trim_start) = (std::mem::take(&mut self.follows), std::mem::take(&mut self.trim_start));
        let mut kept = if trim_start { run.trim_start() } else { run.as_str() };
        let offset = run.len() - kept.len();
        if trim_end {
            kept = kept.trim_end();
        }
        if kept.is_empty() {
            return Ok(());
        }
        for (id, span) in self.tokenizer.encode_plain(kept, follows)? {
            // A token without a byte range (a prefix space) belongs to what follows it.
            let byte = (offset + span.start).min(run.len() - 1);
            let stretch = stretches.iter().find(|(end, _)| byte < *end);
            self.push(i64::from(id), stretch.is_some_and(|(_, supervised)| *supervised));
        }
        Ok(())
    }
}

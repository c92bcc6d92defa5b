//! What a file of an architecture says of it: the names of its config.json, how that is read, and the keys only it has.

use super::config::Config;
use super::keys::Key;
use crate::error::Result;

/// An architecture; `S` is what its config.json becomes.
pub struct Architecture<S> {
    /// Its `model_type`s; the first is its family.
    pub model_types: &'static [&'static str],
    /// LLaVA-MORE's `model_type` for such an LLM with a tower attached.
    pub llava: Option<&'static str>,
    /// Reads a config.json.
    pub spec: fn(&Config) -> Result<S>,
    /// Keys that other families read otherwise, or not at all; they go before those of all families.
    pub keys: &'static [Key],
}

impl<S> Architecture<S> {
    /// Its first `model_type`.
    pub fn family(&self) -> &'static str {
        self.model_types.first().copied().unwrap_or_default()
    }
}

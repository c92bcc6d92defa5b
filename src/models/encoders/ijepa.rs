//! I-JEPA: a ViT without a class token.
//! Source: transformers 4.49.0, `configuration_ijepa.py` (defaults, those of ViT) and `modeling_ijepa.py` (names);
//! 5.23 writes the same.

use crate::error::Result;
use crate::models::config::Config;
use crate::nn::vit::{Tokens, Unread, VitNames, VitSpec};

/// Reads a tower's config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let base = super::vit::spec(config)?;
    let names = VitNames { prefixes: &["", "ijepa."], unread: &[Unread::Norm("layernorm")], ..base.names };
    Ok(VitSpec { tokens: Tokens::Patches, names, ..base })
}

//! I-JEPA: a ViT without a class token.
//! Source: transformers 4.49.0, `configuration_ijepa.py` (defaults, those of ViT) and `modeling_ijepa.py` (names);
//! 5.23 writes the same.

use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::Read;
use crate::nn::vit::{Tokens, Unread, VitNames, VitSpec};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> =
    Architecture { model_types: &["ijepa"], llava: None, spec, keys: &[(Read, "intermediate_size qkv_bias")] };

/// Reads a tower's config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let base = super::vit::spec(config)?;
    let names = VitNames { prefixes: &["", "ijepa."], unread: &[Unread::Norm("layernorm")], ..base.names };
    Ok(VitSpec { tokens: Tokens::Patches, names, ..base })
}

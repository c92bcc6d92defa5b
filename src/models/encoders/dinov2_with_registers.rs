//! DINOv2 with registers: DINOv2 with extra tokens behind the class token that belong to no patch. They have no position
//! embedding, and positions are resized with antialiasing.
//! Source: transformers 4.49.0, `configuration_dinov2_with_registers.py` (defaults) and
//! `modeling_dinov2_with_registers.py` (names); 5.23 writes the same.

use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::vit::{Positions, Tokens, VitNames, VitSpec};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> = Architecture {
    model_types: &["dinov2_with_registers"],
    llava: None,
    spec,
    keys: &[
        (Read, "qkv_bias mlp_ratio use_swiglu_ffn layerscale_value num_register_tokens"),
        (Harmless, "intermediate_size"), // its class reads `mlp_ratio` instead
    ],
};

/// Reads a tower's config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let base = super::dinov2::spec(config)?;
    Ok(VitSpec {
        patch_size: config.side("patch_size", 16)?,
        tokens: Tokens::ClsRegisters(config.usize("num_register_tokens", 4)?),
        positions: Positions::Bicubic { antialias: true },
        names: VitNames { prefixes: &["", "dinov2_with_registers."], ..base.names },
        ..base
    })
}

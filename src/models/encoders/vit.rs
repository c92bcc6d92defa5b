//! The supervised ViT: class token, eps 1e-12, positions resized where the picture has another size (as in
//! transformers with `interpolate_pos_encoding=True`; at the tower's own size it changes nothing).
//! Source: transformers 4.49.0, `configuration_vit.py` (defaults) and `modeling_vit.py` (names); 5.23 writes the same.

use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::Read;
use crate::nn::vit::{Mlp, Positions, Stored, Tokens, Unread, VitNames, VitSpec};

const NAMES: VitNames = VitNames {
    prefixes: &["", "vit."],
    stored: Stored::Batched,
    class_embedding: "embeddings.cls_token",
    registers: "",
    patch_embedding: "embeddings.patch_embeddings.projection",
    position_embedding: "embeddings.position_embeddings",
    pre_norm: None,
    blocks: "encoder.layer",
    attention_norm: "layernorm_before",
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    mlp_norm: "layernorm_after",
    fc1: "intermediate.dense",
    fc2: "output.dense",
    layer_scales: None,
    unread: &[Unread::Norm("layernorm"), Unread::Linear("pooler.dense")],
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> =
    Architecture { model_types: &["vit"], llava: None, spec, keys: &[(Read, "intermediate_size qkv_bias")] };

/// Reads a tower's config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    Ok(VitSpec {
        image_size: config.side("image_size", 224)?,
        patch_size: config.side("patch_size", 16)?,
        channels: config.usize("num_channels", 3)?,
        width: config.usize("hidden_size", 768)?,
        layers: config.usize("num_hidden_layers", 12)?,
        heads: config.usize("num_attention_heads", 12)?,
        intermediate: config.usize("intermediate_size", 3072)?,
        mlp: Mlp::Gelu(super::gelu(config, "gelu")?),
        norm_eps: config.f64("layer_norm_eps", 1e-12)?,
        tokens: Tokens::Cls,
        positions: Positions::Bicubic { antialias: false },
        patch_bias: true,
        qkv_bias: config.bool("qkv_bias", true)?,
        layer_scale: 1.0,
        names: NAMES,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

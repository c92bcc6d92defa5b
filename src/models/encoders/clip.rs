//! CLIP's vision tower: class token, LayerNorm before block 0, patch embedding without bias.
//! Source: transformers 4.49.0, `configuration_clip.py` (defaults) and `modeling_clip.py` (names); 5.23 writes a
//! tower alone without `vision_model.`.

use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Only, Read};
use crate::models::keys::YES;
use crate::nn::vit::{Mlp, Positions, Stored, Tokens, Unread, VitNames, VitSpec};

/// Tensor names, which SigLIP shares.
pub(super) const NAMES: VitNames = VitNames {
    prefixes: &["vision_model.", ""],
    stored: Stored::Flat,
    class_embedding: "embeddings.class_embedding",
    registers: "",
    patch_embedding: "embeddings.patch_embedding",
    position_embedding: "embeddings.position_embedding.weight",
    pre_norm: Some("pre_layrnorm"), // sic
    blocks: "encoder.layers",
    attention_norm: "layer_norm1",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    mlp_norm: "layer_norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    layer_scales: None,
    unread: &[Unread::Norm("post_layernorm")],
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> = Architecture {
    model_types: &["clip", "clip_vision_model"],
    llava: None,
    spec,
    keys: &[(Read, "intermediate_size"), (Only(YES, "this family always does it"), "qkv_bias")],
};

/// Reads the config of a tower, alone or inside a two-tower config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let config = config.nested("vision_config");
    Ok(VitSpec {
        image_size: config.side("image_size", 224)?,
        patch_size: config.side("patch_size", 32)?,
        channels: config.usize("num_channels", 3)?,
        width: config.usize("hidden_size", 768)?,
        layers: config.usize("num_hidden_layers", 12)?,
        heads: config.usize("num_attention_heads", 12)?,
        intermediate: config.usize("intermediate_size", 3072)?,
        mlp: Mlp::Gelu(super::gelu(&config, "quick_gelu")?),
        norm_eps: config.f64("layer_norm_eps", 1e-5)?,
        tokens: Tokens::Cls,
        positions: Positions::Fixed,
        patch_bias: false,
        qkv_bias: true,
        layer_scale: 1.0,
        names: NAMES,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

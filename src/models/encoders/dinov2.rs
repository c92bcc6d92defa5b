//! DINOv2: class token, layer scales, positions resized to the picture's grid (the published towers have 518 px
//! positions and a 224 px processor).
//! Source: transformers 4.49.0, `configuration_dinov2.py` (defaults) and `modeling_dinov2.py` (names); 5.23 writes
//! the same.

use crate::error::Result;
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Harmless, Read};
use crate::nn::vit::{Mlp, Positions, Stored, Tokens, Unread, VitNames, VitSpec};

pub(super) const NAMES: VitNames = VitNames {
    prefixes: &["", "dinov2."],
    stored: Stored::Batched,
    class_embedding: "embeddings.cls_token",
    registers: "embeddings.register_tokens",
    patch_embedding: "embeddings.patch_embeddings.projection",
    position_embedding: "embeddings.position_embeddings",
    pre_norm: None,
    blocks: "encoder.layer",
    attention_norm: "norm1",
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    mlp_norm: "norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    layer_scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
    unread: &[Unread::Norm("layernorm"), Unread::Vector("embeddings.mask_token")],
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> = Architecture {
    model_types: &["dinov2"],
    llava: None,
    spec,
    keys: &[
        (Read, "qkv_bias mlp_ratio use_swiglu_ffn layerscale_value"),
        (Harmless, "intermediate_size"), // its class reads `mlp_ratio` instead
    ],
};

/// Reads a tower's config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let width = config.usize("hidden_size", 768)?;
    // Python's int(): towards zero. A ratio out of range gives a size that `VitSpec::check` refuses.
    let inner = (width as f64 * config.f64("mlp_ratio", 4.0)?) as usize;
    let (mlp, intermediate, names) = match config.bool("use_swiglu_ffn", false)? {
        false => (Mlp::Gelu(super::gelu(config, "gelu")?), inner, NAMES),
        true => {
            let names = VitNames { fc1: "mlp.weights_in", fc2: "mlp.weights_out", ..NAMES };
            (Mlp::SwiGlu, ((inner as f64 * 2.0 / 3.0) as usize).div_ceil(8).saturating_mul(8), names)
        }
    };
    Ok(VitSpec {
        image_size: config.side("image_size", 224)?,
        patch_size: config.side("patch_size", 14)?,
        channels: config.usize("num_channels", 3)?,
        width,
        layers: config.usize("num_hidden_layers", 12)?,
        heads: config.usize("num_attention_heads", 12)?,
        intermediate,
        mlp,
        norm_eps: config.f64("layer_norm_eps", 1e-6)?,
        tokens: Tokens::Cls,
        positions: Positions::Bicubic { antialias: false },
        patch_bias: true,
        qkv_bias: config.bool("qkv_bias", true)?,
        layer_scale: config.f64("layerscale_value", 1.0)?,
        names,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

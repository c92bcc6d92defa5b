//! SigLIP's vision tower: patches only, GELU's tanh form. SigLIP 2 at a fixed resolution is the same architecture
//! under the same `model_type`; its NaFlex variant is another one.
//! Source: transformers 4.49.0, `configuration_siglip.py` (defaults) and `modeling_siglip.py` (names); 5.23 writes a
//! tower alone without `vision_model.`.

use crate::error::{Error, Result};
use crate::models::architecture::Architecture;
use crate::models::config::Config;
use crate::models::keys::Meaning::{Only, Read};
use crate::models::keys::YES;
use crate::nn::vit::{Mlp, Positions, Tokens, Unread, VitNames, VitSpec};

const NAMES: VitNames = VitNames {
    pre_norm: None,
    unread: &[Unread::Norm("post_layernorm"), Unread::AttentionPool("head")],
    ..super::clip::NAMES
};

/// The entry of the table.
pub(super) const ARCHITECTURE: Architecture<VitSpec> = Architecture {
    model_types: &["siglip", "siglip_vision_model"],
    llava: None,
    spec,
    keys: &[(Read, "intermediate_size"), (Only(YES, "this family always does it"), "qkv_bias")],
};

/// Reads the config of a tower, alone or inside a two-tower config.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let config = config.nested("vision_config");
    Ok(VitSpec {
        image_size: config.side("image_size", 224)?,
        patch_size: config.side("patch_size", 16)?,
        channels: config.usize("num_channels", 3)?,
        width: config.usize("hidden_size", 768)?,
        layers: config.usize("num_hidden_layers", 12)?,
        heads: config.usize("num_attention_heads", 12)?,
        intermediate: config.usize("intermediate_size", 3072)?,
        mlp: Mlp::Gelu(super::gelu(&config, "gelu_pytorch_tanh")?),
        norm_eps: config.f64("layer_norm_eps", 1e-6)?,
        tokens: Tokens::Patches,
        positions: Positions::Fixed,
        patch_bias: true,
        qkv_bias: true,
        layer_scale: 1.0,
        names: NAMES,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

/// The error for `model_type: siglip2`, which transformers uses only for NaFlex checkpoints: they take a
/// sequence of patches instead of pixels.
pub fn naflex(config: &Config, model_type: &str) -> Error {
    config
        .unsupported("model_type", model_type, "SigLIP 2 at a fixed resolution")
        .help("this is a NaFlex checkpoint; those named like siglip2-so400m-patch14-384 have model_type `siglip`")
}

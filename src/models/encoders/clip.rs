//! CLIP's vision tower: class token, LayerNorm before block 0, patch embedding without bias.
//! Source: transformers 4.49.0, `configuration_clip.py` (defaults) and `modeling_clip.py` (names).

use crate::error::Result;
use crate::models::config::Config;
use crate::nn::ops::Gelu;
use crate::nn::vit::{Tokens, VitNames, VitSpec};

const NAMES: VitNames = VitNames {
    class_embedding: "vision_model.embeddings.class_embedding",
    patch_embedding: "vision_model.embeddings.patch_embedding",
    position_embedding: "vision_model.embeddings.position_embedding",
    pre_norm: Some("vision_model.pre_layrnorm"), // sic
    blocks: "vision_model.encoder.layers",
    attention_norm: "layer_norm1",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    mlp_norm: "layer_norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
};

/// Reads a tower's config, alone or inside a two-tower one.
pub fn spec(config: &Config) -> Result<VitSpec> {
    let config = config.nested("vision_config");
    let activation = config.string("hidden_act", "quick_gelu")?;
    let gelu = match activation.as_str() {
        "quick_gelu" => Gelu::Quick,
        "gelu" => Gelu::Erf,
        "gelu_pytorch_tanh" | "gelu_new" => Gelu::Tanh,
        other => return Err(config.unsupported("hidden_act", other, "quick_gelu, gelu, gelu_pytorch_tanh")),
    };
    Ok(VitSpec {
        image_size: config.usize("image_size", 224)?,
        patch_size: config.usize("patch_size", 32)?,
        channels: config.usize("num_channels", 3)?,
        width: config.usize("hidden_size", 768)?,
        layers: config.usize("num_hidden_layers", 12)?,
        heads: config.usize("num_attention_heads", 12)?,
        intermediate: config.usize("intermediate_size", 3072)?,
        gelu,
        norm_eps: config.f64("layer_norm_eps", 1e-5)?,
        tokens: Tokens::Cls,
        patch_bias: false,
        names: NAMES,
        initializer_range: config.f64("initializer_range", 0.02)?,
    })
}

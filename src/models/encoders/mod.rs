//! Vision towers: `config.json` to [`VitSpec`](crate::nn::vit::VitSpec), one file per architecture and its entry in [`ALL`]; and
//! [`s2`], which applies any of them at several scales.

pub mod clip;
pub mod dinov2;
pub mod dinov2_with_registers;
pub mod ijepa;
pub mod s2;
pub mod siglip;
pub mod vit;

use super::architecture::Architecture;
use super::config::Config;
use crate::error::Result;
use crate::nn::ops::Gelu;
use crate::nn::vit::VitSpec;

/// All vision towers.
pub const ALL: &[Architecture<VitSpec>] = &[
    clip::ARCHITECTURE,
    siglip::ARCHITECTURE,
    dinov2::ARCHITECTURE,
    dinov2_with_registers::ARCHITECTURE,
    vit::ARCHITECTURE,
    ijepa::ARCHITECTURE,
];

/// The activation of a tower's MLP.
fn gelu(config: &Config, default: &str) -> Result<Gelu> {
    match config.string("hidden_act", default)?.as_str() {
        "quick_gelu" => Ok(Gelu::Quick),
        "gelu" => Ok(Gelu::Erf),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(Gelu::Tanh),
        other => Err(config.unsupported("hidden_act", other, "quick_gelu, gelu, gelu_pytorch_tanh")),
    }
}

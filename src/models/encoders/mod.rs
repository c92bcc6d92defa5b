//! Vision towers: `config.json` to [`VitSpec`](crate::nn::vit::VitSpec), one file per architecture.

pub mod clip;

//! LLMs: `config.json` to [`DecoderSpec`](crate::nn::decoder::DecoderSpec), one file per architecture and its
//! entry in [`ALL`].

pub mod gemma2;
pub mod gemma3;
pub mod llama;
pub mod mistral;
pub mod phi3;
pub mod qwen2;
mod read;
pub mod rope;

use super::architecture::Architecture;
use crate::nn::decoder::DecoderSpec;

/// All LLMs.
pub const ALL: &[Architecture<DecoderSpec>] = &[
    llama::ARCHITECTURE,
    mistral::ARCHITECTURE,
    phi3::ARCHITECTURE,
    gemma2::ARCHITECTURE,
    gemma3::ARCHITECTURE,
    qwen2::ARCHITECTURE,
];

//! LLMs: `config.json` to [`DecoderSpec`](crate::nn::decoder::DecoderSpec), one file per architecture.

pub mod gemma2;
pub mod gemma3;
pub mod llama;
pub mod mistral;
pub mod phi3;
pub mod qwen2;
mod read;
pub mod rope;

//! LLMs: `config.json` to [`DecoderSpec`](crate::nn::decoder::DecoderSpec), one file per architecture.

pub mod llama;

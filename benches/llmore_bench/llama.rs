//! A Llama alone: one training step, and greedy decoding with a cache.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use llmore::error::{Error, Result};
use llmore::models::config::Config;
use llmore::models::llms::llama;
use llmore::nn::cache::append;
use llmore::nn::decoder::Decoder;
use llmore::nn::ops;
use llmore::nn::packing::Packing;
use llmore::weights::{Builder, ParamSet, Source, TensorFiles, save_tensors};
use serde_json::Value;

use crate::{Options, models, report};

const BATCH: usize = 4;
const LENGTH: usize = 256;
const PROMPT: usize = 64;
const NEW_TOKENS: usize = 64;

/// Writes the weights of `llama-step` in transformers layout.
pub fn export(options: &Options) -> Result<()> {
    let config = models::llama();
    let folder = options.inputs.join("llama");
    std::fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, error))?;
    let (_, params) = build(config.clone(), Source::Random { seed: 0 })?;
    let named = params.iter().map(|param| Ok((param.name().to_string(), param.tensor()?)));
    let tensors = named.collect::<Result<Vec<_>>>()?;
    save_tensors(&tensors, &folder.join("model.safetensors"))?;
    let path = folder.join("config.json");
    std::fs::write(&path, config.to_string()).map_err(|error| Error::file(&path, error))
}

/// Forward, backward and AdamW on 4 x 256 tokens, every next token a label.
pub fn step(options: &Options) -> Result<()> {
    let files = TensorFiles::open(&options.inputs.join("llama/model.safetensors"))?;
    let (decoder, params) = build(models::llama(), Source::Files { files: Arc::new(files), prefix: String::new() })?;
    params.set_trainable(true)?;
    let moments = params
        .iter()
        .map(|param| {
            let zeros = || Tensor::zeros(param.dims(), DType::F32, &Device::Cpu);
            Ok((zeros()?, zeros()?))
        })
        .collect::<Result<Vec<_>>>()?;
    let vocab = decoder.spec().vocab;
    let ids: Arc<[u32]> = (0..BATCH * LENGTH).map(|i| token(i / LENGTH, i % LENGTH, vocab)).collect();
    let rows: Vec<u32> = (0..BATCH * LENGTH).filter(|i| (i + 1) % LENGTH != 0).map(|i| i as u32).collect();
    let targets: Arc<[u32]> = rows.iter().map(|&row| ids[row as usize + 1]).collect();
    let packing = Packing::whole(&[LENGTH; BATCH]).with_rows(rows);
    let mut step = 0;
    let (seconds, losses) = report::time(3, options.rounds, || {
        step += 1;
        let hidden = decoder.hidden(&decoder.embed(&ids)?, &packing, None)?; // (targets, width)
        let loss = decoder.loss_sum(&hidden, &targets)?;
        drop(hidden);
        let mut gradients = loss.backward()?;
        let hyper = ops::AdamW {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            learning_rate: 3e-4,
            step,
            gradient_scale: 1.0 / targets.len() as f64,
        };
        for (param, (first, second)) in params.iter().zip(&moments) {
            let tensor = param.tensor()?;
            let gradient = gradients
                .remove(&tensor)
                .ok_or_else(|| llmore::error!(Train, "no gradient reached `{}`", param.name()))?;
            ops::adamw(&tensor, &gradient, first, second, &hyper)?;
        }
        Ok(f64::from(loss.to_scalar::<f32>()?) / targets.len() as f64)
    })?;
    report::print("llama-step", "step", &seconds, &losses);
    Ok(())
}

/// Prefill of 64 tokens and 64 greedy tokens.
pub fn decode(options: &Options) -> Result<()> {
    let (decoder, _) = build(models::decoder(), Source::Random { seed: 0 })?;
    let vocab = decoder.spec().vocab;
    let prompt: Arc<[u32]> = (0..PROMPT).map(|i| token(0, i, vocab)).collect();
    let (mut prefills, mut tokens) = (Vec::new(), Vec::new());
    for round in 0..options.rounds + 1 {
        let mut cache = decoder.cache(PROMPT + NEW_TOKENS)?;
        let mut slot = cache.slot(PROMPT + NEW_TOKENS, None)?;
        let mut ids = prompt.clone();
        let mut forward = || -> Result<()> {
            let packing = append(&mut [&mut slot], &[ids.len()])?;
            let hidden = decoder.hidden(&decoder.embed(&ids)?, &packing, Some(&cache))?;
            ids = decoder.logits(&hidden)?.argmax(D::Minus1)?.to_vec1::<u32>()?.into();
            Ok(())
        };
        let (prefill, _) = report::time(0, 1, &mut forward)?;
        let (decoded, _) = report::time(0, NEW_TOKENS, forward)?;
        if round > 0 {
            prefills.extend(prefill);
            tokens.push(decoded.iter().sum::<f64>() / NEW_TOKENS as f64);
        }
    }
    report::print("prefill", "prompt of 64 tokens", &prefills, &[]);
    report::print("decode", "token", &tokens, &[]);
    Ok(())
}

fn build(config: Value, source: Source) -> Result<(Decoder, ParamSet)> {
    let builder = Builder::new(source, DType::F32, &Device::Cpu);
    let decoder = Decoder::new(&builder, llama::spec(&Config::new(config, "the bench's config"))?)?;
    Ok((decoder, builder.finish()?.params))
}

/// The token both programs put at a place.
fn token(row: usize, position: usize, vocab: usize) -> u32 {
    ((row * 7919 + position * position * 31 + position * 17) % vocab) as u32
}

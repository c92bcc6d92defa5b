//! The layout of `LlavaForConditionalGeneration`: names as transformers 4.49 writes them, which 5.x loads as well, an
//! `<image>` token with a row in embedding and head, the processor's files.
//! Source: transformers 4.49.0 and 5.23.0, `modeling_llava.py`, `configuration_llava.py`, `processing_llava.py`.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::SHARD;
use crate::error;
use crate::error::{Context, Result};
use crate::image::Preprocessing;
use crate::models::config::Config;
use crate::models::llms::gemma2::EMBEDDING_SCALE;
use crate::models::llms::rope;
use crate::nn::decoder::EmbeddingScale;
use crate::text::IMAGE_MARKER;
use crate::vlm::checkpoint::llava_more::{LLMORE, TRAINED_TOWER, family};
use crate::vlm::checkpoint::transformers::{has_inner, theirs};
use crate::vlm::checkpoint::versions;
use crate::vlm::written::{write_json, write_text};
use crate::vlm::{Part, Select, Vlm};
use crate::weights::save_shards;

/// Keys of LLaVA-MORE's config.json that are not the LLM's.
pub(super) const NOT_THE_LLMS: [&str; 17] = [
    EMBEDDING_SCALE,
    "_name_or_path",
    "architectures",
    "auto_map",
    "freeze_mm_mlp_adapter",
    "image_aspect_ratio",
    LLMORE,
    "model_architecture",
    "s2",
    "s2_scales",
    "siglip",
    "tokenizer_model_max_length",
    "tokenizer_padding_side",
    "transformers_version",
    "tune_mm_mlp_adapter",
    TRAINED_TOWER,
    "use_mm_proj",
];

/// Refuses what transformers cannot express.
pub(super) fn check(vlm: &Vlm) -> Result<()> {
    let refuse = |what: &str, why: &str| {
        let error = error!(Option, "layout `transformers` has no counterpart for {what}: {why}");
        Err(error.help("save it with `layout: \"llava-more\"`, which loses nothing"))
    };
    let (encoder, projector) = (&vlm.encoder, &vlm.projector.choice);
    if encoder.scales.is_some() {
        return refuse("s2", "LlavaForConditionalGeneration looks at one scale");
    }
    if let Some((pool, _)) = projector.pool {
        return refuse(&format!("`pool: \"{}\"`", pool.name()), "it hands every visual token to the LLM");
    }
    if projector.name != "mlp2x_gelu" {
        return refuse(&format!("projector `{}`", projector.name), "its projector is mlp2x_gelu");
    }
    let spec = vlm.llm.model.spec();
    if llm_family(vlm) == "gemma2" && spec.embedding_scale == EmbeddingScale::Tokens && spec.logit_softcap.is_some() {
        return refuse(
            "a Gemma-2 that soft-caps final logits and does not scale visual tokens",
            "no version does both",
        );
    }
    if strategy(vlm).is_none() {
        let extra = encoder.tower.spec().extra_tokens();
        return refuse(
            &format!("`select: \"patch\"` with encoder `{}`", encoder.id),
            &format!("it drops the first token or none, this tower has {extra} before its patches"),
        );
    }
    Ok(())
}

/// What a person has to know who loads this model with transformers.
pub(super) fn note(vlm: &Vlm) -> Option<&'static str> {
    versions::note(vlm.llm.model.spec(), llm_family(vlm))
}

/// `vision_feature_select_strategy`: "default" drops the first token, whatever it is; "full" keeps all.
fn strategy(vlm: &Vlm) -> Option<&'static str> {
    match (vlm.encoder.select, vlm.encoder.tower.spec().extra_tokens()) {
        (Select::Patch, 1) => Some("default"),
        (Select::Patch, 0) | (Select::ClsPatch, _) => Some("full"),
        (Select::Patch, _) => None,
    }
}

fn llm_family(vlm: &Vlm) -> &str {
    let model_type = vlm.llm.origin.config.value().get("model_type").and_then(Value::as_str);
    family(model_type.unwrap_or("llama"))
}

/// The tower's config, alone.
fn vision(vlm: &Vlm) -> Config {
    let config = vlm.encoder.origin.config.nested("vision_config");
    let model_type = config.value().get("model_type").and_then(Value::as_str).unwrap_or("clip").to_string();
    match model_type.as_str() {
        "clip" | "siglip" => config.with("model_type", json!(format!("{model_type}_vision_model"))),
        _ => config,
    }
}

/// Writes the whole folder.
pub(super) fn write(vlm: &Vlm, folder: &Path) -> Result<()> {
    let vision = vision(vlm);
    let image = ImageToken::of(vlm)?;
    let inner = has_inner(&vision.string("model_type", "")?);
    let tensors = vlm.tensors(&Part::ALL)?.into_iter().map(|(name, tensor)| {
        let rows = ["model.embed_tokens.weight", "lm_head.weight"].contains(&name.as_str());
        let tensor = if rows { image.with_row(&tensor)? } else { tensor };
        Ok((theirs(&name, inner), tensor))
    });
    save_shards(&tensors.collect::<Result<Vec<_>>>()?, folder, SHARD)?;
    write_text(&folder.join("tokenizer.json"), &image.tokenizer)?;
    write_json(&folder.join("tokenizer_config.json"), &tokenizer_config(vlm, &image)?)?;
    write_json(&folder.join("generation_config.json"), &generation_config(vlm)?)?;
    write_processor(vlm, folder)?;
    write_json(&folder.join("config.json"), &config(vlm, &vision, &image))
}

/// The `<image>` token: the tokenizer's own, or a new one with a row of its own.
struct ImageToken {
    id: usize,
    /// Rows of embedding and head after saving.
    rows: usize,
    /// tokenizer.json with the token.
    tokenizer: Vec<u8>,
}

impl ImageToken {
    fn of(vlm: &Vlm) -> Result<Self> {
        let (tokenizer, rows) = (vlm.tokenizer()?, vlm.llm.model.spec().vocab);
        if let Some(id) = tokenizer.token_id(IMAGE_MARKER) {
            let id = id as usize;
            return Ok(ImageToken { id, rows: rows.max(id + 1), tokenizer: tokenizer.json().to_vec() });
        }
        let damaged = |error: serde_json::Error| error!(Decode, "tokenizer.json: {error}");
        let mut json: Value = serde_json::from_slice(tokenizer.json()).map_err(damaged)?;
        let added = json.get("added_tokens").and_then(Value::as_array).cloned().unwrap_or_default();
        // Behind every token there is; ids of added tokens may leave a gap (o200k).
        let last = added.iter().filter_map(|token| token.get("id").and_then(Value::as_u64)).max();
        let id = tokenizer.vocab().max(last.map_or(0, |last| last as usize + 1));
        let token = json!({
            "id": id, "content": IMAGE_MARKER, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        });
        if let Some(object) = json.as_object_mut() {
            object.insert("added_tokens".to_string(), added.into_iter().chain([token]).collect());
        }
        let tokenizer = serde_json::to_vec_pretty(&json).map_err(damaged)?;
        Ok(ImageToken { id, rows: rows.max(id + 1), tokenizer })
    }

    /// (vocab, width) with the rows that are lacking: the mean of the others, whose logit never is the largest.
    fn with_row(&self, tensor: &Tensor) -> Result<Tensor> {
        let (rows, width) = tensor.dims2()?;
        let lacking = self.rows.saturating_sub(rows);
        if lacking == 0 {
            return Ok(tensor.clone());
        }
        let mean = tensor.to_dtype(candle_core::DType::F32)?.mean_keepdim(0)?.to_dtype(tensor.dtype())?;
        Ok(Tensor::cat(&[tensor, &mean.broadcast_as((lacking, width))?.contiguous()?], 0)?)
    }
}

fn config(vlm: &Vlm, vision: &Config, image: &ImageToken) -> Value {
    let mut text: Map<String, Value> = vlm.llm.origin.config.value().as_object().cloned().unwrap_or_default();
    text.retain(|key, _| !NOT_THE_LLMS.contains(&key.as_str()) && !key.starts_with("mm_"));
    let spec = vlm.llm.model.spec();
    rope::write(spec, &mut text);
    if llm_family(vlm).starts_with("gemma") {
        text.insert("final_logit_softcapping".to_string(), json!(spec.logit_softcap));
    }
    let tied = !vlm.llm.params.iter().any(|param| param.name() == "lm_head.weight");
    text.insert("model_type".to_string(), json!(llm_family(vlm)));
    text.insert("vocab_size".to_string(), json!(image.rows));
    text.insert("tie_word_embeddings".to_string(), json!(tied));
    let dtype = vlm.target().dtype;
    let dtype = match dtype {
        candle_core::DType::BF16 => "bfloat16",
        candle_core::DType::F16 => "float16",
        _ => "float32",
    };
    let now = vlm.conventions();
    json!({
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": image.id,
        "image_seq_length": vlm.image_tokens(),
        "ignore_index": -100,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": true,
        "vision_feature_layer": vlm.encoder.select_layer,
        "vision_feature_select_strategy": strategy(vlm),
        "tie_word_embeddings": tied,
        "text_config": text,
        "vision_config": vision.value(),
        "torch_dtype": dtype,
        "transformers_version": versions::of(spec, llm_family(vlm)),
        // What transformers does not read, and `load` does.
        "model_architecture": now.template.name(),
        "image_aspect_ratio": now.aspect.name(),
    })
}

fn tokenizer_config(vlm: &Vlm, image: &ImageToken) -> Result<Value> {
    let mut config = json_of(vlm, "tokenizer_config.json")?;
    let fallback =
        [("tokenizer_class", json!("PreTrainedTokenizerFast")), ("model_max_length", json!(vlm.llm.context()))];
    for (key, value) in fallback {
        config.entry(key).or_insert(value);
    }
    config.insert("processor_class".to_string(), json!("LlavaProcessor"));
    if let Some(tokens) = config.get_mut("added_tokens_decoder").and_then(Value::as_object_mut) {
        tokens.entry(image.id.to_string()).or_insert(json!({
            "content": IMAGE_MARKER, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
            "special": true
        }));
    }
    Ok(Value::Object(config))
}

fn generation_config(vlm: &Vlm) -> Result<Value> {
    let mut config = json_of(vlm, "generation_config.json")?;
    if !config.contains_key("eos_token_id") && !vlm.llm.end_ids.is_empty() {
        config.insert("eos_token_id".to_string(), json!(vlm.llm.end_ids));
    }
    for key in ["bos_token_id", "pad_token_id"] {
        if let Some(id) = vlm.llm.origin.config.value().get(key).filter(|id| id.is_number()) {
            config.entry(key).or_insert(id.clone());
        }
    }
    Ok(Value::Object(config))
}

/// A JSON object beside the LLM's config, empty where there is none.
fn json_of(vlm: &Vlm, name: &str) -> Result<Map<String, Value>> {
    let Some(bytes) = vlm.llm.origin.beside().get(name) else { return Ok(Map::new()) };
    let json: Value = serde_json::from_slice(bytes).map_err(|error| error!(Decode, "{name}: {error}"))?;
    Ok(json.as_object().cloned().unwrap_or_default())
}

/// The image processor's file and the processor's, as 4.49 writes them; 5.x reads both.
fn write_processor(vlm: &Vlm, folder: &Path) -> Result<()> {
    let spec = vlm.encoder.tower.spec();
    let aspect = vlm.encoder.aspect.map(|_| vlm.aspect());
    let prepared = Preprocessing { processor: vlm.encoder.processor.clone(), aspect };
    let mut image: Value = serde_json::from_str(&prepared.to_json())
        .map_err(|error| error!(Decode, "preprocessor_config.json: {error}"))
        .context(|| format!("encoder `{}`", vlm.encoder.id))?;
    image["processor_class"] = json!("LlavaProcessor");
    write_json(&folder.join("preprocessor_config.json"), &image)?;
    let processor = json!({
        "processor_class": "LlavaProcessor",
        "image_token": IMAGE_MARKER,
        "patch_size": spec.patch_size,
        "num_additional_image_tokens": spec.extra_tokens(),
        "vision_feature_select_strategy": strategy(vlm),
    });
    write_json(&folder.join("processor_config.json"), &processor)
}

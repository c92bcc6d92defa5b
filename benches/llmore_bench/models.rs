//! The models that are measured, as Hugging Face configs: the torch side builds its own from the same values.

use std::sync::Arc;

use llmore::assets::Folder;
use llmore::error::Result;
use llmore::image::Aspect;
use llmore::models::config::Config;
use llmore::models::registry::Target;
use llmore::preset::Presets;
use llmore::text::Template;
use llmore::vlm::{Encoder, EncoderOptions, Llm, LlmOptions, Origin, ProjectorChoice, Vlm, Weights};
use llmore::weights::Source;
use serde_json::{Value, json};

/// 31.6 M parameters, the train step of `llama-step`.
pub fn llama() -> Value {
    llama_config([512, 8, 8, 4, 1376, 8192])
}

/// 317 M parameters, the decoder of `decode`.
pub fn decoder() -> Value {
    llama_config([1024, 16, 16, 8, 4096, 32000])
}

/// CLIP ViT-L/14-336.
pub fn vit_l() -> Value {
    clip_config([1024, 24, 16, 4096, 336, 14])
}

/// A tower, a projector and an LLM with random weights: about 2 M or 142 M parameters.
pub fn vlm(size: &str) -> Result<Vlm> {
    let (tower, llm) = match size {
        "toy" => (embedded("tiny-clip")?, embedded("tiny-llama")?),
        _ => (clip_config([768, 12, 12, 3072, 64, 4]), llama_config([640, 10, 10, 5, 1728, 8192])),
    };
    let (weights, target) = (Weights::Random, Target::cpu());
    let options = EncoderOptions { weights, seed: 0, select_layer: None, select: None, s2: None, target };
    let encoder = Encoder::build(size, origin(size, "tiny-clip", tower), Source::Random { seed: 0 }, options)?;
    let llm = self::llm(size, llm)?;
    let template = Template::load(&Presets::default(), "tiny")?;
    let choice = ProjectorChoice::new("mlp2x_gelu")?;
    Vlm::compose(Arc::new(encoder), &choice, Arc::new(llm), template, Aspect::Square, 0)
}

/// An LLM with random weights and the tokenizer of `tiny-llama`.
pub fn llm(name: &str, config: Value) -> Result<Llm> {
    let options = LlmOptions { weights: Weights::Random, seed: 0, target: Target::cpu() };
    let (origin, source) = (origin(name, "tiny-llama", config), Source::Random { seed: 0 });
    Llm::build(name, origin, source, Some("tiny".to_string()), &options)
}

fn origin(name: &str, folder: &str, config: Value) -> Origin {
    Origin::new(Folder::Embedded(format!("models/{folder}")), Config::new(config, format!("the config of `{name}`")))
}

fn embedded(name: &str) -> Result<Value> {
    Folder::Embedded(format!("models/{name}")).json("config.json")
}

fn llama_config([width, layers, heads, kv_heads, intermediate, vocab]: [usize; 6]) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width / heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

fn clip_config([width, layers, heads, intermediate, image, patch]: [usize; 6]) -> Value {
    json!({
        "architectures": ["CLIPVisionModel"],
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": intermediate,
        "image_size": image,
        "patch_size": patch,
        "hidden_act": "quick_gelu",
        "projection_dim": width,
    })
}

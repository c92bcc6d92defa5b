//! An LLM alone, in Hugging Face layout and without its adapters: what an adapter was trained on, where no name leads to it.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{SHARD, tokenizer_files};
use crate::error::{Error, Result};
use crate::models::llms::gemma2::EMBEDDING_SCALE;
use crate::models::llms::rope;
use crate::vlm::Llm;
use crate::vlm::checkpoint::llava_more::family;
use crate::vlm::written::write_json;
use crate::weights::save_shards;

/// Writes the folder.
pub(super) fn write(llm: &Llm, folder: &Path) -> Result<()> {
    crate::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
    let own = llm.params.iter().map(|param| Ok((param.name().to_string(), param.tensor()?.detach())));
    let tensors = own.chain(llm.unused.iter().cloned().map(Ok)).collect::<Result<Vec<_>>>()?;
    save_shards(&tensors, folder, SHARD)?;
    tokenizer_files(llm, folder)?;
    write_json(&folder.join("config.json"), &config(llm))
}

fn config(llm: &Llm) -> Value {
    let mut config: Map<String, Value> = llm.origin.config.value().as_object().cloned().unwrap_or_default();
    let of_llava = |key: &str| super::transformers::NOT_THE_LLMS.contains(&key) || key.starts_with("mm_");
    config.retain(|key, _| key == EMBEDDING_SCALE || !of_llava(key));
    rope::write(llm.model.spec(), &mut config);
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("llama").to_string();
    let tied = !llm.params.iter().any(|param| param.name() == "lm_head.weight");
    config.insert("model_type".to_string(), json!(family(&model_type)));
    config.insert("tie_word_embeddings".to_string(), json!(tied));
    if let Some(template) = &llm.template {
        config.insert("model_architecture".to_string(), json!(template));
    }
    Value::Object(config)
}

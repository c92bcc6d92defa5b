//! Writing a model as a LLaVA-MORE checkpoint folder that loads by itself: all tensors, the LLM's config with
//! the multimodal keys, the tokenizer, and the tower's config and processor in a sub-folder.

use std::path::Path;

use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::checkpoint::{POOL, POOL_TOKENS};
use super::{Encoder, Part, Vlm};
use crate::error;
use crate::error::{Context, Error, Result};
use crate::image::Aspect;
use crate::weights::{save_tensors, write_atomically};

const TOWER_FOLDER: &str = "vision-tower";

impl Vlm {
    /// Writes layout llava-more, adapters added to their weights. What is in `folder` under the same names is replaced file by file.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.save_parts(folder, &Part::ALL, "model.safetensors").context(|| format!("saving to `{}`", folder.display()))
    }

    /// Writes a stage-1 folder: the projector and the config.
    pub fn save_projector(&self, folder: &Path) -> Result<()> {
        self.save_parts(folder, &[Part::Projector], "mm_projector.safetensors")
            .context(|| format!("saving to `{}`", folder.display()))
    }

    /// Writes the adapter as PEFT does, and beside it the projector, the config and, `with_encoder`, the tower.
    pub fn save_adapter(&self, folder: &Path, with_encoder: bool) -> Result<()> {
        let Some(lora) = self.llm.lora() else {
            return Err(error!(Option, "LLM `{}` carries no adapter", self.llm.id).help("`m.save(dir)` saves the model"));
        };
        let parts = [Part::Projector, Part::Encoder];
        let parts = if with_encoder { &parts[..] } else { &parts[..1] };
        let base = &self.llm.id;
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::file(folder, error))
            .and_then(|()| lora.save(folder, base))
            .and_then(|()| self.save_parts(folder, parts, "mm_projector.safetensors"))
            .context(|| format!("saving to `{}`", folder.display()))
    }

    fn save_parts(&self, folder: &Path, parts: &[Part], file: &str) -> Result<()> {
        let tower = folder.join(TOWER_FOLDER);
        std::fs::create_dir_all(&tower).map_err(|error| Error::file(&tower, error))?;
        save_tensors(&self.tensors(parts)?, &folder.join(file))?;
        write_text(&folder.join("tokenizer.json"), self.tokenizer()?.json())?;
        for name in ["tokenizer_config.json", "generation_config.json"] {
            if self.llm.origin.folder.has(name) {
                write_text(&folder.join(name), &self.llm.origin.folder.read(name)?)?;
            }
        }
        self.encoder.save_config(&tower)?;
        // Last, so that a folder with a config is a whole one.
        write_json(&folder.join("config.json"), &self.config())
    }

    /// The tensors of some parts under their checkpoint names, adapters added to their weights, with the tensors of the
    /// source that no layer uses.
    pub fn tensors(&self, parts: &[Part]) -> Result<Vec<(String, Tensor)>> {
        let mut tensors: Vec<(String, Tensor)> = self
            .named_params()
            .into_iter()
            .filter(|(name, part, _)| parts.contains(part) && !Vlm::is_adapter(name))
            .map(|(name, _, param)| Ok((name, param.merged()?)))
            .collect::<Result<_>>()?;
        for (part, unused) in [(Part::Encoder, &self.encoder.unused), (Part::Llm, &self.llm.unused)] {
            if parts.contains(&part) {
                tensors
                    .extend(unused.iter().map(|(name, tensor)| (format!("{}{name}", part.prefix()), tensor.clone())));
            }
        }
        Ok(tensors)
    }

    /// The LLM's config with the keys of the released models.
    fn config(&self) -> Value {
        let mut config: Map<String, Value> = self.llm.origin.config.value().as_object().cloned().unwrap_or_default();
        let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or("llama").to_string();
        let family = model_type.strip_prefix("llava_").unwrap_or(&model_type).to_string();
        let class = match family.as_str() {
            "llama" => "LlavaLlamaForCausalLM",
            _ => "LlavaForCausalLM",
        };
        let aspect = match self.aspect {
            Aspect::Square => "square",
            Aspect::Pad => "pad",
        };
        let keys = [
            ("_name_or_path", json!(self.llm.id)),
            ("architectures", json!([class])),
            ("model_type", json!(format!("llava_{family}"))),
            ("model_architecture", json!(self.template.name())),
            ("mm_vision_tower", json!(TOWER_FOLDER)),
            ("mm_hidden_size", json!(self.encoder.width())),
            ("mm_projector_type", json!(self.projector.name)),
            ("mm_vision_select_layer", json!(self.encoder.select_layer)),
            ("mm_vision_select_feature", json!(self.encoder.select.name())),
            ("mm_patch_merge_type", json!("flat")),
            ("mm_use_im_start_end", json!(false)),
            ("mm_use_im_patch_token", json!(false)),
            ("image_aspect_ratio", json!(aspect)),
            ("use_mm_proj", json!(true)),
            ("s2", json!(false)),
            ("siglip", json!(false)),
            ("tokenizer_model_max_length", json!(self.llm.context())),
        ];
        for (key, value) in keys {
            config.insert(key.to_string(), value);
        }
        if let Some(scales) = &self.encoder.scales {
            let sides: Vec<String> = scales.sides().iter().map(usize::to_string).collect();
            config.insert("s2".to_string(), json!(true));
            config.insert("s2_scales".to_string(), json!(sides.join(",")));
        }
        if let Some(pool) = &self.projector.pool {
            config.insert(POOL.to_string(), json!(pool.kind.name()));
            config.insert(POOL_TOKENS.to_string(), json!(pool.tokens));
        }
        Value::Object(config)
    }
}

impl Encoder {
    /// Writes the tower alone, in Hugging Face layout.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        let used = self.params.iter().map(|param| (param.name().to_string(), param.tensor().detach()));
        let tensors: Vec<(String, Tensor)> = used.chain(self.unused.iter().cloned()).collect();
        save_tensors(&tensors, &folder.join("model.safetensors"))?;
        self.save_config(folder)
    }

    fn save_config(&self, folder: &Path) -> Result<()> {
        write_text(&folder.join("preprocessor_config.json"), self.processor.to_json().as_bytes())?;
        write_json(&folder.join("config.json"), self.origin.config.value())
    }
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error!(File, "`{}`: {error}", path.display()))?;
    write_text(path, format!("{text}\n").as_bytes())
}

fn write_text(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically(path, |temporary| std::fs::write(temporary, bytes).map_err(|error| Error::file(temporary, error)))
}

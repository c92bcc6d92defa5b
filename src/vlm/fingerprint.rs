//! Hashes that say whether two models are the same: of their weights, and of everything that decides what they answer.
//! Parameters remember their hashes, so that asking again costs what has changed.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Part, Vlm, sites};
use crate::build;
use crate::error;
use crate::error::Result;
use crate::weights::ParamSet;

/// Adds names and hashes of parameters.
fn update(hasher: &mut Sha256, prefix: &str, params: &ParamSet) -> Result<()> {
    for (name, hash) in params.hashes()? {
        hasher.update(format!("{prefix}{name}"));
        hasher.update(hash);
    }
    Ok(())
}

impl Vlm {
    /// A hash over all weights, for run.lock and result files.
    ///
    /// # Errors
    /// What reading weights from their device gives.
    pub fn weights_sha256(&self) -> Result<String> {
        let mut hasher = Sha256::new();
        update(&mut hasher, Part::Llm.prefix(), &self.llm.params)?;
        update(&mut hasher, Part::Projector.prefix(), &self.projector.params)?;
        update(&mut hasher, Part::Encoder.prefix(), &self.encoder.params)?;
        if let Some(lora) = self.llm.lora() {
            update(&mut hasher, sites::PREFIX, &lora.params)?;
        }
        Ok(format!("{:x}", hasher.finalize()))
    }

    /// What decides what training makes of this model, by name: sizes and constants of its parts, preprocessing, tokenizer,
    /// weights. Two models that agree in all of it are the same, whatever they are called and wherever they lie.
    ///
    /// # Errors
    /// What reading weights from their device gives.
    pub fn identity(&self) -> Result<BTreeMap<String, String>> {
        let (encoder, llm) = (&self.encoder, &self.llm);
        let mut facts = BTreeMap::new();
        flatten("encoder", serde_json::to_value(encoder.tower.spec()), &mut facts)?;
        flatten("encoder.processor", serde_json::to_value(&encoder.processor), &mut facts)?;
        flatten("llm", serde_json::to_value(llm.model.spec()), &mut facts)?;
        let scales = encoder.scales.as_ref().map(crate::models::encoders::s2::Scales::sides);
        let mut add = |key: &str, value: String| facts.insert(key.to_string(), value);
        add("encoder.select", format!("{:?}", encoder.select));
        add("encoder.select_layer", encoder.select_layer.to_string());
        add("encoder.scales", format!("{:?}", scales.unwrap_or_default()));
        add("encoder.weights", of(&encoder.params)?);
        add("projector.kind", self.projector.label());
        add("projector.weights", of(&self.projector.params)?);
        add("llm.weights", of(&llm.params)?);
        add("llm.tokenizer", format!("{:x}", Sha256::digest(self.tokenizer()?.json())));
        if let Some(lora) = llm.lora() {
            add("lora.kind", lora.describe());
            add("lora.weights", of(&lora.params)?);
        }
        Ok(facts)
    }

    /// What tells models of one name apart, by what it is: where it was opened, what it was made of, the type of its
    /// numbers, its template. What is not known is not there.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let storage = self.llm.params.storage();
        let is_plain = |name: &str| ["f32", "f16", "bf16", "f64"].iter().any(|width| width.eq_ignore_ascii_case(name));
        let blocks = storage.iter().filter(|(name, _)| !is_plain(name)).max_by_key(|(_, bytes)| **bytes);
        let numbers = match (self.target().dtype.as_str(), blocks) {
            ("f32", Some((blocks, _))) => blocks.to_string(),
            (dtype, Some((blocks, _))) => format!("{blocks} in {dtype}"),
            (dtype, None) => dtype.to_string(),
        };
        let encoder = &self.encoder;
        let scales = encoder.scales.as_ref().map_or(String::new(), |scales| format!(" of {:?}", scales.sides()));
        let facts = [
            ("made of", self.opened.made_of.clone()),
            ("folder", self.opened.folder.clone()),
            ("numbers", numbers),
            ("adapter", self.llm.lora().map_or(String::new(), |_| "with an adapter".to_string())),
            ("features", format!("layer {}, {}{scales}", encoder.select_layer, encoder.select.name())),
            ("template", self.template().name().to_string()),
            ("image", self.aspect().name().to_string()),
            ("version", build::VERSION.to_string()),
            ("build", build::SOURCES.to_string()),
        ];
        let known = facts.into_iter().filter(|(_, value)| !value.is_empty());
        known.map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// What an answer depends on, beside the ids of its prompt, the pictures and the sampling: weights, sizes,
    /// preprocessing, what ends an answer, tokenizer, dtype, device and the sources of this program.
    ///
    /// # Errors
    /// As [`weights_sha256`](Self::weights_sha256); `Missing` for an LLM without tokenizer.
    pub fn answers_sha256(&self) -> Result<String> {
        let (llm, tokenizer, target) = (&self.llm, self.tokenizer()?, self.target());
        let now = self.conventions();
        let facts = format!(
            "{} {:?} {:?} {:?} {:?} {} {} {:?} {:?} {}",
            build::SOURCES,
            llm.model.spec(),
            llm.end_ids,
            now.template.stop_ids(tokenizer),
            now.template.stop_texts(),
            self.projector.label(),
            self.projector.tokens(),
            llm.lora().map(|lora| lora.describe()),
            target.dtype,
            crate::device::device_name(&target.device),
        );
        let mut hasher = Sha256::new();
        hasher.update(facts);
        hasher.update(self.encoder.features_sha256(now.aspect)?);
        hasher.update(self.weights_sha256()?);
        hasher.update(Sha256::digest(tokenizer.json()));
        Ok(format!("{:x}", hasher.finalize()))
    }
}

/// Adds the leaves of a value under their whole names. Names of tensors and what only random weights are drawn by decide
/// nothing.
fn flatten(prefix: &str, value: serde_json::Result<Value>, facts: &mut BTreeMap<String, String>) -> Result<()> {
    match value.map_err(|error| error!(Decode, "{prefix}: {error}"))? {
        Value::Object(fields) => {
            let decide = |key: &String| !["names", "initializer_range", "layer_scale"].contains(&key.as_str());
            for (key, value) in fields.into_iter().filter(|(key, _)| decide(key)) {
                flatten(&format!("{prefix}.{key}"), Ok(value), facts)?;
            }
        }
        value => {
            facts.insert(prefix.to_string(), value.to_string());
        }
    }
    Ok(())
}

/// A hash over names and values of parameters, without adapters.
pub(super) fn of(params: &ParamSet) -> Result<String> {
    let mut hasher = Sha256::new();
    update(&mut hasher, "", params)?;
    Ok(format!("{:x}", hasher.finalize()))
}

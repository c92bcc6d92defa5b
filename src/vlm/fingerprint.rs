//! Hashes that say whether two models are the same: of their weights, and of everything that decides what they answer.
//! Parameters remember their hashes, so that asking again costs what has changed.

use sha2::{Digest, Sha256};

use super::{Part, Vlm, sites};
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

    /// What an answer depends on, beside the ids of its prompt, the pictures and the sampling: weights, sizes,
    /// preprocessing, what ends an answer, tokenizer, dtype, device and the version of this program.
    ///
    /// # Errors
    /// As [`weights_sha256`](Self::weights_sha256); `Missing` for an LLM without tokenizer.
    pub fn answers_sha256(&self) -> Result<String> {
        let (llm, tokenizer, target) = (&self.llm, self.tokenizer()?, self.target());
        let facts = format!(
            "{} {:?} {:?} {:?} {:?} {} {} {:?} {:?} {}",
            env!("CARGO_PKG_VERSION"),
            llm.model.spec(),
            llm.end_ids,
            self.template.stop_ids(tokenizer),
            self.template.stop_texts(),
            self.projector.label(),
            self.projector.tokens,
            llm.lora().map(|lora| lora.describe()),
            target.dtype,
            crate::device::device_name(&target.device),
        );
        let mut hasher = Sha256::new();
        hasher.update(facts);
        hasher.update(self.encoder.features_sha256(self.aspect)?);
        hasher.update(self.weights_sha256()?);
        hasher.update(Sha256::digest(tokenizer.json()));
        Ok(format!("{:x}", hasher.finalize()))
    }
}

/// A hash over names and values of parameters, without adapters.
pub(super) fn of(params: &ParamSet) -> Result<String> {
    let mut hasher = Sha256::new();
    update(&mut hasher, "", params)?;
    Ok(format!("{:x}", hasher.finalize()))
}

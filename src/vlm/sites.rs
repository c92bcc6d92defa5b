//! Which linear layers of an LLM carry adapters, of which rank and with which factor.

use std::sync::Arc;

use crate::error;
use crate::error::{Context, Result};
use crate::weights::{Param, ParamSet};

/// The prefix of an adapter's tensor names in a file.
pub const PREFIX: &str = "base_model.model.";
/// Every linear layer of the blocks.
pub(super) const ALL: &str = "all-linear";
/// The largest rank that is accepted; no matrix of an LLM has a larger one that would still be low.
const LARGEST_RANK: usize = 4096;

/// Refuses numbers that no adapter can have, naming the option.
pub(super) fn check_numbers(r: usize, alpha: f64, dropout: f64) -> Result<()> {
    if !(1..=LARGEST_RANK).contains(&r) {
        return Err(error!(Option, "`r` is {r}, it must be from 1 to {LARGEST_RANK}"));
    }
    if !alpha.is_finite() || alpha <= 0.0 {
        return Err(error!(Option, "`alpha` is {alpha}, it must be above 0"));
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(error!(Option, "`dropout` is {dropout}, it must be from 0 up to but not including 1"));
    }
    Ok(())
}

/// A linear layer of a block.
pub(super) struct Layer {
    pub path: String,
    /// The last part of the path, such as `q_proj`.
    pub name: String,
    pub weight: Arc<Param>,
    pub out: usize,
    pub inputs: usize,
}

/// The linear layers of the blocks.
pub(super) fn linears(params: &ParamSet) -> Vec<Layer> {
    let layer = |weight: &Arc<Param>| {
        let path = weight.name().strip_suffix(".weight").filter(|path| path.starts_with("model.layers."))?;
        let dims = weight.dims();
        let [out, inputs] = *dims else { return None };
        let name = path.rsplit('.').next().unwrap_or(path).to_string();
        Some(Layer { path: path.to_string(), name, weight: weight.clone(), out, inputs })
    };
    params.iter().filter_map(layer).collect()
}

/// Which layers carry adapters, and their ranks and factors.
pub(super) struct Plan {
    pub sites: Vec<Site>,
    pub dropout: f64,
    /// The product is multiplied by alpha / sqrt(r) instead of alpha / r.
    pub rslora: bool,
    /// The adapter was trained on a base without OLoRA's initial part.
    pub olora: bool,
}

/// One layer that carries an adapter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Site {
    /// Such as `model.layers.0.self_attn.q_proj`.
    pub path: String,
    pub r: usize,
    pub alpha: f64,
}

impl Plan {
    /// Refuses invalid numbers.
    pub(super) fn check(&self) -> Result<()> {
        for Site { path, r, alpha } in &self.sites {
            check_numbers(*r, *alpha, self.dropout).context(|| format!("the adapter of `{path}`"))?;
        }
        Ok(())
    }

    /// The factor on the product of the matrices.
    pub fn scale(&self, site: &Site) -> f64 {
        let r = site.r as f64;
        site.alpha / if self.rslora { r.sqrt() } else { r }
    }
}

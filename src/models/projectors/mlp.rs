//! `linear`, `mlpNx_gelu` and `identity`. Source: LLaVA-MORE 2460d39, `multimodal_projector/builder.py`:
//! a Linear to the LLM's width, then N-1 times exact GELU and Linear, all with bias; tensors `0.weight`,
//! `2.weight`, ... are positions in a torch `Sequential`.

use candle_core::{Result, Tensor};

use crate::error;
use crate::models::Projector;
use crate::models::registry::{Built, Target};
use crate::models::unused;
use crate::nn::linear::Linear;
use crate::nn::ops::{Gelu, gelu};
use crate::weights::{Builder, Finished, Init, Source};

/// The shape of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorSpec {
    /// Pass-through: encoder and LLM have the same width.
    Identity,
    /// This many Linear layers; one is LLaVA's `linear`.
    Mlp(usize),
}

impl ProjectorSpec {
    /// The spec of a name in `mm_projector_type`.
    pub fn parse(name: &str) -> crate::error::Result<Self> {
        let depth = name.strip_prefix("mlp").and_then(|rest| rest.strip_suffix("x_gelu"));
        match (name, depth.map(str::parse::<usize>)) {
            ("identity", _) => Ok(ProjectorSpec::Identity),
            ("linear", _) => Ok(ProjectorSpec::Mlp(1)),
            (_, Some(Ok(depth))) if (1..=16).contains(&depth) => Ok(ProjectorSpec::Mlp(depth)),
            _ => Err(error!(Missing, "no projector `{name}`")
                .help("projectors: `linear`, `mlp2x_gelu` (any depth from 1 to 16), `identity`")),
        }
    }
}

/// Linear layers with exact GELU between them.
pub struct Mlp {
    layers: Vec<Linear>,
}

/// Builds the projector between `input` and `output`.
pub fn projector(
    name: &str,
    input: usize,
    output: usize,
    source: Source,
    target: &Target,
) -> crate::error::Result<Built<dyn Projector>> {
    let depth = match ProjectorSpec::parse(name)? {
        ProjectorSpec::Identity if input != output => {
            return Err(error!(Shape, "projector `identity` needs equal widths: encoder {input}, LLM {output}")
                .help("use `projector(\"mlp2x_gelu\")`"));
        }
        ProjectorSpec::Identity => 0,
        ProjectorSpec::Mlp(depth) => depth,
    };
    let builder = Builder::new(source.clone(), target.dtype, &target.device);
    let layers = (0..depth)
        .map(|layer| {
            let width = if layer == 0 { input } else { output };
            let init = Init::Uniform((width as f64).powf(-0.5));
            Linear::new(&builder.pp(2 * layer), width, output, true, init)
        })
        .collect::<crate::error::Result<_>>()?;
    let Finished { params, unused: spare, .. } = builder.finish()?;
    if let Source::Files { files, prefix } = &source {
        let names: Vec<String> = spare.iter().map(|(name, _)| format!("{prefix}{name}")).collect();
        let told = unused::told(files.name(), names.iter().map(String::as_str), depth, |_| None);
        told.into_iter().for_each(|note| files.notes().add(note));
    }
    Ok(Built { model: Box::new(Mlp { layers }), params, unused: spare })
}

impl Projector for Mlp {
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        let mut hidden = features.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                hidden = gelu(&hidden, Gelu::Erf)?;
            }
            hidden = layer.forward(&hidden)?;
        }
        Ok(hidden)
    }
}

//! `linear` and `mlpNx_gelu`. Source: LLaVA-MORE 2460d39, `multimodal_projector/builder.py`: a Linear to the LLM's width,
//! then N-1 times exact GELU and Linear, all with bias; tensors `0.weight`, `2.weight`, ... are positions in a torch
//! `Sequential`.

use candle_core::{Result, Tensor};

use super::{Features, Kind, Projector, ProjectorChoice, VisualTokens};
use crate::error;
use crate::nn::linear::Linear;
use crate::nn::ops::{Gelu, gelu};
use crate::weights::{Builder, Init};

/// The entries of the table.
pub(super) const LINEAR: Kind = Kind { shown: "`linear`", is: |name| name == "linear", numbers: &[], build: mlp };
pub(super) const MLP: Kind =
    Kind { shown: "`mlp2x_gelu` (any depth from 1 to 16)", is: |name| depth(name).is_some(), numbers: &[], build: mlp };

/// The number of Linear layers in a name.
fn depth(name: &str) -> Option<usize> {
    let depth = name.strip_prefix("mlp")?.strip_suffix("x_gelu")?.parse().ok()?;
    (1..=16).contains(&depth).then_some(depth)
}

/// Linear layers with exact GELU between them.
struct Mlp {
    layers: Vec<Linear>,
    tokens: VisualTokens,
}

fn mlp(
    choice: &ProjectorChoice,
    features: Features,
    output: usize,
    builder: &Builder,
) -> error::Result<Box<dyn Projector>> {
    let layers = (0..depth(&choice.name).unwrap_or(1))
        .map(|layer| {
            let width = if layer == 0 { features.width } else { output };
            let init = Init::Uniform((width as f64).powf(-0.5));
            Linear::new(&builder.pp(2 * layer), width, output, true, init)
        })
        .collect::<error::Result<_>>()?;
    Ok(Box::new(Mlp { layers, tokens: features.tokens }))
}

impl Projector for Mlp {
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        let (images, tokens, _) = features.dims3()?;
        let mut hidden = features.flatten_to(1)?; // (images * tokens, width)
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                hidden = gelu(&hidden, Gelu::Erf)?;
            }
            hidden = layer.forward(&hidden)?;
        }
        hidden.reshape((images, tokens, ()))
    }

    fn tokens(&self) -> VisualTokens {
        self.tokens
    }
}

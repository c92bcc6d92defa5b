//! `identity`: features go to the LLM as they are. Source: LLaVA-MORE 2460d39, `multimodal_projector/builder.py`.

use candle_core::{Result, Tensor};

use super::{Features, Kind, Projector, ProjectorChoice, VisualTokens};
use crate::error;
use crate::weights::Builder;

/// The entry of the table.
pub(super) const IDENTITY: Kind =
    Kind { shown: "`identity`", is: |name| name == "identity", numbers: &[], build: identity };

struct Identity(VisualTokens);

fn identity(_: &ProjectorChoice, features: Features, output: usize, _: &Builder) -> error::Result<Box<dyn Projector>> {
    let input = features.width;
    match input == output {
        true => Ok(Box::new(Identity(features.tokens))),
        false => Err(error!(Shape, "projector `identity` needs equal widths: encoder {input}, LLM {output}")
            .help("use `projector(\"mlp2x_gelu\")`")),
    }
}

impl Projector for Identity {
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        Ok(features.clone())
    }

    fn tokens(&self) -> VisualTokens {
        self.0
    }
}
